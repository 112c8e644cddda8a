"""Commands about what failed for a person: list it, mark it as done, undo that, and show who did so."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roundsman.cli import persons
from roundsman.cli.app import (
    ConfigPath,
    Json,
    Since,
    Sources,
    Utc,
    app,
    complain,
    fail,
    known_sources,
    reading,
    store_of,
    when,
    writing,
)
from roundsman.cli.layout import App
from roundsman.masking import safe

if TYPE_CHECKING:
    from roundsman.store import Acted, Desk, LoggedAct, View

SHOWN = 20
"""Failures that were done already are named, unless there are more."""
WIDEST = 100_000
"""Maximum numbers in a range."""

failures_app = App(
    help="List what failed for a person, at all vendors, the newest first. `failures done` marks a failure as done, "
    "`failures undo` opens it again, and `failures log` shows who did so."
)
app.add_typer(failures_app, name="failures")

Numbers = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NUMBER",
        help="The numbers of failures, as `roundsman failures` prints them. 9-12 is a range.",
    ),
]
By = Annotated[
    str | None,
    typer.Option(
        "--by",
        metavar="NAME",
        help="Who does it. Default: the user who runs sudo, else the login name.",
    ),
]
Note = Annotated[
    str | None,
    typer.Option("--note", metavar="TEXT", help="What was done, in at most 500 characters."),
]


@failures_app.callback(invoke_without_command=True)
def failures(
    context: typer.Context,
    config: ConfigPath = None,
    since: Since = None,
    source: Sources = None,
    count: Annotated[
        int | None, typer.Option("-n", metavar="N", help="How many failures, at most. Default: all.", min=1)
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also failures that are marked as done.")] = False,
    as_json: Json = False,
    utc: Utc = False,
) -> None:
    """`roundsman failures`: the newest first."""
    if context.invoked_subcommand is not None:
        return
    from roundsman import screen
    from roundsman.options.values import counted

    store = store_of(config)
    start = when(since).timestamp() if since else 0.0

    async def wrong(view: "View") -> tuple[list[dict[str, Any]], int]:
        await known_sources(view, source or ())
        most = -1 if count is None else count
        found = await view.failures(source or (), start, done=everything, limit=most)
        acts = await view.last_acts([each.event.seq for each in found if each.done])
        again = await view.again([each.event for each in found if not each.done])
        rows = [
            screen.failure(*each, act=acts.get(each.event.seq), again=again.get(each.event.seq))
            for each in found
        ]
        return rows, await view.open_failures()

    rows, left = reading(store, wrong)
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    console = screen.console(utc=utc)
    if rows:
        screen.show_failures(rows, console)
    if not rows:
        complain(
            "no open failure matches"
            if since or source
            else "no failure is open; --all also shows those that are done"
        )
    elif console is not None and left:
        done = f"roundsman failures done {rows[0]['id']}"
        complain("", f"{counted(left, 'failure')} open; to mark the first as done: {done}")


@failures_app.command("done")
def failures_done(
    ids: Numbers = None,
    config: ConfigPath = None,
    everything: Annotated[bool, typer.Option("--all", help="All open failures.")] = False,
    by: By = None,
    note: Note = None,
) -> None:
    """Mark failures as done: `roundsman failures` does not list them any more, and `failures log` has who did it.

    Exit status 1: a number is not that of a failure.
    """
    import time

    from roundsman.options.values import counted

    numbers = _numbers(ids or ())
    if not ids and not everything:
        fail("name the failures by number (9-12 for several), or use --all", 2)
    if ids and everything:
        fail("numbers and --all are both given; give one of them: --all is every open failure", 2)
    who, text = persons.name(by), persons.note(note)

    async def tick_off(desk: "Desk") -> "tuple[Acted, int]":
        acted = await desk.tick_off(None if everything else numbers, who, text, time.time())
        return acted, await desk.open_failures()

    acted, left = writing(config, tick_off)
    _show_already(acted)
    print(f"{counted(len(acted.changed), 'failure')} marked as done, {left} left")
    if missing := _missing(ids or (), acted):
        fail(f"{', '.join(missing)}: no such failure")


@failures_app.command("undo")
def failures_undo(
    ids: Annotated[
        list[str],
        typer.Argument(
            metavar="NUMBER",
            help="The numbers of failures, as `roundsman failures --all` prints them. 9-12 is a range.",
        ),
    ],
    config: ConfigPath = None,
    by: By = None,
    note: Note = None,
) -> None:
    """Open failures again that were marked as done: `roundsman failures` lists them as before.

    Exit status 1: a number is not that of a failure, or of one that is open; or the failure's event was pruned.
    """
    import time

    from roundsman.options.values import counted

    numbers = _numbers(ids)
    who, text = persons.name(by), persons.note(note)

    async def reopen(desk: "Desk") -> "tuple[Acted, int]":
        return await desk.reopen(numbers, who, text, time.time()), await desk.open_failures()

    acted, left = writing(config, reopen)
    if acted.changed:
        print(f"{counted(len(acted.changed), 'failure')} opened again, {left} open")
    wrong = [f"{each}: no such failure, or its event was pruned" for each in _missing(ids, acted)]
    wrong += [f"{each}: is open; there is nothing to undo" for each in _single(ids) if each in acted.already]
    if wrong or not acted.changed:
        complain(*(wrong or ["none of these failures is done; there is nothing to undo"]))
        raise typer.Exit(1)


@failures_app.command("log")
def failures_log(
    number: Annotated[
        str | None, typer.Argument(metavar="NUMBER", help="Only what was done with this failure.")
    ] = None,
    config: ConfigPath = None,
    count: Annotated[int, typer.Option("-n", metavar="N", help="How many lines, at most.", min=1)] = 20,
    source: Annotated[
        list[str] | None,
        typer.Option(
            "--source",
            metavar="SOURCE",
            help="Only failures of this source; a glob is allowed. Can be repeated.",
        ),
    ] = None,
    as_json: Json = False,
    utc: Utc = False,
) -> None:
    """Show who marked failures as done, and who undid that: the newest first, also for failures that were pruned."""
    from roundsman import screen

    numbers = _numbers([number] if number else ())
    if len(numbers) > 1:
        fail(f"{number}: is a range; give one number", 2)

    async def found(view: "View") -> "list[LoggedAct]":
        await known_sources(view, source or ())
        return await view.acts(source or (), numbers[0] if numbers else None, limit=count)

    rows = [screen.act(each) for each in reading(store_of(config), found)]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    console = screen.console(utc=utc)
    if console is not None and rows:
        print(*console.rows([screen.act_row(row, console) for row in rows]), sep="\n")
    for row in rows if console is None else ():
        print(safe(screen.act_line(row)))
    if not rows:
        complain(
            "no failure that matches was marked as done"
            if number or source
            else "no failure was marked as done"
        )


def _numbers(ids: Sequence[str]) -> list[int]:
    """All numbers of these numbers and ranges."""
    numbers: list[int] = []
    for each in ids:
        first, dash, last = each.removeprefix("#").partition("-")
        span = [part.removeprefix("#") for part in ((first, last) if dash else (first, first))]
        if not all(part.isascii() and part.isdecimal() and len(part) < 19 for part in span):
            fail(f"{each}: is not the number of a failure; `roundsman failures` lists them", 2)
        several = range(int(span[0]), int(span[1]) + 1)
        if not several:
            fail(f"{each}: is an empty range: the lower number comes first, as in 9-12", 2)
        if len(several) > WIDEST:
            fail(f"{each}: has more than {WIDEST} numbers; give several ranges", 2)
        numbers += several
    return numbers


def _single(ids: Sequence[str]) -> list[int]:
    """Those that were given alone, not in a range: each of them must be a failure."""
    return list(dict.fromkeys(int(each.removeprefix("#")) for each in ids if "-" not in each))


def _missing(ids: Sequence[str], acted: "Acted") -> list[str]:
    there = {*acted.changed, *acted.already}
    return [str(number) for number in _single(ids) if number not in there]


def _show_already(acted: "Acted") -> None:
    """Name who has marked failures as done before."""
    from roundsman import screen
    from roundsman.options.values import counted

    if len(acted.already) > SHOWN:
        complain(f"{counted(len(acted.already), 'failure')} done already")
        return
    for seq, act in sorted(acted.already.items()):
        complain(f"{seq}: done already{screen.by(act)}")
