"""The registry of sources: TOML's `type` to the class that has its options. Third parties add entry points."""

from roundsman.plugin import Source
from roundsman.sources.parakey import EventLogs

SOURCES: dict[str, type[Source]] = {
    "parakey.event_logs": EventLogs,
}
