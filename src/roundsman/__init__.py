"""Roundsman polls APIs that do not notify, and reports each new event once.

The names below are all that a plugin's author needs to import.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from roundsman.errors import Backoff, Reject
    from roundsman.events import Event
    from roundsman.http.answers import Answer
    from roundsman.http.client import Http
    from roundsman.options.secrets import Secret
    from roundsman.options.values import Duration, Size
    from roundsman.plugin import Deliver, Poll, Received, Sink, Source, State, Visit
    from roundsman.shapes import Notice
    from roundsman.times import parse_time, rfc3339
    from roundsman.webhook import Call, Hook

__version__ = "0.6.0"

__all__ = [
    "Answer",
    "Backoff",
    "Call",
    "Deliver",
    "Duration",
    "Event",
    "Hook",
    "Http",
    "Notice",
    "Poll",
    "Received",
    "Reject",
    "Secret",
    "Sink",
    "Size",
    "Source",
    "State",
    "Visit",
    "__version__",
    "parse_time",
    "rfc3339",
]

_PLACES = {
    "errors": ("Backoff", "Reject"),
    "events": ("Event",),
    "http.answers": ("Answer",),
    "http.client": ("Http",),
    "options.secrets": ("Secret",),
    "options.values": ("Duration", "Size"),
    "plugin": ("Deliver", "Poll", "Received", "Sink", "Source", "State", "Visit"),
    "shapes": ("Notice",),
    "times": ("parse_time", "rfc3339"),
    "webhook": ("Call", "Hook"),
}


def __getattr__(name: str) -> Any:
    """Import one of the names above on first use: a command starts without modules that it does not need."""
    for module, names in _PLACES.items():
        if name in names:
            return getattr(import_module(f"roundsman.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
