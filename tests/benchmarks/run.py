"""`make bench`: our figures beside the bare tools' in the same run, in one Markdown table.

Medians of several runs in turn; a ratio is the median of the ratios of each turn, with its range: machines are noisy.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace

from measure import Runs, end_on_sigterm, in_turn, machine, measured, vendor


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    times: int
    """Runs of each side, in turn; long rows are run once."""
    backlog: int
    million: int
    operations: int
    connections: int
    sources: int
    """At `interval` seconds."""
    interval: float
    seconds: float
    """Of each paced load."""
    polled: int
    """Sources beside the webhooks."""
    webhooks: int
    """A second."""
    events: int
    """Of which the latency is measured."""


FULL = Size(3, 100_000, 1_000_000, 100_000, 10_000, 50_000, 60, 20, 1000, 1000, 200)
QUICK = Size(1, 50_000, 100_000, 20_000, 500, 2000, 4, 4, 200, 1000, 50)
TINY = Size(1, 2000, 5000, 500, 20, 40, 1, 1, 10, 50, 5)
RATE = 300.0
"""Polls a second, both sides: a busy loop flatters the bare one."""


def row(work: str, ours: str, bare: str, ratio: str, goal: str) -> None:
    print(f"| {work} | {ours} | {bare} | {ratio} | {goal} |", flush=True)


def both(ours: Runs, bare: Runs) -> str:
    """Rate and CPU of ours to those of the bare tool."""
    return f"rate {ours.over(bare, 'rate')}, CPU {ours.over(bare, 'us')}"


# -- the rows ----------------------------------------------------------------------------------------------------------


def backlog(size: Size) -> None:
    """A backlog, in a process that has started."""
    count = size.backlog
    with vendor("history", count) as url:
        bare, ours = in_turn(
            size.times,
            lambda: measured("backlog.py", "bare", url, count),
            lambda: measured("backlog.py", "ours", url, count),
        )
    row(
        f"backlog of {count:,} events, page to JSON line, log kept",
        f"{ours['rate']:,.0f} events/s, CPU {ours['cpu']:.1f} s; {ours['delivered']:,.0f} of {count:,} delivered",
        f"{bare['rate']:,.0f} events/s, CPU {bare['cpu']:.1f} s: a loop with an outbox, no log",
        both(ours, bare),
        "rate 0.8 x, then 1.0 x",
    )


def process(size: Size) -> None:
    """The same as a whole process, from its start on."""
    count = size.backlog
    with vendor("history", count) as url:
        bare, once, daemon = in_turn(
            size.times,
            lambda: measured("whole.py", "bare", url, count),
            lambda: measured("whole.py", "once", url, count),
            lambda: measured("whole.py", "delivered", url, count),
        )
    row(
        f"backlog of {count:,} events, whole process",
        f"`once` {once['seconds']:.1f} s, CPU {once['cpu']:.1f} s; "
        f"the daemon until all are delivered {daemon['seconds']:.1f} s, CPU {daemon['cpu']:.1f} s",
        f"{bare['seconds']:.1f} s, CPU {bare['cpu']:.1f} s: the same loop",
        f"`once` {once.over(bare, 'seconds')}, CPU {once.over(bare, 'cpu')}; "
        f"daemon {daemon.over(bare, 'seconds')}, CPU {daemon.over(bare, 'cpu')}",
        "2.0 s",
    )


def million(size: Size) -> None:
    """A long backlog, and another one into the store that has it."""
    count, more = size.million, size.backlog
    with vendor("history", count) as url, vendor("history", more) as other:
        short, long = in_turn(
            1,
            lambda: measured("backlog.py", "ours", other, more),
            lambda: measured("backlog.py", "grown", url, count, other, more),
        )
    row(
        f"backlog of {count:,} events",
        f"{long['rate']:,.0f} events/s, {long['us']:.0f} us of CPU each, peak {long['peak_mb']:.0f} MB; "
        f"the last part {long['last_rate'] / long['first_rate']:.2f} x the rate of the first",
        f"{short['rate']:,.0f} events/s, {short['us']:.0f} us, peak {short['peak_mb']:.0f} MB: ours with {more:,}",
        both(long, short),
        "rate 0.85 x, under 100 MB",
    )
    late = Runs([{"rate": long["late_rate"], "us": long["late_us"]}])
    row(
        f"backlog of {more:,} events into a store of {count:,}",
        f"{late['rate']:,.0f} events/s, {late['us']:.0f} us of CPU each",
        f"{short['rate']:,.0f} events/s, {short['us']:.0f} us: ours into an empty store",
        both(late, short),
        "-",
    )


def archives(size: Size) -> None:
    """Result archives."""
    count = size.operations
    for failing, together, note in (
        (0.05, 0, "5 % failed"),
        (1, 0, "all failed"),
        (1, 1, "all failed, in one file"),
    ):
        with vendor("archive", count, failing, together) as url:
            bare, ours = in_turn(
                size.times,
                lambda url=url: measured("archives.py", "bare", url, count),
                lambda url=url: measured("archives.py", "ours", url, count),
            )
        row(
            f"results of {count:,} operations, {note}, link to JSON lines",
            f"{ours['rate']:,.0f} operations/s, CPU {ours['cpu']:.1f} s, peak {ours['peak_mb']:.0f} MB; "
            f"{ours['failed']:,.0f} events and the batch's own",
            f"{bare['rate']:,.0f} operations/s, CPU {bare['cpu']:.1f} s, peak {bare['peak_mb']:.0f} MB: "
            "download, `tarfile`, `json`, count",
            both(ours, bare),
            "rate 1.5 x" if failing == 1 else "20,000 operations/s",
        )


def poll(size: Size) -> None:
    """Unchanged polls."""
    interval = min(size.interval, 4.0)
    with vendor("history", 100) as url:
        bare, ours = in_turn(
            size.times,
            lambda: measured("polls.py", "bare", url, RATE, size.seconds),
            lambda: measured("polls.py", "ours", url, round(RATE * interval), interval, size.seconds),
        )
    row(
        f"an unchanged poll, CPU, {RATE:.0f}/s",
        f"{ours['us']:.0f} us at {ours['rate']:.0f}/s",
        f"{bare['us']:.0f} us at {bare['rate']:.0f}/s: the 304 alone, httpx over aiohttp",
        f"CPU {ours.over(bare, 'us')}",
        "CPU 0.8 x",
    )


def connections(size: Size) -> None:
    """Rounds over the connections of one source."""
    count = size.connections
    with vendor("connections", count) as url:
        bare, ours = in_turn(
            1,
            lambda: measured("connections.py", "bare", url, min(count, 3000)),
            lambda: measured("connections.py", "ours", url, size.interval, 2),
        )
    row(
        f"{count:,} Railz connections at {size.interval:.0f} s, nothing new, CPU for each",
        f"{ours['us']:.0f} us, {ours['asked'] / count / 2:.2f} requests each; a round takes {ours['round_s']:.1f} s, "
        f"peak {ours['peak_mb']:.0f} MB",
        f"{bare['us']:.0f} us: the 304 alone, httpx over aiohttp",
        f"CPU {ours.over(bare, 'us')}",
        "CPU 2 x, one request each",
    )


def sources(size: Size) -> None:
    """Many sources on one core."""
    count, interval = size.sources, size.interval
    with vendor("history", 100) as url:
        [ours] = in_turn(1, lambda: measured("polls.py", "ours", url, count, interval, interval, 0))
    row(
        f"{count:,} sources at {interval:.0f} s on one core",
        f"p50 {ours['late_p50']:,.0f} ms, p99 {ours['late_p99']:,.0f} ms late, {ours['core'] * 100:.0f} % of the core, "
        f"peak {ours['peak_mb']:.0f} MB",
        f"{ours['rate']:.0f} polls/s served",
        "-",
        "p99 under 1 s, 45 %, 200 MB",
    )


def latency(size: Size) -> None:
    """From an answer to the sink."""
    [ours] = in_turn(size.times, lambda: measured("latency.py", "ours", size.events))
    row(
        "the vendor's first answer with a row to the sink called, idle",
        f"p50 {ours['p50']:.1f} ms, p99 {ours['p99']:.1f} ms",
        "-",
        "-",
        "p99 under 20 ms",
    )


def webhooks(size: Size) -> None:
    """Webhooks beside polls."""
    bare, ours = in_turn(
        size.times,
        lambda: measured("webhooks.py", "bare", size.webhooks, size.seconds),
        lambda: measured("webhooks.py", "ours", size.webhooks, size.seconds),
    )
    row(
        f"{size.webhooks:,} webhooks/s for {size.seconds:.0f} s beside 20 polls/s, then `kill -9`",
        f"{ours['rate']:,.0f}/s, p50 {ours['p50']:.1f} ms, p99 {ours['p99']:.1f} ms, sent p99 {ours['sent_p99']:.1f} ms late, "
        f"{ours['core'] * 100:.0f} % of a core; {ours['lost']:.0f} of {ours['thanked']:,.0f} lost, "
        f"{ours['refused']:.0f} refused, {ours['unsent']:.0f} unsent",
        f"{bare['rate']:,.0f}/s, p50 {bare['p50']:,.1f} ms, p99 {bare['p99']:,.1f} ms, {bare['core'] * 100:.0f} %: "
        "Starlette, uvicorn, one commit for each",
        f"p99 {ours.over(bare, 'p99')}, CPU {ours.over(bare, 'core')}",
        "p99 10 ms, none lost",
    )


def storm(size: Size) -> None:
    """Webhooks, polls and a backlog at once."""
    count = size.million
    with vendor("history", count) as url:
        [ours] = in_turn(
            1,
            lambda: measured("webhooks.py", "storm", url, size.webhooks, size.polled, size.interval, count),
        )
    row(
        f"{size.webhooks:,} webhooks/s and {size.polled:,} sources at {size.interval:.0f} s while a backlog of {count:,} "
        "is read, on one core",
        f"webhooks {ours['hook_rate']:,.0f}/s, p50 {ours['hook_p50']:,.1f} ms, p99 {ours['hook_p99']:,.1f} ms, most {ours['hook_most']:,.0f} ms, sent p99 {ours['hook_sent_p99']:.1f} ms late; "
        f"polls p50 {ours['late_p50']:,.0f} ms, p99 {ours['late_p99']:,.0f} ms late; "
        f"backlog {ours['rate']:,.0f} events/s, {ours['core'] * 100:.0f} % of a core, peak {ours['peak_mb']:.0f} MB; "
        f"{ours['lost']:.0f} of {ours['hook_thanked'] + count:,.0f} lost, "
        f"{ours['hook_refused']:.0f} refused, {ours['hook_unsent']:.0f} unsent",
        "-",
        "-",
        "-",
    )
    row(
        "stalls of the event loop meanwhile",
        f"longest {ours['stall_most']:.0f} ms (by our own CPU {ours['own_most']:.0f} ms), p99 {ours['stall_p99']:.1f} ms, "
        f"{ours['stalls']:.0f} of {ours['ticks']:,.0f} over 20 ms",
        "-",
        "-",
        "none over 20 ms",
    )


def reading(size: Size) -> None:
    """Commands that only read."""
    with vendor("history", size.backlog) as url:
        bare, ours = in_turn(
            size.times,
            lambda: measured("whole.py", "bare-reading"),
            lambda: measured("whole.py", "reading", url, size.backlog),
        )
    row(
        f"a command that only reads, a store of {size.backlog:,} events, user CPU of the process",
        ", ".join(f"`{name}` {ours[name]:.2f} s" for name in ("status", "events", "failures")),
        f"{bare['user']:.2f} s: Python with sqlite3 and json",
        "-",
        "0.3 s",
    )


def start(size: Size) -> None:
    """From the process to its first request."""
    bare, ours = in_turn(
        3 * size.times, lambda: measured("whole.py", "bare-first"), lambda: measured("whole.py", "first")
    )
    row(
        "start of the process to the first request",
        f"{ours['seconds']:.2f} s",
        f"{bare['seconds']:.2f} s: the bare imports",
        ours.over(bare, "seconds"),
        "0.7 s",
    )


def idle(size: Size) -> None:
    """Few sources, long intervals."""
    bare, ours = in_turn(
        1, lambda: measured("whole.py", "bare-first"), lambda: measured("whole.py", "idle", size.interval)
    )
    row(
        "idle with 10 sources at 60 s",
        f"{ours['core'] * 100:.2f} % CPU, {ours['mb']:.0f} MB",
        f"{bare['mb']:.0f} MB: the bare imports",
        ours.over(bare, "mb"),
        "0.2 % CPU, 55 MB",
    )


ROWS: dict[str, Callable[[Size], None]] = {
    each.__name__: each
    for each in (
        backlog,
        process,
        million,
        archives,
        poll,
        connections,
        sources,
        latency,
        webhooks,
        storm,
        reading,
        start,
        idle,
    )
}
SIZES = {"quick": QUICK, "tiny": TINY}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="run.py",
        description="Measures rows of the table: those that are named, or all.",
        epilog="rows:\n" + "\n".join(f"  {name:12} {each.__doc__}" for name, each in ROWS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "words",
        nargs="*",
        metavar="ROW",
        help="a row, see below; or a size: quick (small amounts) or tiny (only whether it works)",
    )
    parser.add_argument("--times", type=int, help="runs of each side, in turn")
    given = parser.parse_args()
    if unknown := set(given.words) - ROWS.keys() - SIZES.keys():
        parser.error(f"there is no row {', '.join(sorted(unknown))}; there is {', '.join(ROWS)}")
    end_on_sigterm()
    size = next((SIZES[word] for word in given.words if word in SIZES), FULL)
    size = replace(size, times=given.times or size.times)
    print(f"Before: {machine()}.\n")
    print("| work | Roundsman | the bare tool, same run | ratio | goal |\n|---|---|---|---|---|", flush=True)
    for name in [word for word in given.words if word in ROWS] or ROWS:
        ROWS[name](size)
    print(f"\nAfter: {machine()}.")


if __name__ == "__main__":
    main()
