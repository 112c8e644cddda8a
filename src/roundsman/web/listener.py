"""The listening sockets, with uvicorn's protocol on them, in the daemon's own loop.

uvicorn's `Server` would handle the signals and check every 0.1 s whether to stop, so only its HTTP protocol
is used. uvicorn has no limit for connections that never send a request; this module has.
"""

import asyncio
import contextlib
import errno
import logging
import os
import resource
import socket
import ssl
import stat
from functools import partial
from pathlib import Path
from typing import Any

import structlog
import uvicorn
from uvicorn.server import ServerState

from roundsman.engine.engine import Engine
from roundsman.options.listen import Address, ListenOptions
from roundsman.web.app import app
from roundsman.web.protocol import FIRST_WORD, KEPT, BoundedCalls, Limits

BACKLOG = 4096
AT_ONCE = 32
"""Connections that are accepted before other tasks may run."""
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
COMPLAIN_EVERY = 60.0
GRACE = 1.0
"""Seconds for pending answers when the daemon stops: a commit takes some milliseconds."""
FIRST_FD = 3
"""The descriptor of the first socket that systemd passes, sd_listen_fds(3)."""

log = structlog.get_logger()


class ListenError(OSError):
    """Listening on the address failed; the message says why."""


class Listener:
    """Listens for the engine, from `start` to `close`."""

    def __init__(self, engine: Engine, options: ListenOptions, limits: Limits | None = None) -> None:
        self.options = options
        self._limits = limits or Limits()
        self.places: list[str] = []
        """The addresses that it listens on, for logs: `http://127.0.0.1:8377`, `unix:/run/roundsman.sock`."""
        self._config = uvicorn.Config(
            app(engine, self._limits.look_again, options.page),
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            interface="asgi3",
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=int(KEPT),
        )
        self._state = ServerState()
        self._sockets: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._inside: set[object] = set()
        """One ticket per connection, from accept to close; with TLS, also during the handshake."""
        self._opening: set[asyncio.Task[None]] = set()
        self._handshakes: dict[object, tuple[float, asyncio.Task[None]]] = {}
        """By ticket, the TLS handshakes that are not complete: their start by the loop's clock, and their task."""
        self._freed = asyncio.Event()
        self._complained = float("-inf")
        self._tls: ssl.SSLContext | None = None
        self._socket_file: tuple[Path, int] | None = None
        # Callers' mistakes are counted, not logged one by one.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)

    async def start(self, handed_over: int = 0, first: int = FIRST_FD) -> None:
        """Listen on `handed_over` sockets of systemd, from descriptor `first` on; if none, on `address`.

        Raises `ListenError`.
        """
        self._config.load()
        try:
            self._tls = self.options.tls()
        except ValueError as exc:
            raise ListenError(f"listen: {exc}") from None
        try:
            # Duplicates: closing ours leaves systemd's open, and a reload finds them again.
            sockets = [socket.socket(fileno=os.dup(first + n)) for n in range(handed_over)]
            sockets = sockets or [self._bind(self.options.address)]
            self._sockets = sockets
            for each in sockets:
                each.setblocking(False)
                each.listen(BACKLOG)
                self.places.append(self._place(each))
                self._accepting.append(asyncio.create_task(self._accept(each)))
        except OSError as exc:
            await self.close()
            raise ListenError(
                f"listen.address: {self.options.address} cannot be used: {exc.strerror or exc}"
            ) from None
        log.info("listen.started", address=self.places)
        if handed_over and "address" in self.options.model_fields_set:
            self._warn_if_unused(self.options.address)

    def _warn_if_unused(self, address: Address) -> None:
        """Warn if no socket is at `address`: a reload changes the option, but not systemd's socket."""
        if not any(_is_at(each, address) for each in self._sockets):
            why = "systemd opened a socket at another address; run roundsman service install, or for a package systemctl edit roundsman.socket"
            log.warning("listen.unused", address=str(address), reason=why)

    async def close(self) -> None:
        """Accept no more; answer accepted connections.

        Connections that wait in systemd's socket go to the next daemon.
        """
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        for each in self._sockets:
            each.close()
        if self._opening:
            await asyncio.wait(self._opening, timeout=FIRST_WORD if self._tls else None)
        for connection in list(self._state.connections):
            if isinstance(connection, BoundedCalls):
                connection.leave()
        await self._emptied(FIRST_WORD)
        for connection in list(self._state.connections):
            connection.shutdown()
        await self._emptied(GRACE - FIRST_WORD)
        late = [*self._opening, *self._state.tasks]
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        for connection in list(self._state.connections):
            if connection.transport is not None:
                connection.transport.abort()
        if self.places:
            log.info("listen.stopped", address=self.places)
        self._sockets, self._accepting, self.places = [], [], []
        if self._socket_file is not None:
            path, inode = self._socket_file
            with contextlib.suppress(OSError):
                if path.stat().st_ino == inode:  # do not remove another daemon's file
                    path.unlink()

    async def _emptied(self, patience: float) -> None:
        """Wait until all connections are closed, at most `patience` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while self._inside:
                    self._freed.clear()
                    await self._freed.wait()

    def renew(self) -> None:
        """Load the certificate again: it may have been renewed.

        Raises `ListenError` if it cannot be used; the old one then stays in use.
        """
        try:
            self.options.tls()  # apart from the context in use: a key that does not fit would break it
            self.options.tls(self._tls)
        except ValueError as exc:
            raise ListenError(f"listen: {exc}") from None

    async def _accept(self, listening: socket.socket) -> None:
        """Accept connections up to the limit; the kernel queues the others.

        The loop's own server is not used: it has no limit, and does not count unfinished TLS handshakes.
        """
        loop = asyncio.get_running_loop()
        accepted = 0
        while True:
            await self._room()
            try:
                # No await from here to `_opening`: cancelling this task must not lose an accepted connection.
                taken, _ = listening.accept()
                taken.setblocking(False)
            except BlockingIOError:
                await _calls(listening)
                continue
            except OSError as exc:
                if exc.errno in EXHAUSTED:
                    if loop.time() - self._complained > COMPLAIN_EVERY:
                        self._complained = loop.time()
                        log.warning("listen.troubled", error=exc.strerror)
                    self._cut_one()
                    # accept() fails again at once, until a connection is closed.
                    await asyncio.sleep(1)
                else:
                    await _calls(listening)  # other tasks run, even if each try fails
                continue
            ticket = object()
            self._inside.add(ticket)
            task = asyncio.create_task(self._open(taken, ticket))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
            if self._tls is not None:
                self._handshakes[ticket] = loop.time(), task
                task.add_done_callback(partial(self._shaken, ticket))
            accepted += 1
            if accepted % AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _open(self, taken: socket.socket, ticket: object) -> None:
        made = BoundedCalls(config=self._config, server_state=self._state, app_state={})
        made.limits = self._limits
        made.left = lambda: self._leave(ticket)
        timeout = self._limits.whole if self._tls else None
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(
                lambda: made, taken, ssl=self._tls, ssl_handshake_timeout=timeout
            )
        except (OSError, ssl.SSLError, asyncio.CancelledError) as exc:
            if made.transport is not None:
                # The handshake has just succeeded. Otherwise the transport would keep a descriptor that the kernel
                # gives to another connection.
                made.transport.abort()
            taken.close()  # no TLS, disconnected, or cut to make room
            self._leave(ticket)
            if isinstance(exc, asyncio.CancelledError):
                raise

    def _shaken(self, ticket: object, _: asyncio.Task[None]) -> None:
        self._handshakes.pop(ticket, None)

    def _leave(self, ticket: object) -> None:
        self._inside.discard(ticket)
        # Now, and not when its task is done: the next one to make room would cut this one again, and free nothing.
        self._handshakes.pop(ticket, None)
        self._freed.set()

    async def _room(self) -> None:
        """Wait until one more connection is allowed; cut idle ones."""
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        # Half of the files that we may open are reserved for vendors, sinks and the store.
        while len(self._inside) >= min(self._limits.most, max(16, files // 2)):
            self._freed.clear()
            self._cut_one()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._freed.wait(), 0.2)

    def _cut_one(self) -> None:
        """Cut the connection that has been idle longest, but no young one, whose request may be in transit."""
        ripe = asyncio.get_running_loop().time() - self._limits.young
        idle = [
            c
            for c in self._state.connections
            if isinstance(c, BoundedCalls) and c.idle() and c.since < ripe and not c.transport.is_closing()
        ]
        oldest = min(idle, key=lambda c: c.since, default=None)
        began, shaking = min(self._handshakes.values(), key=lambda each: each[0], default=(ripe, None))
        if shaking is not None and began < min(ripe, oldest.since if oldest else ripe):
            shaking.cancel()
        elif oldest is not None:
            oldest.transport.abort()

    def _bind(self, address: Address) -> socket.socket:
        if address.path is not None:
            return self._bind_file(address.path)
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, family=family)
        bound = socket.socket(family, socket.SOCK_STREAM)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            bound.bind(found[0][4])
        except OSError:
            bound.close()
            raise
        return bound

    def _bind_file(self, path: Path) -> socket.socket:
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if path.exists() and stat.S_ISSOCK(path.stat().st_mode) and not _answers(path):
                path.unlink()  # left by a daemon that was killed
            before = os.umask(0o117)  # only for this user and a proxy in its group
            try:
                bound.bind(str(path))
            finally:
                os.umask(before)
        except OSError:
            bound.close()
            raise
        self._socket_file = (path, path.stat().st_ino)
        return bound

    def _place(self, bound: socket.socket) -> str:
        name: Any = bound.getsockname()
        if bound.family == socket.AF_UNIX:
            return f"unix:{name}"
        host = f"[{name[0]}]" if ":" in name[0] else name[0]
        return f"{'https' if self._tls else 'http'}://{host}:{name[1]}"


def _is_at(bound: socket.socket, address: Address) -> bool:
    name: Any = bound.getsockname()
    if bound.family == socket.AF_UNIX:
        return address.path is not None and address.path.resolve() == Path(name).resolve()
    return (name[0], name[1]) == (address.host, address.port)


async def _calls(listening: socket.socket) -> None:
    """Wait until a connection can be accepted."""
    loop = asyncio.get_running_loop()
    called = asyncio.Event()
    loop.add_reader(listening, called.set)
    try:
        await called.wait()
    finally:
        loop.remove_reader(listening)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
        return True
