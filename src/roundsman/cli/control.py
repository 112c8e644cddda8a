"""Commands that control the daemon, mostly through the store: reload, replay, rewind, track, dead."""

import json
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from roundsman import config as configuration
from roundsman.cli.app import (
    ConfigPath,
    Json,
    app,
    complain,
    fail,
    known_sink,
    known_sources,
    reading,
    when,
    writing,
)
from roundsman.errors import ConfigError
from roundsman.options.values import counted
from roundsman.plugin import Rewinds, Tracks
from roundsman.store import KEYS_KEPT, DaemonRecord, Reader, holder, holds
from roundsman.system import logs

ANSWERS = 30.0
"""Seconds to wait for the daemon's answer."""

STARTS = 2.0
"""Seconds to wait for a daemon that has the store and has not said yet with which configuration."""

dead_app = typer.Typer(no_args_is_help=True, help="Events that a sink will never take.")
app.add_typer(dead_app, name="dead")


@app.command()
def reload(config: ConfigPath = None) -> None:
    """Have the daemon take over its configuration file; fails with its reasons where it refuses to."""
    path = configuration.find(config).absolute()
    try:
        loaded = configuration.load(path, only_daemon=True)
    except ConfigError as exc:
        # The file does not say where the store is, so its lock cannot give the daemon's pid; systemd passes
        # it. The daemon should report the mistakes in its log and status, too.
        main = os.environ.get("MAINPID", "")
        if main.isdecimal():
            os.kill(int(main), signal.SIGHUP)
        _refuse(exc.problems, silent=main.isdecimal() and logs.on_journal())
    if holder(loaded.store) is None:
        fail(f"the daemon is not running: none has {loaded.store}")
    with reading(loaded) as reader:
        before, pid = _daemon(reader)
        wanted = configuration.digest(path)
        _same_user(pid, loaded.store)
        try:
            os.kill(pid, signal.SIGHUP)
        except ProcessLookupError:
            fail(f"the daemon (pid {pid}) has just ended")
        ends = time.monotonic() + ANSWERS
        # Another reload, of an older version of the file, may be in progress. No digest: the daemon could not
        # read the file.
        ours = os.fsencode(path).decode("utf-8", "backslashreplace")
        answers = {(wanted, ours), ("", ours)}
        while (found := reader.daemon()).reloads == before.reloads or (
            found.digest,
            found.config,
        ) not in answers:
            if full := reader.full():
                fail(f"{full}; so the daemon (pid {pid}) was told, and cannot answer: see its log")
            if found.reloads != before.reloads and found.config != ours:
                fail(
                    f"the daemon (pid {pid}) runs with {found.config}, which it has read again, and not with {path}"
                )
            if time.monotonic() > ends or holder(loaded.store) is None:
                fail(f"the daemon (pid {pid}) has not answered; its log may say why")
            time.sleep(0.02)
    if found.problems:
        _refuse(found.problems, silent=logs.on_journal())  # the daemon has logged them there already
    if not logs.on_journal():
        print("taken over")


def _daemon(reader: Reader) -> tuple[DaemonRecord, int]:
    """The daemon that has the store, and its process; it may just be starting."""
    ends = time.monotonic() + STARTS
    while True:
        found = reader.daemon()
        if found.pid is not None and found.config is not None and holds(found.pid, reader.path):
            return found, found.pid
        if time.monotonic() > ends:
            if found.pid is None:
                fail(f"a daemon of an older version has {reader.path}, and does not hear this; restart it")
            what = "`roundsman once` has" if found.config is None else "another process has"
            fail(f"the daemon is not running: {what} {reader.path}")
        time.sleep(0.02)


def _refuse(problems: Sequence[str], *, silent: bool) -> NoReturn:
    if not silent:
        complain(
            f"refused, and the old configuration goes on: {counted(len(problems), 'mistake')}", *problems
        )
    raise typer.Exit(1)


def _same_user(pid: int, store: Path) -> None:
    """Fail if the store's folder belongs to another user than the process.

    The folder's owner can write any pid there, and root would send the signal to that process.
    """
    if os.geteuid() != 0:
        return  # the kernel checks it
    try:
        process, folder = Path(f"/proc/{pid}").stat(), store.parent.stat()
    except OSError:
        fail(f"the daemon (pid {pid}) has just ended")
    if process.st_uid != folder.st_uid:
        fail(f"pid {pid} is not of the user whose {store.parent} is, and is not told anything")


@app.command()
def replay(
    sink: Annotated[str, typer.Argument(help="Its name in the configuration.")],
    begin: Annotated[
        str,
        typer.Option("--from", help='"beginning", a date-time, "2h" for two hours ago, or "#123" for a seq.'),
    ],
    config: ConfigPath = None,
) -> None:
    """Deliver events to a sink again, from a point in the log on. Works while the daemon runs."""
    with writing(config) as store:
        if begin == "beginning":
            after = 0
        elif begin.startswith("#") and begin[1:].isdigit():
            after = int(begin[1:]) - 1
        else:
            after = store.seq_since(when(begin).timestamp())
        known_sink(store, sink)
        after = max(0, min(after, store.cursor(sink)[0]))
        store.replay(sink, after)
        print(f"{sink}: {store.head() - after} events from #{after + 1} on will be delivered again")


