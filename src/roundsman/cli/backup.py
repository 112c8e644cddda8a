"""Commands that copy the store: backup, restore."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from roundsman.cli.app import ConfigPath, app, fail, reading, say, store_of
from roundsman.system.files import is_there

if TYPE_CHECKING:
    from roundsman.store import View


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")],
    config: ConfigPath = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
) -> None:
    """Copy the store to a file. Works while the daemon runs.

    The copy is complete and compact. It has the log, the cursors, the dead letters and the open failures; it has neither
    the configuration nor its secrets.

    More: `roundsman help backups-and-upgrades`.
    """
    store = store_of(config)
    if file.is_dir():
        fail(f"{file}: is a folder; write the name of a file", 2)

    async def copy(view: "View") -> int:
        await view.backup(file, replace=force)
        return await view.head()

    head = reading(store, copy)
    say(f"{file}: {file.stat().st_size:,} bytes, the log up to #{head}")


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `roundsman backup` wrote.")],
    config: ConfigPath = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Replace a store that exists. What it learned since the backup is lost."
        ),
    ] = False,
) -> None:
    """Replace the store with a backup. The daemon must not run.

    Exit status 1: the store is in use, exists without --force, or the file is no backup.

    More: `roundsman help backups-and-upgrades`.
    """
    from roundsman.store import exists, holder, restore as put_back

    store = store_of(config)
    if not is_there(file) or not file.is_file():
        fail(f"{file}: there is no such file", 2)
    if who := holder(store):
        fail(f"{store} is in use by {who}: stop the daemon first")
    if isinstance(store, Path) and exists(store) and not force:
        fail(f"{store}: exists, and its content would be replaced; --force does that")
    head = put_back(store, file)
    say(f"{store}: restored from {file}, the log up to #{head}; next: start the daemon")
