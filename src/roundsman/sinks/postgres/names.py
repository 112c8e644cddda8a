"""Names of tables and columns, as they are written in the configuration and in SQL."""

import re

LONGEST = 63
"""Bytes of a name: PostgreSQL cuts a longer one without an error."""
_PART = r'(?:"(?:[^"]|"")+"|[^".]+)'
_TABLE = re.compile(rf"({_PART})(?:\.({_PART}))?")


def name_of(text: str) -> str:
    """A name. ValueError if PostgreSQL takes none like this."""
    if not text or "\0" in text or len(text.encode("utf-8", "replace")) > LONGEST:
        raise ValueError(
            f"{text[:80]!r} is not the name of a table or column: 1 to {LONGEST} bytes, without NUL"
        )
    return text


def table_of(text: str) -> tuple[str, ...]:
    """`table` or `schema.table`; a name with a dot in it stands in double quotes. Upper and lower case stay."""
    found = _TABLE.fullmatch(text)
    if found is None:
        raise ValueError(
            f'{text[:80]!r} is not the name of a table; write "table" or "schema.table", and a name with a dot in double quotes'
        )
    return tuple(name_of(_bare(part)) for part in found.groups() if part is not None)


def _bare(part: str) -> str:
    return part[1:-1].replace('""', '"') if part.startswith('"') else part


def quoted(*names: str) -> str:
    """The names in SQL."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)
