"""The members of `data` by the type of source, and whether each can be left empty: for the option `redact`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pydantic import AfterValidator

from roundsman.redaction import steps_of

FAMILIES: Mapping[str, str] = {
    "parakey.event_logs": "co.parakey.event_log.",
    "parakey.batches": "co.parakey.batch.",
    "mailchimp.batches": "com.mailchimp.",
    "railz.pushes": "ai.railz.",
    "http.json": "http.json.",
}
"""What the types of a source's events begin with, by the type of source."""
NOTICES = "roundsman."


def check(paths: Sequence[str], source: str | None) -> None:
    """ValueError for a path that no event of this type of source can have. None: a sink, which gets events of all types.

    A plugin's events have members of their own: its paths are not checked, nor are those of a sink beside an installed
    plugin, if their first name is none of ours.
    """
    import difflib  # few configurations need these modules

    from roundsman.kinds import KINDS

    family = FAMILIES.get(source, "") if source is not None else ""
    if source is not None and not family:
        return
    shapes = [
        kind.shape for name, kind in KINDS.items() if name.startswith(family) and not name.startswith(NOTICES)
    ]
    known: dict[str, bool] = {}
    for shape in shapes:
        for path, can_be_empty in _members(shape, ""):
            known[path] = known.get(path, True) and can_be_empty
    for path in paths:
        steps = steps_of(path)
        name = ".".join(steps)
        if (
            steps[0] == "raw"
            or known.get(name)
            or (steps[0] not in known and source is None and _has_plugins())
        ):
            continue
        article, event = ("an", f"event of {source}") if source is not None else ("a", "built-in event")
        if name in known:
            raise ValueError(f"{path}: always has a value in {article} {event}, and cannot be redacted")
        names = [each for each, can_be_empty in known.items() if can_be_empty]
        close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
        hint = (
            f"did you mean {close[0]}?"
            if close
            else f"known: {', '.join(names)}, and raw with any name below it"
        )
        raise ValueError(f"{path}: no {event} has it; {hint}")


def _has_plugins() -> bool:
    """Whether a source that is not of Roundsman is installed."""
    from importlib.metadata import entry_points

    return any(each.name not in FAMILIES for each in entry_points(group="roundsman.sources"))


def _members(shape: Any, before: str) -> Iterable[tuple[str, bool]]:
    """Each path of a shape, and whether it can be null or an empty list."""
    for name, hint in get_type_hints(shape).items():
        path = before + name
        choices = get_args(hint) if type(None) in get_args(hint) else (hint,)
        lists = [each for each in choices if get_origin(each) is list]
        yield path, len(choices) > 1 or bool(lists) or path == "raw"
        for each in (*choices, *(inner for found in lists for inner in get_args(found))):
            if hasattr(each, "__total__"):
                yield from _members(each, f"{path}.")


def _is_path(path: str) -> str:
    steps_of(path)
    return path


Paths = tuple[Annotated[str, AfterValidator(_is_path)], ...]
"""Paths into `data`, such as `user.email`, `failures.person`, `raw.user.phone` or `raw."e-mail"`. In a list, a path leads
into each item.
"""
