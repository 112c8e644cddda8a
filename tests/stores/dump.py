"""Print a store as SQL text that `test_upgrades.py` loads: `python tests/stores/dump.py roundsman.db > tests/stores/0.5.sql`.

Event bodies are written as text, so that a diff shows what a version stored.
"""

import re
import sqlite3
import sys
from contextlib import closing


def as_text(match: re.Match[str]) -> str:
    """A blob literal as a cast of its text; blobs that are no text stay as they are."""
    try:
        text = bytes.fromhex(match[1]).decode()
    except UnicodeDecodeError:
        return match[0]
    return "CAST('{}' AS BLOB)".format(text.replace("'", "''"))


with closing(sqlite3.connect(sys.argv[1])) as db:
    for line in db.iterdump():
        print(re.sub(r"X'([0-9A-Fa-f]*)'", as_text, line))
