"""The event types and outcomes that there can be: of the schema, and of the templates in a configuration."""

import difflib
import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple

from roundsman.kinds import TYPES
from roundsman.shapes import OUTCOMES
from roundsman.sources import SOURCES


class Vocabulary(NamedTuple):
    """What a filter can name."""

    types: tuple[str, ...]
    """Event types; those of templates are globs: `com.github.*`."""
    outcomes: tuple[str, ...]
    is_open: bool
    """A source of a plugin may report other types."""

    def unknown_type(self, wanted: str, *, shortened: bool = False) -> str | None:
        """The end of a message if this name or glob matches no event type: the nearest one. None if it matches one.

        With `shortened`, the form without the vendor is a name, too.
        """
        if any(meets(form, each) for form in _forms(wanted, shortened) for each in self.types):
            return None
        plain = [each for each in self.types if not set(each) & set("*?[")]
        names = {short(each): short(each) if shortened else f"*.{short(each)}" for each in plain}
        names |= {each: each for each in plain}
        near = difflib.get_close_matches(wanted.lower(), names, 1)
        return (
            f"; did you mean {names[near[0]]}?"
            if near
            else "; `roundsman schema events` has all; or a glob such as *_failed"
        )

    def unknown_outcome(self, wanted: str) -> str | None:
        """The same for an outcome."""
        if any(meets(wanted, each) for each in self.outcomes):
            return None
        near = difflib.get_close_matches(wanted.lower(), self.outcomes, 1)
        return f"; did you mean {near[0]}?" if near else f"; known: {', '.join(self.outcomes)}"


def vocabulary(sources: Iterable[tuple[object, object]]) -> Vocabulary:
    """The vocabulary of sources, each as its `type` and, of `http.json`, the type of its events."""
    pairs = list(sources)
    templates = [re.sub(r"\{[^}]*\}", "*", event) for _, event in pairs if isinstance(event, str)]
    is_open = any(kind not in SOURCES for kind, _ in pairs)
    return Vocabulary(tuple(dict.fromkeys([*TYPES, *templates])), tuple(OUTCOMES), is_open)


def of_document(document: Mapping[str, Any]) -> Vocabulary:
    """The vocabulary of a configuration file, also of one with mistakes."""
    tables = document.get("sources")
    sources = [each for each in tables.values() if isinstance(each, dict)] if isinstance(tables, dict) else []
    events = [each.get("event") for each in sources]
    return vocabulary(
        (source.get("type"), event.get("type") if isinstance(event, dict) else None)
        for source, event in zip(sources, events, strict=True)
    )


def of_sources(sources: Iterable[object]) -> Vocabulary:
    """The vocabulary of loaded sources."""
    return vocabulary(
        (getattr(source, "type", None), getattr(getattr(source, "event", None), "type", None))
        for source in sources
    )


def short(kind: str) -> str:
    """An event type without the vendor, as the commands print it: `batch.completed`."""
    return re.sub(r"^(roundsman|[a-z]{2,3}\.[^.]+)\.", "", kind)


def _forms(wanted: str, shortened: bool) -> list[str]:
    return [wanted, f"*.{wanted}"] if shortened else [wanted]


def meets(one: str, other: str) -> bool:
    """Whether some name matches both globs. A set of characters counts as any character."""
    a, b = (re.sub(r"\[[^\]]*\]", "?", each) for each in (one, other))

    @cache
    def from_here(i: int, j: int) -> bool:
        if i == len(a) or j == len(b):
            return not (a[i:] + b[j:]).strip("*")
        if a[i] == "*":
            return from_here(i + 1, j) or from_here(i, j + 1)
        if b[j] == "*":
            return from_here(i, j + 1) or from_here(i + 1, j)
        return (a[i] == b[j] or "?" in (a[i], b[j])) and from_here(i + 1, j + 1)

    return len(a) + len(b) > LONGEST or from_here(0, 0)


LONGEST = 400
"""Maximum characters of two globs that are compared; longer ones count as meeting."""
