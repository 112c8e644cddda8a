"""Reads the TOML configuration into plugins, or reports every mistake in it.

The other modules of the daemon import from here. `advice` is separate: it depends on every vendor's event
types.
"""

from typing import Any

from roundsman.config.load import Config, DaemonOptions, digest, load, names
from roundsman.config.places import find, passed_over, users
from roundsman.config.registry import load_type, sinks_registry, source_class, sources_registry
from roundsman.config.sentences import nearest

__all__ = [
    "Config",
    "DaemonOptions",
    "digest",
    "find",
    "json_schema",
    "load",
    "load_type",
    "names",
    "nearest",
    "passed_over",
    "sinks_registry",
    "source_class",
    "sources_registry",
    "users",
]


def json_schema() -> dict[str, Any]:
    """A JSON Schema of the whole file, for editors."""
    from roundsman.config import schema  # imported when it is needed: its imports are slow

    return schema.json_schema()
