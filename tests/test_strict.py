"""The options are as strict as the schema that `roundsman schema config` prints, and the schema as strict as the options."""

import copy
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from pydantic import BaseModel

from roundsman import config
from roundsman.config.sentences import read_table
from roundsman.errors import ConfigError, Problem
from roundsman.options import printed
from roundsman.options.paths import relative_to

SECRET = "0123456789abcdef-us6"
TABLES: dict[str, dict[str, Any]] = {
    "sources.parakey.event_logs": {"access_token": SECRET},
    "sources.parakey.batches": {"access_token": SECRET},
    "sources.mailchimp.batches": {"api_key": SECRET},
    "sources.railz.pushes": {"client_id": "x", "secret_key": SECRET, "connections": "discover"},
    "sources.http.json": {"base_url": "https://a.example", "rows": {"id": "id"}},
    "sinks.stdout": {},
    "sinks.file": {"path": "a.jsonl"},
    "sinks.http": {"url": "https://a.example/"},
    "sinks.notify": {"urls": ["json://localhost"]},
    "sinks.exec": {"command": ["cat"]},
}
"""A valid table of each type."""
INSIDE: dict[str, dict[str, Any]] = {
    "webhook": {"token": SECRET},
    "auth": {"bearer": SECRET},
    "oauth": {"token_url": "https://a.example/", "client_id": "x", "client_secret": SECRET},
    "pages": {"next": "link"},
    "since": {"param": "a", "row": "b"},
}
"""Valid tables inside these."""
VALUES: list[Any] = [
    "5", 5, 5.0, 5.5, 0, -1, 1, True, False, 10**9, "", "x", " ", "a b", "ä\n", "now", "1m", "1m ", "1x", "0s", "64MiB", "64 XB",
    "https://a.example/x", "https://a.example/?q", "https://a.example/#f", " https://a.example", "ftp://a", "https://",
    "2026-05-01", "2026-05-01T00:00:00Z", "0644", "/abs", "[", "discover", [], ["x"], [5], [""], {}, {"x": 1},
    {"env": "HOME"}, {"env": 5}, {"env": "HOME", "file": "x"}, {"command": []}, {"command": "x"},
]  # fmt: skip
NO_SCHEMA_SAYS = re.compile(
    r"JMESPath|time zone|cannot be read|no variable|no credential|a plain name|not known yet|is empty"  # what is there, and what others define
    r"|is not a token|too short|with a blank|signing secret|not an address that Apprise|placeholder"  # the form of a secret
    r"|is not more than|is less than|is more than|between 0 and ten years|date-time|no file|no listener"  # limits of texts
    r"|is a URL and not a path|names a (?:user|home)|is a folder|has a user or|is not a URL|is not an http"
    r'|content = "|has no text|\$ in|is not JSON|authenticates no caller|needs one of|belong together|needs value'
    r"|has only one of|batch = 1|range of hours|leaves no part|a brace|names no program|no path|printed|program"
    r"|ASCII|parts? of the day|is not a plain host|no (?:built-in )?event |is not a path of names|always has a value"
)
"""Mistakes that need more than the form of one value."""


@cache
def schema() -> dict[str, Any]:
    return config.json_schema()


@cache
def model(name: str) -> type[BaseModel]:
    section, _, kind = name.partition(".")
    registry = config.sources_registry() if section == "sources" else config.sinks_registry()
    found: type[BaseModel] = config.load_type(registry[kind])
    return found


@cache
def validator(name: str) -> Any:
    # With its own definitions only: the library looks through all of them for each reference.
    own = {key: each for key, each in schema()["$defs"].items() if key.startswith(f"{name}.")}
    return jsonschema.Draft202012Validator({**schema()["$defs"][name], "$defs": own})


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        node = schema()["$defs"][node["$ref"].removeprefix("#/$defs/")]
    return node


