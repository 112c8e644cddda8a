"""Reads a growing list from a server that documents neither its parameters nor how long an answer may be.

The list is read in the documented way until an answer contradicts it; then the next strategy is tried:

    keyset    pages in ascending order; each starts at the last stamp of the previous page, and must contain
              that page's last row
    offset    the same question with a growing offset; each page must contain the previous page's last row
    grow      one question with a growing limit
    gap       no strategy gets past the truncation

What the answers neither prove nor contradict does not stop a reading: it is reported once, and sweeps find
what was missed. A refused question is an answer, too: the server does not accept what was guessed in it.

`Learned` and `Reading` are the documents of this package: the caller stores them, and only this package
writes into them.
"""

from roundsman.kit.probing.asking import Refused, asked, newest
from roundsman.kit.probing.documents import MILLISECOND, Learned, Limits, Mark, Mode, Question, Reading, Row
from roundsman.kit.probing.probing import Probing, Truncated

__all__ = [
    "MILLISECOND",
    "Learned",
    "Limits",
    "Mark",
    "Mode",
    "Probing",
    "Question",
    "Reading",
    "Refused",
    "Row",
    "Truncated",
    "asked",
    "newest",
]
