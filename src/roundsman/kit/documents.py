"""A source's state as a typed document, which also reads what earlier versions wrote."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self, get_args, get_origin

import msgspec

from roundsman import wire


class Document(msgspec.Struct, omit_defaults=True, kw_only=True):
    """The state of a source. A subclass adds its fields; what has its default is not written."""

    dropped: list[str] = []
    """Members of the stored state that did not fit, until a visit reports them."""

    version: ClassVar[int] = 1
    """The version of the format; 0 if another document has it. States of Roundsman 0.1 to 0.6 have none."""

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
        known, dropped = dict(state), list[str]()
        if version != cls.version:
            try:
                known = cls.upgrade(dict(state))
            except (AttributeError, LookupError, TypeError):  # it expects what the earlier version wrote
                dropped.append("what an earlier version wrote")
        try:
            found = msgspec.convert(known, cls)
        except msgspec.ValidationError:
            found = msgspec.convert(_fitting(known, cls, "", dropped), cls)
        if dropped:
            found.dropped = list(dict.fromkeys([*found.dropped, *dropped]))
            found.repaired()
        return found

    def repaired(self) -> None:
        """Parts of the stored state did not fit, and are missing now."""

    def remarks(self) -> list[str]:
        """A remark on what was dropped, if anything was and no visit has said so."""
        names, self.dropped = ", ".join(self.dropped), []
        return [f"members of the stored state do not fit, and are dropped: {names}"] if names else []

    def dump(self) -> dict[str, Any]:
        """The document as a JSON object that shares nothing with it."""
        version = {"v": self.version} if self.version else {}
        return {**version, **msgspec.to_builtins(self, enc_hook=wire.plain_time)}


def renamed(old: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The object with members under their new names; what is null is left out, because it says nothing."""
    return {names.get(name, name): value for name, value in old.items() if value is not None}


def _fitting(value: Any, kind: Any, path: str, dropped: list[str]) -> Any:
    """The value if it fits; else a copy of it without the members that do not, or `UNSET`.

    `dropped` gets the paths of those members, by fields only: a key is data.
    """
    if _fits(value, kind):
        return value
    if isinstance(value, dict) and (kinds := _kinds(value, kind)):
        below: list[str] = []
        parts = {
            name: _fitting(value[name], each, ".".join(filter(None, (path, field))), below)
            for name, (field, each) in kinds.items()
        }
        fitting = {name: part for name, part in parts.items() if part is not msgspec.UNSET}
        if _fits(fitting, kind):
            dropped += below
            return fitting
    dropped.append(path)
    return msgspec.UNSET


def _kinds(value: dict[str, Any], kind: Any) -> dict[str, tuple[str, Any]]:
    """Of each known member, the field that it is ("" in a dict), and what fits there."""
    if get_origin(kind) is dict:
        return dict.fromkeys(value, ("", get_args(kind)[1]))
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return {}
    found = msgspec.structs.fields(kind)
    return {each.encode_name: (each.encode_name, each.type) for each in found if each.encode_name in value}


def _fits(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True
