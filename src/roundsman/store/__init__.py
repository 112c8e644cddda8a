"""Everything we must not forget, in one SQLite file, and all the SQL there is.

    events    the log: append-only, numbered by `seq`, `(source, id)` unique
    sources   what each source remembers, when it is due, how it fares
    inbox     ids that somebody wants a source to follow, until a visit takes them up
    sinks     how far each sink is, and its receipt
    dead      events that a sink will never take
    daemons   the daemon that runs on the store: its process, its configuration, its last beat
    unread    webhooks that were authentic and not understood, and rows that could not be read

Methods do not await, so nothing can come between the statements of a transaction. Two connections write: the log with
`synchronous=FULL` (what it says is committed survives a power cut), the books (due, cursors of sinks, counters) with
`NORMAL` (they survive `kill -9`; a power cut may cost their last second, which means one early question or one repeat).
"""

from roundsman.errors import Conflict, StoreError
from roundsman.store.database import default_path, exists, holder, holds, restore
from roundsman.store.pruning import KEYS_KEPT
from roundsman.store.reader import Filter, Reader
from roundsman.store.schema import NAMES, migrations
from roundsman.store.soundness import GaveUp, check
from roundsman.store.values import DAEMON, DaemonRecord, Found, Intake, SourceRecord, SourceStatus, Via
from roundsman.store.writer import Store

__all__ = [
    "DAEMON",
    "KEYS_KEPT",
    "NAMES",
    "Conflict",
    "DaemonRecord",
    "Filter",
    "Found",
    "GaveUp",
    "Intake",
    "Reader",
    "SourceRecord",
    "SourceStatus",
    "Store",
    "StoreError",
    "Via",
    "check",
    "default_path",
    "exists",
    "holder",
    "holds",
    "migrations",
    "restore",
]
