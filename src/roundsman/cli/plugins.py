"""Shows which types of sources and sinks are installed: plugins."""

import json
import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from roundsman.cli.app import Json, app
from roundsman.masking import mask, safe

if TYPE_CHECKING:
    from roundsman.config.installed import Installed

WIDTH = 80
"""Columns of the output in a pipe."""


@app.command()
def plugins(as_json: Json = False) -> None:
    """List the installed types of sources and sinks: where each comes from, whether it loads, and what it can do.

    More: `roundsman help write-a-source`.
    """
    from roundsman.config.installed import all_installed

    found = list(all_installed())
    if as_json:
        print(json.dumps([asdict(each) for each in found], indent=2))
        return
    from roundsman import screen

    terminal = screen.console()
    for kind in ("source", "sink"):
        print(f"{kind}s")
        for each in (one for one in found if one.kind == kind):
            print(safe(f"  {each.type}"))
            for fact in _facts(each):
                text = safe(mask(fact))
                print(
                    *([_filled(text)] if terminal is None else terminal.paragraph(text, indent=4)), sep="\n"
                )


def _filled(fact: str) -> str:
    """In lines, without a break inside of a path."""
    return textwrap.fill(
        fact,
        WIDTH,
        initial_indent="    ",
        subsequent_indent="      ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _facts(plugin: "Installed") -> Iterator[str]:
    """Facts about it, a line each."""
    yield plugin.origin + (f", in {plugin.folder}" if plugin.folder else "")
    if plugin.shadows:
        yield f"hides the type of the same name: {', '.join(plugin.shadows)}"
    if plugin.error:
        yield f"does not load: {plugin.error}"
    if plugin.abilities:
        yield f"can: {', '.join(plugin.abilities)}"
    if plugin.deprecated:
        yield "is written for versions before 0.6: poll(http, state) works until 1.0; use poll(visit, state)"
