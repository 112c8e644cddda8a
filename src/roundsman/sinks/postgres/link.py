"""A connection to the server, its limits of time, and sentences for its errors."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import psycopg

from roundsman.errors import RequestFailed
from roundsman.masking import one_line
from roundsman.options.server import Server, granted
from roundsman.times import spell

CONNECTS = 10
"""Seconds to wait for a connection, for each address of the server."""
SILENT = 10.0
"""Seconds after the timeout of a statement in which the server must have ended it; then the connection is cut."""

T = TypeVar("T")
_SENTENCES = {
    "53100": "cannot be written: the disk of the server is full",
    "25006": "cannot be written: the server is a standby, or default_transaction_read_only is set",
    "57014": "is too slow: it ended a statement that took longer than timeout",
    "53300": "accepts no more connections: raise its max_connections",
}
"""By the server's code."""


class Link:
    """A connection to the server. Statements have their parameters as $1, $2; each that is not in a transaction is one."""

    def __init__(self, server: Server, timeout: float, connection: "psycopg.AsyncConnection[Any]") -> None:
        self._server, self._timeout, self._connection = server, timeout, connection
        self._silent = False

    @classmethod
    async def open(cls, server: Server, seconds: float, name: str) -> "Link":
        """RequestFailed, in one sentence, if there is no connection."""
        with translated(server):
            connection = await psycopg.AsyncConnection.connect(
                server.reveal(),
                autocommit=True,
                connect_timeout=CONNECTS,
                client_encoding="UTF8",
                keepalives_idle=30,
                tcp_user_timeout=20_000,
                application_name=name.encode("ascii", "replace").decode()[:60],
                prepare_threshold=None,  # a pooler in between may give each transaction to another connection
            )
        return cls(server, seconds, connection)

    @property
    def closed(self) -> bool:
        return self._connection.closed

    async def run(self, sql: str, values: Sequence[object] = ()) -> list[Any]:
        """The rows of a statement. The error of the driver if it fails; RequestFailed if the server does not answer."""

        async def work(connection: "psycopg.AsyncConnection[Any]") -> list[Any]:
            cursor = psycopg.AsyncRawCursor(connection)
            done = await cursor.execute(sql.encode(), tuple(values) or None)
            return await done.fetchall() if done.description else []

        return await self.lend(work)

    async def lend(self, work: Callable[["psycopg.AsyncConnection[Any]"], Awaitable[T]]) -> T:
        """What the work on the connection returns. Errors as for `run`."""
        limit = self._timeout + SILENT
        timer = asyncio.get_running_loop().call_later(limit, self._give_up)
        try:
            return await work(self._connection)
        except psycopg.Error:
            if self._silent:
                raise RequestFailed(f"{self._server} has not answered for {spell(limit)}") from None
            raise
        finally:
            timer.cancel()

    async def begin(self) -> None:
        """Begin a transaction with its limits. What it commits survives a power cut of the server, as an ack promises."""
        await self.run("BEGIN ISOLATION LEVEL READ COMMITTED")
        milliseconds = str(max(1, round(self._timeout * 1000)))
        await self.run(
            "SELECT set_config('statement_timeout', $1, true), set_config('TimeZone', 'UTC', true), "
            "set_config('idle_in_transaction_session_timeout', $1, true), "
            "set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' "
            "ELSE current_setting('synchronous_commit') END, true)",
            (milliseconds,),
        )
        # A deferred constraint would refuse the whole transaction at its end, and not one row.
        await self.run("SET CONSTRAINTS ALL IMMEDIATE")

    def _give_up(self) -> None:
        self._silent = True
        self.cut()

    def cut(self) -> None:
        """End the connection at once: a statement under way fails, and the server undoes the transaction.

        The driver would first ask the server to cancel the statement, and wait for its answer.
        """
        with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(self._connection.fileno())) as end:
            end.shutdown(socket.SHUT_RDWR)

    async def close(self) -> None:
        await self._connection.close()


@contextmanager
def translated(server: Server) -> Iterator[None]:
    """Turns errors of the driver and the server into RequestFailed, with a sentence."""
    try:
        yield
    except psycopg.Error as exc:
        raise RequestFailed(f"{server} {sentence(exc)}") from None
    except OSError as exc:
        raise RequestFailed(f"{server} cannot be reached: {exc.strerror or exc}") from None


def sentence(error: psycopg.Error) -> str:
    """What is wrong, to stand after the name of the server."""
    code = error.sqlstate
    if code in _SENTENCES:
        return _SENTENCES[code]
    words = said(error)
    if code is None or code.startswith(("08", "57P", "28", "3D")):
        return f"cannot be reached: {words}"
    if code == "42501":
        return f"cannot be written: {words}{granted(words)}"
    return f"cannot be written: {words}"


def said(error: psycopg.Error) -> str:
    """The server's words, or what the driver says about the last address that it tried."""
    if error.diag.message_primary:
        return one_line(error.diag.message_primary)
    lines = [each.strip() for each in str(error).splitlines() if each.strip()] or ["no reason was given"]
    last = ([each for each in lines if "failed:" in each or "error:" in each] or lines)[-1]
    return one_line(last.removeprefix("- ").rpartition("failed: ")[2].removeprefix("FATAL:"))


def is_lost(error: psycopg.Error) -> bool:
    """Whether the connection has ended, so that another one may work."""
    if not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return False
    return error.sqlstate is None or error.sqlstate.startswith(("57P", "08", "25P03"))


def is_of_a_row(error: psycopg.Error) -> bool:
    """Whether the server refuses what is in a row: the data, a constraint, or a value that is too large for an index.

    21000 is two rows of a statement with what the table takes for the same key: each alone is accepted.
    """
    return error.sqlstate is not None and error.sqlstate.startswith(("22", "23", "54", "44000", "21000"))
