"""What the rest of the program uses of this store. An ImportError here means that the driver is missing."""

from roundsman.store.postgres.asking import exists, holder, holds
from roundsman.store.postgres.reader import Reader
from roundsman.store.postgres.store import PostgresStore
from roundsman.store.postgres.tables import ServerTables

__all__ = ["PostgresStore", "Reader", "ServerTables", "exists", "holder", "holds"]
