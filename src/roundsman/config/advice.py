"""Warnings about a configuration that is valid but unwise."""

import os
import stat
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from pydantic import BaseModel

from roundsman.config import databases
from roundsman.config.document import read
from roundsman.config.loading import Config
from roundsman.config.sentences import nearest
from roundsman.config.vocabulary import of_sources
from roundsman.errors import ConfigError, reason
from roundsman.http.urls import is_loopback
from roundsman.options.command import found as found_in, is_open_to_others
from roundsman.options.page import PageOptions
from roundsman.options.secrets import INSIDE, may_be_placeholder
from roundsman.options.server import Server, secrets_of
from roundsman.plugin import Plugin, secrets
from roundsman.store import DAEMON
from roundsman.times import spell

SHORTEST = 3600.0
"""Seconds: a shorter `retention` is likely a mistake."""

if TYPE_CHECKING:
    from roundsman.config.heartbeat import HeartbeatOptions


def warnings(config: Config) -> list[str]:
    """Warnings, one line each: secrets, clear-text URLs, placeholders, useless filters, file modes."""
    found = []
    files: dict[Path, str] = {}
    tables: dict[str, Plugin | HeartbeatOptions | PageOptions] = {**plugins_of(config)}
    if config.heartbeat is not None:
        tables["heartbeat"] = config.heartbeat
    if config.listen is not None and config.listen.page is not None:
        tables["listen.page"] = config.listen.page
    for place, table in tables.items():
        for secret in secrets(table):
            if secret.origin == "literal":
                found.append(
                    f'{place}: a secret is in the file; write {{ credential = "name" }}, {{ env = "NAME" }} or '
                    '{ file = "path" } instead'
                )
                files[config.file_of(place)] = "holds a secret"
            elif isinstance(secret.origin, Path):
                files[secret.origin] = "is a secret"
            elif secret.origin.startswith("program "):
                program = found_in(secret.origin.removeprefix("program "), os.environ)
                if program and Path(program).exists() and is_open_to_others(program):
                    found.append(
                        f"{place}: {program}, which prints a secret, can be changed by other users; chmod go-w"
                    )
            found += [f"{place}: a secret {what}" for what in _odd(secret.reveal())]
        found += _own(place, table)
        found += [f"{place}.{what}" for what in (_in_the_clear(table) if isinstance(table, Plugin) else ())]
        found += [
            f"{place}.{what} holds a placeholder, and no program replaces it" for what in _placeholders(table)
        ]
    found += [*_pruned_soon(config.daemon.retention), *_passwords(config, files), *databases.warnings(config)]
    found += _filters_for_nothing(config)
    listen = config.listen
    if listen is not None and not listen.address.is_local and listen.tls_certificate is None:
        found.append(
            f"listen.address: {listen.address} receives webhooks without TLS; set tls_certificate and tls_key"
        )
        if listen.page is not None:
            found.append(
                f"listen.page: {listen.address} gets the login without TLS; set tls_certificate and tls_key, or listen on "
                "127.0.0.1 behind a proxy"
            )
    if config.http.proxy and "@" in config.http.proxy and _is_written(config, "http", "proxy"):
        found.append("http.proxy: a password is in the file")
        files[config.file_of("http")] = "holds a secret"
    places = _store(config, found, files)
    for name, sink in config.sinks.items():
        where = sink.place()
        if where is not None and "/" in where:
            places.append((f"sinks.{name}.path", Path(where)))
    for what, file in places:
        folder = next(parent for parent in file.absolute().parents if os.access(parent, os.F_OK))
        if not os.access(folder, os.W_OK | os.X_OK) or not folder.is_dir():
            found.append(f"{what}: {folder} cannot be written by this user")
    for each in (config.path, *config.origins.values()):
        files.setdefault(each, "names the places of secrets")
    return found + _modes(config, files)


def _own(place: str, table: "Plugin | HeartbeatOptions | PageOptions") -> list[str]:
    """What the table says of its own options."""
    try:
        return [f"{place}.{what}" for what in table.warnings()]
    except Exception as exc:  # noqa: BLE001 - a plugin may raise anything
        return [f"{place}: its warnings cannot be read: {reason(exc)}"]


def _modes(config: Config, files: Mapping[Path, str]) -> list[str]:
    """Files that other users can read or write, and must not. `files`: what each of them has."""
    found = []
    for path, why in files.items():
        try:
            mode = path.stat().st_mode
        except OSError:
            continue
        if not stat.S_ISREG(mode):
            continue
        mode = stat.S_IMODE(mode)
        others = mode & 0o007 if _open_to_all(path) else 0
        # A configuration without literal secrets may be world-readable, as most files in /etc are.
        if others and why != "names the places of secrets":
            folder = config.path.parent / "credentials"
            # Not chmod 600: the service's user could not read the file then.
            what = (
                f"put the secret into {folder}"
                if path in {config.path, *config.origins.values()} and folder.is_dir()
                else "chmod 600"
            )
            found.append(
                f"{path}: {why}, and its mode {mode:04o} lets every user of this machine read it: {what}"
            )
        elif mode & 0o020 or others & 0o002:
            found.append(f"{path}: {why}, and its mode {mode:04o} lets others write it; chmod go-w")
    return found


