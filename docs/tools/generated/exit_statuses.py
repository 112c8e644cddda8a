"""exit-statuses.md, from the catalog of exit statuses."""

from generated.markdown import document, item, prose, table
from roundsman.cli.statuses import SIGNALS, STATUSES

INTRODUCTION = """
Every command ends with one of these statuses. [Commands](commands.md) has what they mean for a single command.
Messages are on standard error, or in the journal as [`command.failed`](logs.md#commandfailed).
"""


def page() -> str:
    parts = [
        part
        for number, status in STATUSES.items()
        for part in (f"## {number}", prose(status.meaning), "\n".join(map(item, status.cases)))
    ]
    return document(
        "Exit statuses",
        prose(INTRODUCTION),
        table(
            ("Status", "Meaning"),
            ((f"[{number}](#{number})", each.meaning) for number, each in STATUSES.items()),
        ),
        *parts,
        "## Ended by a signal",
        "\n".join(map(item, SIGNALS)),
    )