@app.command()
def rewind(
    source: Annotated[str, typer.Argument(help="Its name in the configuration.")],
    to: Annotated[
        str | None, typer.Option("--to", help='"beginning", a date-time, or "2h" for two hours ago.')
    ] = None,
    accept: Annotated[
        bool,
        typer.Option(
            "--accept", help="Go on where it was, although it reads another address or account now."
        ),
    ] = False,
    config: ConfigPath = None,
    force: Annotated[
        bool, typer.Option("--force", help="Even so far back that events may be told again.")
    ] = False,
) -> None:
    """Read a source again from a point in the vendor's time on. What the log has is not told twice."""
    from roundsman import screen

    if accept or to is None:
        _accept(source, config, accept=accept and to is None)
        return
    loaded = configuration.load(configuration.find(config), only_source=source)
    target = None if to == "beginning" else when(to)
    if target is not None and target.timestamp() > time.time():
        fail(f"{to}: is in the future; what happens until then would not be told", 2)
    with writing(config) as store:
        if (
            not force
            and store.has_pruned_ids()
            and (target is None or time.time() - target.timestamp() > KEYS_KEPT)
        ):
            fail(
                "ids are remembered for 35 days; what is older may be told again. --force does it all the same",
                2,
            )
        state, _ = store.state(source)
        found = loaded.sources[source]
        if not isinstance(found, Rewinds):
            fail(f"{source}: a {found.type} source cannot be rewound", 2)
        try:
            store.rewind(source, found.rewound(state, target), found.origin())
        except (NotImplementedError, ValueError) as exc:
            fail(f"{source}: {exc}", 2)
    print(
        f"{source}: will be read again from {screen.stamp(target.timestamp()) if target else 'the beginning'} on"
    )


def _accept(source: str, config: Path | None, *, accept: bool) -> None:
    """`rewind --accept`; fails if the options are wrong."""
    if not accept:
        fail("where to? --to beginning or a date-time; or --accept, to go on after a change of address", 2)
    with writing(config) as store:
        known_sources(store, [source])
        if not store.accept(source):
            fail(f"{source}: reads what it remembers; there is nothing to accept")
        print(f"{source}: goes on where it was")


@app.command()
def track(
    source: Annotated[str, typer.Argument(help="Its name in the configuration.")],
    ids: Annotated[list[str], typer.Argument(help="Ids of batches or pushes.")],
    config: ConfigPath = None,
) -> None:
    """Have a source follow batches or pushes until they end. Works while the daemon runs; needs no secrets."""
    with writing(config) as store:
        kind = store.kind(source)
        if kind is None:
            names = [row["name"] for row in store.sources()]
            fail(f"{source}: no such source; there is {', '.join(names) or 'none yet'}", 2)
        tracks = configuration.source_class(kind)
        if not issubclass(tracks, Tracks):
            fail(f"{source}: this type of source follows nothing by id", 2)
        try:
            tracks.follow({}, ids)
        except (NotImplementedError, ValueError) as exc:
            fail(f"{source}: {exc}", 2)
        new = store.follow(source, ids)
    waiting = len(set(ids)) - new
    print(
        f"{source}: {counted(new, 'id')} will be followed from the next visit on"
        + (f", {waiting} waited for it already" if waiting else "")
    )


@dead_app.command("list")
def dead_list(
    sink: Annotated[str, typer.Argument()], config: ConfigPath = None, as_json: Json = False
) -> None:
    """Show what is buried."""
    from roundsman import screen

    loaded = configuration.load(configuration.find(config), only_daemon=True)
    with reading(loaded) as reader:
        known_sink(reader, sink)
        rows = reader.dead(sink)
    if as_json:
        print(
            json.dumps(
                [{**row, "buried": screen.stamp(row["buried"]), "retry": bool(row["retry"])} for row in rows],
                indent=2,
            )
        )
        return
    for row in rows:
        again = "  (to be tried again)" if row["retry"] else ""
        print(
            logs.safe(
                f"#{row['seq']}  {screen.stamp(row['buried'])}  {row['source']}  {row['type']}  {row['id']}: {row['reason']}{again}"
            )
        )


Seqs = Annotated[
    list[int] | None, typer.Argument(help="Their numbers, as `dead list` shows them; all without.")
]


@dead_app.command("retry")
def dead_retry(sink: Annotated[str, typer.Argument()], seqs: Seqs = None, config: ConfigPath = None) -> None:
    """Try buried events again; the daemon does so at once, `once` when it runs."""
    with writing(config) as store:
        known_sink(store, sink)
        print(f"{sink}: {store.requeue_dead(sink, seqs or None)} events will be tried again")


@dead_app.command("drop")
def dead_drop(
    sink: Annotated[str, typer.Argument()],
    seqs: Annotated[
        list[int] | None, typer.Argument(help="Their numbers, as `dead list` shows them.")
    ] = None,
    config: ConfigPath = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
) -> None:
    """Forget buried events."""
    with writing(config) as store:
        known_sink(store, sink)
        if not seqs and not everything:
            fail("which ones? their numbers, as `dead list` shows them, or --all", 2)
        print(f"{sink}: {store.drop_dead(sink, seqs or None)} events dropped")
