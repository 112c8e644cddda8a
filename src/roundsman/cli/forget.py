"""The command that blanks a person: forget."""

import json
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple
from urllib.parse import urlsplit

import typer

from roundsman import config as configuration
from roundsman.cli.app import ConfigPath, Json, app, complain, fail, known_sources, say, writing

if TYPE_CHECKING:
    from roundsman.store import Desk, Forgotten

COPIES = (".before-*", ".replaced*")
"""What the names of copies of the store end with."""


class Look(NamedTuple):
    """What a dry run found."""

    found: "Forgotten"
    vendors: Mapping[str, list[str]]
    """The sources that have the person, by vendor. A source of `http.json` counts as a vendor."""
    sources: list[str]
    """Where to blank the person; empty: everywhere."""


@app.command()
def forget(
    person: Annotated[
        str, typer.Argument(metavar="PERSON", help="An e-mail address, or the id of a person at a vendor.")
    ],
    config: ConfigPath = None,
    source: Annotated[
        list[str] | None,
        typer.Option(
            "--source",
            metavar="SOURCE",
            help="Only in what is of this source, because two vendors can give one id to two persons; a glob is allowed. "
            "Can be repeated.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what names the person. Nothing is changed.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Blank a person in everything that the store keeps, and show which sinks have events of that person.

    An address is found in any case, and in all texts; an id where an event has the id of a person. Parts of them are not
    found. An id that the sources of two vendors have is not blanked without --source. A blanked event keeps its id, type,
    time, outcome and number. Works while the daemon runs. What a vendor, a sink or a backup has is not changed. Exit
    status 1: a reader kept the old bytes in the -wal file, and it has to be run again; or a sink may still hold back lines.

    More: `roundsman help personal-data`.
    """
    name = person.strip()
    if len(name) < (1 if source else 2) or not name.isprintable():
        fail(f"{person!r}: is neither an address nor an id of two characters or more", 2)
    path = configuration.find(config)
    filters = configuration.filters(path)

    async def look(desk: "Desk") -> Look:
        every = {entry.name: _vendor(entry.name, entry.type) for entry in await desk.sources()}
        chosen = await _chosen(desk, source or [])
        found = await desk.forget(name, filters, sources=chosen, dry=True)
        vendors: dict[str, list[str]] = {}
        for each in sorted({*found.events, *found.unread}):
            vendors.setdefault(every.get(each, each), []).append(each)
        if not chosen and "@" not in name and len(vendors) == 1:
            # Only at this vendor, also if another one has the same id by the time of the answer.
            chosen = [each for each, vendor in every.items() if vendor in vendors]
            found = await desk.forget(name, filters, sources=chosen, dry=True)
        return Look(found, vendors, chosen)

    async def blank(desk: "Desk") -> "Forgotten":
        return await desk.forget(name, filters, sources=chosen)

    found, vendors, chosen = writing(config, look)
    places = _places(path)
    several = _several(name, vendors) if not (chosen or "@" in name) else ""
    if not dry_run:
        if several:
            fail(f"nothing is changed: {several}", 2)
        if not yes and _anything(found):
            _ask(name, found, places)
        found = writing(config, blank)
    if as_json:
        document = _document(found, places, _copies(config), dry_run=dry_run)
        print(json.dumps(document | {"vendors": vendors}, indent=2))
    else:
        _show(name, found, places, dry_run=dry_run)
        if several:
            say(several)
        _show_rest(name, found, _copies(config))
    if dry_run:
        return
    for sink in found.still_held:
        complain(f"{sink} still holds back lines about this person, and its next message may have them")
    if not found.erased:
        complain("a program that reads the store kept its old bytes: run this command again")
    if found.still_held or not found.erased:
        raise typer.Exit(1)


def _vendor(source: str, kind: str) -> str:
    """The vendor of a source, by its type. Each source of `http.json` can be one of its own."""
    vendor = kind.partition(".")[0]
    return f"http.json:{source}" if vendor == "http" else vendor


async def _chosen(desk: "Desk", names: list[str]) -> list[str]:
    """The sources that these names and globs mean. Fails if one of them means none."""
    from fnmatch import fnmatchcase

    from roundsman.store import DAEMON

    await known_sources(desk, names)
    there = [*(entry.name for entry in await desk.sources()), DAEMON]
    return [each for each in there if each in names or any(fnmatchcase(each, name) for name in names)]


def _several(name: str, vendors: Mapping[str, list[str]]) -> str:
    """What to do about an id that several vendors have; empty if one has it."""
    if len(vendors) < 2:
        return ""
    options = " or ".join(
        " ".join(f"--source {source}" for source in sources) for sources in vendors.values()
    )
    return f"{name} is an id at {len(vendors)} vendors, and can be {len(vendors)} persons: add {options}"


def _anything(found: "Forgotten") -> bool:
    """Whether there is anything to blank."""
    return bool(found.events or found.unread or found.texts or found.held)


def _ask(name: str, found: "Forgotten", places: Mapping[str, str]) -> None:
    """Ask on a terminal whether to go on; fail elsewhere."""
    if not sys.stdin.isatty():
        fail("nothing is changed: without a terminal to ask on, add --yes", 2)
    _show(name, found, places, dry_run=True, to=complain)
    if not typer.confirm("Blank this in the store? It cannot be undone.", err=True):
        fail("nothing is changed")


def _show(
    name: str,
    found: "Forgotten",
    places: Mapping[str, str],
    *,
    dry_run: bool,
    to: Callable[[str], None] = say,
) -> None:
    """What names the person, or named it, and what sinks have."""
    parts = [_by_source(found.events, "event"), _by_source(found.unread, "unread row")]
    parts.append(_counted(found.texts, "note or error text", "notes and error texts") if found.texts else "")
    parts.append(_by_source(found.held, "held line"))
    what = "; ".join(filter(None, parts))
    if not what:
        hint = "" if "@" in name else "; it is looked for as an id, not as a name"
        to(f"{name}: nothing in the store names this person{hint}")
        return
    to(f"{name}: {'found' if dry_run else 'blanked'} in {what}")
    for sink, count in found.delivered.items():
        to(f"{sink} has {count} of these: {places.get(sink, 'it is not configured any more')}")
    for sink, count in found.due.items():
        to(
            f"{sink} does not have {count} of these yet: a delivery that begins in the next second may still have some as they were"
        )


def _show_rest(name: str, found: "Forgotten", copies: list[str]) -> None:
    """What stays, and what else to do."""
    for source, count in found.in_ids.items():
        events = _counted(count, "event")
        say(f"{source}: the ids of {events} have {name} in them, and ids stay until they are pruned")
    for source in found.in_states:
        say(f"{source}: its position in the vendor's list has {name} in it: roundsman rewind {source}")
    for other, sources in found.others.items():
        # An address is one person everywhere, and an id is one at its vendor.
        where = [] if "@" in other else [part for source in sources for part in ("--source", source)]
        words = [other, *where] if not other.startswith("-") else [*where, "--", other]
        say(f"also named {other}: {shlex.join(['roundsman', 'forget', *words])}")
    for copy in copies:
        say(f"{copy} is a copy of the store and is not changed: delete it")


def _by_source(counts: Mapping[str, int], noun: str) -> str:
    """`12 events of keys, 3 of newsletter`."""
    texts = [
        f"{_counted(count, noun) if not at else count} of {source}"
        for at, (source, count) in enumerate(sorted(counts.items()))
    ]
    return ", ".join(texts)


def _counted(number: int, noun: str, nouns: str = "") -> str:
    return f"{number} {noun if number == 1 else nouns or noun + 's'}"


def _document(
    found: "Forgotten", places: Mapping[str, str], copies: list[str], *, dry_run: bool
) -> dict[str, Any]:
    sinks = [
        {"name": name, "events": count, "place": places.get(name)} for name, count in found.delivered.items()
    ]
    return {
        "dry_run": dry_run,
        "events": dict(found.events),
        "unread": dict(found.unread),
        "texts": found.texts,
        "sinks": sinks,
        "held": dict(found.held),
        "still_held": list(found.still_held),
        "due": dict(found.due),
        "in_ids": dict(found.in_ids),
        "in_states": list(found.in_states),
        "also_named": list(found.others),
        "also_named_in": {other: list(sources) for other, sources in found.others.items()},
        "copies": copies,
        "erased": found.erased,
    }


def _places(path: Path) -> dict[str, str]:
    """What to do about the events that a sink has, for a person. No option is read that may be a secret."""
    return {name: _place(table) for name, table in configuration.tables(path, "sinks").items()}


def _place(table: Mapping[str, Any]) -> str:
    match table.get("type"):
        case "file":
            return f"delete them in {table.get('path')} and its rotated files"
        case "http":
            url = table.get("url")
            host = urlsplit(url).hostname if isinstance(url, str) else None
            return f"{host or 'its receiver'} must delete them"
        case "exec":
            return "its program must delete them"
        case "postgres":
            return f"delete or update their rows in the table {table.get('table')}"
        case "notify":
            return "they are in messages that were sent"
        case "stdout":
            return "they are in the journal, or where the output went"
        case kind:
            return f"its receiver ({kind}) must delete them"


def _copies(config: Path | None) -> list[str]:
    """Copies of the store beside it, from before migrations and restores."""
    store = configuration.store_of(configuration.find(config))
    if not isinstance(store, Path):
        return []
    return sorted(str(each) for end in COPIES for each in store.parent.glob(store.name + end))
