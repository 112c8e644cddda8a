"""The command `check`: the mistakes and warnings of a configuration, and what it would do."""

import json
import os
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roundsman import config as configuration
from roundsman.cli.app import ConfigPath, Json, app, complain, complain_of, fail, reading, say
from roundsman.errors import ConfigError
from roundsman.masking import masked
from roundsman.service import units
from roundsman.system import logs

if TYPE_CHECKING:
    from roundsman.cli.live import Tried
    from roundsman.config.loading import Config
    from roundsman.errors import Problem


@app.command()
def check(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="The configuration file; the same as -c FILE.")
    ] = None,
    config: ConfigPath = None,
    live: Annotated[
        bool,
        typer.Option(
            "--live",
            help="Also poll each source once without storing anything, and open a store on a server and each sink that is a file or a table.",
        ),
    ] = False,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="Also print the requests a day of each source, and what each sink gets."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Validate the configuration. Prints every mistake, and warnings.

    Reads all secrets of the configuration. Warnings do not change the exit status. Exit status 1, with --live: a source
    does not answer or its answer was unexpected, or a sink or a store on a server does not open.

    More: `roundsman help first-account`.
    """
    if file is not None and config is not None:
        fail(f"{file}, {config}: name one file, either alone or behind -c", 2)
    from roundsman.config import databases

    try:
        document = configuration.read(configuration.find(file or config))
        loaded = configuration.loaded(document)
        if mistakes := databases.problems(loaded):
            raise document.refused(mistakes)
    except ConfigError as exc:
        if as_json:
            print(json.dumps(masked(_refused(exc, file or config)), indent=2))
        else:
            complain_of(exc)
        raise typer.Exit(2) from None
    warnings = document.located([*document.warnings, *_warnings(loaded)])
    if not as_json:
        _say(loaded, warnings, explain=explain)
    elif not live:
        print(json.dumps(masked(_accepted(loaded, warnings, None)), indent=2))
    if live:
        from roundsman.service import service

        logs.configure("warning", loaded.daemon.log_format)
        raise typer.Exit(service.run(lambda: _try(loaded, warnings if as_json else None)))


def _say(config: "Config", warnings: "list[Problem]", *, explain: bool) -> None:
    from roundsman.options.values import counted

    for warning in warnings:
        complain(warning.warning())
    what = f"{counted(len(config.sources), 'source')}, {counted(len(config.sinks), 'sink')}"
    say(f"{config.path}: no mistakes; {what}, store {config.store}")
    if explain:
        from roundsman.config import explained

        print()
        for line in explained.lines(config):
            print(line)


async def _try(config: "Config", warnings: "list[Problem] | None") -> int:
    """Print what `--live` finds as it is found, or with `warnings` all of it as JSON. Returns the exit status."""
    from roundsman.cli.live import tried

    found = []
    async with aclosing(tried(config)) as findings:
        async for each in findings:
            found.append(each)
            text = f"{each.place}: {each.message}"
            if warnings is None:
                say(text, flush=True) if each.ok else complain(text)
    if warnings is not None:
        # Flushed: the process does not wait for a thread that hangs.
        print(json.dumps(masked(_accepted(config, warnings, found)), indent=2), flush=True)
    return 0 if all(each.ok for each in found) else 1


def _refused(exc: ConfigError, asked: Path | None) -> dict[str, Any]:
    """What `--json` prints about a file with mistakes, or that cannot be read."""
    path = exc.path or asked
    return {
        "file": str(path) if path else None,
        "valid": False,
        "problems": [_finding(each, path) for each in exc.found],
        "warnings": [],
    }


def _accepted(config: "Config", warnings: "list[Problem]", tried: "list[Tried] | None") -> dict[str, Any]:
    """What `--json` prints about a file without mistakes."""
    from roundsman.config import explained

    sources = [
        {
            "name": each.source,
            "type": config.sources[each.source].type,
            "reads": config.sources[each.source].origin(),
            "interval": each.interval,
            "webhook": config.sources[each.source].webhook is not None,
            "requests_a_day": round(each.requests, 1),
            "assumed": each.assumed,
            "event_types": list(each.types),
        }
        for each in explained.reads(config)
    ]
    sinks = [
        {
            "name": name,
            "type": sink.type,
            "place": sink.place(),
            "types": list(sink.types),
            "sources": list(sink.sources),
            "outcomes": list(sink.outcomes),
            "for_people": sink.for_people,
            "gets": [each._asdict() for each in explained.gets(config, sink)],
        }
        for name, sink in config.sinks.items()
    ]
    return {
        "file": str(config.path),
        "valid": True,
        "problems": [],
        "warnings": [_finding(each, config.path) for each in warnings],
        "store": str(config.store),
        "listen": str(config.listen.address) if config.listen else None,
        "heartbeat": config.heartbeat is not None,
        "sources": sources,
        "sinks": sinks,
        "live": None if tried is None else [each._asdict() for each in tried],
    }


def _finding(problem: "Problem", path: Path | None) -> dict[str, Any]:
    """A mistake or a warning: the file, the line and the column if they are known, the place in the file, and the rest."""
    file, place, message = problem.file or path, ".".join(map(str, problem.place)), problem.words
    if not place and message.startswith("/") and ": " in message:  # about another file as a whole
        name, _, message = message.partition(": ")
        file = Path(name)
    return {
        "file": str(file) if file else None,
        "line": problem.line,
        "column": problem.column,
        "place": place or None,
        "message": message,
    }


def _warnings(config: "Config") -> list[str]:
    from roundsman.config import advice

    return [*advice.warnings(config), *_about_memories(config), *_about_the_service(config)]


def _about_memories(config: "Config") -> list[str]:
    """Warnings about these sources from what the store knows; none if there is no store that can be read."""
    from roundsman.store import StoreError, exists
    from roundsman.store.origins import changes

    try:
        if not exists(config.store):
            return []
        entries = reading(config.store, lambda view: view.sources())
        others = reading(config.store, lambda view: view.holders("source"))
        others = {name: worker for name, worker in others.items() if worker != config.worker}
    except StoreError:
        return []  # of an older version, say, or readable only by the service
    return [f"sources.{change.source}: {change.what}" for change in changes(entries, config.sources, others)]


def _about_the_service(config: "Config") -> list[str]:
    """Warnings about what root can do and the system's service cannot, if this is its configuration."""
    from roundsman.service import fitness

    installed = units.PACKAGED.exists() or (units.SYSTEM / units.SERVICE).exists()
    if os.geteuid() != 0 or not installed or config.path.absolute() != units.CONFIG:
        return []
    socket = units.PACKAGED.exists() or (units.SYSTEM / units.SOCKET).exists()
    return fitness.out_of_reach(config, socket=socket)
