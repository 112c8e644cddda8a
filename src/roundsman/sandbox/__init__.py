"""Simulated vendors on loopback, as documented: for the demo, the tests and the benchmarks."""

from roundsman.sandbox.building import Building
from roundsman.sandbox.parakey import TOKEN, Parakey, Quirks
from roundsman.sandbox.server import Sandbox
from roundsman.sandbox.vendor import Fault, Outgoing, Subscription, Town, Vendor

__all__ = [
    "TOKEN",
    "Building",
    "Fault",
    "Outgoing",
    "Parakey",
    "Quirks",
    "Sandbox",
    "Subscription",
    "Town",
    "Vendor",
]
