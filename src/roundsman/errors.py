"""Every error that crosses from one part to another, as one tree, by what its catcher must do.

    Exception
      RequestFailed     the other side is unreachable, slow, or answered what it should not: ask again, later and later
        TooLarge        more body than allowed: ask for less, if that is possible
        NoToken         no token can be had: nothing can be asked with these credentials
      Unreadable        an answer that is not the JSON it should be: ask again, and believe nothing of it
        NoRows          a list in which nothing is a row
        Failed          an answer that came as a success and says itself that it is none
        Overlong        one object of a stream is larger than is read
        Oversized       an archive is larger than is read
      Backoff           not now: wait at least so long
      Denied            the credentials are refused: report it at once
      Reject            not ever: bury the event as a dead letter
      NotAuthentic      a webhook that is not the vendor's: answer 401
      StoreError        the store cannot do it: report it, and try again at the next chance
      Conflict          the source was rewound meanwhile: drop what was found
      ConfigError       the configuration is wrong: print every mistake, and end with status 2
      HookError         a webhook cannot be registered: print why, and end with status 1

A library's own errors are turned into these where the library is called.
"""

from pathlib import Path

from roundsman.masking import mask
from roundsman.times import spell

REASON = 1000
"""Letters of an error that are kept, at most."""


class RequestFailed(Exception):
    """The other side is unreachable, slow, or answered what it should not."""

    def __init__(self, message: str, status: int | None = None, *, passing: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.passing = passing
        """It is somebody's in between, such as a firewall: it says nothing about what was asked for."""


class TooLarge(RequestFailed):
    """More body than `[http] max_body` allows, after decompression."""


class NoToken(RequestFailed):
    """No token can be had: nothing can be asked with these credentials."""


class Unreadable(Exception):
    """An answer that is not the JSON it should be; the message says what it is instead."""


class NoRows(Unreadable):
    """A list with nothing in it that can be read as a row."""


class Failed(Unreadable):
    """An answer that came as a success and says itself that it is none."""


class Overlong(Unreadable):
    """One object of a stream is larger than is read."""


class Oversized(Unreadable):
    """More than the limits allow: another try would bring the same."""


class Backoff(Exception):
    """Not now: the engine waits at least `after` seconds before it asks again."""

    def __init__(self, after: float, why: str = "") -> None:
        super().__init__(why or f"asked to wait {spell(after)}")
        self.after = after


class Reject(Exception):
    """Not ever: the sink's receiver will never take this event. It is buried as a dead letter."""


class Denied(Exception):
    """The vendor refuses our credentials (401, 403): the source is failing at once, not after a while."""

    def __init__(self, message: str, status: int | None = None, body: bytes = b"") -> None:
        super().__init__(message)
        self.status = status
        self.body = body
        """What came with the refusal, for a source that can tell refusals apart."""


class NotAuthentic(Exception):
    """It is not the vendor who calls, or the call is an old one: 401. The message is a word or two, for logs and metrics."""


class StoreError(Exception):
    """The store cannot be used; the message is one sentence that says why and what to do."""


class Conflict(Exception):
    """Somebody moved the cursor (`rewind`, `replay`) since it was read: what was based on it is void."""


class ConfigError(Exception):
    """Everything that is wrong with the configuration, a line each."""

    def __init__(self, problems: list[str], path: Path | None = None) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
        self.path = path
        """The file they are in, where they are about what is in it."""


class HookError(Exception):
    """Why it cannot be done, in a sentence for a person."""


def reason(exc: BaseException) -> str:
    """What to say of an error, in a log, in the store, or to a person: whatever it holds, a text that all of them can take."""
    text = str(exc) or type(exc).__name__
    if isinstance(exc, OSError) and exc.strerror:
        text = f"{exc.filename}: {exc.strerror}" if exc.filename else exc.strerror
    text = mask(text.encode("utf-8", "backslashreplace").decode())  # a path may hold bytes that are no text
    return text if len(text) <= REASON else text[:REASON] + "..."
