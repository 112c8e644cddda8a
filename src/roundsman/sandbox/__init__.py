"""Vendors' documented behaviour on loopback: for the demo, the tests and the benchmarks."""

from roundsman.sandbox.building import Building
from roundsman.sandbox.parakey import TOKEN, Fault, Parakey, Quirks
from roundsman.sandbox.server import Sandbox

__all__ = ["TOKEN", "Building", "Fault", "Parakey", "Quirks", "Sandbox"]
