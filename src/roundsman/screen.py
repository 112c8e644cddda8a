"""What a person sees: tables on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from roundsman.events import Event, parse_time, rfc3339
from roundsman.logs import safe
from roundsman.settings import spell
from roundsman.store import Filter, Reader, holder

COLOURS = {"granted": "green", "succeeded": "green", "denied": "red", "failed": "red", "partial": "yellow"}
LATE = 60.0
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
    running = holder(reader.path)
    return {
        "store": str(reader.path),
        "daemon": running,
        "events": reader.head(),
        "sources": sources,
        "sinks": sinks,
    }


def status_tables(found: Mapping[str, Any]) -> RenderableType:
    now = time.time()
    sources = Table(
        "source",
        "state",
        "last visit",
        "last answer",
        "last change",
        "next",
        "failures",
        "events",
        box=None,
        padding=(0, 2),
    )
    for row in found["sources"]:
        times = [ago(_unix(row[key]), now) for key in ("visited", "answered", "changed")]
        due = _unix(row["due"])
        times.append(ago(due, now) if due and due > now else "now")
        sources.add_row(
            escape(safe(row["name"])),
            _state(row["state"]),
            *times,
            str(row["failures"] or ""),
            f"{row['events']:,}",
        )
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
    running = Text(f"  {found['daemon']}" if found["daemon"] else "  no daemon is running", style="dim")
    return Group(running, Text(), sources, Text(), sinks, *([Text(), *troubles] if troubles else []))


def status_lines(found: Mapping[str, Any]) -> Iterable[str]:
    """One line each, `key=value`: for grep."""
    yield f"daemon {found['daemon'] or 'not running'}"
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
        parts = [p for key in ("user", "door", "place") if isinstance(p := data.get(key), dict)]
        named = [str(p.get("name") or p.get("email") or p.get("id")) for p in parts if any(p.values())]
        what = ", ".join(named) or str(data.get("name") or document.get("subject") or document["id"])
        late = _late(data)
        what += f" ({late} late)" if late else ""
    short = event.type.removeprefix("co.parakey.").removeprefix("roundsman.")
    columns = [
        (document["time"][:19] + "Z" if "time" in document else "-").ljust(20),
        event.source.ljust(14),
        short.ljust(17),
        (event.outcome or "-").ljust(8),
    ]
    text = safe("  ".join([*columns, what])).rstrip()
    if not colour:
        return text
    tone = "red" if event.type in RED else COLOURS.get(event.outcome or "")
    return f"[{tone}]{escape(text)}[/]" if tone else escape(text)


def _late(data: Mapping[str, Any]) -> str:
    """How long a log took to reach the vendor, where that is remarkable: the lock was offline."""
    occurred, recorded = parse_time(data.get("occurred_at")), parse_time(data.get("recorded_at"))
    took = (recorded - occurred).total_seconds() if occurred and recorded else 0.0
    return spell(took) if took >= LATE else ""


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
