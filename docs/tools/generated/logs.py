"""logs.md, from the catalog of log lines."""

from generated.markdown import code, codes, document, item, items, link, prose, slug, table, wrapped
from roundsman.system.line import Logged
from roundsman.system.logged import IN_EVERY_LINE, LOGGED

INTRODUCTION = """
The log is on standard error: on a terminal in columns, elsewhere one JSON object a line, in the journal with
priorities. `log_level` and `log_format` of [`[daemon]`](configuration.md#daemon) change that. No line has a payload
or a secret.
"""


def page() -> str:
    rows = [(f"[{name}](#{slug(name)})", ", ".join(line.levels)) for name, line in LOGGED.items()]
    return document(
        "Logs",
        prose(INTRODUCTION),
        "## Fields of every line",
        items((code(name), text) for name, text in IN_EVERY_LINE.items()),
        "## All lines",
        table(("Line", "Level"), rows),
        *(part for name, line in LOGGED.items() for part in _line(name, line)),
    )


def _line(name: str, line: Logged) -> list[str]:
    more = f" Read: {link(line.page)}." if line.page else ""
    facts = wrapped(f"Level: {codes(line.levels)}. {line.when}{more}")
    fields = "\n".join(item(f"{code(field)}: {text}") for field, text in line.fields.items())
    return [f"## {name}", facts, fields]
