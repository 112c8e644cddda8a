"""A list that only grows: a source reads what was added since the last visit.

A vendor's source has the options of `Feed` and its own, and defines how a request is sent (`url`, `query`,
`headers`) and how a row is read (`Shape`). All else is here: where a first visit begins, how far to look back
for late rows, when to read although nothing seems to have changed, and what to do if rows are missing.
"""

from roundsman.kit.feed.feed import Feed
from roundsman.kit.feed.vendor import Paging, Reread, Shape, Stamps

__all__ = ["Feed", "Paging", "Reread", "Shape", "Stamps"]
