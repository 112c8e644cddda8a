"""Commands about a vendor's webhooks."""

import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from roundsman import config as configuration
from roundsman.cli.app import ConfigPath, Json, Named, app, complain, fail, say, store_of
from roundsman.cli.layout import App
from roundsman.cli.status import unread
from roundsman.errors import reason
from roundsman.masking import mask, safe
from roundsman.system import logs

if TYPE_CHECKING:
    from roundsman.http.transport import Clients
    from roundsman.plugin import Source
    from roundsman.webhook import Registrar

hooks_app = App(
    no_args_is_help=True, help="List, create, delete or test the webhooks that a vendor sends to a source."
)
app.add_typer(hooks_app, name="hooks")


@hooks_app.command("list")
def hooks_list(source: Named, config: ConfigPath = None, as_json: Json = False) -> None:
    """List the webhooks that the vendor has, and warn if none of them leads to this source.

    Reads the secrets of this source alone. Exit status 1: there is a warning, or the vendor does not answer. Exit status 2:
    the vendor has no API for webhooks.

    More: `roundsman help silent-webhook`.
    """
    from roundsman import screen
    from roundsman.cli import registrations

    async def show(found: "Source", registrar: "Registrar | None", _: "Clients") -> int:
        if registrar is None:
            fail(
                f"{source}: this vendor has no API that lists webhooks; `hooks create` shows what to enter",
                2,
            )
        rows = await registrar.list()
        if as_json:
            here = [registrations.leads_here(found, row) for row in rows]
            urls = [registrations.masked(found, row.url) for row in rows]
            print(
                json.dumps(
                    [
                        {"id": r.id, "url": u, "enabled": r.enabled, "leads_here": h}
                        for r, u, h in zip(rows, urls, here, strict=True)
                    ],
                    indent=2,
                )
            )
        else:
            terminal = screen.console()
            for row in rows:
                what = "" if row.enabled else "  disabled"
                what += "  leads here" if registrations.leads_here(found, row) else ""
                text = f"{registrations.masked(found, row.url)}{what}"
                if terminal is None:
                    print(safe(f"{row.id}  {text}"))
                else:
                    print(*terminal.row("hook", screen.Row([safe(row.id)], safe(text))), sep="\n")
            print(f"{len(rows)} of {registrar.most} that the vendor allows")
        wrong = registrations.troubles(found, rows)
        complain(*(f"warning: {each}" for each in wrong))
        return 1 if wrong else 0

    _at_vendor(config, source, show)


@hooks_app.command("create")
def hooks_create(
    source: Named,
    url: Annotated[
        str,
        typer.Option(
            "--url",
            metavar="URL",
            help="The public URL of the listener, such as https://hooks.example.org. The path of the source is added.",
        ),
    ],
    config: ConfigPath = None,
    reveal: Annotated[
        bool, typer.Option("--reveal", help="Print the secrets that have to be entered by hand.")
    ] = False,
) -> None:
    """Create a webhook at the vendor. If the vendor has no API for that, print what to enter there.

    Prints the signing secret, if the vendor makes one; it is shown this once. Reads the secrets of this source alone. Exit
    status 1: the vendor refuses, or such a webhook exists.

    More: `roundsman help webhooks-parakey`, `roundsman help webhooks-mailchimp`, `roundsman help webhooks-railz`.
    """
    from roundsman.cli import registrations

    async def make(found: "Source", registrar: "Registrar | None", _: "Clients") -> int:
        place = registrations.address(found, url)
        if registrar is None:
            for line in registrations.advice(found, place, reveal=reveal):
                (print if reveal else say)(line)  # a secret is not wrapped
            return 0
        made = await registrations.create(found, registrar, place)
        print(f"{made.id}: sends to {registrations.masked(found, made.url or place)}")
        if made.secret:
            print(f"signing secret, shown only now: {made.secret}")
            complain(
                f"store it, set signing_secret in [sources.{source}.webhook] to its place, and reload the daemon"
            )
        return 0

    _at_vendor(config, source, make)


