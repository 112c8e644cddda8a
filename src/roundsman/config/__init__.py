"""Reads the TOML configuration into plugins, or reports every mistake in it.

The other modules of the daemon import from here. `advice` is separate: it depends on every vendor's event
types. What is slow to import is imported when its name is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from roundsman.config.places import find, passed_over, users

if TYPE_CHECKING:
    from roundsman.config.daemon import DaemonOptions, store_of, worker_of
    from roundsman.config.document import Document, digest, included_files, names, read
    from roundsman.config.loading import Config, listen_of, load, load_beside, loaded
    from roundsman.config.registry import load_type, sinks_registry, source_class, sources_registry
    from roundsman.config.schema import json_schema
    from roundsman.config.selection import filters, tables
    from roundsman.config.sentences import nearest

__all__ = [
    "Config",
    "DaemonOptions",
    "Document",
    "digest",
    "filters",
    "find",
    "included_files",
    "json_schema",
    "listen_of",
    "load",
    "load_beside",
    "load_type",
    "loaded",
    "names",
    "nearest",
    "passed_over",
    "read",
    "sinks_registry",
    "source_class",
    "sources_registry",
    "store_of",
    "tables",
    "users",
    "worker_of",
]

_PLACES = {
    "daemon": ("DaemonOptions", "store_of", "worker_of"),
    "document": ("Document", "digest", "included_files", "names", "read"),
    "loading": ("Config", "listen_of", "load", "load_beside", "loaded"),
    "registry": ("load_type", "sinks_registry", "source_class", "sources_registry"),
    "schema": ("json_schema",),
    "sentences": ("nearest",),
    "selection": ("filters", "tables"),
}
"""No module has the name of an object in it: once imported, the module would hide the object."""


def __getattr__(name: str) -> Any:
    """Import one of the names above on first use: a command on the store starts without modules for plugins."""
    for module, known in _PLACES.items():
        if name in known:
            return getattr(import_module(f"roundsman.config.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
