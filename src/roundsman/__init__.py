"""Roundsman polls what only answers questions, and tells each new thing once.

The names below are all that a plugin's author imports.
"""

from roundsman.events import Event, Notice, parse_time, rfc3339
from roundsman.http import Answer, Http
from roundsman.plugin import Backoff, Deliver, Poll, Received, Reject, Sink, Source, State
from roundsman.settings import Duration, Secret, Size
from roundsman.webhook import Call, Hook

__version__ = "0.4.0"

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
    "__version__",
    "parse_time",
    "rfc3339",
]