def options(node: dict[str, Any], at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of each option of a table and of the tables inside it."""
    for name, inner in resolved(node).get("properties", {}).items():
        yield (*at, name)
        for each in [inner, *inner.get("anyOf", [])]:
            if "$ref" in each:
                yield from options(each, (*at, name))


@cache
def firsts() -> dict[str, list[tuple[str, ...]]]:
    """The options of each type, without those that an earlier type has with the same schema."""
    found: dict[str, list[tuple[str, ...]]] = {}
    seen: set[str] = set()
    for name in TABLES:
        found[name] = []
        for path in options(schema()["$defs"][name]):
            key = f"{path[-1]} {json.dumps(resolved(at(name, path)), sort_keys=True)}"
            key = key.replace(f"#/$defs/{name}.", "#/$defs/")
            if key not in seen:
                found[name].append(path)
            seen.add(key)
    return found


def at(name: str, path: tuple[str, ...]) -> dict[str, Any]:
    """The schema of an option."""
    node: dict[str, Any] = schema()["$defs"][name]
    for step in path:
        inner = [resolved(each) for each in (node, *node.get("anyOf", []))]
        node = resolved(
            next(each["properties"][step] for each in inner if step in each.get("properties", {}))
        )
    return node


def mistakes(name: str, table: dict[str, Any], folder: Path) -> list[str]:
    found: list[Problem] = []
    # `asking`: a value may be a table that names a program, and none is run.
    with relative_to(folder), printed.asking({}):
        read_table(model(name), ("t",), copy.deepcopy(table), found)
    return [str(each) for each in found]


def with_value(name: str, path: tuple[str, ...], value: Any) -> dict[str, Any]:
    table: dict[str, Any] = {"type": name.partition(".")[2], **copy.deepcopy(TABLES[name])}
    inner = table
    for step in path[:-1]:
        inner = inner.setdefault(step, copy.deepcopy(INSIDE.get(step, {})))
    inner[path[-1]] = value
    return table


def disagreement(name: str, table: dict[str, Any], folder: Path) -> str | None:
    """What the schema and the options do not agree on."""
    found = mistakes(name, table, folder)
    refused = [error.message for error in validator(name).iter_errors(table)]
    if refused and not found:
        return f"only the schema refuses {table}: {refused[0]}"
    if found and not refused and not all(map(NO_SCHEMA_SAYS.search, found)):
        # A mistake of a whole table is about several options.
        said = [
            each for each in found if not re.match(r"t(\.(webhook|auth|oauth|pages|since|rows))*: ", each)
        ]
        return f"only the options refuse {table}: {said[0]}" if said else None
    return None


@pytest.mark.parametrize("name", TABLES)
def test_each_value_of_each_option_has_one_verdict(name: str, tmp_path: Path) -> None:
    assert disagreement(name, with_value(name, ("type",), name.partition(".")[2]), tmp_path) is None
    wrong = [
        found
        for path in firsts()[name]
        for value in VALUES
        if (found := disagreement(name, with_value(name, path, value), tmp_path))
    ]
    assert wrong == []


def values(node: dict[str, Any]) -> "st.SearchStrategy[Any]":
    """Values that this node of the schema describes, and others."""
    node = resolved(node)
    if "anyOf" in node:
        return st.one_of([values(each) for each in node["anyOf"]])
    if "enum" in node or "const" in node:
        return st.sampled_from(node.get("enum", [node.get("const")]))
    match node.get("type"):
        case "object" if "properties" in node:
            required = node.get("required", [])
            inner = {key: values(each) for key, each in node["properties"].items()}
            optional = {key: each for key, each in inner.items() if key not in required}
            return st.fixed_dictionaries({key: inner[key] for key in required}, optional=optional)
        case "array":
            return st.lists(values(node.get("items", {})), min_size=node.get("minItems", 0), max_size=3)
        case "integer":
            return st.integers(node.get("minimum", 0) - 1, node.get("maximum", 10**6) + 1)
        case "number":
            return st.floats(-1, 1e9, allow_nan=False)
        case "boolean":
            return st.booleans()
        case "string" if "pattern" in node:
            return st.from_regex(node["pattern"])
    return st.sampled_from(VALUES)


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_values_made_from_the_schema_have_one_verdict(data: "st.DataObject") -> None:
    name = data.draw(st.sampled_from(sorted(TABLES)))
    path = data.draw(st.sampled_from(sorted(options(schema()["$defs"][name]))))
    value = data.draw(values(at(name, path)))
    assert disagreement(name, with_value(name, path, value), Path("/nowhere")) is None


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('batch = "5"', "sinks.out.batch: 5 is a text, and not a whole number; write it without quotes"),
        (
            'compress = "true"',
            "sinks.out.compress: true is a text, and not true or false; write it without quotes",
        ),
        ("mode = 640", "sinks.out.mode: 640 is not a text; write it in quotes"),
        ("batch = true", "sinks.out.batch: true is not a whole number"),
        ("batch = 5.5", "sinks.out.batch: 5.5 is not a whole number"),
        ("compress = 1", "sinks.out.compress: 1 is not true or false"),
        ('compress = "yes"', "sinks.out.compress: yes is not true or false"),
        ("batch = 5.0", None),
    ],
)
def test_a_value_of_another_type_is_a_mistake(line: str, problem: str | None, tmp_path: Path) -> None:
    path = tmp_path / "roundsman.toml"
    path.write_text(
        '[sources.doors]\ntype = "parakey.event_logs"\naccess_token = "a-long-token"\n'
        f'[sinks.out]\ntype = "file"\npath = "a.jsonl"\n{line}\n'
    )
    try:
        config.load(path)
        found = []
    except ConfigError as exc:
        found = exc.problems
    assert found == ([f"{path}:7: {problem}"] if problem else [])


def test_a_list_in_the_place_of_a_start_is_a_sentence(tmp_path: Path) -> None:
    [found] = mistakes(
        "sources.parakey.event_logs",
        {**TABLES["sources.parakey.event_logs"], "type": "parakey.event_logs", "start": []},
        tmp_path,
    )
    assert 'is neither "now", "beginning" nor a date-time' in found


def test_tables_of_the_same_name_are_not_mixed_up() -> None:
    """Two vendors have a table `webhook`, with other options."""
    for name, option in (
        ("sources.mailchimp.batches", "signing_secret"),
        ("sources.railz.pushes", "signing_secrets"),
    ):
        webhook = resolved(schema()["$defs"][name]["properties"]["webhook"])
        assert option in webhook["properties"]


def test_each_option_has_a_description() -> None:
    document = schema()
    tables = {"": document, **document["$defs"]}
    without = [
        f"{place}.{name}"
        for place, table in tables.items()
        for name, option in table.get("properties", {}).items()
        if not option.get("description") and "const" not in option
    ]
    assert without == []
