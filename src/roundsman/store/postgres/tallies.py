"""Reads the counts of sources and sinks by hour and by day."""

from roundsman.store.packed import REQUESTS, SPAN, UNCHANGED, as_named, unpack
from roundsman.store.postgres.reading import Reading, reading
from roundsman.store.tally import SPANS, Span, Tally, window
from roundsman.store.values import Kind


class Tallies(Reading):
    """A store whose counts can be read."""

    @reading
    async def tallies(self, kind: Kind, name: str, span: Span, now: float) -> list[Tally]:
        """What was counted of a source or a sink in each of the last 48 hours or 35 days, the oldest first."""
        table = "source_counts WHERE source = (SELECT id FROM sources WHERE name = %s)"
        sql = f"SELECT at, counts FROM {table if kind == 'source' else 'sink_counts WHERE sink = %s'}"  # noqa: S608 - fixed words
        found = await self._rows(
            f"{sql} AND span = %s AND at = ANY (%s::bigint[]) ORDER BY at",
            (name, SPAN[span], list(window(span, now))),
        )
        return [Tally(at * SPANS[span], as_named(unpack(data))) for at, data in found]

    @reading
    async def unchanged_shares(self, now: float) -> dict[str, float]:
        """By source, the share of its requests that were answered 304 Not Modified, yesterday and today."""
        sql = (
            "SELECT s.name, c.counts FROM source_counts c JOIN sources s ON s.id = c.source "
            "WHERE c.span = %s AND c.at = ANY (%s::bigint[])"
        )
        asked: dict[str, int] = {}
        unchanged: dict[str, int] = {}
        for source, data in await self._rows(sql, (SPAN["day"], list(window("day", now)[-2:]))):
            counts = unpack(data)
            asked[source] = asked.get(source, 0) + counts.get(REQUESTS, 0)
            unchanged[source] = unchanged.get(source, 0) + counts.get(UNCHANGED, 0)
        return {name: unchanged[name] / count for name, count in asked.items() if count}
