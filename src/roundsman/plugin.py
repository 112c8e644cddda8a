"""What a plugin speaks: `Source` and `Sink`, what a visit gives and what a poll returns."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol, Self, runtime_checkable

import httpx
from pydantic import BaseModel, Field, PrivateAttr

from roundsman.options.secrets import Secret
from roundsman.options.values import Duration, Options
from roundsman.webhook import Call, Hook, Registrar

if TYPE_CHECKING:
    from roundsman.events import Event
    from roundsman.http.client import Http
    from roundsman.wire import Damage


State = Mapping[str, Any]
"""A source's memory: a small JSON object, `{}` on the first visit. Only the source reads it."""

Receipt = Mapping[str, Any]
"""What a sink wants to remember of its last delivery: a small JSON object, kept with the ack."""

Deliver = Callable[["Sequence[Event]"], Awaitable["Receipt | None"]]
"""Returning is the ack: all of these events are safe at the receiver. Raising means again."""

Trigger = Literal["due", "webhook", "command"]
"""What a visit is made for: its time has come, a webhook rang, or a command asked for it."""

FLOOR = 60.0
"""Seconds between two visits to a vendor, at least: Parakey's documented minimum, and good manners elsewhere."""


@dataclass(slots=True)
class Visit:
    """What a source is given for one visit: HTTP, what the visit is for, the clocks, and what the log has already."""

    http: "Http"
    trigger: Trigger = "due"
    """`webhook`: what the webhook named is enough to ask for; everything else has its time."""
    ids: Sequence[str] = ()
    """Ids that a webhook or `roundsman track` named since the last committed visit; `Tracks.follow` put them into the state."""
    log: Callable[[Sequence[str]], "set[str]"] = lambda _: set()
    """What `known` asks."""

    @property
    def now(self) -> datetime:
        """Our clock, for *when to look again*; never for where to read from."""
        return self.http.now()

    @property
    def vendor_now(self) -> datetime:
        """The vendor's clock if it has told it, else ours: for *how long* something has not moved there.

        It stays right when our clock is set.
        """
        return self.http.account.date or self.now

    @property
    def wait(self) -> float:
        """Seconds until the vendor wants the next request; 0 if it did not ask for time."""
        return self.http.account.wait

    def defer(self, seconds: float) -> None:
        """Take it that the vendor wants no request for so long, as if a header had said so."""
        self.http.account.wait = max(self.http.account.wait, seconds)

    async def known(self, ids: Sequence[str]) -> set[str]:
        """Which of these event ids of this source the log has already: they need no second look."""
        return self.log(ids) if ids else set()

    async def pause(self, seconds: float) -> None:
        """Wait, if the source knows that it should not ask faster."""
        await self.http.clients.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Poll:
    """What one visit found. The engine commits all of it in one transaction, or none."""

    state: State
    """The new memory. The very object that came in means: nothing changed."""
    events: "Sequence[Event]" = ()
    """New or not: an id the log already has is left out there."""
    more: bool = False
    """A backlog: after the commit, visit again at once."""
    rows: int = 0
    """Rows read, for the progress line; told or not."""
    remarks: Sequence[str] = ()
    """What was odd about the answers and should stand in the log, in words for a person."""
    unread: "Sequence[Damage]" = ()
    """Rows that could not be read: they are kept as they came, for `roundsman unread`."""
    page: bool = False
    """Set for what was yielded: it is committed, but only the end of the visit says how the source fares."""


@dataclass(frozen=True, slots=True)
class Received:
    """What a webhook brought. It is committed before the vendor gets its answer."""

    events: "Sequence[Event]" = ()
    """What the vendor says whole, with the very ids that a poll would give: whoever is first, it is told once."""
    follow: Sequence[str] = ()
    """Ids for `Tracks.follow`: what has to be asked for to be known."""
    ring: bool = False
    """Visit the source now instead of when it is due."""


class Plugin(Options, ABC):
    """A plugin *is* its configuration; its fields are its options in TOML, their descriptions the documentation."""

    _name: str = PrivateAttr(default="")

    @property
    def name(self) -> str:
        """The key of its table in the configuration."""
        return self._name

    def named(self, name: str) -> Self:
        """Itself, called `name`."""
        self._name = name
        return self

    def warnings(self) -> Sequence[str]:
        """What about its options is allowed and unwise, a sentence each: `api_key: ...`."""
        return ()

    def identity(self) -> str:
        """A fingerprint of the credentials: what was learned with one key is not believed with another."""
        digest = hashlib.blake2b(digest_size=8)
        for secret in secrets(self, without="webhook"):
            digest.update(secret.reveal().encode() + b"\0")
        return digest.hexdigest()

    def fingerprint(self, identity: str) -> str:
        """Of all its options and its credentials (`identity`): another one, and somebody has changed something."""
        options = f"{self!r} {identity}".encode("utf-8", "backslashreplace")
        return hashlib.blake2b(options, digest_size=8).hexdigest()


