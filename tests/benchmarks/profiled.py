"""`make profile`: where a backlog's time goes, in microseconds an event.

`profiled.py EVENTS` prints the rate without a profiler; then own time by function as samples see it, which cost next to
nothing; then as cProfile counts it in the daemon's own thread, which slows small functions most. Each run has a process
of its own.
"""

import cProfile
import pstats
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType

import uvloop
from backlog import ours
from measure import ENVIRON, Figures, end_on_sigterm, vendor

TOP = 40
EVERY = 0.002
"""CPU seconds between two samples. The kernel may round it up to its tick."""

Times = dict[str, tuple[float, float]]
"""By function: seconds of its own, and how many samples or calls."""


def run(url: str, events: int) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        found: Figures = uvloop.run(ours(Path(folder), url, str(events)))
    return found


def sampled(work: Callable[[], Figures]) -> tuple[Figures, Times]:
    """Own time by function: what the main thread ran whenever the process had used `EVERY` more of CPU time.

    A signal waits for the end of a call into C, so that call counts for the function that made it. So does what
    another thread used meanwhile.
    """
    seen: Counter[CodeType] = Counter()

    def look(number: int, frame: FrameType | None) -> None:
        if frame is not None:
            seen[frame.f_code] += 1

    signal.signal(signal.SIGPROF, look)
    signal.setitimer(signal.ITIMER_PROF, EVERY, EVERY)
    try:
        figures = work()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    share = figures["cpu"] / max(1, seen.total())
    return figures, {place(code): (count * share, count) for code, count in seen.items()}


def counted(work: Callable[[], Figures]) -> tuple[Figures, Times]:
    """Own time by function, C functions too, as cProfile counts it: by the wall clock, so the loop's is mostly waiting."""
    profile = cProfile.Profile()
    figures = profile.runcall(work)
    stats = pstats.Stats(profile).stats  # type: ignore[attr-defined] # it has no type
    return figures, {_place(*key): (own, calls) for key, (_, calls, own, *_) in stats.items()}


def place(code: CodeType) -> str:
    return _place(code.co_filename, code.co_firstlineno, code.co_qualname)


def _place(file: str, line: int, function: str) -> str:
    """The function with the end of its file's path."""
    return f"{'/'.join(Path(file).parts[-2:])}:{line} {function}" if line else function


def show(title: str, unit: str, events: int, figures: Figures, times: Times) -> None:
    print(f"\n{title}: {figures['rate']:,.0f} events/s, {figures['us']:.1f} us of CPU an event")
    print(f"{'us/event':>9} {unit:>11}  function")
    ranked = sorted(times.items(), key=lambda item: item[1], reverse=True)
    for name, (own, count) in ranked[:TOP]:
        print(f"{own / events * 1e6:9.2f} {count:11,.0f}  {name}")
    rest = sum(own for _, (own, _) in ranked[TOP:])
    print(f"{rest / events * 1e6:9.2f} {'':11}  {max(0, len(ranked) - TOP)} others")


def profile(which: str, url: str, events: int) -> None:
    """One run, printed."""
    if which == "plain":
        figures = run(url, events)
        print(f"no profiler: {figures['rate']:,.0f} events/s, {figures['us']:.1f} us of CPU an event")
    elif which == "sampled":
        show("sampled", "samples", events, *sampled(lambda: run(url, events)))
    else:
        show("cProfile", "calls", events, *counted(lambda: run(url, events)))


def main() -> None:
    end_on_sigterm()
    match sys.argv[1:]:
        case [events]:
            with vendor("history", events) as url:
                for which in ("plain", "sampled", "counted"):
                    subprocess.run([sys.executable, __file__, which, url, events], env=ENVIRON, check=True)
        case [which, url, events]:
            profile(which, url, int(events))


if __name__ == "__main__":
    main()
