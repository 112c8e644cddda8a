"""How the result of the last reload is stored, and that of the last one that was only compared."""

import msgspec

from roundsman import wire
from roundsman.store.values import Reload


class Results(msgspec.Struct):
    """What the column `problems` of the daemon's row holds."""

    problems: tuple[str, ...] = ()
    """Of the last reload that was made; its file and its number are in other columns."""
    changes: tuple[str, ...] = ()
    compared: Reload | None = None


_decode = msgspec.json.Decoder(Results | tuple[str, ...]).decode


def results_of(column: str) -> Results:
    """What is stored; nothing where the store is damaged."""
    try:
        found = _decode(column)
    except msgspec.DecodeError:
        return Results()
    return found if isinstance(found, Results) else Results(found)  # none yet, or of a version before 0.11


def column_of(results: Results) -> str:
    """As `results_of` reads it. The name of a file may hold bytes that are no UTF-8."""
    return wire.encode(results).decode()
