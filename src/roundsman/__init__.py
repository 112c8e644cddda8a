"""Roundsman polls APIs that do not notify, and reports each new event once.

The names below are all that a plugin's author needs to import; `roundsman.testing` has what its tests need.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from roundsman.errors import Backoff, Denied, Reject, RequestFailed, Unreadable
    from roundsman.events import Event
    from roundsman.http.answers import Answer
    from roundsman.http.auth import Auth, basic, bearer, header
    from roundsman.http.client import Http
    from roundsman.kit.unread import Unread
    from roundsman.options.secrets import Secret
    from roundsman.options.values import Duration, Options, Size, Start
    from roundsman.plugin import (
        Deliver,
        Poll,
        Receipt,
        Received,
        Receives,
        Registers,
        Rewinds,
        Sink,
        Source,
        State,
        Tracks,
        Trigger,
        Visit,
        Waiting,
    )
    from roundsman.shapes import Failure, Notice, Outcome
    from roundsman.times import parse_time, rfc3339
    from roundsman.webhook import Call, Hook, Registrar, Registration
    from roundsman.wire import Damage, Item

__version__ = "0.13.0"

__all__ = [
    "Answer",
    "Auth",
    "Backoff",
    "Call",
    "Damage",
    "Deliver",
    "Denied",
    "Duration",
    "Event",
    "Failure",
    "Hook",
    "Http",
    "Item",
    "Notice",
    "Options",
    "Outcome",
    "Poll",
    "Receipt",
    "Received",
    "Receives",
    "Registers",
    "Registrar",
    "Registration",
    "Reject",
    "RequestFailed",
    "Rewinds",
    "Secret",
    "Sink",
    "Size",
    "Source",
    "Start",
    "State",
    "Tracks",
    "Trigger",
    "Unread",
    "Unreadable",
    "Visit",
    "Waiting",
    "__version__",
    "basic",
    "bearer",
    "header",
    "parse_time",
    "rfc3339",
]

_PLACES = {
    "errors": ("Backoff", "Denied", "Reject", "RequestFailed", "Unreadable"),
    "events": ("Event",),
    "http.answers": ("Answer",),
    "http.auth": ("Auth", "basic", "bearer", "header"),
    "http.client": ("Http",),
    "kit.unread": ("Unread",),
    "options.secrets": ("Secret",),
    "options.values": ("Duration", "Options", "Size", "Start"),
    "plugin": (
        "Deliver",
        "Poll",
        "Receipt",
        "Received",
        "Receives",
        "Registers",
        "Rewinds",
        "Sink",
        "Source",
        "State",
        "Tracks",
        "Trigger",
        "Visit",
        "Waiting",
    ),
    "shapes": ("Failure", "Notice", "Outcome"),
    "times": ("parse_time", "rfc3339"),
    "webhook": ("Call", "Hook", "Registrar", "Registration"),
    "wire": ("Damage", "Item"),
}


def __getattr__(name: str) -> Any:
    """Import one of the names above on first use: a command starts without modules that it does not need."""
    for module, names in _PLACES.items():
        if name in names:
            return getattr(import_module(f"roundsman.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
