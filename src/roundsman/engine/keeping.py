"""What a source with `redact` found, without what is not kept: before anything of it is stored, logged or shown."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from roundsman.errors import Reject, Unreadable
from roundsman.events import Event
from roundsman.options.values import counted
from roundsman.plugin import Deliver, OpenFailures, Poll, Receipt, Received, Sink, Source, Waiting
from roundsman.redaction import REDACTED, redacted
from roundsman.wire import Damage

PIECE = 25
"""Events that are redacted before other tasks may run: some 2 ms."""


async def without(source: Source, poll: Poll) -> Poll:
    """The poll without what the source does not keep. Rows that cannot be read are not kept: nothing can be found in them."""
    if not source.redact or not (poll.events or poll.unread):
        return poll
    events = await _redacted(poll.events, source.redact)
    unread = [each._replace(raw=size_of(each.raw), rest=b"") for each in poll.unread]
    return replace(poll, events=events, unread=unread)


async def _redacted(events: Sequence[Event], paths: Sequence[str]) -> list[Event]:
    """The events without what is at these paths."""
    found = []
    for number, event in enumerate(events, 1):
        found.append(redacted(event, paths))
        if number % PIECE == 0:
            await asyncio.sleep(0)
    return found


def received_without(source: Source, received: Received) -> Received:
    """The same for the content of a webhook."""
    if not source.redact:
        return received
    events = [redacted(event, source.redact) for event in received.events if isinstance(event, Event)]
    return replace(received, events=events)


def size_of(raw: bytes) -> bytes:
    """What is kept in place of something unreadable."""
    return f"{REDACTED} {counted(len(raw), 'byte')}".encode()


def how(damage: Damage) -> str:
    """How an unreadable row is kept, for a person."""
    return "its size is kept" if damage.raw.startswith(REDACTED.encode()) else "it is kept as it came"


def delivering(sink: Sink, deliver: Deliver) -> Deliver:
    """The function that delivers, without what the sink does not get."""
    if not sink.redact:
        return deliver

    async def redacting(events: Sequence[Event]) -> Receipt | Waiting | None:
        try:
            found = await _redacted(events, sink.redact)
        except Unreadable as exc:
            raise Reject(str(exc)) from None
        return await deliver(found)

    return redacting


def asking(sink: Sink, still_open: OpenFailures) -> OpenFailures:
    """The question to the log, likewise."""
    if not sink.redact:
        return still_open

    async def redacting(after: int, upto: int) -> tuple[int, Sequence[Event]]:
        total, newest = await still_open(after, upto)
        found = []
        for event in newest:
            with suppress(Unreadable):
                found.append(redacted(event, sink.redact))
        return total, found

    return redacting
