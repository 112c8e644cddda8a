"""What commands ask about a store without opening it: whether it is there, and which daemon uses it."""

import socket

from roundsman.options.server import Server
from roundsman.store.postgres.connection import connect_here, program, translated
from roundsman.store.postgres.schema import THERE
from roundsman.store.postgres.session import lives, spoken


def exists(server: Server) -> bool:
    """Whether there is a store. StoreError if the server cannot be asked."""
    with translated(server):
        connection, _ = connect_here(server, program())
        with connection:
            return bool((connection.execute(THERE).fetchone() or [False])[0])


def holder(server: Server, worker: str | None = None) -> str | None:
    """The daemon that is connected to the store, that of this machine and with this name first, and how many share it; None if there is none."""
    found = _daemons(server, worker)
    if len(found) > 1:
        return f"{len(found)} workers ({spoken(*found[0])}, ...)"
    return spoken(*found[0]) if found else None


def holds(pid: int, server: Server) -> bool:
    """Whether this process of this machine is a daemon that is connected to the store."""
    return any(each[:2] == (pid, socket.gethostname()) for each in _daemons(server))


def _daemons(server: Server, worker: str | None = None) -> list[tuple[int, str, float]]:
    """The daemons that are connected: their pids, hosts, and when they began; those of this machine first, and of these the one with the name."""
    with translated(server):
        connection, facts = connect_here(server, program())
        with connection:
            if not (connection.execute(THERE).fetchone() or [False])[0]:
                return []
            sql = (
                "SELECT w.pid, w.host, w.started FROM workers w LEFT JOIN beats b ON b.worker = w.id WHERE w.kind IN ('daemon', 'worker') "  # noqa: S608 - a number
                f"AND w.ended IS NULL AND {lives(facts.space)} ORDER BY w.host != %s, b.name IS DISTINCT FROM %s, w.id"
            )
            return list(connection.execute(sql, (socket.gethostname(), worker)).fetchall())
