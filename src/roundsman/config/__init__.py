"""From TOML to plugins, or every reason why not.

The other modules of the daemon import from here; `advice` is apart, for it knows every vendor.
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
    from roundsman.config import schema  # only who asks for it waits for what it imports

    return schema.json_schema()
