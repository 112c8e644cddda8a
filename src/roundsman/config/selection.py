"""The filter of each sink, read without its other options: no secret is needed to count what waits."""

from pathlib import Path
from typing import Any

from roundsman.config.document import parse
from roundsman.errors import ConfigError
from roundsman.sinks import SINKS
from roundsman.store.values import Filter


def filters(path: Path) -> dict[str, Filter]:
    """Each sink's filter, by the sink's name. A filter that has mistakes counts as none."""
    sinks = parse(path).get("sinks", {})
    if not isinstance(sinks, dict):
        return {}
    return {name: _filter(table) for name, table in sinks.items() if isinstance(table, dict)}


def _filter(table: dict[str, Any]) -> Filter:
    found = _defaults(table.get("type"))
    for option in Filter._fields:
        names = table.get(option)
        if isinstance(names, list) and all(isinstance(each, str) for each in names):
            found = found._replace(**{option: names})
    return found


def _defaults(kind: object) -> Filter:
    """The filter of a sink without these options. Built-in sinks have none; a plugin's class may have its own."""
    if not isinstance(kind, str) or kind in SINKS:
        return Filter()
    from roundsman.config.registry import load_type, sinks_registry

    try:
        fields = load_type(sinks_registry()[kind]).model_fields
    except (ConfigError, KeyError):
        return Filter()
    return Filter(*(fields[option].default for option in Filter._fields))
