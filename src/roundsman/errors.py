"""All errors that pass between modules, as one tree, by what the catcher must do.

    Exception
      RequestFailed     the other side is unreachable, too slow, or sent a wrong answer: retry with backoff
        TooLarge        the body is larger than allowed: ask for less, if that is possible
        NoToken         no token can be fetched: no request can be made with these credentials
      Unreadable        an answer is not the JSON that it should be: retry, and use nothing of it
        NoRows          a list has no readable row
        Failed          an answer with a status of success states an error itself
        Overlong        one object of a stream is larger than the limit
        Oversized       an archive is larger than its limits
      Backoff           not now: wait at least that long
      Denied            the credentials are refused: report it at once
      Reject            never: bury the event as a dead letter
      NotAuthentic      a webhook is not the vendor's: answer 401
      StoreError        the store failed: report it, and retry at the next opportunity
        Unclear         it may have written the change: do not add the same again
      Conflict          the cursor was moved meanwhile: drop what was found
      ConfigError       the configuration is wrong: print every mistake, and end with status 2
      HookError         a `hooks` command cannot be done: print why, and end with status 1

A library's own errors are turned into these where the library is called.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roundsman.masking import mask
from roundsman.times import spell

REASON = 1000
"""Maximum characters of an error's text that are kept."""


class RequestFailed(Exception):
    """The other side is unreachable, too slow, or sent a wrong answer."""

    def __init__(self, message: str, status: int | None = None, *, passing: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.passing = passing
        """The fault is transient, or of a firewall in between: it proves nothing about what was asked for."""


class TooLarge(RequestFailed):
    """The body is larger than `[http] max_body` allows, after decompression."""


class NoToken(RequestFailed):
    """No token can be fetched: no request can be made with these credentials."""


class Unreadable(Exception):
    """An answer is not the JSON that it should be; the message states what it is instead."""


class NoRows(Unreadable):
    """A list has no item that can be read as a row."""

    def __init__(self, message: str, items: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.items = items
        """The items, as `wire.Damage`."""


class Failed(Unreadable):
    """An answer with a status of success states an error itself."""


class Overlong(Unreadable):
    """One object of a stream is larger than the limit."""


class Oversized(Unreadable):
    """An archive is larger than its limits allow: a retry would bring the same."""


class Backoff(Exception):
    """Not now: the next attempt is at least `after` seconds later."""

    def __init__(self, after: float, why: str = "") -> None:
        super().__init__(why or f"asked to wait {spell(after)}")
        self.after = after


class Reject(Exception):
    """The sink's receiver will never accept this event: it is buried as a dead letter."""


class Denied(Exception):
    """The vendor refuses our credentials (401, 403): the source is failing at once, not after a while."""

    def __init__(self, message: str, status: int | None = None, body: bytes = b"") -> None:
        super().__init__(message)
        self.status = status
        self.body = body
        """The body of the refusal, for a source that can distinguish refusals."""


class NotAuthentic(Exception):
    """Not the vendor's call, or an old one: 401. The message is a word or two, for logs and metrics."""


class StoreError(Exception):
    """The store cannot be used; the message is one sentence with the reason and what to do."""


class Unclear(StoreError):
    """The store went away in a commit, and has not answered whether it was made."""


class StoreAway(StoreError):
    """The server of the store does not answer, or refuses for a while what it will accept again."""


class Conflict(Exception):
    """The cursor was moved (`rewind`, `replay`) since it was read: what was based on it is void."""


Place = tuple[str | int, ...]
"""The keys from the top of the configuration to a value; a number is a position in a list."""


@dataclass(frozen=True)
class Problem:
    """A mistake in the configuration, or a warning about it: where it is, and a sentence about it."""

    place: Place
    """Empty: it is about no key."""
    words: str
    file: Path | None = None
    line: int | None = None
    column: int | None = None
    """Counted from 1; None if it is not known."""

    def __str__(self) -> str:
        """`roundsman.toml:12: sources.doors.interval: 30s is under the 60s minimum`."""
        return ": ".join([*self._where(), *self._what()])

    def warning(self) -> str:
        """`roundsman.toml:12: warning: sources.doors: ...`, as editors read the lines of compilers."""
        return ": ".join([*self._where(), "warning", *self._what()])

    def _where(self) -> list[str]:
        where = [str(each) for each in (self.file, self.line, self.column) if each is not None]
        return [":".join(where)] if where else []

    def _what(self) -> list[str]:
        return [".".join(map(str, self.place)), self.words] if self.place else [self.words]


class ConfigError(Exception):
    """All mistakes in the configuration, one a line."""

    def __init__(self, problems: Sequence[str | Problem], path: Path | None = None) -> None:
        self.found = [each if isinstance(each, Problem) else Problem((), each) for each in problems]
        self.problems = [str(each) for each in self.found]
        super().__init__("\n".join(self.problems))
        self.path = path
        """The file that the mistakes are in, if they are about its content."""


class HookError(Exception):
    """A `hooks` command cannot be done; the message is a sentence for a person."""


def reason(exc: BaseException) -> str:
    """The text of an error for a log, the store or a person: masked, shortened, and valid Unicode."""
    text = str(exc) or type(exc).__name__
    if isinstance(exc, OSError) and exc.strerror:
        text = f"{exc.filename}: {exc.strerror}" if exc.filename else exc.strerror
    text = mask(text.encode("utf-8", "backslashreplace").decode())  # a path may hold undecodable bytes
    return text if len(text) <= REASON else text[:REASON] + "..."
