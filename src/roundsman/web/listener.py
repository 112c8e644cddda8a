"""The sockets, and uvicorn's protocol on them, in the daemon's own loop.

uvicorn's `Server` would take the signals and look every 0.1 s whether to stop; here it is only what speaks HTTP. It has no limit
for a connection that never says what it wants, so this file has.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h11
import structlog
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from roundsman.engine import Engine
from roundsman.options.listen import Address, ListenOptions
from roundsman.web.app import app

WHOLE = 10.0
"""Seconds within which a request must be there, counted from the connection, or from its first byte where that is kept."""
KEPT = 75.0
"""Seconds that an idle connection is kept: longer than proxies keep theirs, so that they do not find it closed."""
MOST = 1000
"""Connections at a time; whoever has waited longest without a request makes room for the next."""
YOUNG = 1.0
"""Seconds that a connection has at least before it has to make room for another."""
BACKLOG = 4096
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
COMPLAIN_EVERY = 60.0
GRACE = 1.0
"""Seconds that answers under way are given when the daemon stops: a commit takes some milliseconds."""
FIRST_WORD = 0.5
"""Seconds of these for who was taken and has not yet asked anything: the question is on its way, or here and unread."""
FIRST_FD = 3
"""The first socket that systemd hands over, sd_listen_fds(3)."""

log = structlog.get_logger()


class ListenError(OSError):
    """The address cannot be listened on; the message says why."""


class Impatient(H11Protocol):
    """uvicorn's protocol, which waits for ever neither for a request nor for somebody to read an answer.

    On h11, not on the faster httptools: that drops the body of a request with `Upgrade`, and limits neither heads nor how many
    requests wait behind the first.
    """

    left: Callable[[], None]
    """Called when the connection has gone."""
    since = 0.0
    """When it began to wait for a request, by the loop's clock."""
    last = False
    """The next answer is the last one: the listener is about to close."""
    _cut: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        super().connection_made(transport)
        self.since = self.loop.time()
        self._cut = self.loop.call_later(WHOLE, transport.abort)

    def on_response_complete(self) -> None:
        self.since = self.loop.time()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self.left()
        for timer in (self._cut, self._unread):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        try:
            super().handle_events()
        except h11.LocalProtocolError:
            # Nonsense behind an answer that has begun: there is nothing left to say.
            self.transport.abort()
            return
        if self.last and self.cycle is not None:
            self.cycle.keep_alive = False
        begun = self.conn.their_state is h11.SEND_BODY or bool(self.conn.trailing_data[0])
        waits = self.idle() and (begun or self.timeout_keep_alive_task is None)
        if waits and self._cut is None:
            self._cut = self.loop.call_later(WHOLE, self.transport.abort)
        elif not waits and self._cut is not None:
            self._cut.cancel()
            self._cut = None

    def leave(self) -> None:
        """Take no more than one request, and that only from who has had no answer yet."""
        if self.cycle is None and self.loop.time() - self.since < FIRST_WORD:
            self.last = True
        else:
            self.shutdown()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.loop.call_later(WHOLE, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def idle(self) -> bool:
        """Whether nobody waits for an answer here: there is no request, or not all of it."""
        return self.cycle is None or self.cycle.response_complete or self.conn.their_state is h11.SEND_BODY


class Listener:
    """Listens for the engine, from `start` to `close`."""

    def __init__(self, engine: Engine, options: ListenOptions) -> None:
        self.options = options
        self.places: list[str] = []
        """Where it listens, for logs: `http://127.0.0.1:8377`, `unix:/run/roundsman.sock`."""
        self._config = uvicorn.Config(
            app(engine),
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
        """One for each connection, from its acceptance to its end; of TLS, also while the handshake is not over."""
        self._opening: set[asyncio.Task[None]] = set()
        self._handshakes: dict[asyncio.Task[None], float] = {}
        """Of TLS: those that are not over, and when they began by the loop's clock."""
        self._freed = asyncio.Event()
        self._complained = float("-inf")
        self._tls: ssl.SSLContext | None = None
        self._socket_file: tuple[Path, int] | None = None
        # What callers do wrong is counted, and no line in the log each.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)

    async def start(self, handed_over: int = 0) -> None:
        """Listen on so many sockets that systemd handed over, else on `address`. Raises `ListenError`."""
        self._config.load()
        try:
            self._tls = self.options.tls()
        except ValueError as exc:
            raise ListenError(f"listen: {exc}") from None
        try:
            # Duplicates: closing ours leaves systemd's, and a reload finds them again.
            sockets = [socket.socket(fileno=os.dup(FIRST_FD + n)) for n in range(handed_over)]
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
            self._say_if_unused(self.options.address)

    def _say_if_unused(self, wanted: Address) -> None:
        """A reload may change the address, and systemd's socket stays where it is."""
        if not any(_is_at(each, wanted) for each in self._sockets):
            why = "systemd opened a socket at another one; service install writes a unit for this one, or systemctl edit roundsman.socket, of a package"
            log.warning("listen.unused", address=str(wanted), reason=why)

    async def close(self) -> None:
        """Take no more; answer who was taken. Whoever still waits in systemd's socket is the next daemon's."""
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        for each in self._sockets:
            each.close()
        if self._opening:
            await asyncio.wait(self._opening, timeout=FIRST_WORD if self._tls else None)
        for connection in list(self._state.connections):
            if isinstance(connection, Impatient):
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
                if path.stat().st_ino == inode:  # another daemon's is not ours to remove
                    path.unlink()

    async def _emptied(self, patience: float) -> None:
        """Wait until all have gone, for so many seconds at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while self._inside:
                    self._freed.clear()
                    await self._freed.wait()

    def renew(self) -> None:
        """Read the certificate again: it may have been renewed. Raises `ListenError`, and goes on with the old one."""
        try:
            self.options.tls()  # apart from the one in use, which a key that does not fit would break
            self.options.tls(self._tls)
        except ValueError as exc:
            raise ListenError(f"listen: {exc}") from None

    async def _accept(self, listening: socket.socket) -> None:
        """Take connections, as many as there is room for; the kernel keeps the others waiting.

        Not by the loop's own server, which knows no limit, and counts none whose TLS handshake is not over.
        """
        loop = asyncio.get_running_loop()
        while True:
            await self._room()
            try:
                await _calls(listening)
                # Taken without a pause: whoever stops this task must not drop somebody in between.
                taken, _ = listening.accept()
                taken.setblocking(False)
            except BlockingIOError:
                continue
            except OSError as exc:
                if exc.errno in EXHAUSTED:
                    if loop.time() - self._complained > COMPLAIN_EVERY:
                        self._complained = loop.time()
                        log.warning("listen.troubled", error=exc.strerror)
                    self._cut_one()
                    await asyncio.sleep(
                        1
                    )  # the kernel says so at once, again and again, until somebody has gone
                continue
            ticket = object()
            self._inside.add(ticket)
            task = asyncio.create_task(self._open(taken, ticket))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
            if self._tls is not None:
                self._handshakes[task] = loop.time()
                task.add_done_callback(lambda done: self._handshakes.pop(done, None))
            if self._tls is None:
                await asyncio.wait([task])  # taken one by one: no more than there is room for

    async def _open(self, taken: socket.socket, ticket: object) -> None:
        def protocol() -> Impatient:
            made = Impatient(config=self._config, server_state=self._state, app_state={})
            made.left = lambda: self._leave(ticket)
            return made

        timeout = WHOLE if self._tls else None
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(protocol, taken, ssl=self._tls, ssl_handshake_timeout=timeout)
        except (OSError, ssl.SSLError, asyncio.CancelledError) as exc:
            taken.close()  # whoever it was spoke no TLS, has gone, or had to make room
            self._leave(ticket)
            if isinstance(exc, asyncio.CancelledError):
                raise

    def _leave(self, ticket: object) -> None:
        self._inside.discard(ticket)
        self._freed.set()

    async def _room(self) -> None:
        """Wait until there is room for one more."""
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        # Half of the files that we may open are for vendors, sinks and the store.
        while len(self._inside) >= min(MOST, max(16, files // 2)):
            self._freed.clear()
            self._cut_one()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._freed.wait(), 0.2)

    def _cut_one(self) -> None:
        """Cut whoever has waited longest without asking anything; not who has only just come, and is about to."""
        ripe = asyncio.get_running_loop().time() - YOUNG
        idle = [
            c
            for c in self._state.connections
            if isinstance(c, Impatient) and c.idle() and c.since < ripe and not c.transport.is_closing()
        ]
        oldest = min(idle, key=lambda c: c.since, default=None)
        shaking = min(self._handshakes, key=self._handshakes.__getitem__, default=None)
        if shaking is not None and self._handshakes[shaking] < min(ripe, oldest.since if oldest else ripe):
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
                path.unlink()  # left behind by a daemon that was killed
            before = os.umask(0o117)  # for a proxy in our group, and nobody else
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
    """Wait until somebody wants to be taken."""
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
