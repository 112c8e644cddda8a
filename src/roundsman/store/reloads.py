"""How the result of the last reload is stored, and that of the last one that was only compared."""

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from roundsman import wire
from roundsman.store.values import Reload


class Results(msgspec.Struct):
    """What the column `problems` of the daemon's row holds."""

    problems: tuple[str, ...] = ()
    """Of the last reload that was made; its file and its number are in other columns."""
    changes: tuple[str, ...] = ()
    compared: Reload | None = None

    def compare(self, config: Path, digest: str, problems: Sequence[str], changes: Sequence[str]) -> None:
        """A reload was only compared: of this file, why it would be refused, and what it would change."""
        number = self.compared.number + 1 if self.compared else 1
        self.compared = Reload(number, text_of(config), digest, tuple(problems), tuple(changes))


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


def text_of(path: Path) -> str:
    """A path as a store keeps it: names of files may hold bytes that are no UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
