"""Commands for the configuration file: init, check, schema."""

import json
import os
import re
from contextlib import aclosing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from roundsman import config as configuration
from roundsman.cli.app import ConfigPath, app, complain, fail, reading
from roundsman.errors import reason
from roundsman.service import units
from roundsman.system import logs

if TYPE_CHECKING:
    from roundsman.config.loading import Config
    from roundsman.plugin import Source, State, Visit
    from roundsman.store import View

ENOUGH_ROWS = 100
"""`check --live` stops reading a source after more than this many rows."""


@app.command()
def init(
    path: Annotated[
        Path | None, typer.Argument(help="The file to write. Default: roundsman.toml in this folder.")
    ] = None,
    service: Annotated[
        bool,
        typer.Option(
            "--service",
            help=f"For the system's service: write {units.CONFIG}, create a folder for secrets beside it, and name a store in {units.STATE}.",
        ),
    ] = False,
    user: Annotated[
        bool,
        typer.Option(
            "--user",
            help="For a service of your own: write ~/.config/roundsman/roundsman.toml, and create a folder for secrets beside it.",
        ),
    ] = False,
    example: Annotated[
        Literal["github", "okta", "zendesk", "nvd"] | None,
        typer.Option(
            "--example", help="Print a source of the type http.json for this API, and write nothing."
        ),
    ] = None,
) -> None:
    """Write a configuration with comments to begin with. A file that exists is not overwritten.

    Exit status 1: the file exists, or cannot be written.
    """
    from importlib.resources import files

    if example is not None:
        place = files("roundsman").joinpath("examples", f"{example}.toml")
        print(place.read_text(encoding="utf-8"), end="")
        complain(
            'this is a source; the file also needs a sink, for example [sinks.console] with type = "stdout"'
        )
        return
    serves = service or user
    path = path or (units.CONFIG if service else configuration.users() if user else Path("roundsman.toml"))
    text = files("roundsman").joinpath("starter.toml").read_text(encoding="utf-8")
    if serves:
        text = _for_a_service(text, units.STATE if service else None)
    if path.exists():
        fail(f"{path}: exists already and is not overwritten")
    try:
        made = not path.parent.exists()
        path.parent.mkdir(parents=True, exist_ok=True)
        if service and made:  # regardless of the umask
            path.parent.chmod(0o755)
        if serves:
            (path.parent / "credentials").mkdir(mode=0o700, exist_ok=True)
        # 0600: a user may write a secret into it. But the service's user is dynamic and cannot own it.
        mode = 0o644 if service else 0o600
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        os.fchmod(handle, mode)
    except OSError as exc:
        fail(f"{path}: cannot be written: {exc.strerror}")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    if serves:
        install = (
            "check" if service and units.PACKAGED.exists() else f"service install{' --user' if user else ''}"
        )
        print(
            f"wrote {path}; fill in your source, put its secret into {path.parent / 'credentials' / 'parakey'}"
        )
        print(f"next: {units.program()} {install}")
    else:
        print(f"wrote {path}; fill in your source, then: roundsman check -c {path}")


def _for_a_service(text: str, state: Path | None) -> str:
    """The starter with secrets as credentials, files in the service's folder, and a limit on their size."""
    for variable, name in (
        ("PARAKEY_ACCESS_TOKEN", "parakey"),
        ("MAILCHIMP_API_KEY", "mailchimp"),
        ("RAILZ_SECRET_KEY", "railz"),
    ):
        text = text.replace(f'{{ env = "{variable}" }}', f'{{ credential = "{name}" }}')
    text = re.sub(r"   # or \{ file = .*", "   # the file credentials/parakey beside this one", text)
    head, _, rest = text.partition("\n[sources")
    if state is not None:
        head += f'\n[daemon]\nstore = "{state / "roundsman.db"}"\n'
        rest = rest.replace('path = "events.jsonl"', f'path = "{state / "events.jsonl"}"')
    console = '[sinks.console]\ntype = "stdout"\n'
    return (
        f"{head}\n[sources"
        + rest.replace(
            console,
            f"# Events to the journal, too: with names and addresses of people.\n# {console.replace(chr(10) + 't', chr(10) + '# t')}",
        )
        + 'rotate_size = "100MB"\nkeep = 10                                          # old files; without, all are kept\n'
    )


@app.command()
def check(
    config: ConfigPath = None,
    live: Annotated[
        bool,
        typer.Option(
            "--live",
            help="Also poll each source once without storing anything, and open each sink that is a file.",
        ),
    ] = False,
) -> None:
    """Validate the configuration. Prints every mistake, and warnings.

    Reads all secrets of the configuration. Warnings do not change the exit status. Exit status 1, with --live: a source
    does not answer or its answer was unexpected, or a sink does not open.

    More: `roundsman help first-account`.
    """
    from roundsman.config import advice
    from roundsman.options.values import counted

    loaded = configuration.load(configuration.find(config))
    for warning in [*advice.warnings(loaded), *_about_memories(loaded), *_about_the_service(loaded)]:
        complain(f"warning: {warning}")
    what = f"{counted(len(loaded.sources), 'source')}, {counted(len(loaded.sinks), 'sink')}"
    print(f"{loaded.path}: no mistakes; {what}, store {loaded.store}")
    if live:
        from roundsman.service import service

        logs.configure("warning", loaded.daemon.log_format)
        raise typer.Exit(service.run(lambda: _check_live(loaded)))