@hooks_app.command("delete")
def hooks_delete(
    source: Named,
    key: Annotated[
        str, typer.Argument(metavar="ID", help="The id of the webhook, as `roundsman hooks list` prints it.")
    ],
    config: ConfigPath = None,
) -> None:
    """Delete a webhook at the vendor.

    Reads the secrets of this source alone. Exit status 1: the vendor refuses. Exit status 2: the vendor has no API for
    webhooks.
    """

    async def delete(_: "Source", registrar: "Registrar | None", __: "Clients") -> int:
        if registrar is None:
            fail(
                f"{source}: this vendor has no API for webhooks: delete it at the place where it was entered",
                2,
            )
        await registrar.delete(key)
        print(f"{key}: deleted")
        return 0

    _at_vendor(config, source, delete)


@hooks_app.command("test")
def hooks_test(
    source: Named,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            metavar="URL",
            help="The public URL of the listener, as for `hooks create`, or its address on this machine. Default: the "
            "webhook that is registered at the vendor.",
        ),
    ] = None,
    config: ConfigPath = None,
) -> None:
    """Send a sample as the vendor would, through the public address, and say whether the daemon received it.

    The sample is signed with the secrets of this source. The daemon stores nothing of it, and answers with a proof that
    only its secrets can make. Reads the secrets of this source alone. Exit status 1: it did not arrive. Exit status 2: no
    --url is given, and the vendor has no API for webhooks.

    More: `roundsman help silent-webhook`.
    """
    from roundsman.cli import registrations, samples
    from roundsman.store import holder

    store = store_of(config)

    async def send(found: "Source", registrar: "Registrar | None", connections: "Clients") -> int:
        hook = found.webhook
        if hook is None:
            fail(
                f"{source}: there is no [sources.{source}.webhook] table, so no webhook would be received", 2
            )
        if url is not None:
            urls = [registrations.address(found, url, local=True)]
        elif registrar is not None:
            urls = await samples.registered(found, registrar)
        else:
            fail(
                f"{source}: this vendor has no API that lists webhooks; name the public address with --url", 2
            )
        sent = [await samples.send(found, hook, each, connections) for each in urls]
        for arrived, sentence in sent:
            if arrived:
                say(mask(sentence))
            else:
                complain(f"{source}: {sentence}")
        if all(arrived for arrived, _ in sent):
            return 0
        if holder(store) is None:
            complain(f"{source}: no daemon uses {store} on this machine now")
        return 1

    _at_vendor(config, source, send)


hooks_app.command("unread", help="The same as `roundsman unread`.")(unread)  # an alias of `roundsman unread`


def _at_vendor(
    path: Path | None,
    name: str,
    act: "Callable[[Source, Registrar | None, Clients], Coroutine[Any, Any, int]]",
) -> NoReturn:
    """Run `act` with the source, its registrar and the connections, and exit with the status that it returns."""
    from roundsman.engine.reading import visit_to
    from roundsman.errors import HookError
    from roundsman.legacy import old_http
    from roundsman.plugin import Registers
    from roundsman.service import service

    loaded = configuration.load(configuration.find(path), only_source=name)
    logs.configure("warning", loaded.daemon.log_format)
    source = loaded.sources[name]

    async def run() -> int:
        connections = service.web(loaded.http)
        try:
            http = old_http(visit_to(source, connections))
            registrar = source.registrar(http) if isinstance(source, Registers) else None
            return await act(source, registrar, connections)
        except typer.Exit:
            raise
        except HookError as exc:
            complain(f"{name}: {exc}")
        except Exception as exc:  # noqa: BLE001 - a plugin may raise anything
            complain(f"{name}: {reason(exc)}")
        finally:
            await connections.aclose()
        return 1

    raise typer.Exit(service.run(run))
