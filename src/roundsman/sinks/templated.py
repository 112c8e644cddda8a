"""The body that the http sink makes of a template: its type decides how values are escaped."""

import json
import re
from collections.abc import Callable, Mapping
from urllib.parse import quote_plus

from roundsman import wire
from roundsman.events import Event
from roundsman.options.template import Template, Verbatim
from roundsman.sinks.fields import fields_of

DEFAULT = "application/json"
"""The type of a body if `headers` names none."""
_JSON = re.compile(r"(?:application|text)/(?:[a-z0-9.+-]*\+)?json", re.IGNORECASE)
_MARKUP = re.compile(r"(?:application|text)/(?:html|xml|[a-z0-9.+-]*\+xml)", re.IGNORECASE)
_FORM = "application/x-www-form-urlencoded"
_CHARSET = re.compile(r";\s*charset\s*=\s*\"?([^\s;\"]+)", re.IGNORECASE)
_BREAKS = re.compile("[\t-\r\x85\u2028\u2029]+")
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters, and those that turn the direction of a text."""

HOSTILE = "\"'\\\n\t\0</script>&{}]é𐐷$x${x}"
"""A value that breaks each place of a JSON document but the inside of a text."""
SAMPLE = Verbatim('{"id":"\\"","data":{"raw":["\\\\"]}}')
"""The same for `$event`: it breaks the inside of a text."""


def content_type(headers: Mapping[str, str]) -> str:
    """The type of the body, from the headers of the sink."""
    named = [value for name, value in headers.items() if name.lower() == "content-type"]
    return named[-1] if named else DEFAULT


def body_of(template: Template, event: Event, kind: str) -> bytes:
    """The body about an event, in UTF-8."""
    fields = fields_of(event, template.names)
    if "event" in fields and not _is_json(kind):
        fields["event"] = str(fields["event"])  # it is a text like the others
    return template.fill(fields, _escape(kind)).encode("utf-8", "backslashreplace")


def prove(template: Template, kind: str) -> None:
    """ValueError, in words for a person, if not every event makes a body of this type."""
    charset = _CHARSET.search(kind)
    if charset is not None and charset[1].lower() not in {"utf-8", "utf8", "us-ascii"}:
        raise ValueError(f"content-type names {charset[1]}, but the body is sent in UTF-8")
    if not _is_json(kind):
        return
    samples = {name: SAMPLE if name == "event" else HOSTILE for name in template.names}
    text = template.fill(samples, _json)
    try:
        json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as exc:
        wrong = f"{exc.msg[:1].lower()}{exc.msg[1:]} {_place(template, samples, exc.pos)}"
    except (ValueError, RecursionError) as exc:
        wrong = str(exc)
    else:
        return
    raise ValueError(
        f"is not JSON after its fields are filled in: {wrong}; "
        'write fields inside quotes, such as "$summary", and $event without'
    )


def _place(template: Template, samples: Mapping[str, str], position: int) -> str:
    """Where in the template a position in the filled text is."""
    at, before = 0, ""
    for text, name in template.parts:
        if position < at + len(text):
            break
        at += len(text)
        before = f"behind ${name}" if name else before
        value = samples.get(name, "")
        at += len(value if isinstance(value, Verbatim) else _json(value))
        if name and position < at:
            return f"at ${name}"
    return before or "at its beginning"


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no value")


def _escape(kind: str) -> Callable[[str], str]:
    """How a value is written into a body of this type."""
    if _is_json(kind):
        return _json
    bare = _bare(kind)
    if bare.lower() == _FORM:
        return quote_plus
    return _markup if _MARKUP.fullmatch(bare) else _plain


def _is_json(kind: str) -> bool:
    return _JSON.fullmatch(_bare(kind)) is not None


def _bare(kind: str) -> str:
    """A type without its parameters."""
    return kind.partition(";")[0].strip()


def _json(value: str) -> str:
    """The value as a part of a text."""
    return wire.encode(value).decode()[1:-1]


def _markup(value: str) -> str:
    import html  # its table of entities is large, and most bodies are JSON

    return html.escape(_plain(value))


def _plain(value: str) -> str:
    """The value in one line, without control characters."""
    return _CONTROLS.sub("", _BREAKS.sub(" ", value))
