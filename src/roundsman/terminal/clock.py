"""Times for a person at a terminal: of the local day, or with the date if they are of another day."""

from datetime import UTC, datetime

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def clock(moment: float, now: float, *, utc: bool = False) -> str:
    """`15:04:05`; of another day `3 May 15:04:05`; of another year `3 May 2025 15:04`. `utc`: not local, and with a Z.

    Both times are Unix times.
    """
    try:
        at, today = _local(moment, utc=utc), _local(now, utc=utc)
    except (ValueError, OverflowError, OSError):
        return "-"
    end = "Z" if utc else ""
    if at.date() == today.date():
        return f"{at:%H:%M:%S}{end}"
    if at.year == today.year:
        return f"{day(at)} {at:%H:%M:%S}{end}"
    return f"{day(at)} {at.year} {at:%H:%M}{end}"


def day(at: datetime) -> str:
    return f"{at.day} {MONTHS[at.month - 1]}"


def _local(moment: float, *, utc: bool) -> datetime:
    return datetime.fromtimestamp(moment, UTC) if utc else datetime.fromtimestamp(moment).astimezone()
