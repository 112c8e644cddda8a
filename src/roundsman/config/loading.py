"""Turns TOML into plugins. Reports each mistake in one line: the place, the value and what would be right."""

import hashlib
import json
import os
import re
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from pydantic import BaseModel

from roundsman.config.daemon import DaemonOptions, store_of, unknown_tables
from roundsman.config.document import Document, read
from roundsman.config.registry import load_type, sinks_registry, sources_registry
from roundsman.config.sentences import nearest, read_table, shown
from roundsman.config.syntax import File
from roundsman.errors import ConfigError, Place, Problem, reason
from roundsman.http.transport import HttpOptions
from roundsman.http.urls import is_loopback
from roundsman.masking import mask
from roundsman.options import printed
from roundsman.options.listen import ListenOptions
from roundsman.options.paths import relative_to
from roundsman.options.values import duration
from roundsman.plugin import FLOOR, Sink, Source
from roundsman.store import DAEMON, Place as StorePlace, Server, default_path
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
    origins: Mapping[Place, Path] = field(default_factory=dict)
    """The file of each table, source and sink, if there is more than one file."""
    unmatched: tuple[str, ...] = ()
    """A warning for each pattern of `include` that matches no file, with its file and line."""
    common: str = ""
    """A digest of what has to be the same on all machines that share the store: sources, sinks, [http] and the retention, as written."""

    def file_of(self, place: str) -> Path:
        """The file that holds a source or a sink, such as `sources.doors`, or a table."""
        whole = tuple(place.split(".", 1))
        return self.origins.get(whole) or self.origins.get(whole[:1]) or self.path

    @property
    def store(self) -> StorePlace:
        return self.daemon.store or default_path()

    @property
    def worker(self) -> str:
        """The name of this machine among those that share a store."""
        return self.daemon.worker


def load(path: Path, *, only_source: str | None = None, only_sink: str | None = None) -> Config:
    """The configuration in the file. ConfigError lists every mistake.

    With `only_source`, no other source and no sink is read; with `only_sink`, no other sink and no source.
    """
    return loaded(read(path), only_source=only_source, only_sink=only_sink)


def loaded(document: Document, *, only_source: str | None = None, only_sink: str | None = None) -> Config:
    """As `load`, for a caller that also needs the lines of the document."""
    return printed.loaded(document.tables, lambda: _load(document, only_source, only_sink))


async def load_beside(document: Document) -> Config:
    """As `loaded`. The programs that print secrets run in a thread: they do not block the event loop."""
    loading = printed.steps(document.tables, lambda: _load(document, None, None))
    try:
        needed = next(loading)
        while True:
            needed = loading.send(await in_thread(printed.run_all, *needed))
    except StopIteration as done:
        found: Config = done.value
        return found


def _load(document: Document, only_source: str | None, only_sink: str | None) -> Config:
    path, written = document.path, document.tables
    problems = [*document.problems, *unknown_tables(written)]
    with relative_to(path.absolute().parent):
        known: dict[str, type[BaseModel]] = {
            "daemon": DaemonOptions,
            "http": HttpOptions,
        }
        if only_source is None and only_sink is None:  # else no program is run for their secrets
            known["listen"] = ListenOptions
        if "heartbeat" in written and "listen" in known:
            from roundsman.config.heartbeat import HeartbeatOptions

            known["heartbeat"] = HeartbeatOptions
        tables: dict[str, Any] = {}
        for key, model in known.items():
            tables[key] = read_table(model, (key,), written.get(key, {}), problems)
        if only_source is not None:
            return _one(document, ("sources", only_source), tables, problems)
        if only_sink is not None:
            return _one(document, ("sinks", only_sink), tables, problems)
        sources = _plugins("sources", sources_registry(), written.get("sources", {}), problems)
        sinks = _plugins("sinks", sinks_registry(), written.get("sinks", {}), problems)
    problems += _too_often(written.get("sources"), sources)
    empty = "".join(f"; include: {warning.words}" for warning in document.warnings)
    if not written.get("sources"):
        problems.append(Problem(("sources",), f"no source; add a table such as [sources.front-doors]{empty}"))
    if not written.get("sinks"):
        problems.append(
            Problem(("sinks",), 'no sink; add a table such as [sinks.console] with type = "stdout"')
        )
    store = tables["daemon"].store if tables["daemon"] else None
    problems += _shared_places(sinks, store or default_path(), document.files)
    if isinstance(store, Server):
        problems += _without_machine(sinks, tables["daemon"].name if tables["daemon"] else None)
    if "listen" not in written:
        problems += [
            Problem(("sources", name, "webhook"), "no webhook is received without a listener; add [listen]")
            for name, source in sources.items()
            if source.webhook is not None
        ]
    if problems:
        raise document.refused(problems)
    listen = tables["listen"] if "listen" in written else None
    origins = {place: file.path for place, file in document.origins.items()}
    heartbeat = tables.get("heartbeat")
    unmatched = tuple(map(str, document.located(document.warnings))) if document.warnings else ()
    return Config(
        path,
        tables["daemon"],
        tables["http"],
        listen,
        sources,
        sinks,
        heartbeat,
        origins,
        unmatched,
        _common(written),
    )


