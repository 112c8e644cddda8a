"""The command `sandbox`: simulated vendors for a first try, and for tests of a configuration."""

import asyncio
from contextlib import suppress
from typing import Annotated

import typer

from roundsman.cli.app import app, fail


@app.command()
def sandbox(
    port: Annotated[int, typer.Option(metavar="PORT", help="The port on 127.0.0.1. 0: any free port.")] = 0,
    rows: Annotated[int, typer.Option(metavar="N", help="Event logs that exist at the start.")] = 100,
    per_second: Annotated[
        float,
        typer.Option("--per-second", metavar="N", help="New event logs in a second. 0: nothing happens."),
    ] = 1.0,
    listen: Annotated[
        str, typer.Option(metavar="ADDRESS", help="The address where your daemon receives webhooks.")
    ] = "127.0.0.1:8377",
) -> None:
    """Simulate Parakey, Mailchimp and Railz on this machine until Ctrl-C.

    Standard output is a configuration for them, as TOML.

    More: `roundsman help first-event`.
    """
    from roundsman.sandbox.alone import refusal, serve

    if not 0 <= port < 2**16:
        fail(f"--port {port}: write a number from 0 to 65535", 2)
    with suppress(KeyboardInterrupt):
        try:
            asyncio.run(serve(port, rows, per_second, listen))
        except OSError as exc:
            fail(refusal(exc, port))
