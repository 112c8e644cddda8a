"""All checks of `roundsman doctor`, in the order in which a fault is looked for: program, configuration, store, machine, hosts, sinks."""

import asyncio
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roundsman import config as configuration
from roundsman.config import advice, databases
from roundsman.doctor import hosts, machine, places, unit
from roundsman.doctor.finding import Finding
from roundsman.doctor.scrub import Scrub
from roundsman.doctor.settings import Settings, settings
from roundsman.errors import ConfigError, StoreError, reason
from roundsman.masking import mask
from roundsman.options.values import counted

if TYPE_CHECKING:
    from pydantic import BaseModel

    from roundsman.config.loading import Config
    from roundsman.store import Place

SECONDS = 10.0
"""Maximum time of SQLite's check."""


@dataclass
class Report:
    """What was found. All texts in it may be read by a stranger."""

    versions: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    """The configuration by path, without secrets."""
    status: str = ""
    """JSON, or why there is none."""
    unit: str = ""
    properties: str = ""
    log: str = ""

    @property
    def fails(self) -> bool:
        return any(each.state == "failure" for each in self.findings)


async def examine(config: Path | None, log: Path | None) -> Report:
    """Make all checks."""
    scrub, found = Scrub(), list[Finding]()
    # The names of files and secrets first: everything that is read later is masked by them.
    service = await asyncio.to_thread(unit.unit, log)
    path, shown, loaded = None, Settings(), None
    try:
        path = configuration.find(config)
    except ConfigError as exc:
        found.append(Finding("configuration", "failure", str(exc), ""))
    if path is not None:
        shown = settings(path, service.environ, scrub)
        loaded = await _load(path, shown, service.environ, found)
    urls = set(_urls(loaded)) if loaded is not None else shown.urls
    store = _store(path, loaded)
    versions, status, damage, clock = await asyncio.gather(
        asyncio.to_thread(machine.versions),
        _status(path, store),
        _soundness(store),
        asyncio.to_thread(machine.clock),
    )
    found += [*service.findings, *status[1], *damage]
    folder = service.folder_of(path) if path is not None else Path()
    found += machine.disks(_places(store, folder, shown.tables))
    found.append(clock)
    proxy, ca_file = _way(path, shown, loaded)
    found += await hosts.ask(hosts.origins(urls), proxy, ca_file)
    if loaded is not None:
        for each in await asyncio.gather(*map(places.examined, loaded.sinks.values())):
            found += each
    text, properties, lines = unit.scrubbed(service, scrub)
    return Report(
        {name: scrub(each) for name, each in versions.items()},
        [
            Finding("roundsman", "ok", f"version {versions['roundsman']}, Python {versions['python']}"),
            *(Finding(scrub(each.check), each.state, scrub(each.words), each.advice) for each in found),
        ],
        {scrub(name): mask(each) for name, each in shown.files.items()},
        scrub(json.dumps(scrub.document(status[0]), indent=2, ensure_ascii=False)),
        text,
        properties,
        lines,
    )


async def _load(
    path: Path, shown: Settings, environ: dict[str, str], found: list[Finding]
) -> "Config | None":
    """The configuration if it is valid; the secrets in it are masked from then on."""
    for each in shown.unread:
        found.append(
            Finding(
                "configuration",
                "failure",
                f"{each}; secrets in the log are known by their form alone",
                "try sudo" if os.geteuid() else "",
            )
        )
    if shown.unread and not shown.files:
        return None
    try:
        document = configuration.read(path)
        loaded = await configuration.load_beside(document)
        if mistakes := databases.problems(loaded):
            raise document.refused(mistakes)
    except ConfigError as exc:
        # A variable that only the service has is no mistake: the daemon, and not this process, must have it.
        missing = [each for each in exc.found if _is_variable_of(each.words, environ)]
        left = [str(each) for each in exc.found if each not in missing]
        for words in left[:10]:
            found.append(Finding("configuration", "failure", words, ""))
        if len(left) > 10:
            found.append(
                Finding("configuration", "failure", f"{len(left) - 10} more mistakes", "roundsman check")
            )
        if missing and not left:
            found.append(
                Finding("configuration", "ok", f"{path}: no mistakes but variables that only the service has")
            )
        return None
    what = f"{counted(len(loaded.sources), 'source')}, {counted(len(loaded.sinks), 'sink')}"
    found.append(Finding("configuration", "ok", f"{path}: no mistakes; {what}"))
    unwise = [*loaded.unmatched, *await asyncio.to_thread(advice.warnings, loaded)]
    found += [Finding("configuration", "warning", each) for each in unwise]
    return loaded


def _is_variable_of(words: str, environ: dict[str, str]) -> bool:
    head, _, name = words.partition("the environment has no variable ")
    return bool(not head.strip() and name in environ)


