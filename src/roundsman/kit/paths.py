"""Paths into a JSON document, in JMESPath (https://jmespath.org/specification.html).

A path of plain names, such as `actor.login`, is valid JMESPath and has a getter of our own, which is thirty
times as fast. The library is imported only for other paths.
"""

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator

from roundsman.options.values import counted

Getter = Callable[[Any], Any]

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")
_PLACE = re.compile(r"\{([^{}]+)\}")
_LEFT_OUT = re.compile(r"[^A-Za-z0-9.-]+")


def is_plain(path: str) -> bool:
    """Whether it consists of names and dots only."""
    return _PLAIN.fullmatch(path) is not None


def is_path(path: str) -> str:
    """The path, unchanged; ValueError if it is none."""
    if not is_plain(path):
        from jmespath.exceptions import JMESPathError

        try:
            compiled = _compiled(path)
        except JMESPathError as exc:
            why = " ".join(str(exc).split())
            hint = "; a name with a dash is written in quotes: '\"a-name\"'" if "-" in path else ""
            raise ValueError(f"is no JMESPath: {why[:200]}{hint}") from None
        _check_functions(compiled.parsed)
    return path


Path = Annotated[str, AfterValidator(is_path)]
"""An option that is a path."""


def _compiled(path: str) -> Any:
    import jmespath

    return jmespath.compile(path)


def _check_functions(node: dict[str, Any]) -> None:
    """ValueError for a call that can never succeed: the library would only find nothing in each document."""
    from jmespath.functions import Functions

    if node["type"] == "function_expression":
        known, given = Functions.FUNCTION_TABLE.get(node["value"]), len(node["children"])
        if known is None:
            raise ValueError(f"is no JMESPath: it has no function {node['value'][:80]}")
        signature = known["signature"]
        takes_more = bool(signature) and bool(signature[-1].get("variadic"))
        if given < len(signature) or (given > len(signature) and not takes_more):
            raise ValueError(
                f"is no JMESPath: {node['value']} takes {counted(len(signature), 'argument')}, not {given}"
            )
    for child in node["children"]:
        if isinstance(child, dict):
            _check_functions(child)


def getter(path: str) -> Getter:
    """A function that returns the value at the path; None if there is none."""
    if is_plain(path):
        steps = path.split(".")
        return _member(steps[0]) if len(steps) == 1 else lambda document: descend(document, steps)
    from jmespath.exceptions import JMESPathError

    expression = _compiled(path)

    def search(document: Any) -> Any:
        try:
            return expression.search(document)
        except (JMESPathError, TypeError, ValueError):
            # A function was given null, or a text compared with a number, for example: there is nothing at the path.
            return None

    return search


def _member(name: str) -> Getter:
    return lambda document: document.get(name) if isinstance(document, dict) else None


def descend(document: Any, steps: Sequence[str]) -> Any:
    """The value at these members, one inside the other; None if there is none."""
    for step in steps:
        document = document.get(step) if isinstance(document, dict) else None
    return document


def is_true(value: Any) -> bool:
    """The truth of a value in JMESPath: null, false, and empty texts, lists and objects are false; 0 is true."""
    return value is not None and value is not False and value not in ("", [], {})


def is_template(text: str) -> str:
    """A text with paths in braces, such as `com.github.{type}`, unchanged; ValueError if one is no path."""
    for path in _PLACE.findall(text):
        try:
            is_path(path)
        except ValueError as exc:
            raise ValueError(f"has {{{path}}}, which {exc}") from None
    if "{" in _PLACE.sub("", text) or "}" in _PLACE.sub("", text):
        raise ValueError("has a brace without its partner")
    return text


def as_glob(text: str) -> str:
    """A template with `*` in place of each path: `com.github.*`."""
    return _PLACE.sub("*", text)


def template(text: str) -> Callable[[Any], str]:
    """A function that fills the paths of a template in: letters, digits, dots and dashes of their values.

    A value without any of these becomes `unknown`.
    """
    parts = _PLACE.split(text)
    getters = [getter(path) for path in parts[1::2]]
    if not getters:
        return lambda _: text

    def fill(document: Any) -> str:
        values = [_LEFT_OUT.sub("", str(get(document) or "")) or "unknown" for get in getters]
        pairs = zip(parts[::2], [*values, ""], strict=True)
        return "".join(piece for pair in pairs for piece in pair)

    return fill
