"""Values that programs print: they run when the configuration is loaded, side by side, and once for each load.

The configuration is read twice: the first time only to learn which programs it needs. So a program runs only for an
option that takes what it prints, and not for a table that looks like one. If the second reading needs more of them, a
third one follows.
"""

import os
import threading
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from math import ceil
from typing import Any, NamedTuple, TypeVar

from roundsman.masking import name_of
from roundsman.options.command import command, fault, found
from roundsman.options.environment import environment_of_programs
from roundsman.options.values import duration

T = TypeVar("T")

TIMEOUT = 10.0
"""Seconds that a program may take unless its table says otherwise."""
LONGEST = 60.0
"""Maximum of such a table: a start of the service may take 90 seconds."""
LIMIT = 65_536
"""Maximum bytes that a program may print; and characters of a file with one value."""
TOGETHER = 8
"""Maximum programs that run at the same time."""
OP = '["op", "read", "op://vault/item/field"]'
"""An example."""


class Call(NamedTuple):
    """One program to run."""

    command: tuple[str, ...]
    seconds: float
    """When it is ended."""

    @property
    def name(self) -> str:
        """The program, for a message."""
        program = self.command[0]
        return program if os.path.isfile(program) else name_of(program)  # noqa: PTH113 - Path.is_file may raise OSError


Printed = Mapping[Call, str | ValueError]
"""What each program printed, or why it has no value, in words for a person."""

_asked: ContextVar[dict[Call, None] | None] = ContextVar("asked", default=None)
_printed: ContextVar[Printed | None] = ContextVar("printed", default=None)


def call_of(table: Mapping[str, Any]) -> Call:
    """The program of a table `{ command = [...] }`, with `timeout` or without, or ValueError."""
    if extra := table.keys() - {"command", "timeout"}:
        raise ValueError(f"has {', '.join(sorted(extra))} beside command; only timeout can be there")
    seconds = duration(table["timeout"]) if "timeout" in table else TIMEOUT
    if not 0 < seconds <= LONGEST:
        raise ValueError(f"its timeout is not between 0 and {LONGEST:.0f} seconds")
    return Call(command(table["command"], example=OP), seconds)


def printed(call: Call) -> str:
    """What the program prints, without line breaks at its end, or ValueError."""
    result = (_printed.get() or {}).get(call)
    if result is None:
        asked = _asked.get()
        if asked is not None:
            asked[call] = None
            raise ValueError("is not known yet")
        result = _run(call, ())
    if isinstance(result, ValueError):
        raise ValueError(str(result))
    return result


def loaded(document: Any, load: Callable[[], T]) -> T:
    """What `load` returns or raises, with what the programs of the document print."""
    if _asked.get() is not None:
        return load()
    loading = steps(document, load)
    try:
        needed = next(loading)
        while True:
            needed = loading.send(run_all(*needed))
    except StopIteration as done:
        found: T = done.value
        return found


Needed = tuple[list[Call], set[str]]
"""Programs to run, and the variables that they do not get; for `run_all`."""


def steps(document: Any, load: Callable[[], T]) -> Generator[Needed, Printed, T]:
    """Load. Yields the programs that are needed, takes what they have printed, and returns what `load` returns."""
    from roundsman.errors import ConfigError

    if not _may_name_one(document):
        return load()
    variables, results = _variables(document), dict[Call, str | ValueError]()
    while True:
        mistakes = None
        with asking(results) as calls:
            try:
                found = load()
            except ConfigError as exc:
                mistakes = exc
        if not calls:
            if mistakes is not None:
                raise mistakes
            return found
        results.update((yield list(calls), variables))


@contextmanager
def asking(results: Printed) -> Iterator[Mapping[Call, None]]:
    """Within this, the programs in `results` have run. The others that are needed are not run: they are in what is yielded."""
    calls: dict[Call, None] = {}
    asked, printed = _asked.set(calls), _printed.set(results)
    try:
        yield calls
    finally:
        _asked.reset(asked)
        _printed.reset(printed)


def longest(document: Any) -> float:
    """Maximum seconds that the programs of the document take, as far as its tables name some."""
    from roundsman.program import GRACE, REAP

    limits = []
    for table in _tables(document):
        if "command" in table:
            with suppress(ValueError):
                limits.append(call_of(table).seconds + GRACE + REAP)
    return max(limits, default=0.0) * ceil(len(limits) / TOGETHER)


def run_all(calls: Iterable[Call], variables: Collection[str] = ()) -> Printed:
    """Run the programs, several at a time. It blocks; their environment is without these variables."""
    left = list(dict.fromkeys(calls))
    results: dict[Call, str | ValueError] = {}

    def work() -> None:
        while left:
            try:
                call = left.pop(0)
            except IndexError:  # another thread has taken the last one
                return
            results[call] = _run(call, variables)

    # Not a pool: at Ctrl-C, the process does not wait for these.
    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(TOGETHER, len(left)))]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return results


def _run(call: Call, variables: Collection[str]) -> str | ValueError:
    from roundsman.program import Run, fault as ending

    environ, program = environment_of_programs(variables), call.command[0]
    if wrong := fault(program, environ):
        return ValueError(f"the program {wrong.replace(program, call.name, 1)}")
    path = found(program, environ) or program
    try:
        ended = Run([path, *call.command[1:]], environ, call.seconds, limit=LIMIT).over()
    except OSError as exc:
        return ValueError(f"the program {call.name} cannot be started: {exc.strerror}")
    if len(ended.output) > LIMIT:
        return ValueError(f"the program {call.name} printed more than {LIMIT // 1024} KiB")
    if wrong := ending(ended, call.seconds):
        return ValueError(f"the program {call.name}: {wrong}")
    try:
        return ended.output.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        return ValueError(f"the program {call.name} printed what is not UTF-8 text")


def _tables(value: Any) -> Iterator[Mapping[str, Any]]:
    """The value and all that is in it, as far as these are tables."""
    if isinstance(value, Mapping):
        yield value
    for each in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield from _tables(each)


def _may_name_one(document: Any) -> bool:
    """Whether a table of the document looks like one that names a program."""
    return any("command" in table and table.keys() <= {"command", "timeout"} for table in _tables(document))


def _variables(document: Any) -> set[str]:
    """The variables that the document names: other secrets, which no program gets."""
    found = [table.get("env") for table in _tables(document) if len(table) == 1]
    return {each for each in found if isinstance(each, str)}
