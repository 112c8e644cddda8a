"""A program: it is started for each delivery, reads the events as lines of JSON, and acknowledges them by exit status 0."""

import os
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from roundsman import program
from roundsman.errors import Reject, RequestFailed
from roundsman.events import Event
from roundsman.http.client import Http
from roundsman.options.command import Command, fault, found, is_open_to_others
from roundsman.options.environment import environment_of_programs
from roundsman.options.secrets import Parameter, Secret
from roundsman.options.values import Duration
from roundsman.plugin import Deliver, Receipt
from roundsman.program import Ended
from roundsman.sinks.local import LocalSink
from roundsman.sinks.program import run
from roundsman.system.threads import in_thread

REFUSED = 65
"""The exit status that refuses the events for good: EX_DATAERR of sysexits(3)."""
LONGEST = 600.0
"""Maximum seconds of a run: a delivery that takes longer counts as a failure."""
_SHELL = re.compile(r"\||\|\||&|&&|[012&]?>{1,2}(?:&[012])?|<|\$[A-Z_]+|\$[{(].*[})]|`.*`")
"""Arguments that only a shell would read as something else than a text."""


def _variable(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError("is not the name of a variable")
    return name


def _text(value: str | Secret) -> str | Secret:
    if isinstance(value, str) and "\0" in value:
        raise ValueError("has a NUL character, which no variable can hold")
    return value


Variable = Annotated[str, AfterValidator(_variable)]
Value = Annotated[Parameter, AfterValidator(_text)]


class ExecSink(LocalSink):
    """Starts a program for each delivery. It reads the events on its standard input, and acknowledges them by exit status 0."""

    type: Literal["exec"]
    command: Command
    """The program and its arguments. No shell reads them. A program without a slash is searched for in `PATH`; a relative
    path begins at the folder of the configuration file.
    """
    timeout: Annotated[Duration, Field(gt=0, le=LONGEST)] = 60.0
    """Maximum duration of one run. Then the program gets SIGTERM, 2 seconds later SIGKILL, and the events are delivered
    again.
    """
    environment: dict[Variable, Value] = {}
    """Additional variables of its environment: texts, numbers or secrets."""
    batch: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Maximum number of events in one run."""

    def warnings(self) -> Sequence[str]:
        wrong, file = self._fault(), self._file()
        said = [f"command: {wrong}"] if wrong else []
        if not wrong and file and is_open_to_others(file):
            said.append(f"command: {file} can be changed by other users; chmod go-w")
        # Behind an option, such as `cut -d '|'`, it is a value.
        after = zip(self.command, self.command[1:], strict=False)
        read = next((each for before, each in after if _SHELL.fullmatch(each) and before[:1] != "-"), None)
        if read is not None:
            said.append(f"command: {read} is passed to the program as it is: no shell reads it")
        return said

    @asynccontextmanager
    async def open(self, http: Http, receipt: Receipt | None) -> AsyncIterator[Deliver]:  # noqa: ARG002 - this sink needs neither
        os.close(
            os.pidfd_open(os.getpid())
        )  # Linux 5.3 or later; without it, no end of a program could be seen
        # In a thread, as the run itself: the program may be on a dead disk.
        wrong = await in_thread(self._fault)
        if wrong:
            raise RequestFailed(wrong)

        async def deliver(events: Sequence[Event]) -> None:
            lines = b"".join([event.body + b"\n" for event in events])
            self._judge(await run(self.command, self._environ(), lines, self.timeout))

        yield deliver

    def _environ(self) -> dict[str, str]:
        """The daemon's environment without what is the daemon's alone, and what the options add."""
        added = {
            name: value.reveal() if isinstance(value, Secret) else value
            for name, value in self.environment.items()
        }
        return {**environment_of_programs(), **added, "ROUNDSMAN_SINK": self.name}

    def _file(self) -> str | None:
        """The path of the program; None if it has no slash and is in no folder of PATH."""
        return found(self.command[0], self._environ())

    def _fault(self) -> str | None:
        return fault(self.command[0], self._environ())

    def _judge(self, ended: Ended) -> None:
        """Return if the program has acknowledged the events; else raise what it means."""
        what = program.fault(ended, self.timeout)
        if what is None:
            return
        if ended.status == REFUSED and not ended.late:
            raise Reject(what)
        raise RequestFailed(what)
