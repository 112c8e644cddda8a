"""Reads the store, for the daemon and for commands beside it."""

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from roundsman import wire
from roundsman.events import Event
from roundsman.options.server import Server
from roundsman.store.fleet import Worker
from roundsman.store.postgres.connection import translated
from roundsman.store.postgres.failures import Failures
from roundsman.store.postgres.filters import like, where_of
from roundsman.store.postgres.memories import Memories
from roundsman.store.postgres.pulling import Pulling
from roundsman.store.postgres.reading import EVENT, LOGGED, events_of, reading
from roundsman.store.postgres.roll import ALL_WORKERS, HOLDERS, OWN, SHARED
from roundsman.store.postgres.schema import must_be_current, must_be_whole
from roundsman.store.postgres.tallies import Tallies
from roundsman.store.reloads import results_of
from roundsman.store.rows import STATUS, event_of, record_of
from roundsman.store.values import (
    DAEMON,
    NEVER,
    DaemonRecord,
    DeadLetter,
    Filter,
    Kind,
    Later,
    Pause,
    Reload,
    SinkEntry,
    SourceEntry,
    SourceRecord,
    UnreadItem,
    Via,
)
from roundsman.system.threads import in_thread

if TYPE_CHECKING:
    from roundsman.plugin import Receipt

BATCH_BYTES = 8 * 2**20
"""Approximate bytes of events that are read at a time: a thousand rows of 10 MB must not fill the memory."""
HEAD = "SELECT seq FROM log_head"
NONE = DaemonRecord(None, None, None, None, None, None, 0, ())


