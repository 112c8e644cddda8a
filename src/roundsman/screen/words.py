"""Times and words on a terminal."""

from datetime import UTC, datetime

from rich.console import Console

from roundsman.times import rfc3339, spell


def stamp(moment: float | None) -> str | None:
    return rfc3339(datetime.fromtimestamp(moment, UTC).replace(microsecond=0)) if moment else None


def ago(moment: float | None, now: float) -> str:
    if not moment:
        return "never"
    return f"in {spell(moment - now)}" if moment > now + 0.5 else f"{spell(round(now - moment))} ago"


def console() -> Console:
    return Console(highlight=False, soft_wrap=True)


def unix(text: str | None) -> float | None:
    return datetime.fromisoformat(text).timestamp() if text else None


def plain(value: object) -> str:
    text = str(value)
    return f'"{text}"' if " " in text else text
