"""The command page: where the page is, or how to turn it on."""

import typer

from roundsman import config as configuration
from roundsman.cli.app import ConfigPath, app, complain, reading

HOW = """\
{path}: there is no page yet. To turn it on, add to this file

    [listen.page]
    user = "ops"
    password = {{ credential = "page-password" }}

put the password into {folder}/page-password, and restart the daemon.
The steps: roundsman help page"""


@app.command()
def page(config: ConfigPath = None) -> None:
    """Print the address of the page, or what to write into the configuration to turn it on.

    Reads no secret. If no daemon runs, a line on standard error says so.

    More: `roundsman help page`.
    """
    from roundsman.config.addresses import page_place
    from roundsman.store import holder

    path = configuration.find(config)
    store = configuration.store_of(path)
    place = page_place(path)
    if place is None:
        complain(*HOW.format(path=path, folder=path.absolute().parent / "credentials").splitlines())
        raise typer.Exit(2)
    for address in place.addresses:
        print(address, flush=True)
    if place.remark:
        complain(place.remark)
    if holder(store) is None:
        complain("no daemon is running: `roundsman run` starts one")
        return
    known = reading(store, lambda view: view.daemon(configuration.worker_of(path))).digest
    if known not in {None, "", configuration.digest(path)}:
        complain("the daemon has not read the file since it was changed: roundsman reload")
