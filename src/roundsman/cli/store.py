"""Commands on stores as a whole: `store copy`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from roundsman import config as configuration
from roundsman.cli.app import app, fail
from roundsman.cli.layout import App
from roundsman.masking import MASK

if TYPE_CHECKING:
    from roundsman.store import Place

store_app = App(help="Copy a store into another one.")
app.add_typer(store_app, name="store")

_PLACE = "A path, the URL of a database, or a configuration (*.toml) whose store is meant."


@store_app.command("copy")
def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help=_PLACE)],
    target: Annotated[str, typer.Argument(metavar="TO", help=f"{_PLACE} It must be empty.")],
) -> None:
    """Copy a store from a file to a server, or back. No daemon may use either of them.

    All rows are copied and then compared, by their number and a digest of them. An interrupted copy goes on where it
    ended if the command is run again; until it is complete, no daemon starts on it.

    A password in a URL can be read by other users of the machine while the command runs: name the configuration instead.

    More: `roundsman help postgresql`.
    """
    from roundsman.store import copy as copy_store

    places = _place(source), _place(target)
    if str(places[0]) == str(places[1]):
        fail(f"{places[0]}: is both, the store to copy and the copy", 2)
    shown = sys.stderr.isatty()

    def report(table: str, rows: int) -> None:
        if shown:
            print(f"\r{table}: {rows:,} rows", end="\033[K", file=sys.stderr, flush=True)

    head = copy_store(*places, report)
    if shown:
        print("\r", end="\033[K", file=sys.stderr)
    print(f"{places[1]}: complete, the log up to #{head}; it has what {places[0]} has")


def _place(text: str) -> "Place":
    from roundsman.options.server import SCHEMES, Server

    if text.lower().startswith(SCHEMES):
        try:
            return Server(text)
        except ValueError as exc:
            # Not the rest of it: what is the password in such a text cannot be known.
            fail(f"{text.partition('://')[0]}://{MASK}: {exc}", 2)
    path = Path(text)
    return configuration.store_of(path) if path.suffix == ".toml" else path
