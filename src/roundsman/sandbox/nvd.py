"""A simulated National Vulnerability Database: CVE records by windows of their last change, by offsets.

Documented at https://nvd.nist.gov/developers/vulnerabilities and https://nvd.nist.gov/developers/start-here:
- `startIndex` (from 0), `resultsPerPage` (default and maximum 2000), `totalResults`; names of parameters in
  any case;
- `lastModStartDate` and `lastModEndDate`: both or none, at most 120 days apart, extended ISO 8601, without an
  offset meaning UTC; answers have times without an offset;
- an optional `apiKey` header; 5 requests in a rolling window of 30 seconds without one, 50 with it; 6 seconds
  between two requests are advised.

Observed, not documented: an error is 404 with an empty body and a `message` header, also for a wrong key
("Invalid apiKey."); beyond the rate limit it is 403, with neither JSON nor `Retry-After`; `resultsPerPage` in an
answer is the number of its rows. A record is never removed: it gets the status `Rejected`.
Guesses, and so `Quirks`: the order of rows, whether the window includes its ends, what happens beyond 2000.

There are no links between pages: `next_elsewhere` changes nothing, and `loops` answers every `startIndex` with
the first page.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from roundsman.sandbox.paging import Faulty, Listing, Version, Window, milliseconds, whole
from roundsman.sandbox.vendor import Reply, document
from roundsman.times import parse_time

API_KEY = "00000000-5a5a-4bcd-8000-000000000001"
PATH = "/rest/json/cves/2.0"
MOST = 2000
LONGEST = timedelta(days=120)


@dataclass(slots=True, kw_only=True)
class Quirks(Faulty):
    """What the vendor's documentation leaves open, and what it allows."""

    limit: int | None = 5
    limit_window: timedelta = timedelta(seconds=30)
    limit_with_key: int = 50
    """Takes the place of `limit` for requests with the API key, unless that is None."""
    order: Literal["published", "modified"] = "published"
    """The order of rows; with "published", the newest change may be on any page."""
    inclusive: bool = True
    """Whether a window includes its two ends."""
    too_many: Literal["refused", "capped"] = "refused"
    """What happens to a `resultsPerPage` over 2000."""


class Nvd(Listing[Quirks]):
    """The database, at /rest/json/cves/2.0."""

    def __init__(self, now: Callable[[], datetime] | None = None, quirks: Quirks | None = None) -> None:
        super().__init__(now, quirks or Quirks(), Window(rolling=True))
        self.key = API_KEY

    def add(
        self, key: str | None = None, at: datetime | None = None, shown: datetime | None = None, **cve: Any
    ) -> str:
        """Publish a record. `at` is `published` and `lastModified`. Returns its id."""
        key = key or f"CVE-2026-{len(self.versions) + 1:05d}"
        at = at or self.now()
        full = {
            "id": key,
            "sourceIdentifier": "cve@example.org",
            "published": milliseconds(at),
            "lastModified": milliseconds(at),
            "vulnStatus": "Received",
            "cveTags": [],
            "descriptions": [{"lang": "en", "value": "A buffer overflow in the printer service."}],
            "metrics": {},
            "references": [{"url": "https://example.org/advisory", "source": "cve@example.org"}],
        }
        return self._write(key, at, shown, full | cve).key

    def edit(self, key: str, at: datetime | None = None, shown: datetime | None = None, **cve: Any) -> None:
        """Change a record: it leaves its place and comes again with a new `lastModified`."""
        old, at = self.latest(key), at or self.now()
        old.gone = self.now()
        self._write(
            key, at, shown, {**old.row, "vulnStatus": "Modified", "lastModified": milliseconds(at), **cve}
        )

    def remove(self, key: str) -> None:
        """Reject a record: it comes again with the status `Rejected`."""
        self.edit(key, vulnStatus="Rejected")

    def _write(self, key: str, at: datetime, shown: datetime | None, cve: dict[str, Any]) -> Version:
        return self.store(key, at.replace(microsecond=at.microsecond // 1000 * 1000), shown or at, cve)

    def event_id(self, version: Version) -> str:
        return f"{version.key}:{version.row['lastModified']}"

    def refusal(self, headers: Mapping[str, str]) -> Reply | None:
        key = headers.get("apikey")
        if key not in {None, self.key}:
            return _error("Invalid apiKey.")
        limit = self.quirks.limit
        if limit is not None and key is not None:
            limit = self.quirks.limit_with_key
        limits = self.window.take(self.now(), limit, self.quirks.limit_window)
        if limits is not None and limits.left < 0:
            body = (
                b"<html><body><h1>403 Forbidden</h1>Request forbidden by administrative rules.</body></html>"
            )
            return Reply(403, {"Content-Type": "text/html"}, body)
        return None

    def page(self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Reply:  # noqa: ARG002 - no links
        if method != "GET" or path.rstrip("/") != PATH:
            return Reply(404, {}, b"")
        asked = {name.lower(): value for name, value in query.items()}
        if whole(asked.get("resultsperpage"), 1) > MOST and self.quirks.too_many == "refused":
            return _error("Invalid resultsPerPage parameter.")
        try:
            rows = self._changed(asked)
        except ValueError as exc:
            return _error(str(exc))
        size = self.size(asked.get("resultsperpage"), MOST, MOST)
        first = 0 if self.quirks.loops else whole(asked.get("startindex"), 0)
        page = rows[first : first + size]
        return document(
            200,
            {
                "resultsPerPage": len(page),
                "startIndex": first,
                **({} if self.quirks.no_total else {"totalResults": len(rows)}),
                "format": "NVD_CVE",
                "version": "2.0",
                "timestamp": milliseconds(self.now()),
                "vulnerabilities": [{"cve": self.sent(v)} for v in page],
            },
        )

    def _changed(self, asked: Mapping[str, str]) -> list[Version]:
        """The records that the window contains. Raises ValueError for a window that is refused."""
        rows = self.visible()
        names = {"lastmodstartdate", "lastmodenddate"} & asked.keys()
        if names:
            start = parse_time(asked.get("lastmodstartdate"))
            end = parse_time(asked.get("lastmodenddate"))
            if start is None or end is None:
                raise ValueError("Both lastModStartDate and lastModEndDate are required, in ISO-8601 format.")
            if not timedelta(0) <= end - start <= LONGEST:
                raise ValueError("The lastModStartDate and lastModEndDate range must not exceed 120 days.")
            edge = timedelta(0) if self.quirks.inclusive else timedelta(microseconds=1)
            rows = [v for v in rows if start + edge <= v.at <= end - edge]
        member = "published" if self.quirks.order == "published" else "lastModified"
        return sorted(rows, key=lambda v: (v.row[member], v.key))


def _error(message: str) -> Reply:
    return Reply(404, {"message": message}, b"")
