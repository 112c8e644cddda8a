"""A source's state as a typed document, which also reads what earlier versions wrote."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import msgspec


class Document(msgspec.Struct, omit_defaults=True, kw_only=True):
    """The state of a source. A subclass adds its fields; what has its default is not written."""

    v: int = 0
    """The version of the format; states that were written before there was one have none."""

    version: ClassVar[int] = 1

    @classmethod
    def upgrade(cls, old: dict[str, Any]) -> dict[str, Any]:
        """The document as this version writes it, from one that any earlier version wrote."""
        return old

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> Self:
        known = dict(state) if state.get("v") == cls.version else cls.upgrade(dict(state))
        return msgspec.convert(known | {"v": cls.version}, cls)

    def dump(self) -> dict[str, Any]:
        """The document as a JSON object that shares nothing with it."""
        dumped: dict[str, Any] = msgspec.to_builtins(self)
        return dumped


def renamed(old: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The object with members under their new names; what is null is left out, because it says nothing."""
    return {names.get(name, name): value for name, value in old.items() if value is not None}
