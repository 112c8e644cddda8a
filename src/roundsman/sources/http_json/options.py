"""The tables of `http.json`: `rows` defines what a row is, `pages` where the next page is, `since` where a visit begins."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from roundsman.kit.paths import Path, is_path, is_template
from roundsman.options.secrets import Parameter, Secret
from roundsman.options.values import Duration, Lookback, Options

HEADER = re.compile(r"header:([!#$%&'*+.^_`|~0-9A-Za-z-]+)")
"""A value that is in a header of the answer, and not in its body."""


def _carried(value: str | Secret) -> str | Secret:
    text = value.reveal() if isinstance(value, Secret) else value
    if not (text.isprintable() and text.isascii()):
        raise ValueError("is not printable ASCII, as a header requires")
    return value


HeaderParameter = Annotated[Parameter, AfterValidator(_carried)]
"""The value of a header."""


def _place(value: str) -> str:
    return value if HEADER.fullmatch(value) else is_path(value)


Place = Annotated[str, AfterValidator(_place)]
"""A path into the answer, or "header:NAME" for a header."""


def _paths(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class Rows(Options):
    """`rows`: where the rows are in an answer, and what identifies one. Paths are JMESPath."""

    at: Path | None = None
    """The path of the list in the answer. Without it, the answer must be a list, or an object with one list."""
    id: Annotated[
        tuple[Path, ...],
        BeforeValidator(_paths),
        Field(min_length=1),
        WithJsonSchema(
            {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
        ),
    ]
    """The path of a row's id, or several paths that make one id: `["id", "updated_at"]` makes an edited row a new
    event.
    """
    time: Path | None = None
    """The path of a row's time: the event's time, and what `start` compares with."""
    failed: Path | None = None
    """A JMESPath condition that makes a row a failure: `"result == 'FAILURE'"`. Then the event has the outcome
    `failed`, and `roundsman failures` lists it.
    """
    newest_first: bool = False
    """The list begins with the newest row. A visit then reads until it knows all rows of a page."""


class Pages(Options):
    """`pages`: how to get to the next page of a list."""

    next: Place
    """Where the next page is: `"link"` (the header `Link`), a path to a URL or to a token, `"header:NAME"` (a header
    with one of them), `"rows"` (skip as many rows as were read), `"page"` (the number of the page), or `"since"`
    (ask again from the last row on).
    """
    param: str | None = None
    """The query parameter that carries the token, the number of rows or the page. With POST: its path in `body`."""
    total: Place | None = None
    """The path of the number of rows of the whole list, or `"header:NAME"`."""
    more: Path | None = None
    """A JMESPath condition that is true if there is another page: `"!end_of_stream"`."""
    size: Annotated[int, Field(ge=1)] | None = None
    """The number of rows of a full page, if known. A page with fewer rows is the last one."""
    first: int = 1
    """With `next = "page"`: the number of the first page."""
    overlap: Annotated[int, Field(ge=0)] = 10
    """With `next = "rows"`: how many rows to read again with the next page, because a list shifts while it is read."""
    limit: Annotated[int, Field(ge=1)] = 10_000
    """Maximum pages of one reading. If there are more, `roundsman.source.gap` is reported."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.next in {"rows", "page"} and not self.param:
            raise ValueError(f'next = "{self.next}" needs param, the parameter that carries it')
        if self.next in {"link", "since"} and self.param:
            raise ValueError(f'next = "{self.next}" takes no param')
        return self


class Since(Options):
    """`since`: where the next visit begins. Without this table, each visit reads the list from its beginning."""

    next: bool = False
    """Keep the URL or token of the next page between visits. An empty page means that nothing is new."""
    param: str | None = None
    """The query parameter that carries the time to begin at. With POST: its path in `body`."""
    row: Path | None = None
    """The path of the row's value that `param` compares with."""
    format: Literal["iso", "date", "unix", "unix_ms", "number"] = "iso"
    """How `param` is written: `iso` (`2026-05-01T00:00:00Z`), `date` (`2026-05-01`), `unix` (seconds), `unix_ms`
    (milliseconds), or `number`, a number that is not a time.
    """
    until: str | None = None
    """The query parameter that carries the end of a window."""
    window: Annotated[Duration, Field(ge=1)] | None = None
    """The longest time between `param` and `until` that the API accepts: at least twice `overlap`."""
    overlap: Lookback = 600.0
    """The lookback: how far behind the newest row to begin, for late rows. 30 days at most. A row that is read again is
    not reported again.
    """

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.window and not self.until:
            raise ValueError("window needs until, the parameter that carries its end")
        if self.window and self.window < 2 * self.overlap:
            raise ValueError("window is shorter than two overlaps: a visit would not advance")
        if self.until and not self.param:
            raise ValueError("until needs param, the parameter that carries the beginning")
        if self.format == "number" and self.until:
            raise ValueError('format = "number" is no time, and has no until')
        if not (self.next or self.param):
            raise ValueError("needs next = true, or param and row")
        if not self.next and not self.row:
            raise ValueError("param needs row, the path of the value that it compares with")
        return self


class Person(Options):
    """`event.person`: the paths of the person concerned."""

    id: Path | None = None
    """The path of the person's id."""
    name: Path | None = None
    """The path of the person's name."""
    email: Path | None = None
    """The path of the person's e-mail address."""


def _is_type(value: str) -> str:
    if value.startswith(("roundsman.", "{")):
        raise ValueError('begins with "roundsman." or with a path: begin with a name of your own')
    return is_template(value)


class Event(Options):
    """`event`: what a row becomes."""

    type: Annotated[str, Field(min_length=1), AfterValidator(_is_type)] = "http.json.row"
    """The type of the event. A path in braces is replaced by its value in the row: `"com.github.{type}"`."""
    subject: Path | None = None
    """The path of the subject of the event: what it is about."""
    person: Person = Person()
    message: Path | None = None
    """The path of the text that says what went wrong."""
    code: Path | None = None
    """The path of a word or number that says what went wrong."""
