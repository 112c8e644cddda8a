"""The filter of each sink, read without its other options: no secret is needed to count what waits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from roundsman.config.document import parse
from roundsman.errors import ConfigError
from roundsman.sinks import FOR_PEOPLE, SINKS
from roundsman.store.values import Filter


def filters(path: Path) -> dict[str, Filter]:
    """Each sink's filter, by the sink's name. A filter that has mistakes counts as none."""
    sinks = parse(path).get("sinks", {})
    if not isinstance(sinks, dict):
        return {}
    return {name: _filter(table) for name, table in sinks.items() if isinstance(table, dict)}


def _filter(table: dict[str, Any]) -> Filter:
    kind = table.get("type")
    found = _defaults(kind)
    for option in found:
        names = table.get(option)
        if isinstance(names, list) and all(isinstance(each, str) for each in names):
            found[option] = names
    return Filter.of(**found, for_people=kind in FOR_PEOPLE)


def _defaults(kind: object) -> dict[str, Sequence[str]]:
    """The filter of a sink without these options. Built-in sinks have none; a plugin's class may have its own."""
    none: dict[str, Sequence[str]] = {"types": (), "sources": (), "outcomes": ()}
    if not isinstance(kind, str) or kind in SINKS:
        return none
    from roundsman.config.registry import load_type, sinks_registry

    try:
        fields = load_type(sinks_registry()[kind]).model_fields
    except (ConfigError, KeyError):
        return none
    return {option: fields[option].default for option in none}
