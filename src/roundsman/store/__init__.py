"""Everything we must not forget, in one SQLite file, and all the SQL there is.

    events    the log: append-only, numbered by `seq`, `(source, id)` unique
    sources   each source's state, its `due`, and the results of its visits
    inbox     ids that a source is to track, until a visit takes them up
    sinks     each sink's cursor and receipt
    dead      dead letters: events that a sink refused for good
    daemons   the daemon that runs on the store: its process, its configuration, its last beat
    unread    authentic webhooks that were not understood, and rows that could not be read

Methods do not await, so no other task runs between the statements of a transaction. Two connections write.
The one for the log has `synchronous=FULL`: what it has committed survives a power cut. The relaxed one, for
`due`, sinks' cursors and counters, has `NORMAL`: what it has committed survives `kill -9`, but a power cut
may cost the last second, which means one early request or one repeated delivery.
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