def _pruned_soon(retention: float) -> list[str]:
    """A number without a unit is in seconds, and was meant to be in days."""
    if retention >= SHORTEST:
        return []
    meant = f'; write "{retention:.0f}d" for days' if retention.is_integer() and retention else ""
    return [
        f"daemon.retention: payloads of events, also of open failures, are pruned after {spell(retention)}{meant}"
    ]


def _odd(secret: str) -> list[str]:
    """Mistakes made when a secret was pasted: blanks, quotes, a placeholder."""
    found = []
    if secret != secret.strip():
        found.append("begins or ends with a blank, which is part of it")
    bare = secret.strip()
    if len(bare) > 1 and bare[0] == bare[-1] and bare[0] in "\"'`":
        found.append("is in quotes, which are part of it")
    if may_be_placeholder(secret):
        found.append("looks like a placeholder, and no program replaces it")
    return found


def _in_the_clear(plugin: Plugin) -> list[str]:
    """URLs of other machines that receive credentials without TLS."""
    secret = bool(secrets(plugin, without="webhook") or getattr(plugin, "headers", None))
    urls = {name: getattr(plugin, name) for name in type(plugin).model_fields}
    return [
        f"{name}: {httpx.URL(url).host} gets credentials without TLS; write https://"
        for name, url in urls.items()
        if isinstance(url, str) and url.lower().startswith("http://") and not is_loopback(url)
        if secret or httpx.URL(url).params
    ]


def _store(config: Config, found: list[str], files: dict[Path, str]) -> list[tuple[str, Path]]:
    """The file of the store, if it is one."""
    store = config.store
    if isinstance(store, Path):
        files.setdefault(store, "holds the events")
        return [("daemon.store", store)]
    if secrets_of(store.reveal()) and _is_written(config, "daemon", "store"):
        found.append("daemon.store: a password is in the file")
        files[config.file_of("daemon")] = "holds a secret"
    return []


def _passwords(config: Config, files: dict[Path, str]) -> list[str]:
    """URLs of sinks' databases with a password in the configuration."""
    found = []
    for name, sink in config.sinks.items():
        for option in type(sink).model_fields:
            url = getattr(sink, option)
            if (
                isinstance(url, Server)
                and secrets_of(url.reveal())
                and _is_written(config, "sinks", name, option)
            ):
                found.append(f"sinks.{name}.{option}: a password is in the file")
                files[config.file_of(f"sinks.{name}")] = "holds a secret"
    return found


def _is_written(config: Config, *keys: str) -> bool:
    """Whether the value of an option is in the configuration, and not at a place that is named there."""
    try:
        value: Any = read(config.path).tables
        for key in keys:
            value = value[key]
    except (ConfigError, KeyError):
        return False  # the file has changed meanwhile
    return isinstance(value, str)


def _placeholders(table: BaseModel) -> list[str]:
    """Names of options whose value contains a placeholder for another program, such as `${NAME}`."""
    found = []
    for name in type(table).model_fields:
        value = getattr(table, name)
        inside = value if isinstance(value, Mapping) else {"": value}
        if isinstance(value, BaseModel):
            found += [f"{name}.{each}" for each in _placeholders(value)]
        elif any(isinstance(each, str) and INSIDE.search(each) for each in inside.values()):
            found.append(name)
    return found


def _open_to_all(path: Path) -> bool:
    """Whether every user of this machine can reach this file; a folder above it may deny access."""
    return all(folder.stat().st_mode & 0o001 for folder in path.resolve().parents)


def _filters_for_nothing(config: Config) -> list[str]:
    """Filters of sinks that no event can match. Without a warning, a typo would silently deliver nothing."""
    names = [*config.sources, DAEMON]
    words = of_sources(config.sources.values())
    found = []
    for name, sink in config.sinks.items():
        place = f"sinks.{name}"
        found += [
            f"{place}.sources: {each} matches nothing{nearest(each, names)}"
            for each in sink.sources
            if not any(fnmatchcase(name, each) for name in names)
        ]
        if words.is_open:  # a third-party source has its own types and outcomes
            continue
        for option, unknown in (("types", words.unknown_type), ("outcomes", words.unknown_outcome)):
            hints = [(each, unknown(each)) for each in getattr(sink, option)]
            found += [f"{place}.{option}: {each} matches nothing{hint}" for each, hint in hints if hint]
    return found


def secret_tables(config: Config) -> Mapping[str, BaseModel]:
    """The tables that hold secrets of the service, by their place."""
    listen = config.listen
    page = {} if listen is None or listen.page is None else {"listen.page": listen.page}
    return {**plugins_of(config), **page}


def plugins_of(config: Config) -> dict[str, Plugin]:
    plugins: dict[str, Plugin] = {f"sources.{name}": source for name, source in config.sources.items()}
    return plugins | {f"sinks.{name}": sink for name, sink in config.sinks.items()}
