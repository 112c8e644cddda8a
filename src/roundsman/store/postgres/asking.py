"""What commands ask about a store without opening it: whether it is there, and which daemon uses it."""

import os
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


def holder(server: Server) -> str | None:
    """The daemon that is connected to the store; None if there is none."""
    found = _daemon(server)
    return spoken(*found) if found is not None else None


def holds(pid: int, server: Server) -> bool:
    """Whether this process of this machine is the daemon that is connected to the store."""
    found = _daemon(server)
    return found is not None and found[:2] == (pid, socket.gethostname())


def is_here(server: Server) -> bool:
    """Whether the daemon runs on this machine, so that it can be signalled."""
    found = _daemon(server)
    return found is not None and found[1] == os.uname().nodename


def _daemon(server: Server) -> tuple[int, str, float] | None:
    with translated(server):
        connection, facts = connect_here(server, program())
        with connection:
            if not (connection.execute(THERE).fetchone() or [False])[0]:
                return None
            sql = f"SELECT w.pid, w.host, w.started FROM workers w WHERE w.kind = 'daemon' AND {lives(facts.space)}"  # noqa: S608 - a number
            row = connection.execute(sql).fetchone()
    return (row[0], row[1], row[2]) if row is not None else None
