"""Commands that control the daemon, mostly through the store: reload, replay, rewind, track, dead."""

import json
import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from roundsman import config as configuration
from roundsman.cli.app import (
    ConfigPath,
    Json,
    Named,
    NamedSink,
    Utc,
    app,
    complain,
    fail,
    known_sink,
    known_sources,
    reading,
    say,
    store_of,
    when,
    writing,
)
from roundsman.cli.layout import App
from roundsman.errors import ConfigError
from roundsman.masking import safe
from roundsman.system import logs

if TYPE_CHECKING:
    from roundsman.store import DaemonRecord, DeadLetter, Desk, Place, Reload, View

ANSWERS = 30.0
"""Seconds to wait for the daemon's answer, beside the time that programs may take which print secrets."""

STARTS = 2.0
"""Seconds to wait for a daemon that uses the store and has not recorded its configuration yet."""

dead_app = App(
    no_args_is_help=True, help="List, retry or drop dead letters: events that a sink refused for good."
)
app.add_typer(dead_app, name="dead")


@app.command()
def reload(
    config: ConfigPath = None,
    dry: Annotated[
        bool,
        typer.Option("--dry-run", help="Only print what a reload would change. The daemon changes nothing."),
    ] = False,
) -> None:
    """Make the daemon read its configuration file again, and print what that has changed.

    A line for each source, sink and table, with the names of the options, and without their values. Exit status 1: the
    file has mistakes, which are printed, and the old configuration stays in effect; or the daemon does not run, or does
    not answer.

    More: `roundsman help systemd`.
    """
    from roundsman.store import holder

    path = configuration.find(config).absolute()
    try:
        store = configuration.store_of(path)
    except ConfigError as exc:
        # The file does not say where the store is, so its lock cannot give the daemon's pid; systemd passes
        # it. The daemon reports the mistakes in its log and status, too.
        main = "" if dry else os.environ.get("MAINPID", "")
        if main.isdecimal():
            os.kill(int(main), signal.SIGHUP)
        _refuse(exc.problems, dry, silent=main.isdecimal() and logs.on_journal())
    if holder(store) is None:
        fail(
            f"the daemon is not running: no process uses {store}; if daemon.store was changed, restart the daemon"
        )

    found = reading(store, lambda view: _reloaded(view, path, dry))
    if found.problems:
        _refuse(found.problems, dry, silent=logs.on_journal())  # the daemon has logged them there already
    if not logs.on_journal():
        _show_changes(found.changes, dry)


async def _reloaded(view: "View", path: Path, dry: bool) -> "Reload":
    """Ask the daemon, and wait for the record of its answer about this version of the file."""
    import asyncio

    from roundsman import __version__
    from roundsman.store import holder

    worker = configuration.worker_of(path)
    daemon, pid = await _daemon(view, worker)
    if dry and daemon.version != __version__:  # the signal would end one that does not know it
        fail(
            f"the daemon (pid {pid}) is of version {daemon.version}, this command of {__version__}: restart the daemon"
        )
    digest = configuration.digest(path)
    _same_user(pid, view.place)
    try:
        os.kill(pid, signal.SIGUSR1 if dry else signal.SIGHUP)
    except ProcessLookupError:
        fail(f"the daemon (pid {pid}) has just ended")
    # Twice, because another reload may be in progress.
    ends = time.monotonic() + ANSWERS + 2 * _programs(path)
    # Another reload, of an older version of the file, may be in progress. No digest: the daemon could not
    # read the file.
    ours = os.fsencode(path).decode("utf-8", "backslashreplace")
    answers = {(digest, ours), ("", ours)}
    before = daemon.compared if dry else daemon.reload
    while True:
        daemon = await view.daemon(worker)
        found = daemon.compared if dry else daemon.reload
        if found.number != before.number and (found.digest, found.config) in answers:
            return found
        if full := await view.full():
            fail(f"{full}; the daemon (pid {pid}) got the request and cannot answer: see its log")
        if found.number != before.number and found.config != ours:
            fail(f"the daemon (pid {pid}) runs with {found.config} and has reloaded that file, not {path}")
        if time.monotonic() > ends or holder(view.place) is None:
            fail(f"the daemon (pid {pid}) has not answered; see its log")
        await asyncio.sleep(0.02)


def _programs(path: Path) -> float:
    """Maximum seconds that the programs in the configuration may take."""
    from roundsman.options.printed import longest

    try:
        return longest(configuration.read(path).tables)
    except ConfigError:
        return 0.0  # then the daemon runs none


def _show_changes(changes: Sequence[str], dry: bool) -> None:
    from roundsman.options.values import counted

    if not changes:
        print("a reload would change nothing" if dry else "reloaded: nothing has changed")
        return
    print("a reload would change:" if dry else f"reloaded: {counted(len(changes), 'change')}")
    for change in changes:
        say(change)


