"""Where a store is: a SQLite file, or a schema of a PostgreSQL database."""

from pathlib import Path

from roundsman.options.server import Server

Place = Path | Server
"""As a text, it has no password."""
LATE = "{} takes too long to read now: try again later"
"""The sentence about a read that was given up."""
