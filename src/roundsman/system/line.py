"""What is known of a log line: its level, when it is logged, and its fields."""

from collections.abc import Mapping
from typing import NamedTuple


class Logged(NamedTuple):
    """A log line."""

    levels: tuple[str, ...]
    """Its level; several if the level depends on what happened."""
    when: str
    """When it is logged."""
    fields: Mapping[str, str]
    """Its own fields, with their meaning and unit."""
    page: str = ""
    """The page of the documentation that says what to do."""


DEBUG, INFO, WARNING, FAULT = ("debug",), ("info",), ("warning",), ("error",)
