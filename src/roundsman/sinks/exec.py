"""A program: it is started for each delivery, reads the events as lines of JSON, and acknowledges them by exit status 0."""

import os
import re
import shutil
import signal
import stat
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from roundsman.errors import Reject, RequestFailed
from roundsman.events import Event
from roundsman.http.client import Http
from roundsman.options.paths import beside
from roundsman.options.secrets import Parameter, Secret, environment_without_secrets
from roundsman.options.values import Duration
from roundsman.plugin import Deliver, Receipt, Sink
from roundsman.sinks.program import Ended, run
from roundsman.system.threads import in_thread
from roundsman.times import spell

REFUSED = 65
"""The exit status that refuses the events for good: EX_DATAERR of sysexits(3)."""
LONGEST = 600.0
"""Maximum seconds of a run: a delivery that takes longer counts as a failure."""
_OURS = re.compile(r"CREDENTIALS_DIRECTORY|NOTIFY_SOCKET|WATCHDOG_.*|LISTEN_.*")
"""Variables by which systemd speaks to the daemon, and not to programs that it starts."""
_SHELL = re.compile(r"\||\|\||&|&&|[012&]?>{1,2}(?:&[012])?|<|\$[A-Z_]+|\$[{(].*[})]|`.*`")
"""Arguments that only a shell would read as something else than a text."""
_EXAMPLE = '["/usr/local/bin/ring-bell", "--all"]'


def _command(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        raise ValueError(
            f"is not a list, and no shell reads it; write the program and each argument as a text, such as {_EXAMPLE}"
        )
    if not isinstance(value, list | tuple):
        raise ValueError(f"is not a list of texts; write the program and its arguments, such as {_EXAMPLE}")
    if not all(isinstance(each, str) for each in value):
        raise ValueError(f"each argument must be a text, a number too, such as {_EXAMPLE}")
    if not value or not value[0].strip() or value[0].startswith("-"):
        raise ValueError(f"names no program; write {_EXAMPLE}")
    if any("\0" in each for each in value):
        raise ValueError("has a NUL character, which no program can get in an argument")
    program, *arguments = value
    if "/" in program or program.startswith("~"):
        program = str(beside(program).absolute())
    return program, *arguments


def _variable(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError("is not the name of a variable")
    return name


def _text(value: str | Secret) -> str | Secret:
    if isinstance(value, str) and "\0" in value:
        raise ValueError("has a NUL character, which no variable can hold")
    return value


Command = Annotated[
    tuple[str, ...],
    BeforeValidator(_command),
    WithJsonSchema({"type": "array", "items": {"type": "string"}, "minItems": 1}),
]
"""A program and its arguments."""
Variable = Annotated[str, AfterValidator(_variable)]
Value = Annotated[Parameter, AfterValidator(_text)]


class ExecSink(Sink):
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
        fault, file = self._fault(), self._file()
        found = [f"command: {fault}"] if fault else []
        if not fault and file and Path(file).stat().st_mode & 0o022:
            found.append(f"command: {file} can be changed by other users; chmod go-w")
        # Behind an option, such as `cut -d '|'`, it is a value.
        after = zip(self.command, self.command[1:], strict=False)
        read = next((each for before, each in after if _SHELL.fullmatch(each) and before[:1] != "-"), None)
        if read is not None:
            found.append(f"command: {read} is passed to the program as it is: no shell reads it")
        return found

    @asynccontextmanager
    async def open(self, http: Http, receipt: Receipt | None) -> AsyncIterator[Deliver]:  # noqa: ARG002 - this sink needs neither
        os.close(
            os.pidfd_open(os.getpid())
        )  # Linux 5.3 or later; without it, no end of a program could be seen
        # In a thread, as the run itself: the program may be on a dead disk.
        fault = await in_thread(self._fault)
        if fault:
            raise RequestFailed(fault)

        async def deliver(events: Sequence[Event]) -> None:
            lines = b"".join([event.body + b"\n" for event in events])
            self._judge(await run(self.command, self._environ(), lines, self.timeout))

        yield deliver

    def _environ(self) -> dict[str, str]:
        """The daemon's environment without what is the daemon's alone, and what the options add."""
        kept = {
            name: value for name, value in environment_without_secrets().items() if not _OURS.fullmatch(name)
        }
        added = {
            name: value.reveal() if isinstance(value, Secret) else value
            for name, value in self.environment.items()
        }
        return {**kept, **added, "ROUNDSMAN_SINK": self.name}

    def _file(self) -> str | None:
        """The path of the program; None if it has no slash and is in no folder of PATH."""
        program = self.command[0]
        return program if "/" in program else shutil.which(program, path=self._environ().get("PATH"))

    def _fault(self) -> str | None:
        """Why the program cannot be started, in one sentence; None if nothing is known against it."""
        program, file = self.command[0], self._file()
        if file is None:
            advice = "each argument is a text of its own" if " " in program else "write its absolute path"
            return f"{program} is in no folder of PATH; {advice}"
        try:
            mode = Path(file).stat().st_mode
        except OSError as exc:
            return f"{program} cannot be started: {exc.strerror}"
        if not stat.S_ISREG(mode):
            return f"{program} cannot be started: it is not a file"
        return None if os.access(file, os.X_OK) else f"{program} is not executable: chmod +x"

    def _judge(self, ended: Ended) -> None:
        """Return if the program has acknowledged the events; else raise what it means."""
        words = f": {ended.words}" if ended.words else ""
        if ended.late:
            raise RequestFailed(f"did not end within {spell(self.timeout)}{words}")
        if ended.status == REFUSED:
            raise Reject(f"exit status {REFUSED}{words}")
        if ended.status < 0:
            raise RequestFailed(f"ended by {_signal(-ended.status)}{words}")
        if ended.status:
            raise RequestFailed(f"exit status {ended.status}{words}")


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
