"""`[daemon]`: the only table that a command on the store needs."""

import socket
from pathlib import Path
from typing import Any, Literal

from roundsman.config.document import Document, whole
from roundsman.config.sentences import nearest, read_table
from roundsman.config.syntax import parse
from roundsman.errors import Problem
from roundsman.options.elsewhere import Name
from roundsman.options.paths import relative_to
from roundsman.options.places import StorePlace
from roundsman.options.values import Duration, Options
from roundsman.store import Place, default_path

TABLES = ("daemon", "http", "listen", "heartbeat", "sources", "sinks")
"""The tables of the file."""


class DaemonOptions(Options):
    """`[daemon]`: the process itself."""

    store: StorePlace | None = None
    """The SQLite file, or a database: `"postgresql://user@host/database"`. A URL with a password is a secret: write
    `{ credential = "name" }`, `{ env = "NAME" }` or `{ file = "path" }`, and the URL there. Default:
    `$STATE_DIRECTORY/roundsman.db` under systemd, else `$XDG_STATE_HOME/roundsman/roundsman.db`, which is
    `~/.local/state/roundsman/roundsman.db` if that variable is not set. A change takes effect at a restart.
    """
    name: Name | None = None
    """The name of this machine among those that share a store in a database: sinks that only it can serve have it in `on`.
    One file serves all machines with a name that is elsewhere, such as `{ env = "NAME" }`. Default: the host name. A change
    takes effect at a restart.
    """
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The lowest level that is logged. `debug` logs each request."""
    log_format: Literal["auto", "json", "console"] = "auto"
    """The form of the log on standard error. `auto`: `console` on a terminal, elsewhere `json`, one object a line."""
    retention: Duration = 35 * 86400.0
    """How long the payload of an event is kept. It is pruned later if a configured sink has not got the event yet.
    Ids are kept for at least 35 days, also with a shorter `retention`.
    """

    @property
    def worker(self) -> str:
        """The name of this machine among those that share a store."""
        return self.name or socket.gethostname()


def store_of(path: Path) -> Place:
    """The place of the store of the configuration in the file. ConfigError lists the mistakes in [daemon].

    Sources, sinks and their secrets are not read: commands on the store work without the service's credentials.
    """
    store: Place | None = _options_of(path).store
    return store or default_path()


def worker_of(path: Path) -> str:
    """The name of this machine among those that share the store, by the configuration in the file. Raises as `store_of`."""
    return _options_of(path).worker


def _options_of(path: Path) -> DaemonOptions:
    main = parse(path)
    # [daemon] stands in one file only: if it is here, the others are not needed, and this user may not be able to read them.
    document = Document((main,), main.tables) if "daemon" in main.tables else whole(main)
    problems = [*document.problems, *unknown_tables(document.tables)]
    with relative_to(path.absolute().parent):
        daemon: DaemonOptions = read_table(
            DaemonOptions, ("daemon",), document.tables.get("daemon", {}), problems
        )
    if problems := [each for each in problems if each.place[0] == "daemon"]:
        raise document.refused(problems)
    return daemon


def unknown_tables(tables: dict[str, Any]) -> list[Problem]:
    """The mistakes about unknown tables."""
    known = [*TABLES, "include"]
    return [
        Problem((key,), f"unknown table{nearest(key, known)}")
        if isinstance(value, dict | list) or key not in DaemonOptions.model_fields
        else Problem((key,), "stands above all tables; write it below [daemon]")
        for key, value in tables.items()
        if key not in TABLES
    ]
