"""The result of one check: a state, a sentence about it, and what to do."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "failure"]


@dataclass(frozen=True)
class Finding:
    """What one check has found."""

    check: str
    """The check's name, such as `disk` or `https://api.example.com`."""
    state: State
    words: str
    advice: str = ""
    """What to do; empty if there is nothing to do."""

    def line(self) -> str:
        return f"{self.state:<8} {self.check}: {self.words}" + (f"; {self.advice}" if self.advice else "")