class Reader(Failures, Memories, Pulling, Tallies):
    """The store, read-only. It can be used beside a running daemon and never blocks it."""

    @classmethod
    async def open(cls, server: Server) -> "Reader":
        """Open the store. StoreError if there is none, if another version wrote it, or if a copy into it is not complete."""
        view = cls(server)
        try:
            with translated(server):
                async with view._reads.one() as connection:
                    await must_be_current(server, connection)
                    part = await (await connection.execute("SELECT copied_from FROM store")).fetchone()
                    must_be_whole(server, part and part[0])
        except BaseException:
            await view._reads.close()
            raise
        return view

    async def close(self) -> None:
        await self._reads.close()

    async def full(self) -> str | None:
        """None: the server's disk is not seen from here."""
        return None

    @reading
    async def known_damage(self) -> str | None:
        """What the daemon's last check found to be damaged; None if it found nothing, or none was made."""
        found = await self._value("SELECT error FROM sources WHERE name = %s", (DAEMON,))
        return str(found) if found is not None else None

    @reading
    async def head(self) -> int:
        """The last event's `seq`; 0 for an empty log."""
        return int(await self._value(HEAD))

    @reading
    async def sources(self, names: Sequence[str] | None = None) -> list[SourceEntry]:
        """Every source that was ever configured; with `names`, those of them."""
        columns = "type, changed, calls, refused, refusal, origin, moved, paused_by"
        these = "" if names is None else " AND name = ANY (%s::text[])"
        sql = f"SELECT {columns}, {STATUS} FROM sources WHERE type != 'roundsman'{these} ORDER BY name"  # noqa: S608 - fixed names
        found = await self._rows(sql, () if names is None else (list(names),))
        return [SourceEntry._make((*row[:8], record_of(row[8:]))) for row in found]

    @reading
    async def statuses(self) -> list[SourceRecord]:
        """The stored status of each source."""
        return [record_of(row) for row in await self._rows(f"SELECT {STATUS} FROM sources ORDER BY id")]  # noqa: S608 - fixed names

    @reading
    async def sinks(self) -> list[SinkEntry]:
        """Every sink that was ever configured."""
        sql = (
            "SELECT name, type, cursor, delivered, failures, failing, error, "
            "(SELECT count(*) FROM dead WHERE sink = sinks.name), until, held, paused, paused_by, (SELECT min(buried) FROM dead WHERE sink = sinks.name), "
            "(SELECT count(*) FROM dead WHERE sink = sinks.name AND buried > coalesce(delivered, 0)) FROM sinks ORDER BY name"
        )
        return [SinkEntry(*row) for row in await self._rows(sql)]

    @reading
    async def pauses(self) -> list[Pause]:
        """Every source and sink that is paused."""
        one = "SELECT '{0}', name, paused, paused_by FROM {0}s WHERE paused IS NOT NULL"
        return [
            Pause(*row) for row in await self._rows(f"{one.format('source')} UNION ALL {one.format('sink')}")
        ]

    @reading
    async def lag(self, cursor: int, wanted: Filter) -> int:
        """Number of events after `cursor` that match the filter and can be delivered: those not pruned."""
        where, values = where_of(wanted)
        sql = f"SELECT count(*) {LOGGED} WHERE e.seq > %s AND e.body IS NOT NULL{where}"
        return int(await self._value(sql, [cursor, *values]))

    @reading
    async def counts(self, names: Sequence[str] | None = None) -> dict[str, int]:
        """Number of events in the log, by source; with `names`, of these sources."""
        these = "" if names is None else " WHERE s.name = ANY (%s::text[])"
        sql = f"SELECT s.name, count(*) {LOGGED}{these} GROUP BY 1"
        return dict(await self._rows(sql, () if names is None else (list(names),)))

    @reading
    async def names(self, offset: int = 0, limit: int = -1) -> tuple[list[str], int]:
        """Names of sources that were ever configured: at most `limit` after `offset`; and how many there are in all."""
        ours = "FROM sources WHERE type != 'roundsman'"
        most = limit if limit >= 0 else None
        some = await self._rows(f"SELECT name {ours} ORDER BY name LIMIT %s OFFSET %s", (most, offset))
        return [name for (name,) in some], int(await self._value(f"SELECT count(*) {ours}"))

    async def backup(self, target: Path, *, replace: bool = False) -> None:
        """Write the store as a SQLite store. StoreError on failure."""
        from roundsman.store import back_up  # it knows both kinds of stores

        await in_thread(lambda: back_up(self.place, target, replace=replace))

    @reading
    async def daemon(self, worker: str | None = None) -> DaemonRecord:
        """The record of the daemon that runs on the store, or of the last one. If workers share it: of the one with this
        name on this machine, empty if there is none; without a name, of any of this machine.
        """
        row = await self._row(OWN, (socket.gethostname(), worker, worker))
        if row is None and worker is not None and await self._value(SHARED):
            return NONE  # what all workers write would be of another one
        if row is None:
            sql = "SELECT pid, started, beat, version, config, digest, reloads, problems FROM daemons"
            [row] = await self._rows(sql)
        results = results_of(row[-1])
        compared = results.compared or Reload(0)
        return DaemonRecord._make((*row[:-1], results.problems, results.changes, compared))

    @reading
    async def workers(self) -> list[Worker]:
        """The workers that share the store."""
        return [Worker._make(row) for row in await self._rows(ALL_WORKERS)]

    @reading
    async def holders(self, kind: Kind, names: Sequence[str] | None = None) -> dict[str, str]:
        """By name, the worker that holds a source or a sink; with `names`, of these."""
        among, values = ("", []) if names is None else (" AND h.name = ANY (%s)", [list(names)])
        return dict(await self._rows(f"{HOLDERS}{among}", [kind, *values]))

    @reading
    async def kind(self, source: str) -> str | None:
        """The type that a source was registered with; None if it never was."""
        found = await self._value("SELECT type FROM sources WHERE name = %s", (source,))
        return str(found) if found is not None else None

    @reading
    async def events(self, after: int, upto: int, limit: int, wanted: Filter) -> list[tuple[Event, float]]:
        """Events after `after` in log order, and when each was logged (Unix); pruned ones are left out."""
        async with self._reads.one() as connection:
            return await self._events(connection, (after, upto), limit, wanted)

    async def _events(
        self, connection: psycopg.AsyncConnection[Any], span: tuple[int, int], limit: int, wanted: Filter
    ) -> list[tuple[Event, float]]:
        where, values = where_of(wanted)
        condition = (f" AND e.seq > %s AND e.seq <= %s{where}", [*span, *values])
        return [(event_of(row), row[6]) for row in await events_of(connection, condition, limit, BATCH_BYTES)]

    @reading
    async def last(self, count: int, wanted: Filter, since: float = 0.0) -> list[tuple[Event, float]]:
        """The newest `count` events, the oldest of them first."""
        where, values = where_of(wanted)
        sql = f"{EVENT} WHERE e.body IS NOT NULL AND e.logged >= %s{where} ORDER BY e.seq DESC LIMIT %s"
        found = await self._rows(sql, [since, *values, count])
        return [(event_of(row), row[6]) for row in reversed(found)]

    @reading
    async def seq_since(self, when: float) -> int:
        """The `seq` after which events were logged at or after `when`, even if a clock was set back. Scans the log."""
        sql = "SELECT coalesce((SELECT seq - 1 FROM events WHERE logged >= %s ORDER BY seq LIMIT 1), (SELECT seq FROM log_head))"
        return int(await self._value(sql, (when,)))

    @reading
    async def unread(self, source: str) -> list[UnreadItem]:
        """Webhooks and rows of a source that could not be read, oldest first."""
        sql = "SELECT u.n, u.received, u.why, u.body FROM unread u JOIN sources s ON s.id = u.source WHERE s.name = %s"
        return [UnreadItem(*row) for row in await self._rows(f"{sql} ORDER BY u.n", (source,))]

    @reading
    async def unread_counts(self) -> dict[str, int]:
        """Number of unread webhooks and rows, by source."""
        sql = "SELECT s.name, count(*) FROM unread u JOIN sources s ON s.id = u.source GROUP BY 1"
        return dict(await self._rows(sql))

    @reading
    async def via(self, seqs: Sequence[int]) -> dict[int, Via]:
        """What brought each of these events first, by `seq`."""
        sql = "SELECT seq, via FROM events WHERE seq = ANY (%s::bigint[])"
        return dict(await self._rows(sql, (list(seqs),)))

    @reading
    async def lost_to_pruning(self, sink: str, wanted: Filter) -> tuple[int, int]:
        """Number of undelivered events of a sink whose payloads were pruned.

        Also returns the last `seq` that it got.
        """
        sql = "SELECT greatest(cursor, coalesce(reached, 0)) FROM sinks WHERE name = %s"
        reached = int(await self._value(sql, (sink,)) or 0)
        where, values = where_of(wanted)
        sql = f"SELECT count(*) {LOGGED} WHERE e.seq > %s AND e.body IS NULL{where}"
        return int(await self._value(sql, [reached, *values])), reached

    @reading
    async def reported(self, source: str, kind: str) -> float | None:
        """When the newest notice of this type about a source was logged (Unix); None if the log has none."""
        begin = f"{source}:{kind.rpartition('.')[2]}"
        where = "source = (SELECT id FROM sources WHERE name = %s) AND id > %s AND id < %s AND type = %s"
        # The condition of the index `notices`.
        sql = (
            f"SELECT max(logged) FROM events WHERE {where} AND type LIKE 'roundsman.%%' AND body IS NOT NULL"  # noqa: S608 - fixed words
        )
        found = await self._value(sql, (source, f"{begin}:", f"{begin};", kind))
        return float(found) if found is not None else None

    @reading
    async def last_notice(self, kind: str) -> tuple[Event, float] | None:
        """The daemon's newest notice of this type (a glob), and when it was logged (Unix)."""
        where = " WHERE e.source = (SELECT id FROM sources WHERE name = %s) AND e.type LIKE 'roundsman.%%' AND e.type LIKE %s"
        row = await self._row(
            f"{EVENT}{where} AND e.body IS NOT NULL ORDER BY e.seq DESC LIMIT 1", (DAEMON, like(kind))
        )
        return (event_of(row), row[6]) if row else None

    @reading
    async def logged_before(self, seq: int) -> float | None:
        """When the last event before `seq` that is not the daemon's was logged (Unix); None if none."""
        others = "source != (SELECT id FROM sources WHERE name = %s)"
        sql = f"SELECT logged FROM events WHERE seq < %s AND {others} ORDER BY seq DESC LIMIT 1"  # noqa: S608 - fixed words
        found = await self._value(sql, (seq, DAEMON))
        return float(found) if found is not None else None

    @reading
    async def dead(self, sink: str, limit: int = -1) -> list[DeadLetter]:
        """The sink's dead letters in the order of the log, at most `limit`."""
        sql = (
            "SELECT d.seq, d.buried, d.reason, d.retry, s.name, e.id, e.type, e.outcome FROM dead d "
            "LEFT JOIN events e ON e.seq = d.seq LEFT JOIN sources s ON s.id = e.source WHERE d.sink = %s ORDER BY d.seq LIMIT %s"
        )
        return [DeadLetter(*row) for row in await self._rows(sql, (sink, limit if limit >= 0 else None))]

    @reading
    async def cursor(self, sink: str) -> "tuple[int, Receipt | None]":
        """A sink's cursor, and the receipt of its last ack."""
        row = await self._row("SELECT cursor, receipt FROM sinks WHERE name = %s", (sink,))
        return (row[0], wire.decode(row[1].encode()) if row[1] else None) if row else (0, None)

    @reading
    async def later(self, sink: str) -> Later:
        """When a sink is called again on purpose."""
        row = await self._row("SELECT until, held FROM sinks WHERE name = %s", (sink,))
        return Later(*row) if row else NEVER

    @reading
    async def failure(self, sink: str) -> tuple[int, float | None]:
        """How often a sink has failed in a row, and since when (Unix)."""
        row = await self._row("SELECT failures, failing FROM sinks WHERE name = %s", (sink,))
        return (row[0], row[1]) if row else (0, None)

    @reading
    async def has_pruned_ids(self) -> bool:
        """Whether ids of events were ever pruned: a source that is read again from an earlier time may repeat some."""
        return bool(await self._value("SELECT ids_pruned FROM daemons"))

    @reading
    async def retries(self, sink: str) -> list[Event]:
        """Dead letters of a sink that were requeued, at most 100 at a time."""
        sql = f"{EVENT} JOIN dead d ON d.seq = e.seq WHERE d.sink = %s AND d.retry = 1 AND e.body IS NOT NULL"
        return [event_of(row) for row in await self._rows(sql + " ORDER BY e.seq LIMIT 100", (sink,))]
