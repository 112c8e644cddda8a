"""events.md, from the shapes of events and the catalog of their types."""

from collections.abc import Iterator
from typing import Any

from pydantic import TypeAdapter

from generated.markdown import code, codes, document, item, link, prose, slug, table, wrapped
from generated.texts import doc, members
from roundsman import shapes as every_shape
from roundsman.kinds import KINDS, Kind
from roundsman.shapes import OUTCOMES, Envelope

INTRODUCTION = """
An event is a [CloudEvent 1.0](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md) in JSON.
`roundsman schema events` prints a JSON Schema of all types. Types that begin with `roundsman.` are notices of the
daemon about a source, a sink or itself.
"""
WORDS = {
    "string": "text",
    "boolean": "true or false",
    "integer": "integer",
    "number": "number",
    "null": "null",
    "object": "object",
}


def page() -> str:
    shapes: dict[str, type] = {}
    for kind in KINDS.values():
        collect(kind.shape, shapes)
    rows = [(f"[{name}](#{slug(name)})", ", ".join(kind.outcomes) or "-") for name, kind in KINDS.items()]
    return document(
        "Events",
        prose(INTRODUCTION),
        "## Attributes",
        *fields(Envelope),
        "## Outcomes",
        "\n".join(item(f"{code(outcome)}: {text}") for outcome, text in OUTCOMES.items()),
        "## All types",
        table(("Type", "Outcomes"), rows),
        *(part for name, kind in KINDS.items() for part in _kind(name, kind)),
        "## Shapes of data",
        *(
            part
            for name in shapes
            for part in (f"### {name}", wrapped(doc(shapes[name])), *fields(shapes[name]))
        ),
    )


def _kind(name: str, kind: Kind) -> Iterator[str]:
    shape = kind.shape.__name__
    facts = [
        f"Data: [{shape}](#{slug(shape)})",
        f"Outcome: {codes(kind.outcomes) if kind.outcomes else 'none'}",
        f"Id: {kind.id}",
        f"Subject: {kind.subject}",
    ]
    yield f"## {name}"
    yield wrapped(kind.when + (f" Read: {link(kind.page)}." if kind.page else ""))
    yield "\n".join(map(item, facts))
    if kind.details:
        yield "Members of `details`:"
        yield "\n".join(item(f"{code(member)}: {text}") for member, text in kind.details.items())


def collect(shape: type, found: dict[str, type]) -> None:
    """The shapes that a shape is made of, by name: itself first."""
    found[shape.__name__] = shape

    for name in TypeAdapter(shape).json_schema().get("$defs", {}):
        found.setdefault(name, getattr(every_shape, name))


def fields(shape: type) -> Iterator[str]:
    """Each member as an item of a list."""
    schema, texts = TypeAdapter(shape).json_schema(), members(shape)
    for name, member in schema["properties"].items():
        facts = [_type(member)] if name in schema["required"] else [_type(member), "optional"]
        yield item(f"{code(name)} ({', '.join(facts)})", " ".join(texts[name].split()))


def _type(schema: dict[str, Any]) -> str:
    """The type of a member, in words."""
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{slug(name)})"
    if "enum" in schema:
        return codes(schema["enum"])
    if "const" in schema:
        return code(schema["const"])
    if schema.get("format") == "date-time":
        return "time"
    if schema["type"] == "array":
        inner = _type(schema["items"])
        return f"list of {'texts' if inner == 'text' else inner}"
    return WORDS[schema["type"]]
