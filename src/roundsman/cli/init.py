"""The command `init`: a configuration with comments to begin with."""

import os
import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from roundsman import config as configuration
from roundsman.cli.app import app, complain, fail, say
from roundsman.service import units


@app.command()
def init(
    path: Annotated[
        Path | None, typer.Argument(help="The file to write. Default: roundsman.toml in this folder.")
    ] = None,
    service: Annotated[
        bool,
        typer.Option(
            "--service",
            help=f"For the system's service: write {units.CONFIG}, create a folder for secrets beside it, and name a store in {units.STATE}.",
        ),
    ] = False,
    user: Annotated[
        bool,
        typer.Option(
            "--user",
            help="For a service of your own: write ~/.config/roundsman/roundsman.toml, and create a folder for secrets beside it.",
        ),
    ] = False,
    example: Annotated[
        Literal["github", "okta", "zendesk", "nvd"] | None,
        typer.Option(
            "--example", help="Print a source of the type http.json for this API, and write nothing."
        ),
    ] = None,
) -> None:
    """Write a configuration with comments to begin with. A file that exists is not overwritten.

    Exit status 1: the file exists, or cannot be written.
    """
    from importlib.resources import files

    if example is not None:
        place = files("roundsman").joinpath("examples", f"{example}.toml")
        print(place.read_text(encoding="utf-8"), end="")
        complain(
            'this is a source; the file also needs a sink, for example [sinks.console] with type = "stdout"'
        )
        return
    serves = service or user
    path = path or (units.CONFIG if service else configuration.users() if user else Path("roundsman.toml"))
    text = files("roundsman").joinpath("starter.toml").read_text(encoding="utf-8")
    if serves:
        text = _for_a_service(text, units.STATE if service else None)
    if path.exists():
        fail(f"{path}: exists already and is not overwritten")
    try:
        made = not path.parent.exists()
        path.parent.mkdir(parents=True, exist_ok=True)
        if service and made:  # regardless of the umask
            path.parent.chmod(0o755)
        if serves:
            (path.parent / "credentials").mkdir(mode=0o700, exist_ok=True)
        # 0600: a user may write a secret into it. But the service's user is dynamic and cannot own it.
        mode = 0o644 if service else 0o600
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        os.fchmod(handle, mode)
    except OSError as exc:
        fail(f"{path}: cannot be written: {exc.strerror}")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    if serves:
        install = (
            "check" if service and units.PACKAGED.exists() else f"service install{' --user' if user else ''}"
        )
        say(
            f"wrote {path}; fill in your source, put its secret into {path.parent / 'credentials' / 'parakey'}"
        )
        print(f"next: {units.program()} {install}")
    else:
        say(f"wrote {path}; fill in your source, then: roundsman check -c {path}")


def _for_a_service(text: str, state: Path | None) -> str:
    """The starter with secrets as credentials, files in the service's folder, and a limit on their size."""
    for variable, name in (
        ("PARAKEY_ACCESS_TOKEN", "parakey"),
        ("MAILCHIMP_API_KEY", "mailchimp"),
        ("RAILZ_SECRET_KEY", "railz"),
    ):
        text = text.replace(f'{{ env = "{variable}" }}', f'{{ credential = "{name}" }}')
    text = re.sub(r"   # or \{ file = .*", "   # the file credentials/parakey beside this one", text)
    head, _, rest = text.partition("\n[sources")
    if state is not None:
        head += f'\n[daemon]\nstore = "{state / "roundsman.db"}"\n'
        rest = rest.replace('path = "events.jsonl"', f'path = "{state / "events.jsonl"}"')
    console = '[sinks.console]\ntype = "stdout"\n'
    return (
        f"{head}\n[sources"
        + rest.replace(
            console,
            f"# Events to the journal, too: with names and addresses of people.\n# {console.replace(chr(10) + 't', chr(10) + '# t')}",
        )
        + 'rotate_size = "100MB"\nkeep = 10                                          # old files; without, all are kept\n'
    )
