"""The plugin API: `Source` and `Sink`, what a visit provides and what a poll returns."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol, Self, get_args

from pydantic import BaseModel, Field, PrivateAttr, field_validator

from roundsman.members import Paths, check
from roundsman.options.secrets import Secret
from roundsman.options.values import Duration, Options
from roundsman.webhook import Call, Hook, Registrar

if TYPE_CHECKING:
    from roundsman.events import Event
    from roundsman.http.auth import Auth
    from roundsman.http.client import Http
    from roundsman.wire import Damage


State = Mapping[str, Any]
"""A source's state: a small JSON object, `{}` on the first visit. Only the source reads its content."""

Receipt = Mapping[str, Any]
"""What a sink stores about its last delivery: a small JSON object, committed with the ack."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a delivery returns if the sink has taken the events, and sends some of them later, on purpose."""

    until: float
    """When (Unix) the sink is called again: with the next events, or with none."""
    receipt: Receipt
    """It holds what was not sent: the daemon commits it with the ack, and opens the sink with it after a restart."""
    held: int = 0
    """How many events it holds. `status` shows a sink that holds some as `waiting`."""


Deliver = Callable[["Sequence[Event]"], Awaitable["Receipt | Waiting | None"]]
"""Returning is the ack: the receiver has all of these events, or the receipt has them. Any error but `Reject` means a
retry. Without events, it is called only at the time that it asked for by `Waiting`, and once after it
was opened while it waits: its options may be others now.
"""

Trigger = Literal["due", "webhook", "command"]
"""Why a visit is made: it is due, a webhook rang, or a command requested it."""

FLOOR = 60.0
"""Minimum seconds between two visits to a vendor: Parakey documents it, and it is used for all vendors."""


async def knows_nothing(_: Sequence[str]) -> set[str]:
    """The log of a visit without a store: no event is known."""
    return set()


@dataclass(slots=True)
class Visit:
    """What a source gets for one visit: HTTP, the trigger, the clocks, and which events are known."""

    http: "Http"
    trigger: Trigger = "due"
    """`webhook`: only what the webhook named has to be requested; scheduled visits request the rest."""
    ids: Sequence[str] = ()
    """Ids that a webhook or `roundsman track` named since the last committed visit. `Tracks.follow` has put
    them into the state already.
    """
    log: Callable[[Sequence[str]], "Awaitable[set[str]]"] = knows_nothing
    """Returns which of these event ids the log has; for `known`."""
    explain: Callable[[str], None] = lambda _: None
    """Takes a line for `roundsman poll --trace` about what was found in an answer."""

    @property
    def now(self) -> datetime:
        """Our clock, to decide *when to look again*; never use it as a cursor."""
        return self.http.now()

    @property
    def vendor_now(self) -> datetime:
        """The vendor's clock if an answer had a `Date`, else ours: for *how long* something has not moved.

        It stays right when our clock is set.
        """
        return self.http.account.date or self.now

    @property
    def wait(self) -> float:
        """Seconds that the vendor asked to wait; 0 if it did not."""
        return self.http.account.wait

    def defer(self, seconds: float) -> None:
        """Act as if the vendor had asked, in a header, for no request within `seconds`."""
        self.http.account.wait = max(self.http.account.wait, seconds)

    async def known(self, ids: Sequence[str]) -> set[str]:
        """Which of these event ids of this source are in the log already: they need no second look."""
        return await self.log(ids) if ids else set()

    async def pause(self, seconds: float) -> None:
        """Sleep for `seconds`, for a source that limits its own rate of requests."""
        await self.http.clients.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Poll:
    """What one poll found. The engine commits all of it in one transaction, or nothing."""

    state: State
    """The new state. Return the object that was passed in if nothing changed."""
    events: "Sequence[Event]" = ()
    """New and known events: an id that is in the log already is skipped."""
    more: bool = False
    """There is a backlog: after the commit, poll again at once. It counts if this poll has a new state or new events; at
    the end of several that were yielded, if the state is a new one.
    """
    rows: int = 0
    """Number of rows read, reported or not, for the progress line in the log."""
    remarks: Sequence[str] = ()
    """What was unexpected in the answers, in words for a person. Each remark is logged."""
    unread: "Sequence[Damage]" = ()
    """Rows that could not be read. They are stored unchanged, for `roundsman unread`."""
    page: bool = False
    """Set by the engine for a yielded poll: it is committed, but only the visit's end decides the status."""


