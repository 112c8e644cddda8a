"""Commands that copy the store: backup, restore."""

from pathlib import Path
from typing import Annotated

import typer

from roundsman import config as configuration
from roundsman.cli.app import ConfigPath, app, fail, reading
from roundsman.store import holder, restore as put_back


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write the copy.")],
    config: ConfigPath = None,
    force: Annotated[bool, typer.Option("--force", help="Also over a file that is there.")] = False,
) -> None:
    """Copy the store, whole and compact, while the daemon runs."""
    loaded = configuration.load(configuration.find(config), only_daemon=True)
    if file.is_dir():
        fail(f"{file}: is a folder; name the file", 2)
    with reading(loaded) as reader:
        reader.backup(file, replace=force)
        print(f"{file}: {file.stat().st_size:,} bytes, the log up to #{reader.head()}")


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `backup` wrote.")],
    config: ConfigPath = None,
    force: Annotated[bool, typer.Option("--force", help="In the place of a store that is there.")] = False,
) -> None:
    """Put a backup in the place of the store. The daemon must not run."""
    loaded = configuration.load(configuration.find(config), only_daemon=True)
    if not file.is_file():
        fail(f"{file}: there is no such file", 2)
    if who := holder(loaded.store):
        fail(f"{loaded.store} is in use by {who}: stop the daemon first")
    if loaded.store.exists() and not force:
        fail(f"{loaded.store}: is there, and what it has would be gone; --force does it all the same")
    head = put_back(loaded.store, file)
    print(f"{loaded.store}: put back from {file}, the log up to #{head}; next: start the daemon")
