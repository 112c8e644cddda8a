"""Receivers of messages on loopback: a mail server, and an HTTP server in ntfy's form."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from aiosmtpd.controller import Controller

from ports import free_port


class Mails:
    """A mail server and what it took."""

    def __init__(self) -> None:
        self.taken: list[EmailMessage] = []
        self.refuses = False
        self.port = 0

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - the library's name
        if self.refuses:
            return "451 4.7.1 greylisted, come back later"
        message = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.taken.append(message)
        return "250 OK"

    @property
    def url(self) -> str:
        return (
            f"mailto://127.0.0.1:{self.port}/?from=roundsman@berg.example&to=anna@berg.example&mode=insecure"
        )

    @property
    def texts(self) -> list[str]:
        return [str(each.get_content()).strip() for each in self.taken]


@contextmanager
def mail_server() -> Iterator[Mails]:
    mails = Mails()
    mails.port = free_port()
    server = Controller(mails, hostname="127.0.0.1", port=mails.port, ready_timeout=60)
    server.start()
    try:
        yield mails
    finally:
        server.stop()


class Answer(NamedTuple):
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b"{}"


class Pushes:
    """An HTTP server that takes messages as ntfy documents it: JSON to its root (https://docs.ntfy.sh/publish/)."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self.requests = 0
        self.answer = Answer()
        self.port = 0

    @property
    def url(self) -> str:
        return f"ntfy://127.0.0.1:{self.port}/alarms"

    @property
    def texts(self) -> list[str]:
        return [each["message"] for each in self.taken]


@contextmanager
def push_server() -> Iterator[Pushes]:
    pushes = Pushes()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            pushes.requests += 1
            answer = pushes.answer
            if answer.status == 200:
                pushes.taken.append(json.loads(body))
            self.send_response(answer.status)
            for name, value in answer.headers:
                self.send_header(name, value)
            self.send_header("content-length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    pushes.port = server.server_port
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield pushes
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def mute_server() -> Iterator[int]:
    """The port of a server that accepts connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(50)
        yield server.getsockname()[1]
