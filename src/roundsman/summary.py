"""An event in one line for a person: the person, the thing, the result, the reason, the place, the source."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from roundsman.masking import mask, safe
from roundsman.times import parse_time, spell

LONGEST = 200
"""Maximum characters of a summary."""
LATE = 60.0
"""Seconds from which on the delay of a log is named: a lock was offline."""
LONGEST_NOTICE = 1000
"""Maximum characters of a notice where it is shown to a person: its end says what to do."""
NAME = 60
"""Maximum characters of one name in a summary: the reason and the place must have room."""


def summary(source: str, kind: str, outcome: str | None, data: Mapping[str, Any], thing: str) -> str:
    """The summary of an event of `source` with this type, outcome and data. `thing`: its subject, else its id.

    At most `LONGEST` characters, all printable; secrets are masked, and mentions are defused.
    """
    if "door" in data:
        return _access(source, data, outcome, thing)
    if kind.startswith("roundsman."):
        text = str(data.get("message") or thing)
        if source == "daemon":
            return _short(text, "")
    elif "failures_cap" in data:
        text = _batch(data, outcome)
    elif "item_id" in data:
        text = _item(data, outcome, thing)
    else:
        text = (
            f"{_name(data.get('name')) or thing}: {outcome}" if outcome else _name(data.get("name")) or thing
        )
    return _short(text, f" [{source}]")


def without_source(text: str, source: str) -> str:
    """A summary without the source at its end, for a table that has a column for it."""
    return text.removesuffix(f" [{source}]")


def notice_line(source: str, message: str) -> str:
    """The text of a notice for a person: as its summary, but not cut before what it says to do."""
    return _short(message, "" if source == "daemon" else f" [{source}]", LONGEST_NOTICE)


def _short(text: str, end: str, longest: int = LONGEST) -> str:
    """The text in at most `longest` characters with its end, printable and without secrets."""
    # Masked before it is cut: half a secret would not be recognised.
    text = mask(text) + end
    if not text.isprintable():
        text = safe(" ".join(text.split()))
    if "@" in text or "<" in text:
        text = _defused(text)
    return text if len(text) <= longest else text[: longest - len(end) - 1] + "…" + end


# What stands before "@" is looked at after it: a pattern whose first character is fixed is found four times as fast.
_MENTION = re.compile(r"@(?<![\w.+%-]@)(?=[\w\[])|<(?=[!@#&/A-Za-z])")


def _defused(text: str) -> str:
    """The text without mentions and tags, which a chat or a mail program would act on: another character replaces `@` and `<`."""
    return _MENTION.sub(lambda found: "＠" if found[0] == "@" else "‹", text)  # noqa: RUF001 - they only look alike


def _access(source: str, data: Mapping[str, Any], outcome: str | None, thing: str) -> str:
    late = _late(data)
    if not late:
        try:
            names = data["user"]["name"], data["door"]["name"], data["place"]["name"]
            if all(names):
                return _line(names, outcome, source, mask.changes)
        except (KeyError, TypeError):  # one is missing, or not of its shape
            pass
    who, door, place = _ref(data.get("user")), _ref(data["door"]), _ref(data.get("place"))
    where = f"{door or thing}, {place}" if place else door or thing
    return _short(f"{who or 'unknown person'}: {_result(outcome)} at {where}{late}", f" [{source}]")


@lru_cache(maxsize=4096)
def _line(names: tuple[str, str, str], outcome: str | None, source: str, _: int) -> str:
    """The line of one access by the names of person, door and place. It is remembered: a log has millions of rows, and few
    persons and doors. The last parameter is how often the registry of secrets has changed.
    """
    who, door, place = map(_name, names)
    return _short(f"{who}: {_result(outcome)} at {door}, {place}", f" [{source}]")


def _result(outcome: str | None) -> str:
    return "result unknown" if outcome in {None, "unknown"} else str(outcome)


def _batch(data: Mapping[str, Any], outcome: str | None) -> str:
    total, failed = data.get("total"), data.get("failed")
    if failed and total:
        result = f"{failed} of {total} failed"
    elif outcome in {"failed", "partial"}:
        result = "failed" if outcome == "failed" else "some failed"
    elif outcome == "succeeded":
        result = f"all {total} succeeded" if total and total != 1 else "succeeded"
    elif outcome == "empty":
        result = "ended without operations"
    else:
        result = "ended, result unknown"
    return f"batch {_name(data.get('batch_id'))}: {result}"


def _item(data: Mapping[str, Any], outcome: str | None, thing: str) -> str:
    person, about, item = data.get("person"), data.get("about"), _name(data.get("item_id"))
    names = [person_name(person), _ref(about)]
    if item and item not in _ids(person) and item not in _ids(about):
        names.append(item)
    if not any(names) and data.get("index") is not None:
        names.append(f"item {data['index']}")
    text = ", ".join(filter(None, names)) or thing
    message, code = data.get("message"), data.get("code")
    if outcome:
        text += f": {outcome}"
    if outcome != "succeeded" and (message or code):
        text += f": {message} ({code})" if message and code else f": {message or code}"
    if connection := data.get("connection"):
        text += f", connection {_name(connection)}"
    if batch := data.get("batch_id"):
        text += f", batch {_name(batch)}"
    return text


def person_name(person: object) -> str | None:
    """A person as `Anna Berg (anna@example.org)`; None if the vendor names none."""
    if not isinstance(person, dict):
        return None
    name, email = _name(person.get("name")), _name(person.get("email"))
    if name and email and name != email:
        return f"{name} ({email})"
    return name or email or _name(person.get("id"))


def _ref(thing: object) -> str | None:
    """The name of a thing or a person, or its id."""
    if not isinstance(thing, dict):
        return None
    name = thing.get("name")
    if type(name) is str and 0 < len(name) <= NAME:  # nearly all: this is done for each row of a backlog
        return name
    return _name(thing.get("name") or thing.get("email") or thing.get("id"))


def _ids(thing: object) -> set[str | None]:
    """What a thing or a person is called by: a repetition of it says nothing."""
    return {_name(value) for value in thing.values()} if isinstance(thing, dict) else set()


def _name(value: object) -> str | None:
    """A name or an id as a text of at most `NAME` characters; None if there is none."""
    if value is None or value == "" or isinstance(value, dict | list):
        return None
    text = mask(str(value))
    return text if len(text) <= NAME else text[: NAME - 1] + "…"


def _late(data: Mapping[str, Any]) -> str:
    """How long a log took to reach the vendor, if `LATE` seconds or more; else empty."""
    occurred, recorded = data.get("occurred_at"), data.get("recorded_at")
    if type(occurred) is not str or type(recorded) is not str or occurred[:16] == recorded[:16]:
        return ""  # as nearly always: they are in the same minute, for both are RFC 3339
    began, ended = parse_time(occurred), parse_time(recorded)
    took = (ended - began).total_seconds() if began and ended else 0.0
    return f" ({spell(took)} late)" if took >= LATE else ""
