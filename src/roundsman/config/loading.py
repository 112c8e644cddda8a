"""Turns TOML into plugins. Reports each mistake in one line: the place, the value and what would be right."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from pydantic import BaseModel

from roundsman.config.daemon import DaemonOptions, store_of, unknown_tables
from roundsman.config.document import parse
from roundsman.config.registry import load_type, sinks_registry, sources_registry
from roundsman.config.sentences import nearest, read_table, shown
from roundsman.errors import ConfigError, reason
from roundsman.http.transport import HttpOptions
from roundsman.http.urls import is_loopback
from roundsman.masking import mask
from roundsman.options import printed
from roundsman.options.listen import ListenOptions
from roundsman.options.paths import relative_to
from roundsman.options.values import duration
from roundsman.plugin import FLOOR, Sink, Source
from roundsman.store import DAEMON, default_path
from roundsman.system.threads import in_thread
from roundsman.times import spell

if TYPE_CHECKING:
    from roundsman.config.heartbeat import HeartbeatOptions

LIKELY = 12
"""A URL query value or a header of at least this many characters may be a secret, and is masked."""
SHORT = 6
"""The same limit for a value that is not a plain word, number, date or version."""
_PLAIN = re.compile(
    r"[A-Za-z]*|[0-9]*|[0-9]{4}[-/][0-9]{2}(?:[-/][0-9]{2})?|[vV]?[0-9]{1,3}(?:\.[0-9]{1,3}){1,3}"
)
_TOKEN = re.compile(r"(?=[^/]*[0-9])(?=[^/]*[A-Z])[A-Za-z0-9_-]{8,}|(?=[^/]*[0-9])[A-Za-z0-9_-]{16,}")
"""A part of a path that looks like a secret."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True)
class Config:
    """A valid configuration."""

    path: Path
    daemon: DaemonOptions = field(default_factory=DaemonOptions)
    http: HttpOptions = field(default_factory=HttpOptions)
    listen: ListenOptions | None = None
    """None: there is no listener."""
    sources: Mapping[str, Source] = field(default_factory=dict)
    sinks: Mapping[str, Sink] = field(default_factory=dict)
    heartbeat: "HeartbeatOptions | None" = None
    """None: there is no heartbeat."""

    @property
    def store(self) -> Path:
        return self.daemon.store or default_path()


def load(path: Path, *, only_source: str | None = None, only_sink: str | None = None) -> Config:
    """The configuration in the file. ConfigError lists every mistake.

    With `only_source`, no other source and no sink is read; with `only_sink`, no other sink and no source.
    """
    document = parse(path)
    return printed.loaded(document, lambda: _load(path, document, only_source, only_sink))


async def load_beside(path: Path) -> Config:
    """As `load`. The programs that print secrets run in a thread: they do not block the event loop."""
    calls, variables = printed.needed(parse(path), lambda: load(path))
    with printed.known(await in_thread(printed.run_all, calls, variables) if calls else {}):
        return load(path)


def _load(path: Path, document: dict[str, Any], only_source: str | None, only_sink: str | None) -> Config:
    problems = unknown_tables(document)
    with relative_to(path.absolute().parent):
        known: dict[str, type[BaseModel]] = {
            "daemon": DaemonOptions,
            "http": HttpOptions,
            "listen": ListenOptions,
        }
        if "heartbeat" in document and only_source is None:
            from roundsman.config.heartbeat import HeartbeatOptions

            known["heartbeat"] = HeartbeatOptions
        tables: dict[str, Any] = {}
        for key, model in known.items():
            tables[key] = read_table(model, key, document.get(key, {}), problems)
        listen = tables["listen"] if "listen" in document else None
        if only_source is not None:
            return _one(path, document, ("sources", only_source), tables, problems)
        if only_sink is not None:
            return _one(path, document, ("sinks", only_sink), tables, problems)
        sources = _plugins("sources", sources_registry(), document.get("sources", {}), problems)
        sinks = _plugins("sinks", sinks_registry(), document.get("sinks", {}), problems)
    problems += _too_often(document.get("sources"), sources)
    if not document.get("sources"):
        problems.append("sources: no source; add a table such as [sources.front-doors]")
    if not document.get("sinks"):
        problems.append('sinks: no sink; add a table such as [sinks.console] with type = "stdout"')
    store = tables["daemon"].store if tables["daemon"] else None
    problems += _shared_places(sinks, store or default_path(), path)
    if "listen" not in document:
        problems += [
            f"sources.{name}.webhook: no webhook is received without a listener; add [listen]"
            for name, source in sources.items()
            if source.webhook is not None
        ]
    if problems:
        raise ConfigError(problems, path)
    return Config(path, tables["daemon"], tables["http"], listen, sources, sinks, tables.get("heartbeat"))


def listen_of(path: Path) -> ListenOptions | None:
    """[listen] alone; None if there is none that can be used. ConfigError lists the mistakes in [daemon]."""
    store_of(path)
    document = parse(path)
    if "listen" not in document:
        return None
    with relative_to(path.absolute().parent):
        found: ListenOptions | None = read_table(ListenOptions, "listen", document["listen"], [])
    return found


