"""Logs: a constant dotted name and facts, as JSON lines or for a terminal; on standard error, where journald reads too."""

import logging
import os
import sys
from contextlib import suppress
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

from roundsman import wire
from roundsman.masking import masked

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""syslog's, which journald reads from a `<3>` at the start of a line (sd-daemon(3))."""


class Line:
    """Standard error, with at most one line at its end that is overwritten: the progress of a long reading."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._shown = ""

    def msg(self, message: str) -> None:
        """Write a line of the log."""
        erase = "\r\x1b[K" if self._shown else ""
        with suppress(
            OSError
        ):  # a full disk behind standard error must not end the daemon; there is nowhere to say it
            self._stream.write(f"{erase}{message}\n{self._shown}")
            self._stream.flush()

    log = debug = info = warning = error = critical = exception = msg

    def show(self, progress: str) -> None:
        """Show the progress, or take it away with an empty text."""
        if progress != self._shown:
            with suppress(OSError):
                self._stream.write("\r\x1b[K" + progress)
                self._stream.flush()
            self._shown = progress


def configure(level: str, form: Literal["auto", "json", "console"], line: Line | None = None) -> Line:
    """Log from now on at this level, in this form. Returns where it goes to."""
    line = line or Line()
    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        # Plain tracebacks: the pretty ones show local variables, and so secrets.
        structlog.processors.ExceptionRenderer(
            structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        )
        if not console
        else structlog.processors.format_exc_info,
        without_secrets,
        printable,
    ]
    if console:
        shared.append(structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), sort_keys=False))
    else:
        shared.append(structlog.processors.JSONRenderer(serializer=_serialize))
        if on_journal():
            shared.append(with_priority)
    structlog.configure(
        processors=shared,
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=lambda *_: line,
        cache_logger_on_first_use=False,
    )
    bridge = _Bridge(logging.WARNING)
    logging.basicConfig(handlers=[bridge], level=logging.WARNING, force=True)
    logging.captureWarnings(True)
    return line


def without_secrets(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Secrets masked, in tracebacks too."""
    return {
        key: value if key in {"timestamp", "level", "event"} else masked(value)
        for key, value in event.items()
    }


def printable(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Control characters from outside escaped: nobody steers a terminal through our log."""
    return {
        key: "\n".join(map(safe, value.split("\n")))
        if key == "exception" and isinstance(value, str)
        else safe(value)
        if isinstance(value, str)
        else value
        for key, value in event.items()
    }


def safe(text: str) -> str:
    """The text with everything unprintable escaped."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def with_priority(_: WrappedLogger, method: str, rendered: str) -> str:
    return f"<{PRIORITIES.get(method, 5)}>{rendered}"


def on_journal() -> bool:
    """Whether standard error goes to journald (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _serialize(event: EventDict, **_: Any) -> str:
    first = {key: event[key] for key in ("timestamp", "level", "event") if key in event}
    try:
        return wire.encode({**first, **event}).decode()
    except (TypeError, UnicodeEncodeError):
        return wire.encode({key: safe(str(value)) for key, value in {**first, **event}.items()}).decode()


class _Bridge(logging.Handler):
    """What libraries log, in our form."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger()
        exc = record.exc_info[1] if record.exc_info else None
        log.log(
            max(record.levelno, logging.WARNING),
            "library.message",
            logger=record.name,
            message=record.getMessage(),
            exc_info=exc,
        )
