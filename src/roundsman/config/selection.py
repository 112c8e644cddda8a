"""The filter of each sink, read without its other options: no secret is needed to count what waits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from roundsman.config.document import read
from roundsman.errors import ConfigError
from roundsman.sinks import FOR_PEOPLE, SINKS
from roundsman.store.values import Filter


def filters(path: Path) -> dict[str, Filter]:
    """Each sink's filter, by the sink's name. A filter that has mistakes counts as none."""
    return {name: _filter(table) for name, table in tables(path, "sinks").items()}


def tables(path: Path, section: str) -> dict[str, dict[str, Any]]:
    """The tables of all sources or sinks as they are written, by name."""
    found = read(path).tables.get(section, {})
    if not isinstance(found, dict):
        return {}
    return {name: table for name, table in found.items() if isinstance(table, dict)}


def _filter(table: dict[str, Any]) -> Filter:
    found, for_people = _defaults(table.get("type"))
    for option in found:
        names = table.get(option)
        if isinstance(names, list) and all(isinstance(each, str) for each in names):
            found[option] = names
    return Filter.of(**found, for_people=for_people)


def _defaults(kind: object) -> tuple[dict[str, Sequence[str]], bool]:
    """The filter of a sink without these options, and `Sink.for_people`. A plugin's class may have options of its own."""
    none: dict[str, Sequence[str]] = {"types": (), "sources": (), "outcomes": ()}
    if not isinstance(kind, str) or kind in SINKS:
        return none, kind in FOR_PEOPLE
    from roundsman.config.registry import load_type, sinks_registry

    try:
        found = load_type(sinks_registry()[kind])
    except (ConfigError, KeyError):
        return none, False
    return {option: found.model_fields[option].default for option in none}, found.for_people
