"""A source's state as a typed document, which also reads what earlier versions wrote."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any, ClassVar, Self, get_args, get_origin

import msgspec

from roundsman import wire

Count = Annotated[int, msgspec.Meta(ge=0, le=10**9)]
"""A number of rows, pages or tries; anything else was not written by a source."""
YEARS = range(1970, 9000)
"""Years of times that a source may have written, with room to count from them in both directions."""


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
        if type(version) is int and version > cls.version:
            raise ValueError("the source's state was written by a later version of Roundsman")
        known, dropped = dict(state), list[str]()
        if "v" not in state:
            known = cls._upgraded(known, dropped)
        elif version != cls.version or type(version) is not int:
            dropped.append("v")  # the versions that wrote none wrote no other, either
        try:
            found = msgspec.convert(known, cls)
        except msgspec.ValidationError:
            fitting = _fitting(known, cls, "", dropped)
            found = msgspec.convert({} if fitting is msgspec.UNSET else fitting, cls)
        if dropped:
            found.dropped = list(dict.fromkeys([*found.dropped, *dropped]))
            found.repaired()
        return found

    @classmethod
    def _upgraded(cls, old: dict[str, Any], dropped: list[str]) -> dict[str, Any]:
        """`upgrade` of all that it can read. `dropped` gets the members in which something is not so."""

        def works(value: Any) -> bool:
            try:
                cls.upgrade(value)
            except (AttributeError, LookupError, TypeError, ValueError):
                return False  # it expects what the earlier version wrote
            return True

        if not works(old):
            sound = _working_members(old, works)
            dropped += [name for name, each in old.items() if name not in sound or sound[name] != each]
            old = sound
        return cls.upgrade(old)

    def repaired(self) -> None:
        """Parts of the stored state did not fit, and are missing now."""

    def remarks(self) -> list[str]:
        """A remark on what was dropped, if anything was and no visit has reported it."""
        names, self.dropped = ", ".join(self.dropped), []
        return [f"members of the stored state do not fit, and are dropped: {names}"] if names else []

    def dump(self) -> dict[str, Any]:
        """The document as a JSON object that shares nothing with it."""
        version = {"v": self.version} if self.version else {}
        return {**version, **msgspec.to_builtins(self, enc_hook=wire.plain_time)}


def renamed(old: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The object with members under their new names; what is null is left out."""
    return {names.get(name, name): value for name, value in old.items() if value is not None}


def _working(value: Any, works: Callable[[Any], bool]) -> Any:
    """The value if it works; else what is left of it without the members that do not, or `UNSET`."""
    if works(value):
        return value
    left: Any = msgspec.UNSET
    if isinstance(value, list):
        left = [each for each in value if works([each])]
    elif isinstance(value, dict):
        left = _working_members(value, works)
    return left if works(left) else msgspec.UNSET


def _working_members(value: dict[str, Any], works: Callable[[Any], bool]) -> dict[str, Any]:
    """What is left of each member, tried as the only one."""

    def alone(name: str) -> Callable[[Any], bool]:
        return lambda member: works({name: member})

    parts = {name: _working(each, alone(name)) for name, each in value.items()}
    return {name: each for name, each in parts.items() if each is not msgspec.UNSET}


def _fitting(value: Any, kind: Any, path: str, dropped: list[str]) -> Any:
    """The value if it fits; else a copy of it without the members that do not, or `UNSET`.

    `dropped` gets the paths of those members, by fields only: a key is data.
    """
    if _fits(value, kind):
        return value
    if isinstance(value, list) and get_origin(kind) is list:
        dropped.append(path)
        return [each for each in value if _fits([each], kind)]
    if isinstance(value, dict) and (kinds := _kinds(value, kind)):
        below: list[str] = []
        parts = {
            name: _fitting(value[name], each, ".".join(filter(None, (path, field))), below)
            for name, (field, each) in kinds.items()
        }
        fitting = {name: part for name, part in parts.items() if part is not msgspec.UNSET}
        if _fits(fitting, kind):
            dropped += below if len(kinds) == len(value) or get_origin(kind) is not dict else [*below, path]
            return fitting
    dropped.append(path)
    return msgspec.UNSET


def _kinds(value: dict[str, Any], kind: Any) -> dict[str, tuple[str, Any]]:
    """Of each known member, the field that it is ("" in a dict), and what fits there."""
    if get_origin(kind) is dict:
        return {key: ("", get_args(kind)[1]) for key in value if isinstance(key, str)}
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return {}
    found = msgspec.structs.fields(kind)
    return {each.encode_name: (each.encode_name, each.type) for each in found if each.encode_name in value}


def _fits(value: Any, kind: Any) -> bool:
    try:
        return _is_sane(msgspec.convert(value, kind))
    except msgspec.ValidationError:
        return False


def _is_sane(found: Any) -> bool:
    """Whether all times in it can be compared with others, and counted from."""
    if isinstance(found, datetime):
        return found.tzinfo is not None and found.year in YEARS
    if isinstance(found, msgspec.Struct):
        return all(_is_sane(getattr(found, name)) for name in found.__struct_fields__)
    return True
