"""Writes the package of a new plugin: roundsman new."""

import keyword
import re
import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import typer

import roundsman
from roundsman import config as configuration
from roundsman.cli.app import app, fail, say

LONGEST = 60
"""Maximum characters of a type."""


class Names(NamedTuple):
    """The names of the parts of a plugin."""

    type: str
    """`acme.orders`."""
    package: str
    """`acme_orders`."""
    cls: str
    """`AcmeOrders`."""

    @classmethod
    def of(cls, name: str) -> "Names":
        """From the type. ValueError with what is wrong with it."""
        from importlib.metadata import packages_distributions

        if not re.fullmatch(r"[a-z][a-z0-9]*(?:[._-][a-z0-9]+)*", name) or len(name) > LONGEST:
            raise ValueError(
                f"is not the name of a type: lower-case words with dots between them, such as acme.orders, {LONGEST} letters at most"
            )
        words = re.split(r"[._-]", name)
        package = "_".join(words)
        if keyword.iskeyword(package) or package in sys.stdlib_module_names or package == "roundsman":
            raise ValueError(
                f"would be the package {package}, which belongs to Python or Roundsman; use VENDOR.THING"
            )
        if owners := packages_distributions().get(package):
            raise ValueError(f"would be the package {package}, which {owners[0]} has; use VENDOR.THING")
        return cls(name, package, "".join(word.capitalize() for word in words))

    def fill(self, text: str, kind: str) -> str:
        """A template with these names in place of those of acme.things."""
        vendor = self.type.partition(".")[0]
        for ours, theirs in (
            ("acme.things", self.type),
            ("acme_things", self.package),
            ("acme-things", self.package.replace("_", "-")),
            ("AcmeThings", self.cls),
            ('vendor="acme"', f'vendor="{vendor}"'),
            ("Acme", vendor.capitalize()),
            ("KIND", kind),
            ("VERSION", roundsman.__version__),
        ):
            text = text.replace(ours, theirs)
        return text


@app.command()
def new(
    kind: Annotated[Literal["source", "sink"], typer.Argument(help="The kind of plugin.")],
    name: Annotated[
        str, typer.Argument(help="The type of the plugin in the configuration, such as acme.orders.")
    ],
    into: Annotated[
        Path | None,
        typer.Option(
            "--into", metavar="FOLDER", help="The folder to write. Default: roundsman-NAME in this folder."
        ),
    ] = None,
) -> None:
    """Write the Python package of a new source or sink, with an example and its tests.

    A folder that has files is not overwritten. Exit status 1: the folder has files, or cannot be written.

    More: `roundsman help write-a-source`, `roundsman help write-a-sink`, `roundsman help test-a-plugin`.
    """
    try:
        names = Names.of(name)
    except ValueError as exc:
        fail(f"{name}: {exc}", 2)
    registry = configuration.sources_registry() if kind == "source" else configuration.sinks_registry()
    if name in registry:
        fail(f"{name}: there is a {kind} of this type already ({registry[name].value}); use another name", 2)
    folder = into or Path(names.fill("roundsman-acme-things", kind))
    texts = _texts(names, kind)
    try:
        _write(folder, texts)
    except FileExistsError:
        fail(f"{folder}: exists already and is not overwritten")
    except OSError as exc:
        fail(f"{exc.filename or folder}: cannot be written: {exc.strerror}")
    say(f"wrote {folder}: {', '.join(texts)}")
    print(f"next: pip install --editable {shlex.quote(f'{folder.absolute()}[test]')}")
    print(f"      pytest {shlex.quote(str(folder))}")


def _texts(names: Names, kind: str) -> dict[str, str]:
    """The files of the package, by path."""
    from importlib.resources import files

    templates = files("roundsman").joinpath("templates")
    places = {
        "pyproject.toml": "pyproject.toml.txt",
        "README.md": "README.md.txt",
        f"src/{names.package}/__init__.py": f"{kind}/plugin.py.txt",
        f"src/{names.package}/py.typed": "",
        f"tests/test_{names.package}.py": f"{kind}/test.py.txt",
    }
    return {
        path: names.fill(templates.joinpath(place).read_text(encoding="utf-8"), kind) if place else ""
        for path, place in places.items()
    }


def _write(folder: Path, texts: dict[str, str]) -> None:
    """FileExistsError if there is anything in the folder; then nothing is written."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError
    for path, text in texts.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("x", encoding="utf-8") as file:
            file.write(text)
