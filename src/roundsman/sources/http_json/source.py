"""`http.json`: a list of any JSON API, described in TOML alone."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Literal

from roundsman.kit.paths import as_glob
from roundsman.plugin import Poll, State, Visit
from roundsman.sources.http_json.reading import Reading
from roundsman.sources.http_json.state import ListState, Memory
from roundsman.sources.http_json.table import Table
from roundsman.times import rfc3339


class HttpJson(Table):
    """A list of any JSON API: one event for each new row."""

    type: Literal["http.json"]

    def poll(self, visit: Visit, state: State) -> AsyncIterator[Poll]:
        return Reading(self, visit, state).polls()

    def reported_types(self) -> Sequence[str]:
        return [as_glob(self.event.type)]

    def requests_a_day(self) -> tuple[float, str]:
        whole = self.pages is not None and self.since is None and not self.rows.newest_first
        return 86400 / self.interval, "1 request a visit" + (
            " for each page of the list; 1 page" if whole else ""
        )

    def rewound(self, state: State, to: datetime | None) -> State:
        if to is None and self.since is not None and self.since.window:
            raise ValueError("since.window needs a time to begin at; write --to 2026-05-01T00:00:00Z")
        doc = ListState.load(state)
        doc.floor, doc.list = rfc3339(to) if to else "", Memory(begun=True)
        return doc.dump()

    @classmethod
    def gap(cls, state: State) -> str | None:
        return ListState.load(state).list.gap

    @classmethod
    def reading(cls, state: State) -> str | None:
        walk = ListState.load(state).list.walk
        # Not the time of the last row: the list may begin with the newest one.
        return None if walk is None else f"{walk.rows:,} rows" if walk.rows else ""
