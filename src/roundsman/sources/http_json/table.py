"""The options of `http.json`, and what they mean for a request."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from roundsman import wire
from roundsman.http.credentials import Credentials
from roundsman.http.urls import Url
from roundsman.options.secrets import Parameter, Secret
from roundsman.options.values import Duration, HeaderName, Lookback, Start
from roundsman.plugin import Source
from roundsman.redaction import steps_of
from roundsman.sources.http_json import options
from roundsman.sources.http_json.rows import Reader

if TYPE_CHECKING:
    from roundsman.http.auth import Auth


def _path(value: str) -> str:
    if value and not value.startswith("/"):
        raise ValueError('does not begin with a slash; write "/path"')
    if "?" in value or "#" in value:
        raise ValueError("has a query or a fragment; write parameters in query")
    return value


def _fits(body: dict[str, Any], param: str) -> None:
    """ValueError if a member of the body cannot be set at this path."""
    place: Any = body
    if not all(param.split(".")):
        raise ValueError(f'param = "{param}" is no path in body: a step of it has no name')
    for step in param.split(".")[:-1]:
        place = place.get(step, {})
        if not isinstance(place, dict):
            raise ValueError(f'param = "{param}" leads through {step}, which is no table in body')


class Table(Source):
    """The options of `http.json`."""

    base_url: Url
    """The URL of the API; credentials are sent to no other host."""
    path: Annotated[
        str, AfterValidator(_path), WithJsonSchema({"type": "string", "pattern": "^(/[^?#]*)?$"})
    ] = ""
    """The path of the list, such as `"/events"`; it follows `base_url`."""
    method: Literal["GET", "POST"] = "GET"
    """The method of the request. POST is for searches and GraphQL, and sends `body`."""
    query: dict[str, Parameter] = {}
    """Query parameters of each request. A secret among them is in no state, log or event."""
    headers: dict[HeaderName, options.HeaderParameter] = {}
    """Additional headers of each request. A value is a text or a secret."""
    body: dict[str, Any] | None = None
    """The body of a POST request, which is sent as JSON. `pages` and `since` set members of it."""
    auth_: Annotated[Credentials | None, Field(alias="auth")] = None
    """How to authenticate. Without it, requests have no credentials."""
    start: Start = "now"
    """Where to begin on the first run: `"now"`, `"beginning"`, or a date-time such as `"2026-05-01T00:00:00Z"`."""
    pace: Duration = 0.0
    """Time between two requests of a visit. Not applied to a loopback address."""
    full_read_every: Duration = 1800.0
    """How often to read without `If-None-Match`, and with `rows.newest_first` to read on behind known rows."""
    full_read_depth: Lookback = 86400.0
    """With `rows.newest_first`: how far behind the newest row such a full read goes, for late rows. 30 days at most."""
    rows: options.Rows
    pages: options.Pages | None = None
    since: options.Since | None = None
    event: options.Event = options.Event()

    account: ClassVar[tuple[str, ...]] = ("path",)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        named = self.pages is not None and self.pages.next not in {"rows", "page", "since"}
        if self.since is not None and self.since.next and not named:
            raise ValueError('since.next = true keeps what pages.next finds: a path, or "link"')
        if self.pages is not None and self.pages.next == "since":
            if self.since is None or not self.since.param:
                raise ValueError('pages.next = "since" asks with since.param again, and there is none')
            if self.rows.newest_first or self.since.until:
                raise ValueError('pages.next = "since" needs the oldest row first, and no until')
        if self.since is not None and self.since.window and self.start == "beginning":
            raise ValueError('since.window needs start = "now" or a date-time')
        if self.since is not None and self.rows.newest_first and self.since.next:
            raise ValueError("since.next = true goes on to newer rows, and rows.newest_first to older ones")
        if self.body is not None and self.method == "GET":
            raise ValueError('body needs method = "POST"')
        self._check_params()
        return self

    def _check_params(self) -> None:
        """ValueError if one parameter would replace another, or does not fit into the body."""
        named = [("pages.param", self.pages.param)] if self.pages is not None else []
        if self.since is not None:
            named += [("since.param", self.since.param), ("since.until", self.since.until)]
        params = [(place, param) for place, param in named if param]
        # A token may be another value of since.param; the number of a page is none.
        is_token = self.pages is not None and self.pages.next not in {"rows", "page"}
        for (place, param), (other, another) in combinations(params, 2):
            if param == another and not (is_token and place == "pages.param"):
                raise ValueError(f'{place} and {other} are both "{param}": one would replace the other')
            longer, shorter = sorted((f"{param}.", f"{another}."), key=len, reverse=True)
            if self.method == "POST" and param != another and longer.startswith(shorter):
                raise ValueError(
                    f'{place} = "{param}" and {other} = "{another}" would replace one another in body'
                )
        if self.method == "POST":
            for _, param in params:
                _fits(self.body or {}, param)

    def auth(self) -> "Auth | None":
        from roundsman.http.auth import Hidden

        inner = self.auth_.flow() if self.auth_ is not None else None
        query = self.hidden_query()
        headers = {k: v.reveal() for k, v in self.headers.items() if isinstance(v, Secret)}
        return Hidden(inner, query, headers) if query or headers else inner

    @cached_property
    def reader(self) -> Reader:
        """How its rows are read."""
        return Reader(self.name, self.rows, self.since, self.event)

    @property
    def keeps_next(self) -> bool:
        """Whether the next page is kept between visits."""
        return self.since is not None and self.since.next

    @property
    def is_read_again(self) -> bool:
        """Whether a visit may show rows that an earlier one showed, however old they are."""
        return not (self.keeps_next or (self.since is not None and self.since.format == "number"))

    def visible_query(self) -> dict[str, str]:
        """The query parameters that are no secrets."""
        return {name: value for name, value in self.query.items() if isinstance(value, str)}

    def hidden_query(self) -> dict[str, str]:
        """The query parameters that are secrets."""
        return {name: value.reveal() for name, value in self.query.items() if isinstance(value, Secret)}

    def visible_headers(self) -> dict[str, str]:
        """The additional headers that are no secrets."""
        return {name: value for name, value in self.headers.items() if isinstance(value, str)}

    def table(self) -> str:
        """A fingerprint of what decides which rows there are, and in which order."""
        parts: Sequence[Any] = (
            self.method,
            self.visible_query(),
            self.body,
            (self.rows.at, self.rows.newest_first),
            self.pages and self.pages.model_dump(include={"next", "param", "first"}),
            self.since and self.since.model_dump(include={"next", "param", "row", "format", "until"}),
        )
        return hashlib.blake2b(wire.encode(parts), digest_size=8).hexdigest()

    def warnings(self) -> list[str]:
        found = []
        since = self.since
        if since is not None and since.param and since.format != "number" and not since.overlap:
            found.append("since.overlap: is 0: rows that come late are missed")
        kept = {f"raw.{each}" for each in self.rows.id}
        found += [
            f"redact: {path} is the id of a row, and ids are kept"
            for path in self.redact
            if ".".join(steps_of(path)) in kept
        ]
        return found