async def _daemon(view: "View", worker: str) -> "tuple[DaemonRecord, int]":
    """The record of the daemon that uses the store, and its pid; it may just be starting. `worker`: its name."""
    import asyncio

    from roundsman.store import holds

    ends = time.monotonic() + STARTS
    while True:
        found = await view.daemon(worker)
        if found.pid is not None and found.config is not None and holds(found.pid, view.place):
            return found, found.pid
        if time.monotonic() > ends:
            if (others := await view.workers()) and (found.pid is None or not holds(found.pid, view.place)):
                those = ", ".join(f"{each.name} on {each.host}" for each in others)
                fail(f"no worker {worker} runs on this machine; {view.place} is in use by {those}")
            if found.pid is None:
                fail(f"a daemon of an older version uses {view.place} and cannot reload this way; restart it")
            what = "`roundsman once` uses" if found.config is None else "another process uses"
            fail(f"the daemon is not running: {what} {view.place}")
        await asyncio.sleep(0.02)


def _refuse(problems: Sequence[str], dry: bool, *, silent: bool) -> NoReturn:
    from roundsman.options.values import counted

    if not silent:
        what = "a reload would be refused" if dry else "refused; the old configuration stays in effect"
        complain(f"{what}: {counted(len(problems), 'mistake')}", *problems)
    raise typer.Exit(1)


def _same_user(pid: int, store: "Place") -> None:
    """Fail if the store's folder belongs to another user than the process, or a server names a process of another program.

    The folder's owner can write any pid there, and root would send the signal to that process.
    """
    if os.geteuid() != 0:
        return  # the kernel checks it
    if not isinstance(store, Path):
        with suppress(OSError):
            if b"roundsman" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return
        fail(f"pid {pid} is no roundsman: no signal is sent")
    try:
        process, folder = Path(f"/proc/{pid}").stat(), store.parent.stat()
    except OSError:
        fail(f"the daemon (pid {pid}) has just ended")
    if process.st_uid != folder.st_uid:
        fail(f"pid {pid} does not belong to the owner of {store.parent}: no signal is sent")


@app.command()
def replay(
    sink: NamedSink,
    begin: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="WHEN",
            help='Where to begin: "beginning", a date-time, "2h" for two hours ago, or "#123" for the number of an event.',
        ),
    ],
    config: ConfigPath = None,
) -> None:
    """Deliver events to a sink again, from a point in the log on.

    Works while the daemon runs, which delivers at once.

    More: `roundsman help sink-failing`.
    """
    from roundsman.options.values import counted

    async def back(desk: "Desk") -> None:
        if begin == "beginning":
            after = 0
        elif begin.startswith("#") and begin[1:].isdigit():
            after = int(begin[1:]) - 1
        else:
            after = await desk.seq_since(when(begin).timestamp())
        await known_sink(desk, sink)
        cursor, _ = await desk.cursor(sink)
        after = max(0, min(after, cursor))
        await desk.replay(sink, after)
        count = await desk.head() - after
        say(f"{sink}: {counted(count, 'event')} from #{after + 1} on will be delivered again")

    writing(config, back)


@app.command()
def rewind(
    source: Named,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="WHEN",
            help='Where to begin: "beginning", a date-time, or "2h" for two hours ago.',
        ),
    ] = None,
    accept: Annotated[
        bool,
        typer.Option(
            "--accept", help="Keep the cursor, although the source reads another address or account now."
        ),
    ] = False,
    config: ConfigPath = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Also more than 35 days back, where events may be reported a second time."
        ),
    ] = False,
    utc: Utc = False,
) -> None:
    """Read a source again, from a time on. Events that the log has are not reported again.

    Works while the daemon runs. With --to: reads the secrets of this source. Exit status 1, with --accept: there is nothing
    to accept.

    More: `roundsman help gap`.
    """
    from roundsman import screen
    from roundsman.plugin import Rewinds
    from roundsman.store import KEYS_KEPT

    if accept or to is None:
        _accept(source, config, accept=accept and to is None)
        return
    loaded = configuration.load(configuration.find(config), only_source=source)
    target = None if to == "beginning" else when(to)
    if target is not None and target.timestamp() > time.time():
        fail(f"{to}: is in the future; events until then would not be reported", 2)

    async def back(desk: "Desk") -> None:
        far = target is None or time.time() - target.timestamp() > KEYS_KEPT
        if far and not force and await desk.has_pruned_ids():
            fail(
                "ids are kept for 35 days, so older events may be reported again; --force allows that",
                2,
            )
        state = (await desk.memory(source)).state
        found = loaded.sources[source]
        if not isinstance(found, Rewinds):
            fail(f"{source}: a {found.type} source cannot be rewound", 2)
        try:
            await desk.rewind(source, found.rewound(state, target), found.origin())
        except (NotImplementedError, ValueError) as exc:
            fail(f"{source}: {exc}", 2)

    writing(config, back)
    say(
        f"{source}: will be read again from {screen.spoken(target.timestamp(), utc=utc) if target else 'the beginning'} on"
    )


