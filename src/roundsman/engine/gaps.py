"""The gap of a source: when it begins, for pruning, and when it ended, for the log."""

import structlog

from roundsman.plugin import Source, State
from roundsman.times import parse_time

log = structlog.get_logger()


def begin(source: Source, state: State) -> float | None:
    """Since when rows may be missing (Unix); 0 if that is not known; None if there is no gap."""
    since = _since(source, state)
    moment = parse_time(since)
    return moment.timestamp() if moment else 0.0 if since else None


def log_end(name: str, source: Source, before: State, after: State) -> None:
    """Log that a gap ended between these two states of a source, if it did."""
    since = _since(source, before)
    if since is not None and _since(source, after) is None:
        log.info("source.gap_closed", source=name, since=since)


def _since(source: Source, state: State) -> str | None:
    """Since when rows may be missing, as the source states it; None if there is no gap."""
    try:
        return source.gap(state)
    except Exception:  # noqa: BLE001 - a plugin may raise anything; what was found is committed
        return None