def _about_memories(config: "Config") -> list[str]:
    """Warnings about these sources from what the store knows; none if there is no store that can be read."""
    from roundsman.store import StoreError, exists
    from roundsman.store.origins import changes

    try:
        if not exists(config.store):
            return []
        entries = reading(config.store, lambda view: view.sources())
    except StoreError:
        return []  # of an older version, say, or readable only by the service
    return [f"sources.{change.source}: {change.what}" for change in changes(entries, config.sources)]


def _about_the_service(config: "Config") -> list[str]:
    """Warnings about what root can do and the system's service cannot, if this is its configuration."""
    from roundsman.service import fitness

    installed = units.PACKAGED.exists() or (units.SYSTEM / units.SERVICE).exists()
    if os.geteuid() != 0 or not installed or config.path.absolute() != units.CONFIG:
        return []
    socket = units.PACKAGED.exists() or (units.SYSTEM / units.SOCKET).exists()
    return fitness.out_of_reach(config, socket=socket)


async def _ask_once(source: "Source", visit: "Visit", state: "State") -> tuple[int, list[str]]:
    """One visit, or its first pages: the number of rows, and the warnings. Raises what the visit raises."""
    from roundsman.engine.reading import Dry, read

    rows = 0
    remarks: list[str] = []
    dry = Dry(state=state)
    async with aclosing(read(source, visit, dry.remembered)) as steps:
        async for step in steps:
            rows += step.poll.rows
            remarks += step.poll.remarks
            if rows > ENOUGH_ROWS or not step.poll.page:
                break
            await dry.keep(step)
    return rows, remarks


def _missing(place: str) -> list[Path]:
    """The file and the folders that opening a sink would create, the innermost first."""
    file = Path(place)
    return [each for each in (file, *file.parents) if file.is_absolute() and not each.exists()]


def _leave_nothing(made: list[Path]) -> None:
    """Remove what the check created: if root created it, the service could not use it."""
    from roundsman.system.files import open_folder

    with suppress(OSError):
        for each in made:
            if each.is_dir():
                each.rmdir()
            elif each.stat().st_size == 0:
                folder, file = open_folder(each)
                os.unlink(file.name, dir_fd=folder)
                os.close(folder)


async def _check_live(config: "Config") -> int:
    from roundsman.cli import registrations
    from roundsman.cli.pauses import pause
    from roundsman.engine.reading import visit_to
    from roundsman.legacy import OldHttp, old_http
    from roundsman.plugin import Registers, Tracks
    from roundsman.service.service import web

    connections, code = web(config.http), 0
    view = await _view(config.store)
    for name, source in config.sources.items():
        asked = connections.seen
        try:
            if view is not None and (why := await pause(view, source)):
                complain(f"sources.{name}: {why}")
                code = 1
                continue
            visit = visit_to(source, connections)
            rows, remarks = await _ask_once(source, visit, {})
            # No request, because nothing is tracked yet: ask for an unknown id, to check the credentials.
            if connections.seen == asked and isinstance(source, Tracks):
                _, remarks = await _ask_once(source, visit, source.follow({}, ["roundsman-check"]))
            print(f"sources.{name}: answers" + (f", {rows} rows" if rows else ""))
            if source.webhook is not None and isinstance(source, Registers):
                registrar = source.registrar(old_http(visit))
                remarks += registrations.unsigned(source, await registrar.list()) if registrar else []
            for remark in remarks:
                complain(f"sources.{name}: {remark}")
                code = 1
        except Exception as exc:  # noqa: BLE001 - a plugin may raise anything; go on with the next one
            complain(f"sources.{name}: {reason(exc)}")
            code = 1
    for name, sink in config.sinks.items():
        place = sink.place()
        if place is None:
            print(f"sinks.{name}: not tested: it opens at the first event")
            continue
        try:
            missing = _missing(place)
            async with sink.open(OldHttp(connections), None):
                print(f"sinks.{name}: opens")
                _leave_nothing(missing)  # while the sink holds it: no other process has begun to write it
        except BlockingIOError:
            print(f"sinks.{name}: is in use by a running daemon")
        except Exception as exc:  # noqa: BLE001 - as above
            complain(f"sinks.{name}: {reason(exc)}")
            code = 1
    await connections.aclose()
    if view is not None:
        await view.close()
    return code


async def _view(store: Path) -> "View | None":
    """The store; None if there is none that this user can read."""
    from roundsman.store import StoreError, exists, open_view

    try:
        return await open_view(store) if exists(store) else None
    except StoreError:
        return None  # of an older version, say, or readable only by the service


@app.command()
def schema(
    what: Annotated[Literal["config", "events"], typer.Argument(help="The schema to print.")],
) -> None:
    """Print the JSON Schema of the configuration file or of the events."""
    from roundsman.kinds import schemas

    print(json.dumps(configuration.json_schema() if what == "config" else schemas(), indent=2))
