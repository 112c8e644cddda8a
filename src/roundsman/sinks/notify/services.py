"""Sends a message by Apprise, in a thread: it blocks, and it is imported only here."""

import logging
import threading
import time
import warnings
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from roundsman.errors import Backoff, RequestFailed
from roundsman.http.ratelimits import retry_after
from roundsman.masking import mask, one_line, safe

EXTRA = "needs Apprise; install roundsman[notify]"
WORDS = 200
"""Maximum characters of a service's words of refusal."""


@dataclass
class _Answers:
    """What came back while a message was sent: Apprise itself returns only whether it was sent."""

    status: int | None = None
    """The last status of an answer by HTTP that was not a success."""
    wait: float = 0.0
    """Seconds that the service asked to wait."""
    words: str = ""
    """The last warning of Apprise."""


_answers: ContextVar[_Answers | None] = ContextVar("answers", default=None)
_once = threading.Lock()
_ready = False


def apprise() -> Any:
    """The module Apprise; ValueError if it is not installed. The first call takes half a second."""
    global _ready  # noqa: PLW0603 - a library is prepared once in a process
    try:
        import apprise
        import requests
    except ImportError:
        raise ValueError(EXTRA) from None
    with _once:
        if not _ready:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of its modules, which it loads at the first use
                apprise.Apprise.instantiate("json://localhost")
            _observe(requests.Session)
            logger = logging.getLogger("apprise")
            logger.addHandler(_Words(logging.WARNING))
            logger.propagate = False  # its lines may hold addresses with secrets
            _ready = True
    return apprise


def _observe(session: Any) -> None:
    """Note the answers to the requests of all services: they are sent by this class of `requests`."""
    send = session.send

    def observed(self: Any, *args: Any, **kwargs: Any) -> Any:
        answer, found = send(self, *args, **kwargs), _answers.get()
        if found is not None and answer.status_code >= 300:
            found.status = answer.status_code
            headers = {name.lower(): value for name, value in answer.headers.items()}
            found.wait = max(found.wait, retry_after(answer.status_code, headers, time.time()) or 0.0)
        return answer

    session.send = observed


class _Words(logging.Handler):
    """Keeps the last warning of Apprise."""

    def emit(self, record: logging.LogRecord) -> None:
        found = _answers.get()
        if found is not None:
            found.words = record.getMessage()


class Service:
    """One address that messages are sent to."""

    def __init__(self, url: str) -> None:
        """ValueError, in words that do not show the address, if Apprise cannot use it."""
        library = apprise()
        asset = library.AppriseAsset(
            app_id="Roundsman",
            app_desc="Roundsman",
            app_url="",
            async_mode=False,
            storage_mode=library.PersistentStoreMode.MEMORY,  # it writes no files
            secure_logging=True,
        )
        try:
            found = library.Apprise.instantiate(url, asset=asset, suppress_exceptions=True)
        except Exception:  # noqa: BLE001 - the parts of Apprise are plugins, and may raise anything
            found = None
        if found is None:
            scheme, colon, _ = url.partition("://")
            plain = colon and scheme.isalnum() and len(scheme) <= 20
            if plain and scheme.lower() in library.NotificationManager():
                what = f"behind {scheme}:, a part is missing or wrong"
            else:
                what = f"it begins with {scheme}://" if plain else "it has no scheme such as mailto://"
            raise ValueError(f"is not an address that Apprise can use: {what}")
        self.name = safe(str(found.service_name))
        """Such as `E-Mail`: for messages, because the address may be a secret."""
        self._outlet = library.Apprise(asset=asset)
        self._outlet.add(found)
        self._text = library.NotifyFormat.TEXT
        self._busy = threading.Lock()
        self._taken: tuple[str, str] | None = None

    def send(self, title: str, body: str) -> None:
        """Send one message; nothing if this service was the last to take the same one, and others have not.

        Raises `Backoff` if the service asks to wait, `RequestFailed` if it does not take the message.
        """
        if self._taken == (title, body):
            return
        if not self._busy.acquire(blocking=False):
            raise RequestFailed(f"{self.name} has not answered to an earlier message")
        try:
            self._send(title, body)
            self._taken = (title, body)
        finally:
            self._busy.release()

    def settle(self) -> None:
        """All services have taken the message: the same text would be another message."""
        self._taken = None

    def _send(self, title: str, body: str) -> None:
        found = _Answers()
        token = _answers.set(found)
        try:
            sent = bool(self._outlet.notify(body=body, title=title, body_format=self._text))
        except Exception as exc:  # noqa: BLE001 - as above
            sent, found.words = False, f"{type(exc).__name__}: {exc}"
        finally:
            _answers.reset(token)
        if sent:
            return
        said = f" answered {found.status}" if found.status else " did not take the message"
        words = mask.cut(one_line(found.words))[:WORDS]
        what = f"{self.name}{said}" + (f": {words}" if words else "")
        raise Backoff(found.wait, what) if found.wait else RequestFailed(what, found.status)
