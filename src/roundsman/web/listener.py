"""The sockets, and uvicorn's protocol on them, in the daemon's own loop.

uvicorn's `Server` would take the signals and look every 0.1 s whether to stop; here it is only what speaks HTTP. It has no limit
for a connection that never says what it wants, so this file has.
"""

import asyncio
import contextlib
import logging
import os
import resource
import socket
import ssl
import stat
from pathlib import Path
from typing import Any

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from roundsman.engine import Engine
from roundsman.settings import Address, ListenOptions
from roundsman.web.app import app

WHOLE = 10.0
"""Seconds within which a request must be there, counted from the connection, or from its first byte where that is kept."""
KEPT = 75.0
"""Seconds that an idle connection is kept: longer than proxies keep theirs, so that they do not find it closed."""
MOST = 1000
"""Connections at a time; whoever has waited longest without a request makes room for the next."""
BACKLOG = 1024
GRACE = 1.0
"""Seconds that answers under way are given when the daemon stops: a commit takes some milliseconds."""
FIRST_FD = 3
"""The first socket that systemd hands over, sd_listen_fds(3)."""

log = structlog.get_logger()


class ListenError(Exception):
    """The address cannot be listened on; the message says why."""


class Impatient(HttpToolsProtocol):
    """uvicorn's protocol, which does not wait for ever for a request."""

    most = MOST
    _cut: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        super().connection_made(transport)
        if len(self.connections) > self.most:
            self._make_room()
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._whole()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        if self._cut is None:
            self._wait()  # a further request on a connection that was kept
        super().on_message_begin()

    def on_message_complete(self) -> None:
        self._whole()
        super().on_message_complete()

    def _wait(self) -> None:
        self._cut = self.loop.call_later(WHOLE, self.transport.abort)

    def _whole(self) -> None:
        if self._cut is not None:
            self._cut.cancel()
            self._cut = None

    def _make_room(self) -> None:
        waiting = [c for c in self.connections if c is not self and isinstance(c, Impatient) and c.idle()]
        if waiting:
            min(waiting, key=lambda c: c.since()).transport.abort()
        else:
            self.transport.abort()

    def idle(self) -> bool:
        """Whether nobody waits for an answer here."""
        return self.cycle is None or self.cycle.response_complete or self._cut is not None

    def since(self) -> float:
        """When it will be cut: the longer it has waited, the sooner."""
        handle = self._cut or self.timeout_keep_alive_task
        return handle.when() if handle is not None else 0.0


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
        self._servers: list[asyncio.AbstractServer] = []
        self._tls: ssl.SSLContext | None = None
        self._socket_file: tuple[Path, int] | None = None
        # What callers do wrong is counted, and no line in the log each.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)

    async def start(self, handed_over: int = 0) -> None:
        """Listen on so many sockets that systemd handed over, else on `address`. Raises `ListenError`."""
        self._config.load()
        self._tls = tls(self.options)
        try:
            # Duplicates: closing ours leaves systemd's, and a reload finds them again.
            sockets = [socket.socket(fileno=os.dup(FIRST_FD + n)) for n in range(handed_over)]
            sockets = sockets or [self._bind(self.options.address)]
            loop = asyncio.get_running_loop()
            for each in sockets:
                each.setblocking(False)
                timeout = WHOLE if self._tls else None
                server = await loop.create_server(
                    self._protocol, sock=each, ssl=self._tls, ssl_handshake_timeout=timeout, backlog=BACKLOG
                )
                self._servers.append(server)
                self.places.append(self._place(each))
        except OSError as exc:
            await self.close()
            raise ListenError(f"listen.address: {self.options.address} cannot be used: {_why(exc)}") from None
        log.info("listen.started", address=self.places)

    async def close(self) -> None:
        """Take no more; answer what is under way."""
        for server in self._servers:
            server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        if self._state.tasks:
            _, late = await asyncio.wait(self._state.tasks, timeout=GRACE)
            for task in late:
                task.cancel()
        for connection in list(self._state.connections):
            if connection.transport is not None:
                connection.transport.abort()
        self._servers = []
        if self._socket_file is not None:
            path, inode = self._socket_file
            with contextlib.suppress(OSError):
                if path.stat().st_ino == inode:  # another daemon's is not ours to remove
                    path.unlink()

    def renew(self) -> None:
        """Read the certificate again: it may have been renewed. Raises `ListenError`."""
        if self._tls is not None:
            tls(self.options, self._tls)

    def _protocol(self) -> Impatient:
        protocol = Impatient(config=self._config, server_state=self._state, app_state={})
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        protocol.most = min(MOST, max(16, files // 2))  # the other half is for vendors, sinks and the store
        return protocol

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


def tls(options: ListenOptions, context: ssl.SSLContext | None = None) -> ssl.SSLContext | None:
    """The certificate and its key, or None where none are configured. Raises `ListenError`."""
    if options.tls_certificate is None or options.tls_key is None:
        return None
    context = context or ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # A key with a password would have Python ask for it on the terminal.
        context.load_cert_chain(options.tls_certificate, options.tls_key, password="")
    except (OSError, ValueError) as exc:  # SSLError is an OSError
        files = f"{options.tls_certificate}, {options.tls_key}"
        raise ListenError(f"listen.tls_certificate: {files}: cannot be used: {_why(exc)}") from None
    context.set_alpn_protocols(["http/1.1"])
    return context


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


def _why(exc: Exception) -> str:
    if isinstance(exc, ssl.SSLError):
        return {"KEY_VALUES_MISMATCH": "the key is another certificate's"}.get(
            exc.reason or "", "they are not a PEM certificate and its key without a password"
        )
    return (exc.strerror if isinstance(exc, OSError) else None) or str(exc)