def _common(written: Mapping[str, Any]) -> str:
    """As `Config.common`. A secret that stands elsewhere is not in it: it is read on each machine."""
    tables = {key: written.get(key) for key in ("sources", "sinks", "http")}
    retention = written.get("daemon", {}).get("retention")  # one worker prunes for all
    text = json.dumps([tables, retention], sort_keys=True, default=str)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def listen_of(path: Path) -> ListenOptions | None:
    """[listen] without the page and its secrets; None if there is none that can be used. ConfigError lists the mistakes in
    [daemon].
    """
    store_of(path)
    table = read(path).tables.get("listen")
    if table is None:
        return None
    if isinstance(table, dict):
        table = {option: value for option, value in table.items() if option != "page"}
    with relative_to(path.absolute().parent):
        found: ListenOptions | None = read_table(ListenOptions, ("listen",), table, [])
    return found


def _one(
    document: Document, which: tuple[str, str], tables: dict[str, Any], problems: list[Problem]
) -> Config:
    """The part of the configuration that one source or sink (section, name) needs."""
    section, name = which
    known = document.tables.get(section, {})
    if not isinstance(known, dict) or name not in known:
        there = ", ".join(known) or "none"
        raise ConfigError([f"{name}: no such {section.removesuffix('s')}; there is {there}"])
    problems = [
        problem for problem in problems if problem.place[0] in {"daemon", "http"} or problem.place == which
    ]
    registry = sources_registry() if section == "sources" else sinks_registry()
    found = _plugins(section, registry, {name: known[name]}, problems)
    if problems:
        raise document.refused(problems)
    of_sources, of_sinks = (found, {}) if section == "sources" else ({}, found)
    return Config(document.path, tables["daemon"], tables["http"], sources=of_sources, sinks=of_sinks)


def _plugins(
    section: str, registry: Mapping[str, EntryPoint], tables: object, problems: list[Problem]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if not isinstance(tables, dict):
        problems.append(Problem((section,), f"is not a table; write [{section}.some-name]"))
        return found
    for name, table in tables.items():
        place = (section, name)
        if not NAME.fullmatch(name):
            words = "a name has at most 63 letters, digits, dots, dashes and underscores, and begins with a letter or a digit"
            problems.append(Problem(place, words))
        if section == "sources" and name == DAEMON:
            words = "is the source of the daemon's own notices; give the source another name"
            problems.append(Problem(place, words))
        if not isinstance(table, dict):
            problems.append(Problem(place, f"is not a table; write [{section}.{name}]"))
        elif "type" not in table:
            problems.append(Problem((*place, "type"), f"is missing; one of {', '.join(registry)}"))
        elif not isinstance(kind := table["type"], str) or kind not in registry:
            words = f"{shown(kind)} is unknown{nearest(str(kind), list(registry))}"
            problems.append(Problem((*place, "type"), words))
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


def _useless(place: Place, plugin: Source | Sink) -> list[Problem]:
    """Errors that a third-party plugin raises when it is used: found here, not in the middle of a reload."""
    try:
        plugin.identity()
        if isinstance(plugin, Source):
            plugin.auth()
            httpx.URL(plugin.base_url)
        else:
            plugin.place()
    except Exception as exc:  # noqa: BLE001 - a plugin may raise anything
        return [Problem(place, f"cannot be used: {reason(exc)}")]
    return []


def _too_often(tables: object, sources: Mapping[str, Source]) -> list[Problem]:
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
            words = f"{spell(interval)} is under the {FLOOR:.0f}s minimum"
            found.append(Problem(("sources", name, "interval"), words))
    return found


def _without_machine(sinks: Mapping[str, Sink], name: str | None) -> list[Problem]:
    """Sinks of one machine that do not name it, although machines share the store. `name`: of this machine, if it is set."""
    machine = name or socket.gethostname()
    words = (
        f'is missing: machines share the store, and one of them serves this sink; such as on = "{machine}"'
    )
    return [
        Problem(("sinks", name, "on"), words)
        for name, sink in sinks.items()
        if "on" in type(sink).model_fields and getattr(sink, "on", None) is None
    ]


def _shared_places(sinks: Mapping[str, Sink], store: StorePlace, files: Iterable[File]) -> list[Problem]:
    """Files that would have two writers: sinks, the store, and the editor of this configuration."""
    taken = {os.path.realpath(file.path): "an editor: it is this configuration" for file in files}
    if isinstance(store, Path):
        base = os.path.realpath(store)
        taken |= {base + end: "the store" for end in ("", "-wal", "-shm", "-journal", ".lock")}
    found = []
    for name, sink in sinks.items():
        place = sink.place()
        if place is None:
            continue
        if place in taken:
            found.append(Problem(("sinks", name), f"{place} is already written by {taken[place]}"))
        taken.setdefault(place, f"sinks.{name}")
    return found
