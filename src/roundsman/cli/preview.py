"""`poll --since`: a source as if it began at another time, and how many requests that takes."""

from datetime import UTC, datetime

from roundsman.cli.app import fail
from roundsman.http.exchange import Exchange, Observer
from roundsman.options.values import counted
from roundsman.plugin import Rewinds, Source, State


class Counter:
    """Counts requests, and passes them on to another observer."""

    def __init__(self, inner: Observer) -> None:
        self._inner = inner
        self.count = 0

    def exchanged(self, exchange: Exchange) -> None:
        self.count += 1
        self._inner.exchanged(exchange)

    def retried(self, host: str) -> None:
        self._inner.retried(host)

    @property
    def made(self) -> str:
        """For a person, such as `2 requests`."""
        return counted(self.count, "request")


def beginning(source: Source, since: datetime | str) -> tuple[Source, State]:
    """The source that begins at a time or at the "beginning", and the state to begin with."""
    to = since if isinstance(since, datetime) else None
    if to is not None and to > datetime.now(UTC):
        fail("--since: is in the future; name a time that has passed", 2)
    starts = "start" in type(source).model_fields
    if not (starts or isinstance(source, Rewinds)):
        fail(f"{source.name}: a {source.type} source cannot be read from a time on; leave --since out", 2)
    state: State = {}
    try:
        if isinstance(source, Rewinds):
            state = source.rewound({}, to)
    except (NotImplementedError, ValueError) as exc:
        if not starts:
            fail(f"{source.name}: {exc}", 2)
        if to is None and isinstance(exc, ValueError):
            fail(f"--since: {exc}".replace("--to", "--since"), 2)
    # As at a first visit: what a vendor lists from before then is not reported.
    return (source.model_copy(update={"start": since}), {}) if starts else (source, state)
