"""A sink that only one machine can serve: its file, its terminal, its program."""

from typing import Annotated

from pydantic import Field

from roundsman.plugin import Sink


class LocalSink(Sink):
    """A sink of a machine."""

    on: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """The machine that serves it: its host name, or `name` of its `[daemon]`. Required if machines share a store in a
    database; without effect for a store in a file.
    """
