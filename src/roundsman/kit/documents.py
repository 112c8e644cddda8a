"""A source's state as a typed document, which also reads what earlier versions wrote."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, ClassVar, Self, get_args, get_origin

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
        """The document of a stored state. ValueError for one of a later version.

        What does not fit is as if it was never stored: a state that cannot be read would stop the source for
        good, and no rewind could help.
        """
        version = state.get("v", 0)
        if not isinstance(version, int) or version > cls.version:
            raise ValueError("the source's state was written by a later version of Roundsman")
        known = dict(state)
        if version != cls.version:
            with suppress(AttributeError, TypeError):  # an upgrade expects what the earlier version wrote
                known = cls.upgrade(dict(state))
        known |= {"v": cls.version}
        fitting = _fitting(known, cls)
        found = msgspec.convert(fitting, cls)
        if fitting is not known:
            found.repaired()
        return found

    def repaired(self) -> None:
        """Parts of the stored state did not fit, and are missing now."""

    def dump(self) -> dict[str, Any]:
        """The document as a JSON object that shares nothing with it."""
        dumped: dict[str, Any] = msgspec.to_builtins(self)
        return dumped


def renamed(old: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The object with members under their new names; what is null is left out, because it says nothing."""
    return {names.get(name, name): value for name, value in old.items() if value is not None}


def _fitting(value: Any, kind: Any) -> Any:
    """The value if it fits; else a copy of it without the members that do not, or `UNSET`."""
    if _fits(value, kind):
        return value
    if not isinstance(value, dict):
        return msgspec.UNSET
    if get_origin(kind) is dict:
        kinds = dict.fromkeys(value, get_args(kind)[1])
    elif isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        kinds = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    else:
        return msgspec.UNSET
    parts = {name: _fitting(value[name], kinds[name]) for name in kinds if name in value}
    fitting = {name: part for name, part in parts.items() if part is not msgspec.UNSET}
    return fitting if _fits(fitting, kind) else msgspec.UNSET


def _fits(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True
