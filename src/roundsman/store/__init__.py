"""Everything we must not forget: the log, the states of sources, the positions of sinks.

`protocol.py` defines what a store promises; `sqlite/` is the store in one file, `postgres/` the one on a server.
"""

from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roundsman.errors import Conflict, StoreError
from roundsman.options.server import NEEDS, Server
from roundsman.store.joint import Joint, Step
from roundsman.store.place import Place
from roundsman.store.protocol import Desk, Store, View
from roundsman.store.sqlite import files, soundness
from roundsman.store.sqlite.files import default_path
from roundsman.store.sqlite.reader import Reader
from roundsman.store.sqlite.soundness import GaveUp
from roundsman.store.tally import Counted, Counts
from roundsman.store.values import (
    DAEMON,
    KEYS_KEPT,
    NEVER,
    Act,
    Acted,
    Census,
    DaemonRecord,
    DeadLetter,
    Filter,
    Forgotten,
    Found,
    Intake,
    Kind,
    Lag,
    Later,
    LoggedAct,
    Memory,
    New,
    Pause,
    Pulled,
    Reload,
    Searched,
    SinkEntry,
    SourceEntry,
    SourceRecord,
    SourceStatus,
    UnreadItem,
    Via,
)

if TYPE_CHECKING:
    from types import ModuleType

    from roundsman.store.copying import Report

__all__ = [
    "DAEMON",
    "KEYS_KEPT",
    "NEVER",
    "Act",
    "Acted",
    "Census",
    "Conflict",
    "Counted",
    "Counts",
    "DaemonRecord",
    "DeadLetter",
    "Desk",
    "Filter",
    "Forgotten",
    "Found",
    "GaveUp",
    "Intake",
    "Joint",
    "Kind",
    "Lag",
    "Later",
    "LoggedAct",
    "Memory",
    "New",
    "Pause",
    "Place",
    "Pulled",
    "Reload",
    "Searched",
    "Server",
    "SinkEntry",
    "SourceEntry",
    "SourceRecord",
    "SourceStatus",
    "Step",
    "Store",
    "StoreError",
    "UnreadItem",
    "Via",
    "View",
    "back_up",
    "check",
    "copy",
    "default_path",
    "exists",
    "holder",
    "holds",
    "open_desk",
    "open_store",
    "open_view",
    "restore",
]


async def open_store(place: Place, worker: str | None = None) -> Store:
    """Open the store for a daemon; create it if it is missing. StoreError if that is not possible.

    `worker`: the name of a daemon that shares a store on a server. A store in a file has one daemon.
    """
    if isinstance(place, Server):
        store: Store = await _driven(place).PostgresStore.open(place, worker=worker)
        return store
    from roundsman.store.sqlite.store import SqliteStore  # what only reads starts without it

    return SqliteStore.open(place)


async def open_desk(place: Place) -> Desk:
    """Open the store for a command that writes beside the daemon. StoreError if there is none."""
    if isinstance(place, Server):
        desk: Desk = await _driven(place).PostgresStore.open(place, daemon=False)
        return desk
    from roundsman.store.sqlite.store import SqliteStore

    return SqliteStore.open(place, daemon=False)


async def open_view(place: Place) -> View:
    """Open the store read-only. StoreError if there is none, or if another version wrote it."""
    if isinstance(place, Server):
        view: View = await _driven(place).Reader.open(place)
        return view
    return Reader.open(place)


def exists(place: Place) -> bool:
    """Whether there is a store. StoreError if that cannot be found out."""
    return _driven(place).exists(place) if isinstance(place, Server) else files.exists(place)


def holder(place: Place, worker: str | None = None) -> str | None:
    """The process that uses the store as its daemon: `roundsman, pid 123, since ...`; None if there is none.

    `worker`: the name of the one to show, if several share the store.
    """
    return _driven(place).holder(place, worker) if isinstance(place, Server) else files.holder(place)


def holds(pid: int, place: Place) -> bool:
    """Whether this process of this machine is the store's daemon: a pid in the store may be of one that was killed."""
    return _driven(place).holds(pid, place) if isinstance(place, Server) else files.holds(pid, place)


def check(place: Place, seconds: float | None = None) -> str | None:
    """A sentence about damage to the store; None if it is sound, or a server keeps it, which checks its own pages.

    GaveUp if the check would delay others, takes longer than `seconds`, or the store cannot be read at the moment.
    """
    return None if isinstance(place, Server) else soundness.check(place, seconds)


def restore(place: Place, backup: Path) -> int:
    """Replace the store with a backup; no process may be using it. Returns the last event's number."""
    if isinstance(place, Server):
        raise StoreError(
            f"{place} is on a server: copy a backup into an empty schema with `roundsman store copy`"
        )
    return files.restore(place, backup)


def copy(source: Place, target: Place, report: "Report") -> int:
    """Copy a store into an empty one of any kind, or go on with a copy that was interrupted; no process may be using them.
    A copy that is complete stays as it is.

    Returns the last event's number. StoreError if that is not possible, or if the two differ at the end.
    """
    for place in (source, target):
        if (isinstance(place, Server) or exists(place)) and (who := holder(place)):
            raise StoreError(f"{place} is in use by {who}: stop the daemon first")
    done = _completed(source, target)
    return done if done is not None else _copy(source, target, report)


def _completed(source: Place, target: Place) -> int | None:
    """The last event's number if a copy was completed already."""
    from roundsman.store import copying

    with suppress(StoreError):  # the copy reports it
        if exists(target):
            with (
                closing(_tables(source).read(source)) as whole,
                closing(_tables(target).read(target)) as there,
            ):
                return copying.completed(whole, there)
    return None


def _copy(source: Place, target: Place, report: "Report") -> int:
    from roundsman.store import copying  # only copies need it

    with closing(_tables(source).read(source)) as whole, closing(_tables(target).write(target)) as part:
        return copying.copy(whole, part, report)


def _tables(place: Place) -> Any:
    """The class of the tables of such a place."""
    from roundsman.store.sqlite.tables import FileTables

    return _driven(place).ServerTables if isinstance(place, Server) else FileTables


def back_up(source: Server, target: Path, *, replace: bool) -> None:
    """Write the store of a server to a file, as a complete store, while others may write."""
    with files.backed_up(target, replace=replace) as half:
        _copy(source, half, lambda _table, _rows: None)


def _driven(place: Server) -> "ModuleType":
    """The store on a server: imported only if one is used. StoreError if its driver is missing."""
    try:
        from roundsman.store.postgres import entry
    except ImportError as exc:
        # Without a name: the driver is there, and finds no libpq.
        if not (exc.name or "psycopg").startswith("psycopg"):
            raise
        raise StoreError(f"{place} {NEEDS}") from None
    return entry
