"""The types of sources and sinks: built-in ones, and those of installed packages."""

from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from roundsman.errors import ConfigError
from roundsman.plugin import Sink, Source
from roundsman.sinks import SINKS
from roundsman.sources import SOURCES

GROUPS = {"roundsman.sources": SOURCES, "roundsman.sinks": SINKS}
"""The groups of entry points, and the built-in types in each."""


def sources_registry() -> dict[str, EntryPoint]:
    return _registry("roundsman.sources")


def sinks_registry() -> dict[str, EntryPoint]:
    return _registry("roundsman.sinks")


def _registry(group: str) -> dict[str, EntryPoint]:
    """All types, by name. A type is loaded only when it is used."""
    return {point.name: point for point in installed(group, GROUPS[group])}


def installed(group: str, ours: Mapping[str, str]) -> list[EntryPoint]:
    """All types of a group. Of those with the same name, the last one counts."""
    known = [EntryPoint(name, place, group) for name, place in ours.items()]
    return [*known, *entry_points(group=group)]


def source_class(kind: str) -> type[Source]:
    """The class of a source's type. ConfigError if it is no longer installed."""
    registry = sources_registry()
    if kind not in registry:
        raise ConfigError([f"the type {kind} is not installed; known: {', '.join(registry)}"])
    return load_type(registry[kind])


def load_type(plugin: EntryPoint) -> type[Any]:
    """The class of a type. ConfigError with the reason if it cannot be used."""
    try:
        loaded: type[Any] = plugin.load()
    except (Exception, SystemExit) as exc:  # noqa: BLE001 - importing third-party code may raise anything
        what = f"{type(exc).__name__}: {exc}"
        raise ConfigError([f"the plugin {plugin.name} ({plugin.value}) cannot be loaded: {what}"]) from None
    base: type[Source | Sink] = Source if plugin.group == "roundsman.sources" else Sink
    if not (isinstance(loaded, type) and issubclass(loaded, base)):
        raise ConfigError([f"{plugin.value} is not a {base.__name__}"])
    if missing := sorted(loaded.__abstractmethods__):
        raise ConfigError([f"{plugin.value} has no method {' and no '.join(missing)}"])
    with suppress(NameError):  # an annotation may name what was imported for a type checker only
        if loaded.__pydantic_complete__ or loaded.model_rebuild(raise_errors=False):
            return loaded
    raise ConfigError([f"{plugin.value} has an option of a type that its module does not import at run time"])