def _one(
    path: Path, document: dict[str, Any], which: tuple[str, str], tables: dict[str, Any], problems: list[str]
) -> Config:
    """The part of the configuration that one source or sink (section, name) needs."""
    section, name = which
    known = document.get(section, {})
    if not isinstance(known, dict) or name not in known:
        there = ", ".join(known) or "none"
        raise ConfigError([f"{name}: no such {section.removesuffix('s')}; there is {there}"])
    problems = [problem for problem in problems if problem.startswith(("daemon", "http"))]
    registry = sources_registry() if section == "sources" else sinks_registry()
    found = _plugins(section, registry, {name: known[name]}, problems)
    if problems:
        raise ConfigError(problems, path)
    of_sources, of_sinks = (found, {}) if section == "sources" else ({}, found)
    return Config(path, tables["daemon"], tables["http"], sources=of_sources, sinks=of_sinks)


def _plugins(
    section: str, registry: Mapping[str, EntryPoint], tables: object, problems: list[str]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if not isinstance(tables, dict):
        problems.append(f"{section}: is not a table; write [{section}.some-name]")
        return found
    for name, table in tables.items():
        place = f"{section}.{name}"
        if not NAME.fullmatch(name):
            problems.append(f"{place}: a name is made of letters, digits, dots, dashes and underscores")
        if section == "sources" and name == DAEMON:
            problems.append(
                f"{place}: is the source of the daemon's own notices; give the source another name"
            )
        if not isinstance(table, dict):
            problems.append(f"{place}: is not a table; write [{place}]")
        elif "type" not in table:
            problems.append(f"{place}.type: is missing; one of {', '.join(registry)}")
        elif not isinstance(kind := table["type"], str) or kind not in registry:
            problems.append(f"{place}.type: {shown(kind)} is unknown{nearest(str(kind), list(registry))}")
        elif plugin := read_table(load_type(registry[kind]), place, table, problems):
            found[name] = plugin.named(name)
            mask.add(_in_urls(plugin))
            problems += _useless(place, found[name])
    return found


def _in_urls(plugin: Source | Sink) -> list[str]:
    """Strings of a plugin that may be secrets: query values and path parts of URLs, and values of tables."""
    found: list[str] = []
    options: list[BaseModel] = [plugin]
    while options:
        table = options.pop()
        for value in (getattr(table, name) for name in type(table).model_fields):
            if isinstance(value, BaseModel):
                options.append(value)
            elif isinstance(value, dict):
                # The type of a body is no secret, and receivers name it in their words of refusal.
                named = {key: each for key, each in value.items() if str(key).lower() != "content-type"}
                found += [each for each in named.values() if isinstance(each, str)]
            elif isinstance(value, str) and value.lower().startswith(("http://", "https://")):
                url = httpx.URL(value)
                found += url.params.values()
                # Some receivers put the secret into the path.
                found += [part for part in url.path.split("/") if _TOKEN.fullmatch(part)]
    return [
        each for each in found if len(each) >= LIKELY or (len(each) >= SHORT and not _PLAIN.fullmatch(each))
    ]


def _useless(place: str, plugin: Source | Sink) -> list[str]:
    """Errors that a third-party plugin raises when it is used: found here, not in the middle of a reload."""
    try:
        plugin.identity()
        if isinstance(plugin, Source):
            plugin.auth()
            httpx.URL(plugin.base_url)
        else:
            plugin.place()
    except Exception as exc:  # noqa: BLE001 - a plugin may raise anything
        return [f"{place}: cannot be used: {reason(exc)}"]
    return []


def _too_often(tables: object, sources: Mapping[str, Source]) -> list[str]:
    """Intervals below FLOOR, also in tables that have other mistakes."""
    found = []
    for name, table in tables.items() if isinstance(tables, dict) else ():
        if not isinstance(table, dict) or "interval" not in table:
            continue
        try:
            interval = duration(table["interval"])
            base_url = sources[name].base_url if name in sources else table.get("base_url", "https://vendor")
            waived = not isinstance(base_url, str) or is_loopback(base_url)
        except (ValueError, httpx.InvalidURL):
            continue
        if 0 < interval < FLOOR and not waived:
            found.append(f"sources.{name}.interval: {spell(interval)} is under the {FLOOR:.0f}s minimum")
    return found


def _shared_places(sinks: Mapping[str, Sink], store: Path, path: Path) -> list[str]:
    """Files that would have two writers: sinks, the store, and the editor of this configuration."""
    base = os.path.realpath(store)
    taken = {base: "the store", os.path.realpath(path): "an editor: it is this configuration"}
    taken |= {base + end: "the store" for end in ("-wal", "-shm", "-journal", ".lock")}
    found = []
    for name, sink in sinks.items():
        place = sink.place()
        if place is None:
            continue
        if place in taken:
            found.append(f"sinks.{name}: {place} is already written by {taken[place]}")
        taken.setdefault(place, f"sinks.{name}")
    return found
