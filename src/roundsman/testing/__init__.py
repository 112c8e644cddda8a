"""Tests of plugins: a clock set by hand, a web of functions, visits as the daemon makes them, and what is promised."""

from roundsman.testing.clock import START, Time
from roundsman.testing.contract import contract
from roundsman.testing.sinks import Delivered, deliver, sink_contract
from roundsman.testing.visits import Visited, visit
from roundsman.testing.web import Reply, Request, Web, in_turn

__all__ = [
    "START",
    "Delivered",
    "Reply",
    "Request",
    "Time",
    "Visited",
    "Web",
    "contract",
    "deliver",
    "in_turn",
    "sink_contract",
    "visit",
]
