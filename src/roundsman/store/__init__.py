"""Everything we must not forget: the log, the states of sources, the positions of sinks.

`protocol.py` defines what a store promises; `sqlite/` is the store in one file.
"""

from pathlib import Path

from roundsman.errors import Conflict, StoreError
from roundsman.store.protocol import Desk, Store, Upkeep, View
from roundsman.store.sqlite.files import default_path, exists, holder, holds, restore
from roundsman.store.sqlite.reader import Reader
from roundsman.store.sqlite.soundness import GaveUp, check
from roundsman.store.tally import Counted, Counts, Span, Tally
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
    LoggedFailure,
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
    StillOpen,
    UnreadItem,
    Via,
)

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
    "Kind",
    "Lag",
    "Later",
    "LoggedAct",
    "LoggedFailure",
    "Memory",
    "New",
    "Pause",
    "Pulled",
    "Reload",
    "Searched",
    "SinkEntry",
    "SourceEntry",
    "SourceRecord",
    "SourceStatus",
    "Span",
    "StillOpen",
    "Store",
    "StoreError",
    "Tally",
    "UnreadItem",
    "Upkeep",
    "Via",
    "View",
    "check",
    "default_path",
    "exists",
    "holder",
    "holds",
    "open_desk",
    "open_store",
    "open_view",
    "restore",
]


async def open_store(path: Path) -> Store:
    """Open the store for its one daemon; create it if it is missing. StoreError if that is not possible."""
    from roundsman.store.sqlite.store import SqliteStore  # what only reads starts without it

    return SqliteStore.open(path)


async def open_desk(path: Path) -> Desk:
    """Open the store for a command that writes beside the daemon. StoreError if there is none."""
    from roundsman.store.sqlite.store import SqliteStore

    return SqliteStore.open(path, daemon=False)


async def open_view(path: Path) -> View:
    """Open the store read-only. StoreError if there is none, or if another version wrote it."""
    return Reader.open(path)
