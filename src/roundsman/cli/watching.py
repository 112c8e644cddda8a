"""`status --watch`: the status on the alternate screen of a terminal, each second, until Ctrl-C."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

from roundsman.config.current import Current
from roundsman.masking import mask, safe
from roundsman.screen.tables import status_screen
from roundsman.store import Place, StoreError, View, exists, open_view
from roundsman.terminal.alternate import alternate
from roundsman.terminal.terminal import Terminal

EVERY = 1.0
"""Seconds between two looks at the store."""


async def watch_status(
    current: Current, terminal: Terminal, look: Callable[[View], Awaitable[dict[str, Any]]]
) -> NoReturn:
    """Show what `look` finds in the store. A store that is not there yet is waited for, and one that moves is followed."""
    view: View | None = None
    store = current.store
    with alternate() as draw:
        try:
            while True:
                clock = f"{terminal.clock(time.time())}  Ctrl-C ends"
                current.renew()
                if store != current.store and view is not None:
                    await view.close()
                    view = None
                store = current.store
                try:
                    view = view or await open_view(store)
                    lines = status_screen(await look(view), terminal, clock)
                except StoreError as exc:
                    if view is not None:
                        await view.close()
                    view, lines = None, _waiting(store, exc, terminal, clock)
                draw(lines)
                await asyncio.sleep(EVERY - time.time() % EVERY)  # the clock shows each second
        finally:
            if view is not None:
                await view.close()


def _waiting(store: Place, exc: StoreError, terminal: Terminal, clock: str) -> list[str]:
    if _may_exist(store):
        what, tone = f"{mask(str(exc))}; it is tried again", "red"
    else:
        what, tone = (
            f"no daemon has run yet: there is no store at {store}; waiting for the first start",
            "dim",
        )
    return [terminal.paint(f"  {clock}", "dim"), "", *terminal.paragraph(safe(what), tone)][: terminal.lines]


def _may_exist(store: Place) -> bool:
    try:
        return exists(store)
    except StoreError:  # a server that is away
        return True
