"""A real PostgreSQL for tests: Debian's, in a temporary folder, as an ordinary user; a fresh database for each test."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, Self

from ports import free_port

HOW = "needs PostgreSQL, the Debian package postgresql, and roundsman[postgres]"
FAST = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "32MB", "max_connections": "60"}
"""Settings under which a kill of the server still loses nothing; only a power cut would."""

_WATCH = 'read _; kill -QUIT "$1"; tail --pid="$1" -f /dev/null; rm -rf -- "$2"'
"""Ends the server and deletes its folder if the process of the tests ends without that: then its pipe is closed."""


def programs() -> Path | None:
    """The folder of the newest server's programs; None if there is none, or no driver for it."""
    try:
        import psycopg  # noqa: F401 - whether it is there
    except ImportError:
        return None
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda each: int(each.parts[-3]))
    return found[-1].parent if found else None


class Postgres:
    """A server on loopback. The password of its only user is needed over TCP."""

    def __init__(self, bin_: Path, settings: dict[str, str] = FAST) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="roundsman-postgres-"))
        self._bin, self._settings = bin_, dict(settings)
        self._numbers = count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        self.password = "correct-horse-1"
        self._as: list[str] = []
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            self._as = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
            shutil.chown(self.folder, "nobody", "nogroup")
        self.port = free_port()
        given = self.folder / "password"
        given.write_text(self.password)
        given.chmod(0o644)
        self._call("initdb", "-D", self.data, "-U", "rm", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions",
                   "--auth-host=scram-sha-256", "--auth-local=trust", f"--pwfile={given}")  # fmt: skip
        self.start()

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def pid(self) -> int:
        """The first process of the server, which runs."""
        assert self._process is not None
        return self._process.pid

    def _call(self, program: str, *args: object) -> None:
        done = subprocess.run(
            [*self._as, str(self._bin / program), *map(str, args)],
            cwd=self.folder,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()

    def start(self) -> None:
        """Start the server, and wait until it accepts connections."""
        options = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.folder),
            # A client that was cancelled while it logged in may leave its connection open: DROP DATABASE waits for its end.
            "authentication_timeout": "3s",
        } | self._settings
        args = [each for name, value in options.items() for each in ("-c", f"{name}={value}")]
        command = [*self._as, str(self._bin / "postgres"), "-D", str(self.data), "-p", str(self.port), *args]
        self._begin(command)
        self._watch()
        from psycopg import OperationalError

        ends = time.monotonic() + 60
        while self._process is not None:
            try:
                self.run("SELECT 1")
            except OperationalError:
                assert time.monotonic() < ends, (self.folder / "log").read_text()
                time.sleep(0.02)
                if self._process.poll() is not None:
                    said = (self.folder / "log").read_text()
                    # A child of a server that was killed, and that no list of processes had yet, still holds its memory.
                    assert "is still in use" in said[-2000:], said
                    self._begin(command)
                    self._watch()
            else:
                return

    def _begin(self, command: list[str]) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )

    def _watch(self) -> None:
        """End the server with the process of the tests."""
        if self._watcher is not None:
            self._watcher.kill()
            self._watcher.communicate()
        # Not by a parent's death signal: the parent is a thread, and a test starts the server in one that ends before it.
        self._watcher = subprocess.Popen(
            ["sh", "-c", _WATCH, "sh", str(self.pid), str(self.folder)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """End the server: SIGINT orderly, SIGQUIT at once, SIGKILL as a crash."""
        if self._process is None:
            return
        if self._watcher is not None:
            self._watcher.kill()
            self._watcher.communicate()
        self._process.send_signal(how)
        self._process.wait(60)
        self._process = None
        if how is signal.SIGKILL:  # its children see that and end; until then, they hold its memory
            ends = time.monotonic() + 10
            while _session(self.port) and time.monotonic() < ends:
                time.sleep(0.02)

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, sql: str, values: Sequence[Any] = (), database: str = "postgres") -> list[Any]:
        """Run a statement as the server's owner, over its socket."""
        import psycopg

        with psycopg.connect(
            host=str(self.folder),
            port=self.port,
            user="rm",
            dbname=database,
            autocommit=True,
            connect_timeout=20,
        ) as connection:
            done = connection.execute(sql, values)
            return done.fetchall() if done.description else []

    def url(self, database: str, user: str = "rm", **parameters: str) -> str:
        more = "&".join(f"{name}={value}" for name, value in parameters.items())
        return (
            f"postgresql://{user}:{self.password}@127.0.0.1:{self.port}/{database}{'?' if more else ''}{more}"
        )

    def database(self, more: str = "") -> str:
        """The name of a new database."""
        name = f"t{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name} {more}")
        return name

    def drop(self, name: str) -> None:
        from psycopg import OperationalError

        with suppress(OperationalError):  # the test may have stopped the server
            self.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def _session(port: int) -> bool:
    """Whether a process of the server listens or answers on this port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


READY = b"Z\0\0\0\5"
"""How each answer of the server ends, but for the state of the transaction behind it."""


class Wire:
    """A connection to the server that can be cut: `async with Wire(port) as wire`."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.cut_at: bytes | None = None
        """What the client sends before both sides are cut."""
        self.passes = True
        """Whether that is passed on before the cut."""
        self.hangs_at: bytes | None = None
        """What the client sends from which on this connection passes nothing on, and stays."""
        self.stops_at: bytes | None = None
        """What the client sends before which the connection passes nothing on, until `goes`: its process was stopped there."""
        self.goes = asyncio.Event()
        self.bytes_left: int | None = None
        """How many bytes the client sends before both sides are cut."""
        self.refuses = False
        """Whether new connections are refused after a cut."""
        self.cuts = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for each in self._tasks:
            each.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        if self.refuses and self.cuts:
            writer.transport.abort()
            return
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:  # the server is away
            writer.transport.abort()
            return
        answers = asyncio.create_task(self._answer(there, writer))
        try:
            while data := await reader.read(2**16):
                if self.cut_at is not None and self.cut_at in data:
                    self.cut_at, self.cuts = None, self.cuts + 1
                    answers.cancel()
                    writer.transport.abort()
                    if self.passes:
                        await asyncio.wait([answers])
                        back.write(data)
                        said = b""
                        while READY not in said and (more := await there.read(2**16)):
                            said += more  # the server makes it, and no client gets the answer
                    break
                if self.hangs_at is not None and self.hangs_at in data:
                    self.hangs_at, self.cuts = None, self.cuts + 1
                    await reader.read(-1)  # until the client ends it
                    break
                if self.stops_at is not None and self.stops_at in data:
                    back.write(data[: data.index(self.stops_at)])
                    self.stops_at, self.cuts = None, self.cuts + 1
                    await self.goes.wait()
                    break
                if self.bytes_left is not None:
                    self.bytes_left -= len(data)
                    if self.bytes_left < 0:
                        back.write(data[: self.bytes_left])
                        await back.drain()
                        self.bytes_left, self.cuts = None, self.cuts + 1
                        await asyncio.sleep(0)  # the answer to it may still arrive, or not
                        break
                back.write(data)
                await back.drain()
        except (
            ConnectionError,
            asyncio.CancelledError,
        ):  # Python 3.11 reports a server's task that was cancelled
            pass
        finally:
            answers.cancel()
            back.transport.abort()
            writer.transport.abort()

    async def _answer(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await there.read(2**16):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        writer.transport.abort()
