"""What a person sees: tables on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from roundsman.events import Event, rfc3339
from roundsman.logs import safe
from roundsman.settings import spell
from roundsman.store import Filter, Reader

COLOURS = {"granted": "green", "succeeded": "green", "denied": "red", "failed": "red", "partial": "yellow"}
RED = {"roundsman.source.failing", "roundsman.source.gap"}


def stamp(moment: float | None) -> str | None:
    return rfc3339(datetime.fromtimestamp(moment, UTC).replace(microsecond=0)) if moment else None


def ago(moment: float | None, now: float) -> str:
    if not moment:
        return "never"
    return f"in {spell(moment - now)}" if moment > now + 0.5 else f"{spell(round(now - moment))} ago"


def status(reader: Reader, filters: Mapping[str, Filter] | None = None) -> dict[str, Any]:
    """Everything `status` tells. `filters` by sink, where the configuration could be read: then waiting is exact."""
    counts = reader.counts()
    sources = [
        {
            "name": row["name"],
            "type": row["type"],
            "state": "failing"
            if row["failing"]
            else "retrying"
            if row["failures"]
            else "ok"
            if row["answered"]
            else "new",
            "visited": stamp(row["visited"]),
            "answered": stamp(row["answered"]),
            "changed": stamp(row["changed"]),
            "due": stamp(row["due"]) if row["due"] > 0 else None,
            "visits": row["polls"],
            "failures": row["failures"],
            "error": row["error"],
            "events": counts.get(row["name"], 0),
        }
        for row in reader.sources()
    ]
    sinks = [
        {
            "name": row["name"],
            "type": row["type"],
            "state": "failing" if row["failing"] else "ok",
            "cursor": row["cursor"],
            "waiting": reader.waiting(row["cursor"], (filters or {}).get(row["name"], Filter())),
            "delivered": stamp(row["delivered"]),
            "failures": row["failures"],
            "error": row["error"],
            "dead": row["dead"],
        }
        for row in reader.sinks()
    ]
    return {"store": str(reader.path), "events": reader.head(), "sources": sources, "sinks": sinks}


def status_tables(found: Mapping[str, Any]) -> RenderableType:
    now = time.time()
    sources = Table(
        "source",
        "state",
        "last visit",
        "last answer",
        "last change",
        "next",
        "events",
        box=None,
        padding=(0, 2),
    )
    for row in found["sources"]:
        times = [ago(_unix(row[key]), now) for key in ("visited", "answered", "changed")]
        due = _unix(row["due"])
        times.append(ago(due, now) if due and due > now else "now")
        sources.add_row(escape(safe(row["name"])), _state(row["state"]), *times, f"{row['events']:,}")
    sinks = Table("sink", "state", "last delivery", "waiting", "buried", box=None, padding=(0, 2))
    for row in found["sinks"]:
        dead = f"[red]{row['dead']}[/]" if row["dead"] else "0"
        sinks.add_row(
            escape(safe(row["name"])),
            _state(row["state"]),
            ago(_unix(row["delivered"]), now),
            f"{row['waiting']:,}",
            dead,
        )
    troubles = [
        Text.from_markup(f"  [red]{escape(safe(row['name']))}: {escape(safe(row['error']))}[/]")
        for row in [*found["sources"], *found["sinks"]]
        if row["error"]
    ]
    return Group(sources, "", sinks, *([Text(), *troubles] if troubles else []))


def status_lines(found: Mapping[str, Any]) -> Iterable[str]:
    """One line each, `key=value`: for grep."""
    for kind in ("sources", "sinks"):
        for row in found[kind]:
            facts = " ".join(f"{k}={_plain(v)}" for k, v in row.items() if k != "name" and v is not None)
            yield safe(f"{kind.removesuffix('s')} {row['name']} {facts}")


def event_line(event: Event, *, colour: bool) -> str:
    """An event for a person, in one line; rich markup if `colour`."""
    document = event.document()
    data = document.get("data") or {}
    if event.type.startswith("roundsman."):
        what = str(data.get("message", ""))
    else:
        parts = [(data.get(key) or {}) for key in ("user", "door", "place")]
        what = ", ".join(
            str(p.get("name") or p.get("email") or p.get("id")) for p in parts if any(p.values())
        )
    short = event.type.removeprefix("co.parakey.").removeprefix("roundsman.")
    columns = [
        document.get("time", "-")[:19].ljust(19),
        event.source.ljust(14),
        short.ljust(17),
        (event.outcome or "-").ljust(8),
    ]
    text = safe("  ".join([*columns, what]))
    if not colour:
        return text
    tone = "red" if event.type in RED else COLOURS.get(event.outcome or "")
    return f"[{tone}]{escape(text)}[/]" if tone else escape(text)


def console() -> Console:
    return Console(highlight=False, soft_wrap=True)


def _state(state: str) -> str:
    tone = {"ok": "green", "failing": "bold red", "retrying": "yellow"}.get(state, "dim")
    return f"[{tone}]{state}[/]"


def _unix(text: str | None) -> float | None:
    return datetime.fromisoformat(text).timestamp() if text else None


def _plain(value: object) -> str:
    text = str(value)
    return f'"{text}"' if " " in text else text
