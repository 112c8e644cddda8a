"""`[daemon]`: the only table that a command on the store needs."""

from pathlib import Path
from typing import Any, Literal

from roundsman.config.document import parse
from roundsman.config.sentences import nearest, read_table
from roundsman.errors import ConfigError
from roundsman.options.paths import DataPath, relative_to
from roundsman.options.values import Duration, Options
from roundsman.store import default_path

TABLES = ("daemon", "http", "listen", "sources", "sinks")
"""The tables of the file."""


class DaemonOptions(Options):
    """`[daemon]`: the process itself."""

    store: DataPath | None = None
    """The SQLite file. Default: $STATE_DIRECTORY/roundsman.db under systemd, else the user's state directory."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The lowest level that is logged."""
    log_format: Literal["auto", "json", "console"] = "auto"
    """`auto` is console on a terminal, JSON lines elsewhere."""
    retention: Duration = 35 * 86400.0
    """Payloads of delivered events are pruned after this time. Their ids are kept for at least 35 days."""


def store_of(path: Path) -> Path:
    """The path of the store of the configuration in the file. ConfigError lists the mistakes in [daemon].

    Sources, sinks and their secrets are not read: commands on the store work without the service's credentials.
    """
    document = parse(path)
    problems = unknown_tables(document)
    with relative_to(path.absolute().parent):
        daemon = read_table(DaemonOptions, "daemon", document.get("daemon", {}), problems)
    if problems := [each for each in problems if each.startswith("daemon")]:
        raise ConfigError(problems, path)
    store: Path | None = daemon.store
    return store or default_path()


def unknown_tables(document: dict[str, Any]) -> list[str]:
    """The mistakes about unknown tables."""
    return [f"{key}: unknown table{nearest(key, list(TABLES))}" for key in document if key not in TABLES]
