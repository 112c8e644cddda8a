"""Output for people: tables on a terminal, plain lines elsewhere."""

from roundsman.screen.acts import act, act_line, by
from roundsman.screen.events import failure, show_event, show_failure
from roundsman.screen.status import status, status_lines, status_tables
from roundsman.screen.words import ago, console, stamp

__all__ = [
    "act",
    "act_line",
    "ago",
    "by",
    "console",
    "failure",
    "show_event",
    "show_failure",
    "stamp",
    "status",
    "status_lines",
    "status_tables",
]
