"""The command that sends a test message."""

import typer

from roundsman import config as configuration
from roundsman.cli.app import ConfigPath, NamedSink, app, complain, fail


@app.command("notify-test")
def notify_test(sink: NamedSink, config: ConfigPath = None) -> None:
    """Send a test message by each address of a `notify` sink, also in its quiet hours.

    Reads the secrets of this sink alone. Exit status 1: an address did not take the message.

    More: `roundsman help notify`.
    """
    from roundsman.service import service
    from roundsman.sinks.notify import NotifySink

    loaded = configuration.load(configuration.find(config), only_sink=sink)
    found = loaded.sinks[sink]
    if not isinstance(found, NotifySink):
        fail(f"{sink}: is a {found.type} sink, which sends no messages to people", 2)

    async def send() -> int:
        results = await found.test()
        for name, wrong in results:
            if wrong is None:
                print(f"{name}: sent")
            else:
                complain(f"{sink}: {wrong}")
        return 1 if any(wrong for _, wrong in results) else 0

    raise typer.Exit(service.run(send))
