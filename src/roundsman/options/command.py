"""An option that names a program and its arguments, and why the program cannot be started."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

from roundsman.options.paths import beside

BELL = '["/usr/local/bin/ring-bell", "--all"]'
"""An example."""


def command(value: object, *, example: str = BELL) -> tuple[str, ...]:
    """The program and its arguments, or ValueError. A relative path becomes an absolute one."""
    if isinstance(value, str):
        raise ValueError(
            f"is not a list, and no shell reads it; write the program and each argument as a text, such as {example}"
        )
    if not isinstance(value, list | tuple):
        raise ValueError(f"is not a list of texts; write the program and its arguments, such as {example}")
    if not all(isinstance(each, str) for each in value):
        raise ValueError(f"each argument must be a text, a number too, such as {example}")
    if not value or not value[0].strip() or value[0].startswith("-"):
        raise ValueError(f"names no program; write {example}")
    if any("\0" in each for each in value):
        raise ValueError("has a NUL character, which no program can get in an argument")
    program, *arguments = value
    if "/" in program or program.startswith("~"):
        program = str(beside(program).absolute())
    return program, *arguments


COMMAND_SCHEMA = {"type": "array", "items": {"type": "string"}, "minItems": 1}
Command = Annotated[
    tuple[str, ...],
    BeforeValidator(command),
    WithJsonSchema(COMMAND_SCHEMA),
]
"""A program and its arguments."""


def found(program: str, environ: Mapping[str, str]) -> str | None:
    """The path of the program; None if it has no slash and is in no folder of PATH."""
    if "/" in program:
        return program
    import shutil  # most configurations name no program

    return shutil.which(program, path=environ.get("PATH"))


def is_open_to_others(file: str) -> bool:
    """Whether another user may change this file."""
    return bool(Path(file).stat().st_mode & 0o022)


def fault(program: str, environ: Mapping[str, str]) -> str | None:
    """Why the program cannot be started, in one sentence; None if nothing is known against it."""
    file = found(program, environ)
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