@dataclass(frozen=True, slots=True)
class Received:
    """The content of a webhook. It is committed before the vendor gets its answer."""

    events: "Sequence[Event]" = ()
    """Complete events, with the same ids that a poll would give them: each is reported once, whether the
    webhook or a poll comes first.
    """
    follow: Sequence[str] = ()
    """Ids for `Tracks.follow`: things whose details have to be requested."""
    ring: bool = False
    """Visit the source now instead of at `due`."""


class Plugin(Options, ABC):
    """A plugin *is* its configuration: its fields are its options in TOML, documented by their docstrings."""

    _name: str = PrivateAttr(default="")

    @property
    def name(self) -> str:
        """The key of its table in the configuration."""
        return self._name

    def named(self, name: str) -> Self:
        """Set the name, and return the plugin."""
        self._name = name
        return self

    def warnings(self) -> Sequence[str]:
        """Warnings about options that are valid but unwise, a sentence each: `api_key: ...`."""
        return ()

    def identity(self) -> str:
        """A fingerprint of the credentials: an ETag from one key is not used with another."""
        digest = hashlib.blake2b(digest_size=8)
        for secret in secrets(self, without="webhook"):
            digest.update(secret.reveal().encode() + b"\0")
        return digest.hexdigest()

    def fingerprint(self, identity: str) -> str:
        """A fingerprint of all options and the credentials (`identity`): it differs after a change of any."""
        options = f"{self!r} {identity}".encode("utf-8", "backslashreplace")
        return hashlib.blake2b(options, digest_size=8).hexdigest()


def secrets(options: BaseModel, without: str = "") -> "list[Secret]":
    """Every secret in a table and the tables inside it, except in the table called `without`."""
    found: list[Secret] = []
    for name in (each for each in type(options).model_fields if each != without):
        value = getattr(options, name)
        values = list(value.values()) if isinstance(value, dict) else value
        for each in values if isinstance(values, list | tuple) else [values]:
            if isinstance(each, Secret):
                found.append(each)
            elif isinstance(each, BaseModel):
                found += secrets(each)
    return found


class Before06:
    """What `Source` defined before 0.6, for the `super()` calls of plugins that were written then; gone with 1.0."""

    @classmethod
    def follow(cls, state: State, ids: Sequence[str]) -> State:
        raise NotImplementedError("this type of source follows nothing by id")

    def receive(self, call: Call) -> "Received":  # noqa: ARG002 - see above
        return Received(ring=True)

    def rewound(self, state: State, to: Any) -> State:
        raise NotImplementedError("this source cannot be rewound")

    def registrar(self, http: "Http") -> Registrar | None:  # noqa: ARG002 - see above
        return None


