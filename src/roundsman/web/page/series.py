"""What a chart shows: the counts of hours and days as series, each with its name, its tone and its pattern."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from roundsman.store.tally import LARGEST, Tally, add
from roundsman.web.page.scales import Slot, whole

Tone = Literal["bad", "warn", "good", "plain"]
Pattern = Literal["solid", "pale", "stripes", "lines", "dots"]
PATTERNS: tuple[Pattern, ...] = ("solid", "stripes", "lines", "dots")
"""The patterns of series of one tone, in the order in which they are given."""


class Look(NamedTuple):
    """How a series is drawn. Two series of a chart never have the same tone and pattern."""

    word: str
    tone: Tone
    pattern: Pattern = "solid"


OUTCOMES: Mapping[str, Look] = {
    "failed": Look("failed", "bad"),
    "partial": Look("partial", "bad", "stripes"),
    "denied": Look("denied", "warn", "lines"),
    "unknown": Look("unknown", "plain", "stripes"),
    "empty": Look("empty", "plain", "lines"),
    "succeeded": Look("succeeded", "good"),
    "granted": Look("granted", "good"),
    "": Look("without outcome", "plain"),
}
"""The outcomes from the bottom of a bar to its top: what failed begins at zero, so that its heights can be compared."""
POLLS: Mapping[str, Look] = {
    "failed": Look("failed", "bad"),
    "new": Look("new", "good"),
    "unchanged": Look("unchanged", "plain", "pale"),
}
"""The results of polls, likewise."""


class Bars(NamedTuple):
    """Numbers by slot."""

    look: Look
    values: Sequence[int]
    is_level: bool = False
    """Numbers of the same things at different times: their largest is said, not their sum."""

    @property
    def named(self) -> str:
        """The series, and its number over all slots together."""
        if self.is_level:
            return f"{self.look.word}, at most {whole(max(self.values))}"
        return f"{self.look.word} {whole(sum(self.values))}"


class Line(NamedTuple):
    """Seconds by slot; None where nothing was counted."""

    word: str
    values: Sequence[float | None]
    whole: float
    """The same over all slots together."""


def aligned(tallies: Iterable[Tally], slots: Sequence[Slot]) -> list[Tally]:
    """A tally for each slot, without counts where there is none."""
    found = {tally.start: tally for tally in tallies}
    return [found.get(slot.start, Tally(slot.start, {})) for slot in slots]


def total(tallies: Iterable[Tally]) -> Tally:
    """All counts together."""
    counts: dict[str, int] = {}
    for tally in tallies:
        add(counts, tally.counts.items())
    return Tally(0.0, counts)


def stacked(tallies: Sequence[Tally], group: str, looks: Mapping[str, Look]) -> list[Bars]:
    """The counts of a group as bars on each other, in the order of `looks`; those without any are left out."""
    there = total(tallies).of(group)
    more = {name: Look(name, "plain") for name in sorted(there) if name not in looks}
    found: list[Bars] = []
    for name, look in {**looks, **more}.items():
        if there.get(name):
            apart = _unlike(look, [each.look for each in found])
            found.append(Bars(apart, [tally.counts.get(f"{group}.{name}", 0) for tally in tallies]))
    return found


def _unlike(look: Look, others: Sequence[Look]) -> Look:
    """The look with a pattern that no other one of its tone has, as long as there are patterns."""
    taken = {other.pattern for other in others if other.tone == look.tone}
    free = [pattern for pattern in (look.pattern, *PATTERNS) if pattern not in taken]
    return look._replace(pattern=free[0] if free else "dots")


def single(tallies: Sequence[Tally], name: str, look: Look) -> list[Bars]:
    """One count as bars; none if it is always zero."""
    values = [tally.counts.get(name, 0) for tally in tallies]
    return [Bars(look, values, name in LARGEST)] if any(values) else []


def quantiles(tallies: Sequence[Tally], group: str) -> list[Line]:
    """The median and the 95th percentile of durations; none without durations."""
    everything, lines = total(tallies), []
    for word, share in (("median", 0.5), ("95th percentile", 0.95)):
        whole = everything.quantile(group, share)
        if whole is not None:
            lines.append(Line(word, [tally.quantile(group, share) for tally in tallies], whole))
    return lines
