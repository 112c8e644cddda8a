"""What a vendor's growing list is: the options of every such source, and what the vendor's class defines."""

from abc import abstractmethod
from typing import Annotated

from pydantic import Field

from roundsman.kit.feed.shape import Shape
from roundsman.kit.probing import Limits, Mode
from roundsman.options.values import Duration, Lookback, Options, Start
from roundsman.plugin import Source


class Paging(Options):
    """`paging`: how to read lists, if it should not be detected automatically."""

    mode: Mode = "auto"
    """The strategy to read a long list with first."""
    limit: Annotated[int, Field(ge=2, le=100_000)] = 1000
    """Rows to ask for per request."""
    max_limit: Annotated[int, Field(ge=2, le=100_000)] = 8000
    """Maximum rows to ask for per request, if only a larger limit helps."""
    limit_param: str = "limit"
    start_param: str
    order_param: str
    order: str
    """The order to read in."""
    probe_order: str | None
    """The order of the one-row request whose ETag shows changes."""
    offset_params: tuple[str, ...] = ("offset", "skip")
    """Query parameters that may mean "skip the first n rows", tried in turn."""
    items: str = ""
    """The path of the list in the answer, such as "data.rows"; not needed if there is only one list."""
    requests_per_minute: Annotated[int, Field(ge=1, le=6000)] = 60
    """Maximum pages of a backlog to read per minute; not applied to a loopback address."""

    def limits(self) -> Limits:
        return Limits(self.limit, self.max_limit, self.mode, self.offset_params)


class Reread(Options):
    """`reread`: how far to look back for late rows. Reading a row again does not report it again."""

    overlap: Lookback = 600.0
    """How far behind the newest row to read again whenever something changed; 30 days at most."""
    full_read_every: Duration = 1800.0
    """How often to ignore the ETag."""
    sweep_interval: Duration = 6 * 3600.0
    """How often to sweep: to look far back."""
    sweep_depth: Lookback = 7 * 86400.0
    """How far a sweep looks back, for late rows; 30 days at most: ids are remembered for 35."""


class Growing(Source):
    """A list that only grows."""

    start: Start = "now"
    """Where to begin on the first run: "now", "beginning", or a date-time."""
    paging: Paging
    reread: Reread = Reread()

    @property
    @abstractmethod
    def shape(self) -> Shape:
        """How this source's rows are read."""

    @abstractmethod
    def url(self) -> str:
        """Where the list is."""

    @abstractmethod
    def query(self, **more: str | int) -> dict[str, str | int]:
        """The parameters of every request, with these."""

    @abstractmethod
    def headers(self) -> dict[str, str]:
        """The headers of every request, besides the credentials."""
