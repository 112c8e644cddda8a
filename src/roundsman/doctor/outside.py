"""What is read from outside the program: files that are regular and short, and the output of the system's programs."""

import os
import stat
import subprocess
from pathlib import Path
from typing import NamedTuple

LIMIT = 2**20
"""Maximum bytes of a file that are read."""
SECONDS = 5.0
"""Maximum time of a program."""
KEPT = ("PATH", "HOME", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")
"""Variables that these programs get. No other variable, which may hold a secret, is passed on."""


class Output(NamedTuple):
    """What a program printed."""

    text: str
    why: str = ""
    """Why there is no text, in words; empty if the program succeeded."""


def output(*command: str) -> Output:
    """The standard output of a program of the system, or why there is none."""
    environ = {name: os.environ[name] for name in KEPT if name in os.environ}
    try:
        done = subprocess.run(  # noqa: S603 - the callers name programs of the system
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**environ, "LC_ALL": "C", "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"},
            timeout=SECONDS,
            check=False,
        )
    except FileNotFoundError:
        return Output("", f"{command[0]} is not installed")
    except subprocess.TimeoutExpired:
        return Output("", f"{command[0]} did not end within {SECONDS:.0f}s")
    except OSError as exc:
        return Output("", f"{command[0]} cannot be started: {exc.strerror}")
    text = done.stdout.decode("utf-8", "replace")
    if done.returncode:
        words = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return Output(text, words[-1][:200] if words else f"{command[0]} ended with {done.returncode}")
    return Output(text)


def text_of(path: Path, *, tail: bool = False) -> str:
    """The text of a regular file, at most LIMIT bytes of it: the first, or with `tail` the last. OSError if there is none."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(22, "it is not a regular file", str(path))
        if tail and status.st_size > LIMIT:
            file.seek(-LIMIT, os.SEEK_END)
            file.readline()  # the rest of a line that was cut may be the rest of a secret
        return file.read(LIMIT).decode("utf-8-sig", "replace")