class Source(Plugin, Before06):
    """One thing to watch: a vendor's endpoint, and how to poll it.

    A subclass adds `type: Literal["vendor.thing"]`, its options, and `poll`.
    """

    type: str
    """The type of source."""
    interval: Annotated[Duration, Field(gt=0)] = FLOOR
    """Time between two scheduled visits: at least 60s, unless `base_url` is a loopback address."""
    base_url: str
    """The URL of the vendor's API."""
    concurrency: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Maximum concurrent requests with these credentials, over all sources that have the same ones. Default:
    `concurrency` of `[http]`.
    """
    webhook: Hook | None = None
    """Receive the vendor's webhooks, too, at `/hooks/NAME`. Needs `[listen]`."""
    redact: Paths = ()
    """Members of `data` that are not kept, such as `["user.email", "raw.user.phone"]`: null is stored in their place, and
    copies of their values in the event are taken out, too. Ids stay. Unreadable rows and webhooks are not kept at all.
    """

    retry_timeouts: ClassVar[bool] = True
    """Whether to retry at once after a timeout. False if the vendor throttles that way."""
    reads_ahead: ClassVar[bool] = False
    """Whether a poll with `more` may be followed by the next one before it is committed. Then `poll` must not change a state
    or events that it has returned, and gets no ids to track meanwhile.
    """
    account: ClassVar[tuple[str, ...]] = ()
    """The options that, with `base_url`, define what is read: a state is not valid for another account."""

    @field_validator("redact")
    @classmethod
    def _can_be_redacted(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        if paths:
            check(paths, next(iter(get_args(cls.model_fields["type"].annotation)), ""))
        return paths

    def origin(self) -> str:
        """What it reads, for a person: the address, and the account if options name it. No secrets."""
        named = [f"{name} {value}" for name in self.account if (value := getattr(self, name)) is not None]
        return ", ".join([self.base_url, *named])

    def reported_types(self) -> Sequence[str]:
        """The types of its events, for `roundsman check --explain`; `*` stands for what depends on the data. Empty: unknown."""
        return ()

    def requests_a_day(self) -> tuple[float, str]:
        """The requests of a day without anything new, and what that assumes, for `roundsman check --explain`."""
        return 86400 / self.interval, "1 request a visit"

    def auth(self) -> "Auth | None":
        """The authentication of requests, such as `bearer(self.token)`; called once when the source is set up."""
        return None

    @abstractmethod
    def poll(self, visit: Visit, state: State) -> Awaitable[Poll] | AsyncIterator[Poll]:
        """Read what is new since `state`: return one `Poll`, or yield several if there is much to read.

        Guaranteed to the author: it is never called while an earlier call for this source runs. It is called
        with the state of the last *committed* poll. If it raises or is cancelled, nothing of this poll is
        committed. A yielded poll is committed before the next one is requested, and stays committed if an
        error is raised later; then the visit has failed.
        """

    @classmethod
    def following(cls, state: State) -> Sequence[str]:  # noqa: ARG003 - for sources that track something
        """What is tracked at present; `status` shows it."""
        return ()

    @classmethod
    def gap(cls, state: State) -> str | None:  # noqa: ARG003 - for sources that may have one
        """Since when rows may be missing: a time or a word, which `status` shows; None if there is no gap."""
        return None

    @classmethod
    def reading(cls, state: State) -> str | None:  # noqa: ARG003 - for sources that read in several polls
        """How far a reading that spans several polls has come: a time or words such as `1,200 rows`, which `status` shows;
        "" if that is not known, None if no reading is under way.
        """
        return None

    webhook_place: ClassVar[str] = "at the vendor"
    """Where a person registers a webhook, at a vendor without an API for that."""


class Ability(ABC):  # noqa: B024 - an ABC for its hook
    """Something that a source can do or cannot: `isinstance` is true if its class defines the method."""

    _method: ClassVar[str] = ""

    @classmethod
    def __subclasshook__(cls, kind: type) -> bool:
        # The first class that defines it is the one that is called.
        first = next((each for each in kind.__mro__ if cls._method in vars(each)), Before06)
        return bool(cls._method) and first is not Before06


class Tracks(Ability):
    """A source that can track things by id."""

    _method = "follow"

    @classmethod
    def follow(cls, state: State, ids: Sequence[str]) -> State:
        """The state that also tracks these ids until the things end. ValueError if one cannot be an id there.

        Ids come from `roundsman track` and from webhooks. Tracking one twice, or one that has ended, must do
        no harm.
        """
        raise NotImplementedError


class Receives(Ability):
    """A source that reads the content of webhooks. For others, a webhook is a ring: a visit at once."""

    _method = "receive"

    def receive(self, call: Call) -> Received:
        """The content of an authentic webhook.

        It never waits and makes no request, because the vendor waits for the answer. Any error means "not
        understood": the body is kept for a person, and the vendor still gets a 2xx, because vendors disable
        hooks that are refused.
        """
        raise NotImplementedError


class Rewinds(Ability):
    """A source that can read again from a given time on."""

    _method = "rewound"

    def rewound(self, state: State, to: Any) -> State:
        """The state that reads again from `to` (a UTC datetime, or None for the beginning)."""
        raise NotImplementedError


class Registers(Ability):
    """A source whose vendor has an API for webhooks."""

    _method = "registrar"

    def registrar(self, http: "Http") -> Registrar:
        """The vendor's API for its webhooks."""
        raise NotImplementedError


OpenFailures = Callable[[int, int], Awaitable["tuple[int, Sequence[Event]]"]]
"""The number of open failures after an event (its number in the log) that the sink selects and has, and the newest of
them, at most as many as the second parameter.
"""


class Reminds(Ability):
    """A sink that repeats failures until they are ticked off."""

    _method = "open_with"

    def open_with(
        self, http: "Http", receipt: Receipt | None, still_open: OpenFailures
    ) -> AbstractAsyncContextManager[Deliver]:
        """As `Sink.open`, with a question to the log."""
        raise NotImplementedError


class Position(Protocol):
    """The position of a sink, which a sink in the database of the store commits together with its rows."""

    moved: bool
    """Whether the sink has moved it in this delivery: then a return acks what was moved, and no more."""

    async def is_here(self, connection: Any) -> bool:
        """Whether this connection is one to the database of the store."""

    async def move(self, connection: Any, refused: Mapping[int, str]) -> None:
        """Move it in the transaction of this connection. `refused`: why events become dead letters, by `seq`."""


class Joins(Ability):
    """A sink that can commit its position together with its rows."""

    _method = "open_with_position"

    def open_with_position(
        self, http: "Http", receipt: Receipt | None, position: Position
    ) -> AbstractAsyncContextManager[Deliver]:
        """As `Sink.open`."""
        raise NotImplementedError


class Sink(Plugin):
    """One place to deliver to.

    A subclass adds `type: Literal["name"]`, its options, and `open`.
    """

    type: str
    """The type of sink."""
    types: tuple[str, ...] = ()
    """Only events of these types; globs such as `"co.parakey.*"` are allowed. Empty: all."""
    sources: tuple[str, ...] = ()
    """Only events of these sources, by name; globs are allowed. Empty: all."""
    outcomes: tuple[str, ...] = ()
    """Only events with these outcomes; globs are allowed. Empty: all, including those without an outcome."""
    batch: Annotated[int, Field(ge=1, le=10_000)] = 1000
    """Maximum number of events in one delivery."""
    redact: Paths = ()
    """Members of `data` that this sink does not get, such as `["person", "raw"]`: null is delivered in their place, and
    copies of their values in the event are taken out, too. Ids stay.
    """

    for_people: ClassVar[bool] = False
    """Whether a sink without `types` and `outcomes` gets only what a person must know: outcomes `failed` and `partial`,
    and the daemon's notices.
    """

    @abstractmethod
    def open(self, http: "Http", receipt: Receipt | None) -> AbstractAsyncContextManager[Deliver]:
        """Open the place, and yield the function that delivers.

        Guaranteed to the author: there is one call at a time, with events in log order. After anything but a
        return or a `Reject`, the place is closed and opened again with the receipt of the last acked
        delivery, and the same events are delivered again. So `open` must also recover.
        """

    @field_validator("redact")
    @classmethod
    def _can_be_redacted(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        if paths:
            check(paths, None)
        return paths

    async def examined(self) -> str | None:
        """A sentence about the place, which is looked at and left as it is; None if that is not possible. Raises what is wrong."""
        return None

    def place(self) -> str | None:
        """What only this sink may write to, if anything; two sinks with the same place are a mistake."""
        return None