def _urls(loaded: "Config") -> Iterator[str]:
    """The URLs that the daemon sends requests to."""
    for source in loaded.sources.values():
        yield source.base_url
    for plugin in (*loaded.sources.values(), *loaded.sinks.values()):
        yield from _urls_of(plugin)
    if loaded.heartbeat is not None:
        yield loaded.heartbeat.url.reveal()


def _urls_of(options: "BaseModel") -> Iterator[str]:
    from pydantic import BaseModel

    from roundsman.options.secrets import Secret

    for name in type(options).model_fields:
        value = getattr(options, name)
        if isinstance(value, BaseModel):
            yield from _urls_of(value)
        elif name == "url" or name.endswith("_url"):
            yield value.reveal() if isinstance(value, Secret) else str(value or "")


def _way(path: Path | None, shown: Settings, loaded: "Config | None") -> tuple[str | None, Path | None]:
    """The proxy and the file of authorities."""
    if loaded is not None:
        return loaded.http.proxy, loaded.http.ca_file
    http = shown.tables.get("http")
    known: dict[str, Any] = http if isinstance(http, dict) else {}
    proxy, ca_file = known.get("proxy"), known.get("ca_file")
    if not isinstance(proxy, str) or not proxy.lower().startswith(("http://", "https://")):
        proxy = None
    at = (
        path.absolute().parent / ca_file
        if path is not None and isinstance(ca_file, str) and ca_file
        else None
    )
    return proxy, at


def _store(path: Path | None, loaded: "Config | None") -> "Place | None":
    from roundsman.store import default_path

    if loaded is not None:
        return loaded.store
    if path is not None:
        with suppress(ConfigError):
            return configuration.store_of(path)
        return None
    return default_path()


def _places(store: "Place | None", folder: Path, tables: dict[str, Any]) -> Iterator[tuple[str, Path]]:
    """The files that are written, each with its name. `folder`: where relative paths begin."""
    if isinstance(store, Path):
        yield "store", store
    sinks = tables.get("sinks")
    for name, sink in sinks.items() if isinstance(sinks, dict) else ():
        if isinstance(sink, dict) and sink.get("type") == "file" and isinstance(sink.get("path"), str):
            with suppress(RuntimeError, ValueError):
                yield f"sinks.{name}", folder / Path(sink["path"]).expanduser()


async def _status(path: Path | None, store: "Place | None") -> tuple[Any, list[Finding]]:
    """What `status --json` prints, and findings about the sources and sinks."""
    from roundsman import screen
    from roundsman.screen.states import States
    from roundsman.store import holder, open_view

    if store is None:
        return {"error": "no store is known: the configuration cannot be read"}, []
    try:
        view = await open_view(store)
    except StoreError as exc:
        none_yet = "there is no store" in str(exc)
        state = Finding(
            "store",
            "warning" if none_yet else "failure",
            str(exc),
            "" if none_yet or not os.geteuid() or not isinstance(store, Path) else "try sudo",
        )
        return {"error": str(exc)}, [state]
    try:
        filters, there = None, None
        if path is not None:
            with suppress(ConfigError):
                filters, there = configuration.filters(path), configuration.names(path)
        states = States(configuration.source_class)
        found = await screen.status(view, filters, states.following, there, states.gap, states.progress)
    except (StoreError, ConfigError) as exc:
        return {"error": reason(exc)}, [
            Finding("status", "failure", reason(exc), "roundsman help store-damaged")
        ]
    finally:
        await view.close()
    findings = (
        [] if holder(store) is not None else [Finding("daemon", "warning", "not running", "roundsman run")]
    )
    for section in ("sources", "sinks"):
        for each in found.get(section, ()):
            if isinstance(each, dict) and each.get("state") in {"failing", "gap", "refusing"}:
                words = f"{each['state']}: {each.get('error') or ''}".rstrip(": ")
                pages = {"gap": "gap", "refusing": "dead-letters"}
                page = pages.get(each["state"], f"{section.removesuffix('s')}-failing")
                findings.append(
                    Finding(f"{section}.{each.get('name')}", "warning", words, f"roundsman help {page}")
                )
    return found, findings


async def _soundness(store: "Place | None") -> list[Finding]:
    from roundsman.store import GaveUp, check, exists, open_view

    try:
        if store is None or not exists(store):
            return []
        if not isinstance(store, Path):
            await (await open_view(store)).close()
        damage = await asyncio.to_thread(check, store, SECONDS)
    except StoreError:
        return []  # `_status` has said it
    except GaveUp:
        return [
            Finding("store", "warning", f"not checked: busy, not readable, or more than {SECONDS:.0f}s", "")
        ]
    if damage is not None:
        return [Finding("store", "failure", damage, "roundsman help store-damaged")]
    found = "quick_check finds no damage" if isinstance(store, Path) else "its server checks it"
    return [Finding("store", "ok", f"{store}: {found}")]
