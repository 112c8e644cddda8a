"""What an `http.json` source remembers between visits."""

import msgspec

from roundsman.kit.documents import Count, Document
from roundsman.sources.http_json.asking import Position, Value


class Walk(msgspec.Struct, omit_defaults=True):
    """A reading of the list from its first page to its last. It may span several visits."""

    at: Position | None = None
    """The page to ask for next; None: the first one."""
    begin: Value | None = None
    """What `since.param` carries; the same on all pages, but with `pages.next = "since"`."""
    end: str | None = None
    """What `since.until` carries."""
    top: Value | None = None
    """The greatest value of `since.row`, or of `rows.time`, so far."""
    mark: list[str] = []
    """Digests of the ids on its first page."""
    tail: list[str] = []
    """Digests of the last ids on its last page; the next page repeats them if it skips rows."""
    trail: list[str] = []
    """Digests of the last positions."""
    last: str = ""
    """A digest of the ids on its last page."""
    pages: Count = 0
    rows: Count = 0
    """Rows so far, the repeated ones included."""
    largest: Count = 0
    """Rows of its largest page."""
    backs: Count = 0
    """How often it went back, because the list shifted."""
    full: bool = False
    """It goes on behind pages that are known."""
    tag: dict[str, str] | None = None
    """The ETag of its first page."""
    fills_gap: bool = False
    """It began at or before the gap: if it reads the list to its end, no row is missing."""
    began: str | None = None
    """When it asked for its first page, by the clock that is behind, the vendor's or ours."""


class Memory(msgspec.Struct, omit_defaults=True):
    """The position of a source in its list."""

    table: str = ""
    """A fingerprint of the options that a walk depends on."""
    begun: bool = False
    """The first walk has ended."""
    cursor: Value | None = None
    """The greatest value of `since.row`, or of `rows.time`, of all complete walks."""
    next: Position | None = None
    """With `since.next`: the page to ask for at the next visit."""
    refusals: Count = 0
    """Visits in a row at which the vendor refused that page."""
    shown: list[str] = []
    """Digests of the ids on that page, if it was read already."""
    mark: list[str] = []
    """Digests of the ids on the first page of the last complete walk."""
    before: list[str] = []
    """Digests of ids that are not reported, because their rows were there at the beginning."""
    tag: dict[str, str] | None = None
    """The ETag of the first page."""
    full_at: str | None = None
    """When the list was last read without an ETag."""
    low: int | float | None = None
    """With `since.format = "number"`: rows up to this number were there at the beginning."""
    again: bool = False
    """The list is read again, from far before the cursor, because its position was lost."""
    gap: str | None = None
    """Since when rows may be missing."""
    walk: Walk | None = None


Texts = list[str]  # in a class with an attribute `list`, Python 3.14 reads `list[str]` as of that


class ListState(Document):
    """The state of a source."""

    floor: str | None = None
    remarked: Texts = []
    unread: Texts = []
    list: Memory = msgspec.field(default_factory=Memory)

    def repaired(self) -> None:
        """The list is read again as far as its position was lost, and the log knows what was reported."""
        self.list.begun = self.list.again = True
        self.list.tag = None
