"""Logs on standard error, which journald reads: constant dotted names and facts, as JSON or for terminals."""

import logging
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, TextIO

from roundsman import wire
from roundsman.masking import masked, safe

if TYPE_CHECKING:
    from structlog.typing import EventDict, WrappedLogger

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
OURS = "roundsman"
"""The standard library's logger for our own lines; libraries have other loggers."""
PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""syslog's priorities, which journald reads from a `<3>` at the start of a line (sd-daemon(3))."""


class Line:
    """Standard error, with at most one line at its end that is overwritten: the progress of a long read."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._shown = ""

    def msg(self, message: str) -> None:
        """Write a line of the log."""
        erase = "\r\x1b[K" if self._shown else ""
        # A full disk behind standard error, or its end, must not end the daemon; it cannot be reported.
        with suppress(OSError, ValueError):
            self._stream.write(f"{erase}{message}\n{self._shown}")
            self._stream.flush()

    def show(self, progress: str) -> None:
        """Show the progress; an empty text removes it."""
        if progress != self._shown:
            with suppress(OSError):
                self._stream.write("\r\x1b[K" + progress)
                self._stream.flush()
            self._shown = progress


def configure(level: str, form: Literal["auto", "json", "console"], line: Line | None = None) -> Line:
    """Log from now on at this level, in this form. Returns the `Line` that the log is written to."""
    import structlog  # slow to import, and most commands log nothing

    line = line or Line()
    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    # What a visit or a delivery has bound (`source`, `sink`, `visit`) is in all its lines, a library's too.
    before: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    after: list[Any] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        # Plain tracebacks: the pretty ones show local variables, which may hold secrets.
        structlog.processors.format_exc_info
        if console
        else structlog.processors.ExceptionRenderer(
            structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        ),
        without_secrets,
        *([listed] if console else []),
        printable,
    ]
    if console:
        colors = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
        after.append(
            structlog.dev.ConsoleRenderer(
                colors=colors, sort_keys=False, exception_formatter=structlog.dev.plain_traceback
            )
        )
    else:
        after.append(structlog.processors.JSONRenderer(serializer=_serialize))
    structlog.configure(
        processors=[*before, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=lambda *_: logging.getLogger(OURS),
        cache_logger_on_first_use=False,
    )
    handler = _ToLine(line, priority=not console and on_journal())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(processors=after, foreign_pre_chain=[_of_library, *before])
    )
    logging.getLogger(OURS).setLevel(logging.DEBUG)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.captureWarnings(True)
    return line


def without_secrets(_: "WrappedLogger", __: str, event: "EventDict") -> "EventDict":
    """Mask secrets, in tracebacks too."""
    return {
        key: value if key in {"timestamp", "level", "event"} else masked(value)
        for key, value in event.items()
    }


def listed(_: "WrappedLogger", __: str, event: "EventDict") -> "EventDict":
    """Write a list for a person: `a, b`."""
    return {
        key: ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
        for key, value in event.items()
    }


def printable(_: "WrappedLogger", __: str, event: "EventDict") -> "EventDict":
    """Escape control characters, so that text from outside cannot control a terminal."""
    return {
        key: "\n".join(map(safe, value.split("\n")))
        if key == "exception" and isinstance(value, str)
        else safe(value)
        if isinstance(value, str)
        else value
        for key, value in event.items()
    }


def on_journal() -> bool:
    """Whether standard error goes to journald (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _serialize(event: "EventDict", **_: Any) -> str:
    first = {key: event[key] for key in ("timestamp", "level", "event") if key in event}
    try:
        return wire.encode({**first, **event}).decode()
    except (TypeError, UnicodeEncodeError):
        plain = {
            key: value if isinstance(value, int | float | None) else safe(str(value))
            for key, value in {**first, **event}.items()
        }
        return wire.encode(plain).decode()


def _of_library(_: "WrappedLogger", __: str, event: "EventDict") -> "EventDict":
    """A log message of a library, as an event of ours."""
    record: logging.LogRecord = event["_record"]
    return {**event, "event": "library.message", "logger": record.name, "message": event["event"]}


class _ToLine(logging.Handler):
    """Writes each record as a line; with `priority`, the line begins with its priority for journald."""

    def __init__(self, line: Line, *, priority: bool) -> None:
        super().__init__()
        self._line = line
        self._priority = priority

    def emit(self, record: logging.LogRecord) -> None:
        if record.name != OURS and record.levelno < logging.WARNING:
            return  # a library's logger may have a level of its own
        try:
            text = self.format(record)
        except (TypeError, ValueError, KeyError):  # a library's arguments do not fit its own message
            record.args = None
            text = self.format(record)
        mark = f"<{PRIORITIES.get(record.levelname.lower(), 5)}>" if self._priority else ""
        self._line.msg(mark + text)
