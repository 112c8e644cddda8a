"""What is promised of every poll: its state, its events, and that it contains no secret."""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, NoReturn, get_args

from roundsman import wire
from roundsman.engine.reading import Step
from roundsman.errors import Backoff, Denied, Oversized, RequestFailed, Unreadable
from roundsman.events import Event
from roundsman.masking import SHORTEST, Masker
from roundsman.plugin import Plugin, Poll, Source, State, secrets
from roundsman.shapes import Outcome

DOCUMENTED = (RequestFailed, Unreadable, Backoff, Denied, Oversized)
"""What a source may raise: the errors of its HTTP client, of reading an answer, and its own of these kinds."""
LARGEST = 1_000_000
"""Bytes of a state or a receipt that count as small."""
EVENT_TYPE = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+")


class Broken(AssertionError):
    """A promise, and how it was broken, in one sentence."""


def broken(promise: str, how: str) -> NoReturn:
    raise Broken(f"{promise}, but {how}")


def few(ids: Iterable[object]) -> str:
    """Some of these, for a sentence."""
    listed = sorted({str(each) for each in ids})
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")


class Secrets:
    """The secrets in a plugin's options, and where they must not be."""

    def __init__(self, plugin: Plugin) -> None:
        self._hide = Masker()
        self._hide.add(value for each in secrets(plugin) if len(value := each.reveal()) >= SHORTEST)

    def keep_out(self, text: str, place: str) -> None:
        if self._hide(text) != text:
            broken("no secret of the options leaves the plugin", f"there is one in {place}")

    def keep_out_of_errors(self, exc: BaseException | None) -> None:
        while exc is not None:
            self.keep_out(f"{exc} {exc!r}", f"the text of a {type(exc).__name__}")
            exc = exc.__cause__


def steps_keep_promises(source: Source, steps: Sequence[Step]) -> None:
    """What is promised of each poll of one visit."""
    hidden = Secrets(source)
    for step in steps:
        poll = step.poll
        poll_is_in_shape(poll)
        state_is_json(poll.state)
        hidden.keep_out(wire.encode(poll.state).decode("utf-8", "replace"), "the state")
        for event in poll.events:
            event_is_valid(event, source.name)
            hidden.keep_out(event.body.decode("utf-8", "replace"), f"the event {event.id}")
        ids_are_unique(poll.events)
        for remark in poll.remarks:
            hidden.keep_out(str(remark), "a remark")
        for each in poll.unread:
            hidden.keep_out(each.why, "the reason of an unread row")
        status_is_in_shape(source, poll.state, hidden)


def poll_is_in_shape(poll: Poll) -> None:
    """Its lists can be read more than once, and none is a text."""
    for name in ("events", "remarks", "unread"):
        value = getattr(poll, name)
        if not isinstance(value, Sequence) or isinstance(value, str | bytes):
            broken(
                "a poll has lists of events, remarks and unread rows", f"{name} is a {type(value).__name__}"
            )


def status_is_in_shape(source: Source, state: State, hidden: Secrets) -> None:
    """What `roundsman status` asks of the class."""
    gap, following = (_shown(ask, state) for ask in (source.gap, source.following))
    if not (gap is None or isinstance(gap, str)):
        broken("gap() returns a time or a word, or None", f"it returned a {type(gap).__name__}")
    if not isinstance(following, Sequence) or isinstance(following, str):
        broken("following() returns a list of ids", f"it returned a {type(following).__name__}")
    hidden.keep_out(f"{gap} {list(following)}", "gap() or following()")


def _shown(ask: Callable[[State], Any], state: State) -> Any:
    try:
        return ask(state)
    except Exception as exc:  # noqa: BLE001 - a source may raise anything, and this is to find it
        broken(
            "gap() and following() read every state that a poll returns",
            f"{ask.__name__}() raised {type(exc).__name__}: {exc}",
        )


def state_is_json(state: State, what: str = "state") -> None:
    promise = f"a {what} is a small JSON object that comes back from the store as it was"
    if not isinstance(state, dict):
        broken(promise, f"this one is a {type(state).__name__}")
    try:
        size = len(wire.encode(state))
        back = json.loads(json.dumps(state, allow_nan=False))
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        broken(promise, f"this one cannot be written: {exc}")
    if not _alike(back, state):
        lost = [key for key in state if key not in back or not _alike(back[key], state[key])]
        broken(promise, f"{few(lost)} would come back as something else")
    if size > LARGEST:
        broken(promise, f"this one has {size:,} bytes, and is written at each commit")


def _alike(one: Any, other: Any) -> bool:
    """Whether two documents are equal, also by their types: JSON has no tuples, and True is not 1."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_alike(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    return bool(one == other)


def ids_are_unique(events: Sequence[Event]) -> None:
    seen: dict[str, bytes] = {}
    for event in events:
        if seen.setdefault(event.id, event.body) != event.body:
            broken(
                "two things have two ids",
                f"two different events of one poll have the id {event.id}, and the second would be lost",
            )


def event_is_valid(event: Event, name: str) -> None:
    promise = "an event is a CloudEvent of its source"
    if not event.sound:
        broken(promise, f"the body of {event.id} is not one line of JSON")
    document = event.document()
    if event.source != name or not str(document.get("source")).endswith(f"/{name}"):
        broken(promise, f"{event.id} has the source {event.source}; give Event.of source=self.name")
    if not isinstance(event.id, str) or not event.id or document.get("id") != event.id:
        broken(promise, f"the id of one is {event.id!r}; it must be text, and not empty")
    if event.id.split(":")[0] in {"None", "null", ""}:
        broken(promise, f"the id of one is {event.id!r}: a row without an id was reported")
    if document.get("type") != event.type or not EVENT_TYPE.fullmatch(event.type):
        broken(
            promise, f"the type of {event.id} is {event.type!r}; write one such as com.vendor.thing.created"
        )
    if event.outcome is not None and event.outcome not in get_args(Outcome):
        broken(
            promise, f"the outcome of {event.id} is {event.outcome!r}; it is one of {few(get_args(Outcome))}"
        )
    if not isinstance(document.get("data"), dict):
        broken(promise, f"the data of {event.id} is not an object")
    if "time" in document and not _is_time(document["time"]):
        broken(
            promise, f"the time of {event.id} is {document['time']!r}; use rfc3339(parse_time(...)), or None"
        )


def _is_time(text: Any) -> bool:
    try:
        return "T" in text and datetime.fromisoformat(text).tzinfo is not None
    except (TypeError, ValueError):
        return False


def error_is_documented(source: Source, exc: BaseException, when: str) -> None:
    """That a visit ended as a visit may."""
    Secrets(source).keep_out_of_errors(exc)
    if not isinstance(exc, DOCUMENTED):
        broken(
            "for each answer of a server, a source raises only Backoff, Denied, RequestFailed or Unreadable",
            f"it raised {type(exc).__name__} ({exc}) {when}",
        )
