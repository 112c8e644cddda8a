"""The environment of programs that the daemon starts: its own one without its secrets."""

import os
import re
from collections.abc import Collection

_OURS = re.compile(r"CREDENTIALS_DIRECTORY|NOTIFY_SOCKET|WATCHDOG_.*|LISTEN_.*")
"""Variables by which systemd speaks to the daemon."""
_variables: set[str] = set()
"""Names of the variables that secrets were read from."""


def withhold(name: str) -> None:
    """A secret was read from this variable: no program gets it."""
    _variables.add(name)


def environment_of_programs(without: Collection[str] = ()) -> dict[str, str]:
    """This process's environment for a program that it starts: without the variables that secrets were read from, those
    by which systemd speaks to the daemon, and those in `without`.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if name not in _variables and name not in without and not _OURS.fullmatch(name)
    }