def secrets(options: BaseModel, without: str = "") -> "list[Secret]":
    """Every secret in a table and the tables inside it; not in the one called `without`."""
    found: list[Secret] = []
    for name in (each for each in type(options).model_fields if each != without):
        value = getattr(options, name)
        for each in value if isinstance(value, list | tuple) else [value]:
            if isinstance(each, Secret):
                found.append(each)
            elif isinstance(each, BaseModel):
                found += secrets(each)
    return found


class Source(Plugin):
    """One thing to watch: a vendor's endpoint, and how to ask it.

    A subclass adds `type: Literal["vendor.thing"]`, its options, and `poll`.
    """

    type: str
    """Which kind of source."""
    interval: Annotated[Duration, Field(gt=0)] = FLOOR
    """Time between two visits: at least 60s, except where `base_url` is a loopback address."""
    base_url: str
    """Where the vendor's API is."""
    concurrency: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Requests under way with these credentials at the same time, over all sources that have them; else as in [http]."""
    webhook: Hook | None = None
    """Take the vendor's webhooks, too, at /hooks/NAME."""

    retry_timeouts: ClassVar[bool] = True
    """Whether a timeout is tried again at once. Not at a vendor that throttles so."""
    account: ClassVar[tuple[str, ...]] = ()
    """The options that, besides `base_url`, say what is read: with another account, a memory says nothing."""

    def origin(self) -> str:
        """What it reads, for a person: the address, and the account where options tell it. No secrets."""
        told = [f"{name} {value}" for name in self.account if (value := getattr(self, name)) is not None]
        return ", ".join([self.base_url, *told])

    def auth(self) -> httpx.Auth | None:
        """How requests prove who we are; called once when the source is set up."""
        return None

    @abstractmethod
    def poll(self, visit: Visit, state: State) -> Awaitable[Poll] | AsyncIterator[Poll]:
        """Ask "anything new since `state`?": return one `Poll`, or yield several if a reading is long.

        Guaranteed to the author: never called while an earlier call for this source runs; called with the state of the
        last *committed* poll; if it raises, or is cancelled, this poll did not happen. What is yielded is committed before
        the next one is asked for, and stays if something is raised later: then the visit failed.
        """

    @classmethod
    def following(cls, state: State) -> Sequence[str]:  # noqa: ARG003 - for those who track something
        """What is tracked at present, for `status` to show."""
        return ()

    @classmethod
    def gap(cls, state: State) -> str | None:  # noqa: ARG003 - for those who may have one
        """Since when rows may be missing, for `status` to show: a time or a word; None for no gap."""
        return None

    webhook_place: ClassVar[str] = "at the vendor"
    """Where a person enters a webhook, for vendors without an API for that."""


@runtime_checkable
class Tracks(Protocol):
    """A source that can be told what to watch, by id."""

    @classmethod
    def follow(cls, state: State, ids: Sequence[str]) -> State:
        """The state that also tracks these things of the vendor's until they end; ValueError for what is no id of it.

        Ids come from `roundsman track` and from webhooks; tracking one twice, or one that has ended, must do no harm.
        """


@runtime_checkable
class Receives(Protocol):
    """A source that reads what a webhook says. Without it, a webhook is a ring: the source is visited at once."""

    def receive(self, call: Call) -> Received:
        """What an authentic webhook says.

        It never waits and asks nothing: the vendor is kept waiting. Whatever it raises means "not understood": the body is
        kept for a person, and the vendor gets a 2xx all the same, for vendors give up hooks that are refused.
        """


@runtime_checkable
class Rewinds(Protocol):
    """A source that can read again from a time on."""

    def rewound(self, state: State, to: Any) -> State:
        """The state that reads again from `to` (a UTC datetime, or None for the beginning)."""


@runtime_checkable
class Registers(Protocol):
    """A source whose vendor has an API for webhooks."""

    def registrar(self, http: "Http") -> Registrar:
        """The vendor's API for its webhooks."""


class Sink(Plugin):
    """One place to deliver to.

    A subclass adds `type: Literal["name"]`, its options, and `open`.
    """

    type: str
    """Which kind of sink."""
    types: tuple[str, ...] = ()
    """Only events of these types; globs such as "co.parakey.*" allowed. Empty: all."""
    sources: tuple[str, ...] = ()
    """Only events of these sources, by name; globs allowed. Empty: all."""
    outcomes: tuple[str, ...] = ()
    """Only events with these outcomes; globs allowed. Empty: all, those without an outcome too."""
    batch: Annotated[int, Field(ge=1, le=10_000)] = 1000
    """Events handed over in one go, at most."""

    @abstractmethod
    def open(self, http: "Http", receipt: Receipt | None) -> AbstractAsyncContextManager[Deliver]:
        """Open the place, and yield the function that delivers.

        Guaranteed to the author: one call at a time, events in log order, the same events again after anything but a
        return or a `Reject`; and after any failure the place is left and opened anew, with the receipt of the last
        delivery that was acked. So opening is also recovering.
        """

    def place(self) -> str | None:
        """What this sink alone may write to; two sinks with the same place are a mistake."""
        return None