def _accept(source: str, config: Path | None, *, accept: bool) -> None:
    """`rewind --accept`; fails if the options are wrong."""
    if not accept:
        fail(
            "name a point with --to (beginning or a date-time), or use --accept after a change of address", 2
        )

    async def go_on(desk: "Desk") -> None:
        await known_sources(desk, [source])
        if not await desk.accept(source):
            fail(
                f"{source}: the daemon has loaded no other address or account for it, so there is nothing to accept; after "
                "a change of the configuration, first `roundsman reload`, or start the daemon"
            )
        print(f"{source}: continues from its cursor")

    writing(config, go_on)


@app.command()
def track(
    source: Named,
    ids: Annotated[
        list[str],
        typer.Argument(
            metavar="ID",
            help="The ids of batches or pushes. For Railz also batch:ID, CONNECTION/ID and CONNECTION/batch:ID.",
        ),
    ],
    config: ConfigPath = None,
) -> None:
    """Make a source follow batches or pushes by id, until they end.

    Works while the daemon runs. Reads no secrets.

    More: `roundsman help parakey`, `roundsman help railz`, `roundsman help mailchimp`.
    """
    from roundsman.options.values import counted
    from roundsman.plugin import Tracks

    async def follow(desk: "Desk") -> int:
        kind = await desk.kind(source)
        if kind is None:
            names = [entry.name for entry in await desk.sources()]
            fail(f"{source}: no such source; there is {', '.join(names) or 'none yet'}", 2)
        tracks = configuration.source_class(kind)
        if not issubclass(tracks, Tracks):
            fail(f"{source}: this type of source follows nothing by id", 2)
        try:
            tracks.follow({}, ids)
        except (NotImplementedError, ValueError) as exc:
            fail(f"{source}: {exc}", 2)
        return await desk.follow(source, ids)

    new = writing(config, follow)
    waiting = len(set(ids)) - new
    say(
        f"{source}: {counted(new, 'id')} will be tracked from the next visit on"
        + (f", {waiting} waited already" if waiting else "")
    )


@dead_app.command("list")
def dead_list(sink: NamedSink, config: ConfigPath = None, as_json: Json = False, utc: Utc = False) -> None:
    """List the dead letters of a sink.

    More: `roundsman help dead-letters`.
    """
    from roundsman import screen

    async def buried(view: "View") -> "list[DeadLetter]":
        await known_sink(view, sink)
        return await view.dead(sink)

    letters = reading(store_of(config), buried)
    if as_json:
        shown = [
            {**each._asdict(), "buried": screen.stamp(each.buried), "retry": bool(each.retry)}
            for each in letters
        ]
        print(json.dumps(shown, indent=2))
        return
    console = screen.console(utc=utc)
    rows = []
    for each in letters:
        again = "  (will be retried)" if each.retry else ""
        if console is None:
            about = f"#{each.seq}  {screen.stamp(each.buried)}  {each.source}  {each.type}  {each.id}"
            print(safe(f"{about}: {each.reason}{again}"))
        else:
            cells = [f"#{each.seq}", console.clock(each.buried), safe(each.source or "pruned")]
            text = f"{each.type} {each.id}: {each.reason}" if each.id is not None else each.reason
            rows.append(screen.Row(cells, safe(f"{text}{again}")))
    if console is not None and rows:
        print(*console.rows(rows), sep="\n")
    if not letters:
        complain(f"{sink}: no dead letters: it has refused no event for good, or all were retried or dropped")


Seqs = Annotated[
    list[int] | None,
    typer.Argument(
        metavar="NUMBER",
        help="The numbers of events, as `roundsman dead list` prints them. Default: all.",
    ),
]


@dead_app.command("retry")
def dead_retry(sink: NamedSink, seqs: Seqs = None, config: ConfigPath = None) -> None:
    """Deliver dead letters again. The daemon does it at once, `roundsman once` at its next run."""
    from roundsman.options.values import counted

    async def requeue(desk: "Desk") -> int:
        await known_sink(desk, sink)
        return await desk.requeue_dead(sink, seqs or None)

    print(f"{sink}: {counted(writing(config, requeue), 'dead letter')} will be retried")


@dead_app.command("drop")
def dead_drop(
    sink: NamedSink,
    seqs: Annotated[
        list[int] | None,
        typer.Argument(metavar="NUMBER", help="The numbers of events, as `roundsman dead list` prints them."),
    ] = None,
    config: ConfigPath = None,
    everything: Annotated[bool, typer.Option("--all", help="All dead letters of this sink.")] = False,
) -> None:
    """Delete dead letters. The sink never gets these events; the log keeps them."""
    from roundsman.options.values import counted

    async def drop(desk: "Desk") -> int:
        await known_sink(desk, sink)
        if bool(seqs) == everything:
            fail("name the dead letters by number, as `dead list` shows them, or use --all", 2)
        return await desk.drop_dead(sink, seqs or None)

    print(f"{sink}: {counted(writing(config, drop), 'dead letter')} dropped")
