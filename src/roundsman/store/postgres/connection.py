"""Connections to the server, and messages for its errors."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import psycopg
from psycopg.types.string import StrDumper, StrDumperUnknown

from roundsman.errors import StoreAway, StoreError, reason
from roundsman.options.server import Server, granted

OLDEST = 13
"""The oldest version of PostgreSQL that is used."""
LOCKED = 2.0
"""Seconds to wait for another transaction's lock."""
IDLE = 5.0
"""Seconds after which the server ends a transaction of ours in which nothing happens: a process that was stopped."""
SLOW = 60.0
"""Seconds after which the server ends a statement of ours, if it has no such limit itself."""
HANGS = SLOW + 10
"""Seconds after which a connection counts as ended, if the server does not answer on it at all."""
ONLY_READS = "25006"
"""The server's code for a write in a session that only reads."""
FULL = "53100"
"""The server's code for a disk without place."""
CONNECTS = 5
"""Seconds to wait for a connection, for each address of the server."""

_SETUP = f"""
SELECT set_config('lock_timeout', '{LOCKED:.0f}s', false),
    set_config('idle_in_transaction_session_timeout', '{IDLE:.0f}s', false),
    set_config('tcp_keepalives_idle', '5', false), set_config('tcp_keepalives_interval', '5', false),
    set_config('tcp_keepalives_count', '3', false),
    set_config('default_transaction_isolation', 'read committed', false),
    set_config('statement_timeout', CASE current_setting('statement_timeout') WHEN '0' THEN '{SLOW:.0f}s'
        ELSE current_setting('statement_timeout') END, false),
    current_setting('server_version_num')::int, current_setting('server_encoding'), current_schema(),
    (SELECT oid::bigint FROM pg_namespace WHERE nspname = current_schema()), extract(epoch FROM clock_timestamp())::float8
"""  # noqa: S608 - numbers of ours


class Facts(NamedTuple):
    """What is known of the server from a connection."""

    space: int
    """The number of the schema, for advisory locks."""
    clock: float
    """The server's time (Unix)."""


class _Text(StrDumper):
    """PostgreSQL stores no NUL in a text, and a vendor may send one."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "\ufffd"))


class _UnknownText(StrDumperUnknown):
    """The same for a text whose type the server infers."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "\ufffd"))


def _arguments(server: Server) -> dict[str, Any]:
    return {
        "conninfo": server.reveal(),
        "autocommit": True,
        "connect_timeout": CONNECTS,
        "client_encoding": "UTF8",
        "keepalives_idle": 30,
        "tcp_user_timeout": 20_000,
    }


async def connect(server: Server, name: str) -> tuple[psycopg.AsyncConnection[Any], Facts]:
    """A connection in autocommit mode. StoreError if the server cannot be used for a store."""
    connection = await psycopg.AsyncConnection.connect(**_arguments(server), application_name=name)
    try:
        _adapt(connection)
        found = await (await connection.execute(_SETUP)).fetchone()
        return connection, _judged(server, found)
    except BaseException:
        await connection.close()
        raise


def connect_here(server: Server, name: str) -> tuple[psycopg.Connection[Any], Facts]:
    """The same for a thread, or a command that waits for nothing else."""
    connection = psycopg.Connection.connect(**_arguments(server), application_name=name)
    try:
        _adapt(connection)
        return connection, _judged(server, connection.execute(_SETUP).fetchone())
    except BaseException:
        connection.close()
        raise


def _adapt(connection: "psycopg.Connection[Any] | psycopg.AsyncConnection[Any]") -> None:
    connection.adapters.register_dumper(str, _Text)
    connection.adapters.register_dumper(str, _UnknownText)  # the last one is the default


def _judged(server: Server, row: Any) -> Facts:
    version, encoding, schema, space, clock = row[-5:]
    if version < OLDEST * 10_000:
        raise StoreError(f"{server} is PostgreSQL {version // 10_000}: roundsman needs {OLDEST} or later")
    if encoding != "UTF8":
        raise StoreError(
            f"{server} stores texts as {encoding}: create a database with ENCODING 'UTF8' TEMPLATE template0"
        )
    if schema is None:
        raise StoreError(
            f"{server} has no schema that its search_path names and its user may use: create it (CREATE SCHEMA), or GRANT "
            "USAGE, CREATE ON SCHEMA ... to its user"
        )
    return Facts(space if space < 2**31 else space - 2**32, clock)


def is_lost(error: BaseException) -> bool:
    """Whether the connection has ended, so that another one may work."""
    if not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return False
    return error.sqlstate is None or error.sqlstate.startswith(("57P", "08", "25P03"))


def only_reads(error: BaseException) -> bool:
    """Whether the session of the connection only reads. It may be one from before the server was switched: a new one may write."""
    return isinstance(error, psycopg.Error) and error.sqlstate == ONLY_READS


@contextmanager
def translated(server: Server) -> Iterator[None]:
    """Turns the driver's and the server's errors into a StoreError with what to do."""
    try:
        yield
    except psycopg.Error as exc:
        kind = StoreAway if exc.sqlstate is None or exc.sqlstate.startswith(_PASSES) else StoreError
        raise kind(f"{server} {_sentence(exc)}") from None
    except OSError as exc:
        raise StoreAway(f"{server} cannot be reached: {exc.strerror or exc}") from None


_SENTENCES = {
    FULL: "cannot be written: the disk of the server is full",
    ONLY_READS: "cannot be written: the server is a standby, or default_transaction_read_only is set",
    "55P03": f"is locked by another program for more than {LOCKED:.0f}s",
    "57014": "is too slow: the server ended a statement that took longer than its statement_timeout",
    "25P03": f"ended a transaction in which nothing happened for {IDLE:.0f}s: this process was stopped meanwhile",
    "42P01": "has no store that its user sees: GRANT USAGE ON SCHEMA to its user, name the right schema, or, if tables were dropped, "
    "restore a backup",
    "53300": "accepts no more connections: raise its max_connections",
    "XX001": "is damaged: restore a backup of the database",
    "XX002": "is damaged: restore a backup of the database",
}
"""By the server's code."""
_PASSES = ("08", "57P", "53", "55P03", "57014", "25006", "25P03")
"""How codes begin of what passes by itself: a server that starts, fails over, or has no place."""


def full(server: Server) -> StoreError:
    """The error of a disk without place."""
    return StoreAway(f"{server} {_SENTENCES[FULL]}")


def _sentence(error: psycopg.Error) -> str:
    code = error.sqlstate
    if code in _SENTENCES:
        return _SENTENCES[code]
    said = error.diag.message_primary or _last_line(reason(error))
    if code is None or code.startswith(("08", "57P", "28", "3D")):
        return f"cannot be reached: {said}"
    if code == "42501":
        return f"cannot be used: {said}{granted(said)}"
    return f"cannot be used: {said}"


def _last_line(text: str) -> str:
    """What libpq says about the last address that it tried, without its advice."""
    lines = [each.strip() for each in text.splitlines() if each.strip()]
    told = (
        [each for each in lines if "failed:" in each or "error:" in each] or lines or ["no reason was given"]
    )
    return told[-1].removeprefix("- ").rpartition("failed: ")[2].removeprefix("FATAL:").strip()


def program() -> str:
    """The name of this process for the server's administrator."""
    return f"roundsman {' '.join(sys.argv[1:2])}".strip()[:60]
