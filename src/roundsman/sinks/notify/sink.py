"""The sink `notify`: when a message is sent, and what it says."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, tzinfo
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, PlainValidator, PrivateAttr, WithJsonSchema, field_validator, model_validator

from roundsman.errors import Backoff, RequestFailed
from roundsman.events import Event
from roundsman.http.client import Http
from roundsman.options.secrets import Secret
from roundsman.options.template import Fields, Template
from roundsman.options.values import Duration
from roundsman.plugin import Deliver, OpenFailures, Receipt, Sink, Waiting
from roundsman.sinks.notify.digest import LINES, Held, reminder
from roundsman.sinks.notify.message import About, Message
from roundsman.sinks.notify.quiet import Range, covers_the_day, quiet_until, read_range, read_zone
from roundsman.sinks.notify.services import Service
from roundsman.store import DAEMON
from roundsman.system.threads import in_thread

FIELDS = Fields(
    {
        "count": "The number of events in the message.",
        "counts": "The same by result, such as `3 failed, 1 partial`.",
        "sources": "The names of their sources.",
        "summary": "The summary of the first one.",
        "summaries": "The summaries of the first 20, one a line, and how many more there are.",
        "since": "When the first of them came, in `time_zone`, such as `2026-05-03 22:14`.",
        "host": "The name of this machine.",
        "sink": "The name of this sink.",
    }
)
"""The fields of `title` and `body`."""


class NotifySink(Sink):
    """Sends messages to people by Apprise: mail, chat, phone and some hundred other services."""

    type: Literal["notify"]
    urls: tuple[Secret, ...]
    """The addresses, in Apprise's form, such as `{ env = "APPRISE_URL" }` for `mailto://...` or `ntfy://...`. They hold
    secrets, so each is the place of one.
    """
    digest: Duration = 300.0
    """The first message is sent at once. Events that come within this time after a message are in one message at its end."""
    repeat: Annotated[Duration, Field(ge=60)] | None = None
    """Repeat what this sink reported and `roundsman failures` still lists, after this time, until it is ticked off.
    Default: it is not repeated.
    """
    quiet: tuple[Annotated[Range, PlainValidator(read_range), WithJsonSchema({"type": "string"})], ...] = ()
    """Parts of the day in which no message is sent, such as `["22:00-07:00"]`. What comes then is in one message at the
    end.
    """
    time_zone: Annotated[tzinfo, PlainValidator(read_zone), WithJsonSchema({"type": "string"})] | None = None
    """The time zone of `quiet` and of `$since`, such as `"Europe/Stockholm"`. Default: the machine's."""
    title: Annotated[Template, FIELDS] = FIELDS.read("$counts: $sources")
    """The title of a message. Fields: `$count`, `$counts`, `$sources`, `$summary`, `$since`, `$host`, `$sink`."""
    body: Annotated[Template, FIELDS] = FIELDS.read("$summaries")
    """The text of a message. Fields: as in `title`, and `$summaries`."""

    for_people: ClassVar[bool] = True

    _services: list[Service] = PrivateAttr(default_factory=list)
    """Made once: a message that hangs must not be sent beside itself after the place is opened again."""

    _message: Message | None = PrivateAttr(default=None)
    """The message that not every service has taken yet. Only in memory: after a restart, all of them get it again."""

    @field_validator("urls")
    @classmethod
    def _usable(cls, urls: tuple[Secret, ...]) -> tuple[Secret, ...]:
        if not urls:
            raise ValueError('is empty; write [{ env = "APPRISE_URL" }]')
        for number, url in enumerate(urls, 1):
            try:
                Service(url.reveal())
            except ValueError as exc:
                where = f"number {number} " if len(urls) > 1 else ""
                raise ValueError(f"{where}{exc}") from None
        return urls

    @model_validator(mode="after")
    def _leaves_time(self) -> Self:
        if covers_the_day(self.quiet):
            raise ValueError("quiet leaves no part of the day for messages")
        return self

    def open(self, http: Http, receipt: Receipt | None) -> AbstractAsyncContextManager[Deliver]:
        async def no_log(_: int, __: int) -> tuple[int, Sequence[Event]]:
            return 0, ()

        return self.open_with(http, receipt, no_log)

    @asynccontextmanager
    async def open_with(
        self, http: Http, receipt: Receipt | None, still_open: OpenFailures
    ) -> AsyncIterator[Deliver]:
        if not self._services:
            self._services = await in_thread(self.services)
        held = Held.of(receipt)

        async def deliver(events: Sequence[Event]) -> Waiting | Receipt:
            now = http.now()
            new = [event for event in events if not self._is_about_itself(event)]
            if new and held.first is None:
                held.first = new[0].seq - 1
            if (
                held.remind is not None and self.repeat
            ):  # the clock was set back, or the option is shorter now
                held.remind = min(held.remind, now.timestamp() + self.repeat)
            sent, later = self._split(new)
            held.digest.add(sent, now.timestamp())
            if held.digest.count and self._may_send(held, now):
                await self._send("events", held.digest.fields(), held.digest.since, sent)
                # Not later with each message: a failure every hour would keep the first one from being repeated.
                if self.repeat and held.digest.failures and held.remind is None:
                    held.remind = now.timestamp() + self.repeat
                held.sent, held.digest = now.timestamp(), type(held.digest)()
            held.digest.add(later, now.timestamp())
            if held.remind is not None and held.remind <= now.timestamp() and self._may_send(held, now, 0):
                await self._remind(held, now, still_open)
            return self._result(held, now)

        yield deliver

    def services(self) -> list[Service]:
        """The services, in the order of `urls`."""
        return [Service(url.reveal()) for url in self.urls]

    async def test(self) -> list[tuple[str, str | None]]:
        """Send a test message by each url. Returns, for each, the service's name and what went wrong, if anything did."""
        found = []
        text = f"This is a test of the sink {self.name}: messages arrive."
        for service in await in_thread(self.services):
            wrong = None
            try:
                await in_thread(service.send, "Roundsman: test", text)
            except (Backoff, RequestFailed) as exc:
                wrong = str(exc)
            found.append((service.name, wrong))
        return found

    def _split(self, events: Sequence[Event]) -> tuple[Sequence[Event], Sequence[Event]]:
        """The events for the next message, and those that came after the message under way."""
        found = self._message.split(events) if self._message is not None else None
        if found is None:
            self._message, found = None, (events, [])
        return found

    def _is_about_itself(self, event: Event) -> bool:
        """Whether it is a notice that this sink fails or recovered: it could not be sent when it mattered."""
        own = event.source == DAEMON and event.type.startswith("roundsman.sink.")
        return own and event.document().get("subject") == self.name

    def _may_send(self, held: Held, now: datetime, digest: float | None = None) -> bool:
        return self._next(held, now, digest) <= now.timestamp()

    def _next(self, held: Held, now: datetime, digest: float | None = None) -> float:
        """When the next message may be sent (Unix)."""
        soonest = held.sent + (self.digest if digest is None else digest)
        if soonest - now.timestamp() > self.digest:  # the clock was set back
            soonest = now.timestamp()
        at = datetime.fromtimestamp(max(soonest, now.timestamp()), UTC)
        quiet = quiet_until(at, self.quiet, self.time_zone)
        return quiet.timestamp() if quiet is not None else at.timestamp()

    def _result(self, held: Held, now: datetime) -> Waiting | Receipt:
        times = []
        if held.digest.count:
            times.append(self._next(held, now))
        if held.remind is not None:
            at = datetime.fromtimestamp(max(held.remind, now.timestamp()), UTC)
            quiet = quiet_until(at, self.quiet, self.time_zone)
            times.append((quiet or at).timestamp())
        receipt = held.receipt()
        return Waiting(min(times), receipt, held.digest.count) if times else receipt

    async def _remind(self, held: Held, now: datetime, still_open: OpenFailures) -> None:
        """Repeat what is still open; nothing is repeated any more once nothing is."""
        total, newest = await still_open(held.first or 0, LINES)
        held.remind = None
        if total and self.repeat:
            await self._send("reminder", reminder(total, newest), now.timestamp(), ())
            held.sent = now.timestamp()
            held.remind = now.timestamp() + self.repeat

    async def _send(
        self, about: About, fields: Mapping[str, str], since: float, events: Sequence[Event]
    ) -> None:
        """Send one message by every url: the one under way, if it is about the same, else a new one.

        Raises `Backoff` or `RequestFailed` if a service has not taken it. Those that have taken it do not get it again when
        it is sent again to the others.
        """
        message = self._message
        if message is None or message.about != about:
            message = self._message = Message.of(about, *self._texts(fields, since), events)
        # Side by side: one that hangs delays no other.
        results = await asyncio.gather(
            *(in_thread(each.send, message.title, message.body) for each in self._services),
            return_exceptions=True,
        )
        wrong = [each for each in results if each is not None]
        for error in wrong:
            if not isinstance(error, Backoff | RequestFailed):
                raise error
        if wrong:
            text, wait = "; ".join(map(str, wrong)), max(getattr(each, "after", 0.0) for each in wrong)
            raise Backoff(wait, text) if wait else RequestFailed(text)
        self._message = None
        for service in self._services:
            service.settle()

    def _texts(self, fields: Mapping[str, str], since: float) -> tuple[str, str]:
        """The title and the body."""
        began = datetime.fromtimestamp(since, UTC).astimezone(self.time_zone)
        shown = {
            **fields,
            "since": f"{began:%Y-%m-%d %H:%M}",
            "host": socket.gethostname(),
            "sink": self.name,
        }
        return " ".join(self.title.fill(shown).split()), self.body.fill(shown)
