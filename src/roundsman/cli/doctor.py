"""The command doctor: what may be wrong with this installation, and a bundle of it for others to read."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from roundsman.cli.app import ConfigPath, Json, app, complain, fail
from roundsman.masking import mask, safe

if TYPE_CHECKING:
    from roundsman.doctor.examine import Report


ENDINGS = (".tar.gz", ".tgz")
"""Of the name of a bundle: programs that open it go by that."""


@app.command()
def doctor(
    config: ConfigPath = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            "--bundle", metavar="FILE", help="Also write all that was found into a .tar.gz that can be sent."
        ),
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option("--log", metavar="FILE", help="A file of the log, if it is not in the journal."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file of --bundle.")] = False,
    as_json: Json = False,
) -> None:
    """Check the program, its configuration, the service, the store, the clock, the disks, and each host.

    Reads all secrets of the configuration, and sends each host a request without them. Works beside a daemon or without
    one. Exit status 1: a check has failed.

    The bundle has no secret that is in the configuration, in its environment or in the unit, no paths and queries of URLs,
    no e-mail addresses, and no long ids. Names of persons may remain in log lines and in errors: look at it before
    you send it. Only you can read the file.

    More: `roundsman help runbook`.
    """
    from roundsman.doctor.bundle import document, packed, write
    from roundsman.doctor.examine import examine
    from roundsman.service import service

    if bundle is not None and not bundle.name.endswith(ENDINGS):
        fail(f"{bundle}: a bundle is a .tar.gz: give it this ending, or .tgz", 2)
    if bundle is not None and bundle.exists() and not force:
        fail(f"{bundle}: exists; --force overwrites it")

    async def work() -> int:
        report = await examine(config, log)
        if as_json:
            print(json.dumps(document(report), indent=2), flush=True)
        else:
            _show(report)
        if bundle is not None:
            content = packed(report)
            write(bundle, content, force=force)
            complain(
                f"{bundle}: written, {len(content) // 1024 + 1} KiB; secrets are removed, names of persons may remain in its log: "
                "look at it before you send it"
            )
        sys.stdout.flush()
        return 1 if report.fails else 0

    raise typer.Exit(service.run(work))


def _show(report: "Report") -> None:
    """A line for each check; on a terminal, wrapped below its text."""
    import shutil
    import textwrap

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    for each in report.findings:
        line = safe(mask(each.line()))
        if width:
            line = textwrap.fill(
                line,
                max(width - 1, 30),
                subsequent_indent=" " * 9,
                break_on_hyphens=False,
                break_long_words=True,
            )
        print(line, flush=True)
