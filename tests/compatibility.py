"""The names that the program promises to keep, read from its code: `python tests/compatibility.py` adds what is new to the list of those that were released."""

import json
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import roundsman
from parsing import root
from roundsman import config, kinds, testing
from roundsman.system.logged import LOGGED
from roundsman.web.endpoints import ENDPOINTS
from roundsman.web.metrics import METRICS

FILE = Path(__file__).with_suffix(".json")
Names = Mapping[str, Mapping[str, list[str]]]
"""By surface, by what has the names: the options of a table, the fields of a log line."""


def released() -> Names:
    """The names of the version that the file states, and of all before it."""
    found: Names = json.loads(FILE.read_text())["names"]
    return found


def version() -> str:
    """The newest version whose names are in the list."""
    found: str = json.loads(FILE.read_text())["version"]
    return found


def names() -> Names:
    """The names of this version."""
    return {
        "tables and options": _grouped(_options(config.json_schema())),
        "commands and options": dict(_commands(root(), "")),
        "attributes of events": {"event": sorted(_schemas()["properties"])},
        "types of events, outcomes": {kind: sorted(each.outcomes) for kind, each in kinds.KINDS.items()},
        "types of events, members of data": {
            kind: _members(shape.__name__) for kind, shape in kinds.TYPES.items()
        },
        "answers in JSON, members": {
            "/events": _members("EventsAnswer"),
            "/status.json": _members("StatusAnswer"),
        },
        "log lines and fields": {name: sorted(line.fields) for name, line in LOGGED.items()},
        "metrics and labels": {each.name: sorted(each.labels) for each in METRICS},
        "endpoints and methods": {
            path: sorted(each.methods) for each in ENDPOINTS.values() for path in each.paths
        },
        "names to import": {
            "roundsman": sorted(roundsman.__all__),
            "roundsman.testing": sorted(testing.__all__),
        },
    }


def lost(before: Names, now: Names) -> list[str]:
    """What was there before, and is there no more."""
    return [
        f"{surface}: {place}" + (f": {name}" if name else "")
        for surface, places in before.items()
        for place, inside in places.items()
        for name in ([""] if place not in now.get(surface, {}) else inside)
        if not name or name not in now[surface][place]
    ]


def joined(before: Names, now: Names) -> Names:
    """What one of them has."""
    return {
        surface: {
            place: sorted({*before.get(surface, {}).get(place, ()), *now.get(surface, {}).get(place, ())})
            for place in sorted({*before.get(surface, {}), *now.get(surface, {})})
        }
        for surface in now
    }


def _options(schema: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(table, option) of each: of the plain tables, and of each type of source and sink."""
    known = schema["$defs"]
    for name in schema["properties"]:
        if name in known:
            yield from _inside(known, known[name], name)
    for name in known:
        if name.startswith(("sources.", "sinks.")) and name.rpartition(".")[2].islower():
            yield from _inside(known, known[name], name)


def _inside(known: dict[str, Any], node: Any, table: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, list):
        for each in node:
            yield from _inside(known, each, table)
    if not isinstance(node, dict):
        return
    if (name := node.get("$ref", "").rpartition("/")[2]) in known:
        yield from _inside(known, known[name], table)
    for option, described in node.get("properties", {}).items():
        yield table, option
        yield from _inside(known, described, f"{table}.{option}")
    for key in ("anyOf", "allOf", "oneOf", "items"):
        yield from _inside(known, node.get(key), table)


def _grouped(pairs: Iterator[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, set[str]] = {}
    for place, name in pairs:
        found.setdefault(place, set()).add(name)
    return {place: sorted(inside) for place, inside in found.items()}


def _commands(command: Any, name: str) -> Iterator[tuple[str, list[str]]]:
    opts = {option for each in command.params for option in each.opts if option.startswith("-")}
    yield name or "roundsman", sorted(opts)
    for below, each in getattr(command, "commands", {}).items():
        yield from _commands(each, f"{name} {below}".strip())


@cache
def _schemas() -> dict[str, Any]:
    found: dict[str, Any] = kinds.schemas()
    return found


def _members(shape: str) -> list[str]:
    """The paths of the members of a shape: `person`, `person.email`."""
    known = _schemas()["$defs"]
    found = _inside(known, known[shape], "")
    return sorted({f"{table}.{member}".lstrip(".") for table, member in found})


def _text(names: Names) -> str:
    """A line for each place, so that a change of it can be read."""
    surfaces = [
        f"  {json.dumps(surface)}: {{\n"
        + ",\n".join(f"   {json.dumps(place)}: {json.dumps(inside)}" for place, inside in places.items())
        + "\n  }"
        for surface, places in names.items()
    ]
    return f'{{\n "version": "{roundsman.__version__}",\n "names": {{\n' + ",\n".join(surfaces) + "\n }\n}\n"


if __name__ == "__main__":
    FILE.write_text(_text(joined(released() if FILE.exists() else {}, names())))
    sys.stdout.write(f"{FILE}\n")
