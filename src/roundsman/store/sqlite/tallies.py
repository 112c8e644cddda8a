"""Reads the counts of sources and sinks by hour and by day."""

from roundsman.store.packed import REQUESTS, SPAN, UNCHANGED, as_named, unpack
from roundsman.store.sqlite.reading import Reading, reading
from roundsman.store.tally import SPANS, Span, Tally, window
from roundsman.store.values import Kind


class Tallies(Reading):
    """A store whose counts can be read."""

    @reading
    def tallies(self, kind: Kind, name: str, span: Span, now: float) -> list[Tally]:
        """What was counted of a source or a sink in each of the last 48 hours or 35 days, the oldest first."""
        numbers = window(span, now)
        marks = ",".join("?" * len(numbers))  # with each number given, SQLite looks up a row for each
        table = "source_counts WHERE source = (SELECT id FROM sources WHERE name = ?)"
        sql = f"SELECT at, counts FROM {table if kind == 'source' else 'sink_counts WHERE sink = ?'}"  # noqa: S608 - fixed words
        rows = self._run(f"{sql} AND span = ? AND at IN ({marks}) ORDER BY at", (name, SPAN[span], *numbers))
        return [Tally(at * SPANS[span], as_named(unpack(data))) for at, data in rows]

    @reading
    def unchanged_shares(self, now: float) -> dict[str, float]:
        """By source, the share of its requests that were answered 304 Not Modified, yesterday and today."""
        sql = "SELECT source, counts FROM source_counts WHERE span = ? AND at IN (?, ?)"
        asked: dict[int, int] = {}
        unchanged: dict[int, int] = {}
        for source, data in self._run(sql, (SPAN["day"], *window("day", now)[-2:])):
            counts = unpack(data)
            asked[source] = asked.get(source, 0) + counts.get(REQUESTS, 0)
            unchanged[source] = unchanged.get(source, 0) + counts.get(UNCHANGED, 0)
        names = self._run("SELECT id, name FROM sources")
        return {name: unchanged[source] / asked[source] for source, name in names if asked.get(source)}
