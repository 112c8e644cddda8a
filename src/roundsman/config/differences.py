"""What differs between two configurations: one sentence for each source, sink and table, without a value."""

from collections.abc import Iterator, Mapping

from pydantic import BaseModel

from roundsman.config.loading import Config
from roundsman.options.values import counted

LONGEST = 50
"""Maximum sentences; a last one has the number of the others."""


def differences(old: Config, new: Config) -> list[str]:
    """The sentences, in the order of the file: `sinks.archive: changed: path`. Values are left out: they may be secrets."""
    found = [*_of_tables(old, new), *_of_plugins("sources", old.sources, new.sources)]
    found += _of_plugins("sinks", old.sinks, new.sinks)
    if len(found) > LONGEST:
        found[LONGEST:] = [f"and {counted(len(found) - LONGEST, 'other change')}"]
    return found


def _of_tables(old: Config, new: Config) -> Iterator[str]:
    for name in ("daemon", "http", "listen", "heartbeat"):
        before, after = getattr(old, name), getattr(new, name)
        if before is None or after is None:
            if before is not after:
                yield f"{name}: {'added' if before is None else 'removed'}"
        elif options := list(_changed(before, after)):
            yield f"{name}: changed: {', '.join(options)}"


def _of_plugins(section: str, old: Mapping[str, BaseModel], new: Mapping[str, BaseModel]) -> Iterator[str]:
    for name, after in new.items():
        if name not in old:
            yield f"{section}.{name}: added"
        elif options := list(_changed(old[name], after)):
            yield f"{section}.{name}: changed: {', '.join(options)}"
    for name in old:
        if name not in new:
            left = "its events and its cursor are kept" if section == "sources" else "its position is kept"
            yield f"{section}.{name}: removed; {left}"


def _changed(old: BaseModel, new: BaseModel) -> Iterator[str]:
    """The options with another value, those of a table inside it with its name: `webhook.token`."""
    for name, field in type(new).model_fields.items():
        before, after = getattr(old, name, None), getattr(new, name)
        shown = field.alias or name
        if isinstance(before, BaseModel) and isinstance(after, BaseModel) and type(before) is type(after):
            yield from (f"{shown}.{each}" for each in _changed(before, after))
        elif before != after:
            yield shown
