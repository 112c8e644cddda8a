"""The commands. Results on standard output, complaints on standard error; 0 fine, 1 it failed, 2 it was asked wrongly."""

import importlib.resources
import json
import os
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

import roundsman
from roundsman import config as configuration, logs
from roundsman.config import Config, ConfigError
from roundsman.plugin import Source, State, polls, reason, secrets
from roundsman.settings import duration, moment
from roundsman.store import KEYS_KEPT, Filter, Reader, Store, StoreError
from roundsman.webhook import Registrar

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,  # they show local variables, and so secrets
    rich_markup_mode=None,
    help="Polls what only answers questions, and tells each new thing once.",
)
dead_app = typer.Typer(no_args_is_help=True, help="Events that a sink will never take.")
app.add_typer(dead_app, name="dead")
hooks_app = typer.Typer(no_args_is_help=True, help="A vendor's webhooks that lead to a source.")
app.add_typer(hooks_app, name="hooks")
failures_app = typer.Typer(help="What went wrong for whom, over all vendors.")
app.add_typer(failures_app, name="failures")

ConfigPath = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="The configuration. Default: $ROUNDSMAN_CONFIG, ./roundsman.toml, /etc/roundsman/roundsman.toml.",
    ),
]
Named = Annotated[str, typer.Argument(metavar="SOURCE", help="Its name in the configuration.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
ENOUGH = 100
"""Rows that are proof enough for `check --live` that a source answers."""
FOLLOW_EVERY = 0.3
"""Seconds between two looks for new events or a new status."""


def main() -> None:
    """The `roundsman` command."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:  # closed by whoever started us: a socket or the store must not get its number
            os.open(os.devnull, os.O_RDWR)
    try:
        app()
    except ConfigError as exc:
        if exc.path:
            complain(f"{exc.path}: {_count(len(exc.problems), 'mistake')}")
        complain(*exc.problems)
        sys.exit(2)
    except StoreError as exc:
        complain(str(exc))
        sys.exit(2 if "is in use by" in str(exc) else 1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whoever read has enough
    except OSError as exc:
        complain(reason(exc))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def complain(*lines: str) -> None:
    for line in lines:
        print(logs.safe(line), file=sys.stderr)


def fail(message: str, status: int = 1) -> NoReturn:
    complain(message)
    raise typer.Exit(status)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"roundsman {roundsman.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


# -- setting up --------------------------------------------------------------------------------------------------------


@app.command()
def init(path: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("roundsman.toml")) -> None:
    """Write a commented starter configuration; never overwrites."""
    text = importlib.resources.files("roundsman").joinpath("starter.toml").read_text(encoding="utf-8")
    if path.exists():
        fail(f"{path}: is there already, and is not overwritten")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # 0600 from the start: sooner or later somebody writes a secret into it.
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as exc:
        fail(f"{path}: cannot be written: {exc.strerror}")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    print(f"wrote {path}; fill in your source, then: roundsman check -c {path}")


@app.command()
def check(
    config: ConfigPath = None,
    live: Annotated[
        bool, typer.Option("--live", help="Ask every source one harmless question, and open every sink.")
    ] = False,
) -> None:
    """Validate the configuration."""
    loaded = configuration.load(configuration.find(config))
    for warning in configuration.warnings(loaded):
        complain(f"warning: {warning}")
    what = f"{_count(len(loaded.sources), 'source')}, {_count(len(loaded.sinks), 'sink')}"
    print(f"{loaded.path}: no mistakes; {what}, store {loaded.store}")
    if live:
        from roundsman import service

        logs.configure("warning", loaded.daemon.log_format)
        raise typer.Exit(service.run(lambda: _check_live(loaded)))


async def _ask_once(source: Source, http: Any, state: State) -> tuple[int, list[str]]:
    """One visit, or the first pages of it: rows read, and what was odd. Raises what the visit ends in."""
    rows = 0
    remarks: list[str] = []
    async with aclosing(polls(source, http, state)) as found:
        async for poll in found:
            rows += poll.rows
            remarks += poll.remarks
            if poll.page and rows > ENOUGH:
                break
    return rows, remarks


async def _check_live(config: Config) -> int:
    from roundsman.http import Http
    from roundsman.service import web

    connections, code = web(config.http), 0
    for name, source in config.sources.items():
        asked = connections.seen
        try:
            # A poll is a value: dropped, it did not happen.
            http = Http(connections, source.auth(), source.identity(), concurrency=source.concurrency)
            rows, remarks = await _ask_once(source, http, {})
            if (
                connections.seen == asked
            ):  # nothing is followed yet: a question about nothing, for the sake of the key
                _, remarks = await _ask_once(source, http, source.follow({}, ["roundsman-check"]))
            print(f"sources.{name}: answers" + (f", {rows} rows" if rows else ""))
            for remark in remarks:
                complain(f"sources.{name}: {remark}")
                code = 1
        except Exception as exc:  # noqa: BLE001 - a plugin may raise anything, and the next one wants its turn
            complain(f"sources.{name}: {reason(exc)}")
            code = 1
    for name, sink in config.sinks.items():
        try:
            async with sink.open(Http(connections), None):
                print(f"sinks.{name}: opens")
        except BlockingIOError:
            print(f"sinks.{name}: is open already, by a running daemon")
        except Exception as exc:  # noqa: BLE001 - as above
            complain(f"sinks.{name}: {reason(exc)}")
            code = 1
    await connections.aclose()
    return code


# -- running -----------------------------------------------------------------------------------------------------------


@app.command()
def run(config: ConfigPath = None) -> None:
    """Run the daemon. SIGTERM and SIGINT stop it, SIGHUP reloads the configuration."""
    from roundsman import service

    loaded = configuration.load(configuration.find(config))
    raise typer.Exit(service.run(lambda: service.daemon(loaded)))


@app.command()
def once(
    config: ConfigPath = None,
    now: Annotated[bool, typer.Option("--now", help="Visit every source, due or not.")] = False,
) -> None:
    """Visit every source that is due, deliver, and end; for cron."""
    from roundsman import service

    loaded = configuration.load(configuration.find(config))
    raise typer.Exit(service.run(lambda: service.once(loaded, everything=now)))


@app.command()
def poll(
    source: Annotated[str, typer.Argument(help="Its name in the configuration.")],
    config: ConfigPath = None,
    as_json: Json = False,
) -> None:
    """Visit one source dry: print the events it would emit, commit nothing."""
    from roundsman import service

    loaded = configuration.load(configuration.find(config), only_source=source)
    logs.configure("warning", loaded.daemon.log_format)
    raise typer.Exit(service.run(lambda: _poll(loaded, source, as_json)))


async def _poll(config: Config, name: str, as_json: bool) -> int:
    from roundsman.http import Http
    from roundsman.service import web

    connections, source, seen = web(config.http), config.sources[name], set[str]()
    reader = Reader.open(config.store) if config.store.exists() else None

    def known(ids: Sequence[str]) -> set[str]:
        return reader.known(name, ids) if reader else set()

    http = Http(connections, source.auth(), source.identity(), known, source.concurrency)
    show = _printer(as_json)
    told = 0
    try:
        state: Any = reader.state(name)[0] if reader else {}
        if reader and (ids := reader.inbox(name)[0]):
            state = source.follow(state, ids)
        more = True
        while more:
            async for visit in polls(source, http, state):
                ids = [event.id for event in visit.events]
                there = known(ids)
                for event in visit.events:
                    if event.id not in there and event.id not in seen:
                        show(event)
                        told += 1
                for remark in visit.remarks:
                    complain(f"{name}: {remark}")
                # Only the last page's ids: pages overlap, and memory is bounded by a page.
                seen, state, more = set(ids), visit.state, visit.more
    except Exception as exc:  # noqa: BLE001 - a plugin may raise anything
        complain(f"sources.{name}: {reason(exc)}")
        return 1
    finally:
        await connections.aclose()
        if reader:
            reader.close()
    if not told:
        first = "" if reader else ' (a first visit with start = "now" only marks where now is)'
        complain(f"{name}: nothing new{first}")
    return 0


# -- looking -----------------------------------------------------------------------------------------------------------


@app.command()
def status(
    config: ConfigPath = None,
    as_json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on showing it.")] = False,
) -> None:
    """Show every source and sink: last visit, last change, next due, failures, what waits."""
    from roundsman import screen

    path = configuration.find(config)
    loaded = configuration.load(path, only_daemon=True)
    try:
        filters = {
            n: Filter(s.types, s.sources, s.outcomes) for n, s in configuration.load(path).sinks.items()
        }
    except ConfigError:  # a secret that only the service can read, say
        filters = {}
    with _reading(loaded) as reader:

        def following(name: str, kind: str) -> Sequence[str]:
            try:
                state = configuration.source_class(kind).following(reader.state(name)[0])
            except ConfigError:  # a type that is not installed any more
                return reader.inbox(name)[0]
            return [*state, *reader.inbox(name)[0]]

        console = screen.console()
        if watch and console.is_terminal and not as_json:
            from rich.live import Live

            with Live(console=console, screen=False, auto_refresh=False) as live:
                while True:
                    live.update(screen.status_tables(screen.status(reader, filters, following)), refresh=True)
                    time.sleep(FOLLOW_EVERY * 3)
        while True:
            found = screen.status(reader, filters, following)
            if as_json:
                print(json.dumps(found, indent=None if watch else 2), flush=True)
            elif console.is_terminal:
                console.print(screen.status_tables(found))
            else:
                print(*screen.status_lines(found), sep="\n", flush=True)
            if not watch:
                return
            time.sleep(FOLLOW_EVERY * 3)


@app.command()
def events(
    config: ConfigPath = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with new ones.")] = False,
    count: Annotated[
        int | None, typer.Option("-n", help="How many; 20 unless --since is given.", min=0)
    ] = None,
    source: Annotated[
        list[str] | None, typer.Option("--source", help="Only of this source; globs, repeatable.")
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option("--type", help="Only of this type; globs, repeatable.")
    ] = None,
    outcome: Annotated[
        list[str] | None, typer.Option("--outcome", help="Only with this outcome; globs, repeatable.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", help='Logged since: a date-time, or "2h" for two hours ago.')
    ] = None,
    as_json: Json = False,
) -> None:
    """Read the log, or follow it."""
    loaded = configuration.load(configuration.find(config), only_daemon=True)
    # The short names that are shown are understood, too: batch.completed for any vendor's.
    wanted = Filter([*(kind or ()), *(f"*.{each}" for each in kind or ())], source or (), outcome or ())
    start = _when(since).timestamp() if since else 0.0
    show = _printer(as_json)
    with _reading(loaded) as reader:
        _known_sources(reader, source or ())
        at = reader.head()
        for event in _last(reader, count, wanted, start, since is not None, at):
            show(event)
        version = reader.version()
        while follow:
            time.sleep(FOLLOW_EVERY)
            if (now := reader.version()) == version:
                continue
            version, head = now, reader.head()
            while found := reader.events(at, head, 500, wanted):
                for event, _ in found:
                    show(event)
                at = found[-1][0].seq
            at = head


def _last(
    reader: Reader, count: int | None, wanted: Filter, start: float, ranged: bool, head: int
) -> Iterator[Any]:
    if count is None and ranged:
        at = reader.before(start)
        while found := reader.events(at, head, 500, wanted):
            yield from (event for event, _ in found)
            at = found[-1][0].seq
    else:
        yield from (event for event, _ in reader.last(20 if count is None else count, wanted, start))


@failures_app.callback(invoke_without_command=True)
def failures(
    context: typer.Context,
    config: ConfigPath = None,
    since: Annotated[
        str | None, typer.Option("--since", help='Logged since: a date-time, or "2h" for two hours ago.')
    ] = None,
    source: Annotated[
        list[str] | None, typer.Option("--source", help="Only of this source; globs, repeatable.")
    ] = None,
    count: Annotated[int | None, typer.Option("-n", help="How many, at most.", min=1)] = None,
    everything: Annotated[bool, typer.Option("--all", help="Those that were ticked off, too.")] = False,
    as_json: Json = False,
) -> None:
    """What went wrong for whom, over all vendors, newest first. `failures done ID...` ticks one off."""
    if context.invoked_subcommand is not None:
        return
    from roundsman import screen

    loaded = configuration.load(configuration.find(config), only_daemon=True)
    start = _when(since).timestamp() if since else 0.0
    with _reading(loaded) as reader:
        _known_sources(reader, source or ())
        found = reader.failures(source or (), start, done=everything, limit=-1 if count is None else count)
        left = reader.open_failures()
    rows = [screen.failure(event, logged, done) for event, logged, done in found]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    console = screen.console()
    for row in rows:
        screen.show_failure(row, console)
    if not rows:
        complain(
            "nothing of that is open"
            if since or source
            else "nothing is open; --all shows what was ticked off"
        )
    elif console.is_terminal and left:
        done = f"roundsman failures done {rows[0]['id']}"
        complain("", f"{_count(left, 'failure')} open; to tick off the first: {done}")


@failures_app.command("done")
def failures_done(
    ids: Annotated[
        list[str] | None, typer.Argument(help="Their numbers, as `failures` shows them; 9-12 for several.")
    ] = None,
    config: ConfigPath = None,
    everything: Annotated[bool, typer.Option("--all", help="All that are open.")] = False,
) -> None:
    """Tick failures off: somebody has seen to them."""
    if not ids and not everything:
        fail("which ones? their numbers, 9-12 for several, or --all", 2)
    numbers: list[int] = []
    for each in ids or ():
        first, dash, last = each.removeprefix("#").partition("-")
        span = [part.removeprefix("#") for part in ((first, last) if dash else (first, first))]
        if not all(part.isascii() and part.isdecimal() and len(part) < 19 for part in span):
            fail(f"{each}: not the number of a failure; `roundsman failures` shows them", 2)
        numbers += range(int(span[0]), min(int(span[1]), int(span[0]) + 100_000) + 1)
    with _writing(config) as store:
        if everything:
            numbers += [event.seq for event, _, _ in store.failures()]
        before = store.open_failures()
        done = store.tick_off(numbers)
        left = store.open_failures()
        print(f"{_count(before - left, 'failure')} ticked off, {left} left")
    named = [int(each.removeprefix("#")) for each in ids or () if "-" not in each]
    if missing := [str(number) for number in named if number not in done]:
        fail(f"{', '.join(missing)}: no such failure")


# -- steering ----------------------------------------------------------------------------------------------------------


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
    with _writing(config) as store:
        if begin == "beginning":
            after = 0
        elif begin.startswith("#") and begin[1:].isdigit():
            after = int(begin[1:]) - 1
        else:
            after = store.before(_when(begin).timestamp())
        _known_sink(store, sink)
        after = max(0, min(after, store.cursor(sink)[0]))
        store.replay(sink, after)
        print(f"{sink}: {store.head() - after} events from #{after + 1} on will be delivered again")


@app.command()
def rewind(
    source: Annotated[str, typer.Argument(help="Its name in the configuration.")],
    to: Annotated[str, typer.Option("--to", help='"beginning", a date-time, or "2h" for two hours ago.')],
    config: ConfigPath = None,
    force: Annotated[
        bool, typer.Option("--force", help="Even so far back that events may be told again.")
    ] = False,
) -> None:
    """Read a source again from a point in the vendor's time on. What the log has is not told twice."""
    from roundsman import screen

    loaded = configuration.load(configuration.find(config), only_source=source)
    target = None if to == "beginning" else _when(to)
    if target is not None and target.timestamp() > time.time():
        fail(f"{to}: is in the future; what happens until then would not be told", 2)
    with _writing(config) as store:
        if not force and store.forgot() and (target is None or time.time() - target.timestamp() > KEYS_KEPT):
            fail(
                "ids are remembered for 35 days; what is older may be told again. --force does it all the same",
                2,
            )
        state, _ = store.state(source)
        try:
            store.rewind(source, loaded.sources[source].rewound(state, target))
        except NotImplementedError as exc:
            fail(f"{source}: {exc}", 2)
    print(
        f"{source}: will be read again from {screen.stamp(target.timestamp()) if target else 'the beginning'} on"
    )


@app.command()
def track(
    source: Annotated[str, typer.Argument(help="Its name in the configuration.")],
    ids: Annotated[list[str], typer.Argument(help="Ids of batches or pushes.")],
    config: ConfigPath = None,
) -> None:
    """Have a source follow batches or pushes until they end. Works while the daemon runs; needs no secrets."""
    with _writing(config) as store:
        kind = store.kind(source)
        if kind is None:
            names = [row["name"] for row in store.sources()]
            fail(f"{source}: no such source; there is {', '.join(names) or 'none yet'}", 2)
        try:
            configuration.source_class(kind).follow({}, ids)
        except (NotImplementedError, ValueError) as exc:
            fail(f"{source}: {exc}", 2)
        new = store.follow(source, ids)
    waiting = len(set(ids)) - new
    print(
        f"{source}: {_count(new, 'id')} will be followed from the next visit on"
        + (f", {waiting} waited for it already" if waiting else "")
    )


@dead_app.command("list")
def dead_list(
    sink: Annotated[str, typer.Argument()], config: ConfigPath = None, as_json: Json = False
) -> None:
    """Show what is buried."""
    from roundsman import screen

    loaded = configuration.load(configuration.find(config), only_daemon=True)
    with _reading(loaded) as reader:
        _known_sink(reader, sink)
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
    with _writing(config) as store:
        _known_sink(store, sink)
        print(f"{sink}: {store.raise_dead(sink, seqs or None)} events will be tried again")


@dead_app.command("drop")
def dead_drop(sink: Annotated[str, typer.Argument()], seqs: Seqs = None, config: ConfigPath = None) -> None:
    """Forget buried events."""
    with _writing(config) as store:
        _known_sink(store, sink)
        print(f"{sink}: {store.drop_dead(sink, seqs or None)} events dropped")


# -- webhooks ----------------------------------------------------------------------------------------------------------


@hooks_app.command("list")
def hooks_list(source: Named, config: ConfigPath = None, as_json: Json = False) -> None:
    """Show the webhooks that the vendor has, and whether one leads here."""
    from roundsman import hooks

    async def show(found: Source, registrar: Registrar | None) -> int:
        if registrar is None:
            fail(
                f"{source}: this vendor has no API that lists webhooks; `hooks create` says what to enter where",
                2,
            )
        rows = await registrar.list()
        if as_json:
            here = [hooks.leads_here(found, row) for row in rows]
            urls = [hooks.masked(found, row.url) for row in rows]
            print(
                json.dumps(
                    [
                        {"id": r.id, "url": u, "enabled": r.enabled, "leads_here": h}
                        for r, u, h in zip(rows, urls, here, strict=True)
                    ],
                    indent=2,
                )
            )
        else:
            for row in rows:
                what = "" if row.enabled else "  disabled"
                what += "  leads here" if hooks.leads_here(found, row) else ""
                print(logs.safe(f"{row.id}  {hooks.masked(found, row.url)}{what}"))
            print(f"{len(rows)} of {registrar.most} that the vendor allows")
        wrong = hooks.troubles(found, rows)
        complain(*(f"warning: {each}" for each in wrong))
        return 1 if wrong else 0

    _at_vendor(config, source, show)


@hooks_app.command("create")
def hooks_create(
    source: Named,
    url: Annotated[
        str,
        typer.Option("--url", help="The public address of the listener, such as https://hooks.example.org."),
    ],
    config: ConfigPath = None,
    reveal: Annotated[
        bool, typer.Option("--reveal", help="Print secrets that have to be entered by hand.")
    ] = False,
) -> None:
    """Have the vendor send webhooks here; where it has no API for that, say what to enter where."""
    from roundsman import hooks

    async def make(found: Source, registrar: Registrar | None) -> int:
        place = hooks.address(found, url)
        if registrar is None:
            print(*hooks.advice(found, place, reveal=reveal), sep="\n")
            return 0
        made = await hooks.create(found, registrar, place)
        print(f"{made.id}: sends to {hooks.masked(found, made.url or place)}")
        if made.secret:
            print(f"signing secret, shown this once: {made.secret}")
            complain(
                f"store it, and name it in [sources.{source}.webhook] signing_secret; then reload the daemon"
            )
        return 0

    _at_vendor(config, source, make)


@hooks_app.command("delete")
def hooks_delete(
    source: Named,
    key: Annotated[str, typer.Argument(metavar="ID", help="As `hooks list` shows it.")],
    config: ConfigPath = None,
) -> None:
    """Have the vendor send no more."""

    async def delete(_: Source, registrar: Registrar | None) -> int:
        if registrar is None:
            fail(f"{source}: this vendor has no API for webhooks: delete it where it was entered", 2)
        await registrar.delete(key)
        print(f"{key}: deleted")
        return 0

    _at_vendor(config, source, delete)


@hooks_app.command("unread")
def hooks_unread(
    source: Named,
    config: ConfigPath = None,
    as_json: Json = False,
    drop: Annotated[bool, typer.Option("--drop", help="Forget them.")] = False,
) -> None:
    """Show webhooks that were authentic and not understood; with --json, their bodies, too."""
    from roundsman import screen

    if drop:
        with _writing(config) as store:
            _known_sources(store, [source])
            print(f"{source}: {_count(store.drop_unread(source, None), 'webhook')} dropped")
        return
    loaded = configuration.load(configuration.find(config), only_daemon=True)
    with _reading(loaded) as reader:
        _known_sources(reader, [source])
        rows = reader.unread(source)
    if as_json:
        shown = [
            {**row, "received": screen.stamp(row["received"]), "body": row["body"].decode("utf-8", "replace")}
            for row in rows
        ]
        print(json.dumps(shown, indent=2))
        return
    for row in rows:
        print(
            logs.safe(f"{row['n']}  {screen.stamp(row['received'])}  {len(row['body'])} bytes: {row['why']}")
        )


def _at_vendor(
    path: Path | None, name: str, act: Callable[[Source, Registrar | None], Coroutine[Any, Any, int]]
) -> NoReturn:
    """Do something with a vendor's webhooks."""
    from roundsman import service
    from roundsman.hooks import HookError
    from roundsman.http import Http

    loaded = configuration.load(configuration.find(path), only_source=name)
    logs.configure("warning", loaded.daemon.log_format)
    source = loaded.sources[name]

    async def run() -> int:
        connections = service.web(loaded.http)
        hidden = [secret.reveal() for secret in secrets(source)]
        http = Http(
            connections, source.auth(), source.identity(), concurrency=source.concurrency, hidden=hidden
        )
        try:
            return await act(source, source.registrar(http))
        except typer.Exit:
            raise
        except HookError as exc:
            complain(f"{name}: {exc}")
        except Exception as exc:  # noqa: BLE001 - a plugin may raise anything
            complain(f"{name}: {reason(exc)}")
        finally:
            await connections.aclose()
        return 1

    raise typer.Exit(service.run(run))


# -- the rest ----------------------------------------------------------------------------------------------------------


@app.command()
def schema(what: Annotated[Literal["config", "events"], typer.Argument()]) -> None:
    """Print a JSON Schema: of the configuration file, or of the events."""
    from roundsman.events import schemas

    print(json.dumps(configuration.json_schema() if what == "config" else schemas(), indent=2))


@app.command()
def demo(
    length: Annotated[
        str | None, typer.Option("--for", help='How long, such as "30s"; until Ctrl-C without.')
    ] = None,
) -> None:
    """Run the daemon against a made-up company at three vendors on this machine, and show events as they come."""
    from roundsman import service
    from roundsman.sandbox.demo import demo as show

    try:
        seconds = duration(float(length) if length.isdecimal() else length) if length is not None else None
    except ValueError as exc:
        fail(f"--for: {length} {exc}", 2)
    raise typer.Exit(service.run(lambda: show(seconds)))


def _known_sources(reader: Reader, names: Sequence[str]) -> None:
    """A name without globs that is no source's is a slip, and no reason to say that there is nothing."""
    there = [row["name"] for row in reader.sources()]
    for name in names:
        if name not in there and not set(name) & set("*?["):
            fail(f"{name}: no such source; there is {', '.join(there) or 'none yet'}", 2)


def _known_sink(reader: Reader, sink: str) -> None:
    names = [row["name"] for row in reader.sinks()]
    if sink not in names:
        fail(f"{sink}: no such sink; there is {', '.join(names) or 'none yet'}", 2)


def _when(text: str) -> datetime:
    """A date-time, or as long ago as a duration."""
    try:
        return datetime.fromtimestamp(time.time() - duration(text), UTC)
    except ValueError:
        pass
    try:
        return moment(text)
    except ValueError:
        fail(f'{text}: is neither a date-time such as "2026-05-01T00:00:00Z" nor a duration such as "2h"', 2)


@contextmanager
def _reading(config: Config) -> Iterator[Reader]:
    reader = Reader.open(config.store)
    try:
        yield reader
    finally:
        reader.close()


@contextmanager
def _writing(path: Path | None) -> Iterator[Store]:
    loaded = configuration.load(configuration.find(path), only_daemon=True)
    store = Store.open(loaded.store, daemon=False)
    try:
        yield store
    finally:
        store.close()


def _printer(as_json: bool) -> Callable[[Any], None]:
    if as_json:
        return lambda event: print(event.body.decode("utf-8", "replace"), flush=True)
    from roundsman import screen

    console = screen.console()
    return lambda event: screen.show_event(event, console)


if __name__ == "__main__":
    main()
