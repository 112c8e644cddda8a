"""A visit that failed: how the vendor refused it, and its log line."""

import logging

import structlog

from roundsman.engine import policy
from roundsman.errors import Backoff, Denied, reason
from roundsman.store import StoreError

log = structlog.get_logger()


def refusal(exc: Exception) -> policy.Refusal:
    if not isinstance(exc, Denied):
        return None
    return "unauthorized" if exc.status == 401 else "denied"


def log_failure(name: str, exc: Exception, failures: int, wait: float, *, reported: bool) -> None:
    """Log it; with `reported` at debug, because `source.failing` says the same. But that has no traceback."""
    expected = isinstance(exc, Backoff | Denied | StoreError) or type(exc).__module__.startswith("roundsman.")
    level = logging.DEBUG if reported and expected else logging.WARNING
    log.log(
        level,
        "poll.failed",
        source=name,
        error=reason(exc),
        failures=failures,
        wait=round(wait, 1),
        exc_info=None if expected else exc,
    )
