"""What was not sent yet, as a small JSON document: counts, and the first lines. It has the same size for any number of events."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from roundsman.events import Event
from roundsman.options.values import counted

LINES = 20
"""Maximum number of events that a message lists; the others are counted."""
GROUPS = 40
"""Maximum number of different sources that are counted on their own."""
REST = "other sources"
_ORDER = {"failed": 0, "partial": 1}


class Digest(msgspec.Struct, omit_defaults=True):
    """The events that the next message is about."""

    count: int = 0
    since: float = 0.0
    """When the first of them came (Unix)."""
    groups: dict[str, dict[str, int]] = {}
    """Source -> result -> number."""
    lines: list[str] = []
    """The summaries of the first ones."""
    failures: bool = False
    """Whether one of them can be ticked off."""

    def add(self, events: Sequence[Event], now: float) -> None:
        for event in events:
            self.since = self.since or now
            self.count += 1
            self.failures = self.failures or event.outcome in {"failed", "partial"}
            if len(self.lines) < LINES:
                self.lines.append(event.line)
            known = event.source in self.groups or len(self.groups) < GROUPS
            group = self.groups.setdefault(event.source if known else REST, {})
            result = event.outcome or "notice"
            group[result] = group.get(result, 0) + 1

    def fields(self) -> dict[str, str]:
        """The fields of a template."""
        results: dict[str, int] = {}
        for group in self.groups.values():
            for result, number in group.items():
                results[result] = results.get(result, 0) + number
        lines = list(self.lines)
        if self.count > len(lines):
            lines.append(f"... and {self.count - len(lines)} more:")
            lines += [f"{source}: {_counts(group)}" for source, group in self.groups.items()]
        return {
            "count": str(self.count),
            "counts": _counts(results),
            "sources": ", ".join(self.groups),
            "summary": self.lines[0] if self.lines else "",
            "summaries": "\n".join(lines),
        }


def reminder(total: int, newest: Sequence[Event]) -> dict[str, str]:
    """The fields of a template, for failures that are still open."""
    lines = [f"#{event.seq} {event.summary}" for event in newest]
    if total > len(lines):
        lines.append(f"... and {total - len(lines)} more")
    first = newest[0].seq if newest else 0
    lines.append(f"Tick off what is settled: roundsman failures done {first}")
    return {
        "count": str(total),
        "counts": f"{counted(total, 'failure')} still open",
        "sources": ", ".join(dict.fromkeys(event.source for event in newest)),
        "summary": lines[0],
        "summaries": "\n".join(lines),
    }


def _counts(results: Mapping[str, int]) -> str:
    """`3 failed, 1 partial, 2 notices`: always in this order, so that the worst is read first."""
    return ", ".join(
        counted(number, "notice") if result == "notice" else f"{number} {result}"
        for result, number in sorted(results.items(), key=lambda each: _ORDER.get(each[0], len(_ORDER)))
    )


class Held(msgspec.Struct, omit_defaults=True):
    """The receipt of the sink: when it sent last, and what it has not sent."""

    sent: float = 0.0
    """When the last message was sent (Unix)."""
    digest: Digest = msgspec.field(default_factory=Digest)
    first: int | None = None
    """The number before the first event that this sink got: it does not repeat what was reported to others."""
    remind: float | None = None
    """When open failures are repeated (Unix)."""

    @classmethod
    def of(cls, receipt: Mapping[str, Any] | None) -> "Held":
        """What a receipt holds; nothing if a version wrote it that this one cannot read."""
        try:
            return msgspec.convert(receipt or {}, cls)
        except msgspec.ValidationError:
            return cls()

    def receipt(self) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found
