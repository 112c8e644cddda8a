"""Commands that pause and resume a source or a sink."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from roundsman import config as configuration
from roundsman.cli import persons
from roundsman.cli.app import ConfigPath, Utc, app, fail, say, writing
from roundsman.cli.completion import sources_and_sinks
from roundsman.masking import safe

if TYPE_CHECKING:
    from roundsman.store import Desk, Kind, Pause, View

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="The name of a source or of a sink in the configuration.",
        autocompletion=sources_and_sinks,
    ),
]
IsSource = Annotated[
    bool, typer.Option("--source", help="NAME is a source. Needed if a sink has the same name.")
]
IsSink = Annotated[bool, typer.Option("--sink", help="NAME is a sink. Needed if a source has the same name.")]


@app.command()
def pause(
    name: Name,
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            metavar="PERSON",
            help="Who pauses it. Default: your login name; as root, the one that called sudo.",
        ),
    ] = None,
    source: IsSource = False,
    sink: IsSink = False,
    config: ConfigPath = None,
    utc: Utc = False,
) -> None:
    """Pause a source or a sink, until `roundsman resume`. Restarts and reloads keep the pause.

    A paused source sends no request to its vendor; webhooks are still taken. To a paused sink, nothing is delivered; its
    events wait. Works while the daemon runs, which follows within two seconds. Pausing twice keeps the first pause, and is
    no failure.

    More: `roundsman help pausing`.
    """
    who = persons.name(by)
    configured = dict(zip(_KINDS, configuration.names(configuration.find(config)), strict=True))

    async def hold(desk: "Desk") -> None:
        kind = _one([each for each in _KINDS if name in configured[each]], name, source, sink)
        if name not in (await _names(desk))[kind]:
            fail(
                f"{name}: no daemon has loaded this {kind} yet: first `roundsman reload`, or start the daemon"
            )
        if await desk.pause(kind, name, who, time.time()):
            say(f"{name}: paused by {safe(who)}; to end it: roundsman resume {name}{_option(source, sink)}")
            return
        found = await _pause_of(desk, kind, name)
        if found is None:
            fail(f"{name}: another command has just ended the pause")
        say(f"{name}: is paused already, {_since(found, utc=utc)}")

    writing(config, hold)


@app.command()
def resume(
    name: Name,
    source: IsSource = False,
    sink: IsSink = False,
    config: ConfigPath = None,
    utc: Utc = False,
) -> None:
    """End the pause of a source or a sink. A source is polled as soon as its vendor allows, a sink gets what has waited.

    Works while the daemon runs, which follows within two seconds. It is no failure if NAME is not paused.

    More: `roundsman help pausing`.
    """

    async def go_on(desk: "Desk") -> None:
        there = await _names(desk)
        kind = _one([each for each in _KINDS if name in there[each]], name, source, sink)
        found = await _pause_of(desk, kind, name)
        if await desk.resume(kind, name) and found is not None:
            say(f"{name}: resumed; it was paused {_since(found, utc=utc)}")
        else:
            print(f"{name}: is not paused")

    writing(config, go_on)


_KINDS: "tuple[Kind, Kind]" = ("source", "sink")


async def _names(view: "View") -> "dict[Kind, set[str]]":
    """The names of all sources and sinks that were ever loaded."""
    sources, sinks = await view.sources(), await view.sinks()
    return {"source": {entry.name for entry in sources}, "sink": {entry.name for entry in sinks}}


def _one(kinds: "Sequence[Kind]", name: str, source: bool, sink: bool) -> "Kind":
    """The kind that is meant, of those that have something of this name; fails if it is not clear."""
    meant = [kind for kind in kinds if (kind == "source" and not sink) or (kind == "sink" and not source)]
    if source and sink:
        fail("--source and --sink: name only one of them", 2)
    if len(meant) > 1:
        fail(f"{name}: is a source and a sink; add --source or --sink", 2)
    if not meant:
        what = "source" if source else "sink" if sink else "source or sink"
        fail(f"{name}: no such {what}; `roundsman status` lists them", 2)
    return meant[0]


def _option(source: bool, sink: bool) -> str:
    """The option that a command about the same name needs."""
    return " --source" if source else " --sink" if sink else ""


async def _pause_of(view: "View", kind: "Kind", name: str) -> "Pause | None":
    found = [pause for pause in await view.pauses() if (pause.kind, pause.name) == (kind, name)]
    return found[0] if found else None


def _since(pause: "Pause", *, utc: bool) -> str:
    """The person and the time of a pause, for a message."""
    from roundsman.screen import spoken

    return f"by {safe(pause.by)} since {spoken(pause.since, utc=utc)}"
