"""Output for people: tables on a terminal, plain lines elsewhere."""

from roundsman.screen.acts import act, act_line, act_row, by
from roundsman.screen.events import failure, show_event, show_failure, show_failures
from roundsman.screen.status import status, status_lines
from roundsman.screen.tables import status_tables
from roundsman.screen.words import stamp
from roundsman.terminal.terminal import Row, spoken, terminal as console

__all__ = [
    "Row",
    "act",
    "act_line",
    "act_row",
    "by",
    "console",
    "failure",
    "show_event",
    "show_failure",
    "show_failures",
    "spoken",
    "stamp",
    "status",
    "status_lines",
    "status_tables",
]
