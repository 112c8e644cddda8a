"""Options that say where a store or a database is: a file, or the URL of a server."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from pydantic import PlainValidator, WithJsonSchema

from roundsman.masking import mask
from roundsman.options.elsewhere import Elsewhere
from roundsman.options.paths import data_path
from roundsman.options.server import NEEDS, SCHEMES, Server, secrets_of


def _driven(server: Server) -> Server:
    """ValueError if a connection is not possible, because the driver is missing. It is not imported, because it is slow."""
    if find_spec("psycopg") is None:
        raise ValueError(NEEDS)
    return server


def _place(value: object) -> Path | Server:
    if isinstance(value, Server):
        return value
    if isinstance(value, str):
        mask.add(secrets_of(value))  # a message about a mistake shows the rest of the text
        if value.strip().lower().startswith(SCHEMES):
            return _driven(Server(value.strip()))
    return data_path(value)


def _url(value: object) -> Server:
    if isinstance(value, Server):
        return value
    if not isinstance(value, str):
        raise ValueError('is not a text; write "postgresql://user@host/database"')
    mask.add(secrets_of(value))  # as above
    return _driven(Server(value.strip()))


ServerUrl = Annotated[
    Server,
    PlainValidator(_url),
    WithJsonSchema({"type": "string", "pattern": r"^\s*[Pp][Oo][Ss][Tt][Gg][Rr][Ee][Ss]([Qq][Ll])?://"}),
    Elsewhere(hidden=secrets_of),
]
"""The URL of a PostgreSQL database, or the place where it is."""
StorePlace = Annotated[
    Path | Server,
    PlainValidator(_place),
    WithJsonSchema({"type": "string", "minLength": 1}),
    Elsewhere(hidden=secrets_of),
]
"""A file to write, or the URL of a PostgreSQL database. Either can be at the place that a table names."""
