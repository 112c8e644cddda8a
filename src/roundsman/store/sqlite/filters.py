"""A sink's filter as a condition in SQL."""

from collections.abc import Sequence

from roundsman import wire
from roundsman.store.values import Filter


def where_of(wanted: Filter) -> tuple[str, list[str]]:
    """The filter's condition in SQL and its values, for any number of names."""
    clauses: list[str] = []
    values: list[str] = []
    # The plus keeps SQLite from using the column's index, so that it reads the log in `seq` order.
    for column, names in (
        ("+e.type", wanted.types),
        ("+s.name", wanted.sources),
        ("+e.outcome", wanted.outcomes),
    ):
        globs = [each for each in names if set(each) & set("*?[")]
        plain = [each for each in names if not set(each) & set("*?[")]
        terms = [f"{column} GLOB ?"] * len(globs)
        values += globs
        if plain:
            terms.append(f"{column} IN (SELECT value FROM json_each(?))")  # noqa: S608 - fixed names
            values.append(wire.encode(plain).decode())
        if terms:
            clauses.append(_either(terms))
    if wanted.for_people:
        clauses.append("(+e.outcome IN ('failed', 'partial') OR +e.type GLOB 'roundsman.*')")
    return "".join(f" AND {clause}" for clause in clauses), values


def _either(terms: Sequence[str]) -> str:
    """These conditions joined by OR, as a balanced tree: a chain of a thousand ORs is too deep for SQLite."""
    if len(terms) == 1:
        return terms[0]
    middle = len(terms) // 2
    return f"({_either(terms[:middle])} OR {_either(terms[middle:])})"
