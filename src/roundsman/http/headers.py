"""The headers of an answer."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

CODING = ("content-encoding", "content-length", "transfer-encoding")
"""Headers that describe how a body was sent, and do not apply to the decoded body."""


class Headers(Mapping[str, str]):
    """Names are kept in lower case and found in any; several values of one name are joined by commas."""

    __slots__ = ("_values", "fields")

    def __init__(self, fields: Sequence[tuple[bytes, bytes]] = ()) -> None:
        self.fields = fields
        """Each of them as it was sent, also those that `decoded` leaves out."""
        values: dict[str, str] = {}
        for name, value in fields:
            key, text = name.decode("latin-1").lower(), _text(value)
            values[key] = f"{values[key]}, {text}" if key in values else text
        self._values = values

    def decoded(self) -> "Headers":
        """These headers, of the decoded body."""
        for name in CODING:
            self._values.pop(name, None)
        return self

    def get(self, name: str, default: Any = None) -> Any:
        return self._values.get(name.lower(), default)

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
