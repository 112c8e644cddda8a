"""`check --live`: each source is polled once without storing anything, and sinks whose place can be looked at are examined."""

import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from roundsman.errors import reason

if TYPE_CHECKING:
    from roundsman.config.loading import Config
    from roundsman.http.transport import Clients
    from roundsman.plugin import Sink, Source, State, Visit
    from roundsman.store import Place, View

ENOUGH_ROWS = 100
"""A source is not read further after more than this many rows."""


class Tried(NamedTuple):
    """What came of trying one source, one sink, or the store."""

    place: str
    """`sources.NAME`, `sinks.NAME`, or `daemon.store`."""
    message: str
    ok: bool


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


async def tried(config: "Config") -> AsyncGenerator[Tried]:
    """Try a store on a server, each source, then each sink. A source may have several findings."""
    from roundsman.service.service import web

    connections = web(config.http)
    view, opened = await _view(config.store)
    try:
        if opened is not None:
            yield opened
        for name, source in config.sources.items():
            async for each in _asked(f"sources.{name}", source, view, connections):
                yield each
        for name, sink in config.sinks.items():
            yield await _opened(f"sinks.{name}", sink, connections)
    finally:
        await connections.aclose()
        if view is not None:
            await view.close()


async def _asked(
    place: str, source: "Source", view: "View | None", connections: "Clients"
) -> AsyncIterator[Tried]:
    """Try a source: what came of it, and what is to be said of it besides."""
    from roundsman.cli import registrations
    from roundsman.cli.pauses import pause
    from roundsman.engine.reading import visit_to
    from roundsman.legacy import old_http
    from roundsman.plugin import Registers, Tracks

    asked = connections.seen
    try:
        if view is not None and (why := await pause(view, source)):
            yield Tried(place, why, ok=False)
            return
        visit = visit_to(source, connections)
        rows, remarks = await _ask_once(source, visit, {})
        # No request, because nothing is tracked yet: ask for an unknown id, to check the credentials.
        if connections.seen == asked and isinstance(source, Tracks):
            _, remarks = await _ask_once(source, visit, source.follow({}, ["roundsman-check"]))
        yield Tried(place, "answers" + (f", {rows} rows" if rows else ""), ok=True)
        if source.webhook is not None and isinstance(source, Registers):
            registrar = source.registrar(old_http(visit))
            remarks += registrations.unsigned(source, await registrar.list()) if registrar else []
        for remark in remarks:
            yield Tried(place, remark, ok=False)
    except Exception as exc:  # noqa: BLE001 - a plugin may raise anything; go on with the next one
        yield Tried(place, reason(exc), ok=False)


async def _opened(place: str, sink: "Sink", connections: "Clients") -> Tried:
    """Examine the sink, or open it if it is a file, and leave nothing behind."""
    from roundsman.legacy import OldHttp

    file = sink.place()
    try:
        if file is None:
            said = await sink.examined()
            return Tried(place, said or "not tested: it opens at the first event", ok=True)
        missing = _missing(file)
        async with sink.open(OldHttp(connections), None):
            _leave_nothing(missing)  # while the sink holds it: no other process has begun to write it
    except BlockingIOError:
        return Tried(place, "is in use by a running daemon", ok=True)
    except Exception as exc:  # noqa: BLE001 - a plugin may raise anything
        return Tried(place, reason(exc), ok=False)
    return Tried(place, "opens", ok=True)


async def _view(store: "Place") -> "tuple[View | None, Tried | None]":
    """The store, or None if there is none that this user can read; and of a store on a server, what came of opening it."""
    from roundsman.store import Server, StoreError, exists, open_view

    try:
        if isinstance(store, Server):
            return await open_view(store), Tried("daemon.store", "opens", ok=True)
        return await open_view(store) if exists(store) else None, None
    except StoreError as exc:
        if isinstance(store, Server):
            return None, Tried("daemon.store", str(exc), ok="there is no store" in str(exc))
        return None, None  # of an older version, say, or readable only by the service
