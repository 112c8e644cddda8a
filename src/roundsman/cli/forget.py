"""The command that blanks a person: forget."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from roundsman import config as configuration
from roundsman.cli.app import ConfigPath, Json, app, complain, fail, writing
from roundsman.masking import safe

if TYPE_CHECKING:
    from roundsman.store import Desk, Forgotten

COPIES = (".before-*", ".replaced*")
"""What the names of copies of the store end with."""


@app.command()
def forget(
    person: Annotated[
        str, typer.Argument(metavar="PERSON", help="An e-mail address, or the id of a person at a vendor.")
    ],
    config: ConfigPath = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what names the person. Nothing is changed.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Blank a person in everything that the store keeps, and show which sinks have events of that person.

    An address is found in any case, and in all texts; an id where an event has the id of a person. Parts of them are not
    found. A blanked event keeps its id, type, time, outcome and number. Works while the daemon runs. What a vendor, a sink
    or a backup has is not changed. Exit status 1: a reader kept the old bytes in the -wal file; run it again.

    More: `roundsman help personal-data`.
    """
    name = person.strip()
    if len(name) < 2 or not name.isprintable():
        fail(f"{person!r}: is neither an address nor an id of two characters or more", 2)
    path = configuration.find(config)
    filters = configuration.filters(path)

    async def look(desk: "Desk") -> "Forgotten":
        return await desk.forget(name, filters, dry=True)

    async def blank(desk: "Desk") -> "Forgotten":
        return await desk.forget(name, filters)

    found = writing(config, look)
    places = _places(path)
    if not dry_run:
        if not yes and _anything(found):
            _ask(name, found, places)
        found = writing(config, blank)
    if as_json:
        print(json.dumps(_document(found, places, _copies(config), dry_run=dry_run), indent=2))
    else:
        _show(name, found, places, dry_run=dry_run)
        _show_rest(name, found, _copies(config))
    if not dry_run and not found.erased:
        complain("a program that reads the store kept its old bytes in the -wal file: run this command again")
        raise typer.Exit(1)


def _anything(found: "Forgotten") -> bool:
    """Whether there is anything to blank."""
    return bool(found.events or found.unread or found.texts)


def _ask(name: str, found: "Forgotten", places: Mapping[str, str]) -> None:
    """Ask on a terminal whether to go on; fail elsewhere."""
    if not sys.stdin.isatty():
        fail("nothing is changed: without a terminal to ask on, add --yes", 2)
    _show(name, found, places, dry_run=True, stream=sys.stderr)
    if not typer.confirm("Blank this in the store? It cannot be undone.", err=True):
        fail("nothing is changed")


def _show(
    name: str, found: "Forgotten", places: Mapping[str, str], *, dry_run: bool, stream: Any = None
) -> None:
    """What names the person, or named it, and what sinks have."""

    def say(text: str) -> None:
        print(safe(text), file=stream)

    parts = [_by_source(found.events, "event"), _by_source(found.unread, "unread row")]
    parts.append(_counted(found.texts, "note or error text", "notes and error texts") if found.texts else "")
    what = "; ".join(filter(None, parts))
    if not what:
        say(f"{name}: nothing in the store names this person")
        return
    say(f"{name}: {'found' if dry_run else 'blanked'} in {what}")
    for sink, count in found.delivered.items():
        say(f"{sink} has {count} of these: {places.get(sink, 'it is not configured any more')}")


def _show_rest(name: str, found: "Forgotten", copies: list[str]) -> None:
    """What stays, and what else to do."""
    for source, count in found.in_ids.items():
        events = _counted(count, "event")
        print(safe(f"{source}: the ids of {events} have {name} in them, and ids stay until they are pruned"))
    for source in found.in_states:
        print(
            safe(f"{source}: its position in the vendor's list has {name} in it: roundsman rewind {source}")
        )
    for other in found.others:
        print(safe(f"also named {other}: roundsman forget {other}"))
    for copy in copies:
        print(safe(f"{copy} is a copy of the store and is not changed: delete it"))


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
        "in_ids": dict(found.in_ids),
        "in_states": list(found.in_states),
        "also_named": list(found.others),
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
        case "notify":
            return "they are in messages that were sent"
        case "stdout":
            return "they are in the journal, or where the output went"
        case kind:
            return f"its receiver ({kind}) must delete them"


def _copies(config: Path | None) -> list[str]:
    """Copies of the store beside it, from before migrations and restores."""
    store = configuration.store_of(configuration.find(config))
    return sorted(str(each) for end in COPIES for each in store.parent.glob(store.name + end))
