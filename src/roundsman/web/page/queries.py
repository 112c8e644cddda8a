"""Reads the query of a request, or refuses it with one sentence: the parameter, the value and what would be right."""

from collections.abc import Sequence

from starlette.requests import Request

from roundsman.masking import safe
from roundsman.web.page.door import refusal

MOST_VALUES = 50
"""Values of one parameter that may be repeated."""
LONGEST = 200
"""Characters of a value."""
LARGEST = 2**62
"""A number that is larger is none of the log's."""


class Query:
    """The parameters of a request, of which only `known` ones may be there."""

    def __init__(self, request: Request, known: Sequence[str]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in request.query_params.multi_items():
            if name not in known:
                raise refusal(400, f"{_shown(name)}: unknown parameter; known: {', '.join(known)}")
            self._values.setdefault(name, []).append(value)

    def number(self, name: str, default: int, span: tuple[int, int] = (0, LARGEST)) -> int:
        """A whole number within `span`, both ends included."""
        values = self._values.get(name, [])
        if not values:
            return default
        [least, most], text = span, values[-1]
        if not (text.isascii() and text.isdecimal() and len(text) < 20 and least <= int(text) <= most):
            limits = f"from {least} to {most}" if most < LARGEST else f"of {least} or more"
            raise refusal(400, f"{name}: {_shown(text)} is not a whole number {limits}")
        return int(text)

    def words(self, name: str) -> Sequence[str]:
        """Names or globs; the parameter may be repeated."""
        values = self._values.get(name, [])
        if len(values) > MOST_VALUES:
            raise refusal(400, f"{name}: is given {len(values)} times; at most {MOST_VALUES}")
        for each in values:
            if not each or len(each) > LONGEST or not each.isprintable():
                raise refusal(400, f"{name}: {_shown(each)} is not a name or a glob")
        return values


def _shown(text: str) -> str:
    """A value in a message: printable, shortened, and never empty."""
    return safe(text[:60] + ("..." if len(text) > 60 else "")) or '""'
