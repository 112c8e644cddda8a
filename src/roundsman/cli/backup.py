"""Commands that copy the store: backup, restore."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from roundsman.cli.app import ConfigPath, app, fail, reading, store_of

if TYPE_CHECKING:
    from roundsman.store import View


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write the copy.")],
    config: ConfigPath = None,
    force: Annotated[bool, typer.Option("--force", help="Also over a file that is there.")] = False,
) -> None:
    """Copy the store, whole and compact, while the daemon runs."""
    store = store_of(config)
    if file.is_dir():
        fail(f"{file}: is a folder; write the name of a file", 2)

    async def copy(view: "View") -> int:
        await view.backup(file, replace=force)
        return await view.head()

    head = reading(store, copy)
    print(f"{file}: {file.stat().st_size:,} bytes, the log up to #{head}")


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `backup` wrote.")],
    config: ConfigPath = None,
    force: Annotated[bool, typer.Option("--force", help="In the place of a store that is there.")] = False,
) -> None:
    """Put a backup in the place of the store. The daemon must not run."""
    from roundsman.store import holder, restore as put_back

    store = store_of(config)
    if not file.is_file():
        fail(f"{file}: there is no such file", 2)
    if who := holder(store):
        fail(f"{store} is in use by {who}: stop the daemon first")
    if store.exists() and not force:
        fail(f"{store}: exists, and its content would be replaced; --force does that")
    head = put_back(store, file)
    print(f"{store}: restored from {file}, the log up to #{head}; next: start the daemon")
