"""Commands about the systemd service: show its unit, install it."""

import os
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from roundsman import config as configuration
from roundsman.cli.app import app, complain, config_option, fail
from roundsman.cli.layout import App
from roundsman.errors import ConfigError
from roundsman.service import units

service_app = App(no_args_is_help=True, help="Print or install the systemd units.")
app.add_typer(service_app, name="service")

User = Annotated[bool, typer.Option("--user", help="For the systemd of this user, not of the system.")]
Socket = Annotated[
    bool,
    typer.Option(
        "--socket",
        help="Also a unit for a socket that systemd opens, at the address of [listen]. Implied if that unit exists.",
    ),
]
ServicePath = Annotated[
    Path | None, config_option(f"{units.CONFIG}; with --user ~/.config/roundsman/roundsman.toml")
]


@service_app.command("show")
def show(user: User = False, socket: Socket = False, config: ServicePath = None) -> None:
    """Print the units that `service install` would write."""
    for place, text in _units(_path(config, user=user), user=user, socket=socket).items():
        print(f"# {place}")
        print(text)


@service_app.command("install")
def install(user: User = False, socket: Socket = False, config: ServicePath = None) -> None:
    """Write the units for this program and this configuration, and print the next command.

    Units that exist are replaced. Exit status 2: the configuration has mistakes, or the service could not read it; then
    no unit is written. Exit status 1: you are not root, or a package has installed the units.

    More: `roundsman help systemd`.
    """
    from roundsman.config import advice
    from roundsman.service import fitness

    path = _path(config, user=user)
    _there(path, user=user)
    if not user and os.geteuid() != 0:
        fail("only root can install the system's service: use sudo, or --user for a service of your own")
    if not user and units.PACKAGED.exists():
        fail(
            f"{units.PACKAGED} belongs to a package, and a unit in /etc would hide it; change it with systemctl edit roundsman.service, its socket with systemctl edit roundsman.socket"
        )
    if not user and (why := units.obstacles(path)):
        raise ConfigError(why)
    credentials = path.parent / "credentials"
    if not user and not credentials.exists():
        credentials.mkdir(mode=0o700)
        complain(f"created {credentials} for secrets")
    document = configuration.read(path)
    loaded = configuration.loaded(document)
    if not user and (mistakes := fitness.literal_secrets(loaded)):
        raise ConfigError(document.located(mistakes), path)
    texts = _units(path, user=user, socket=socket)
    held = texts.get(units.folder(user=user) / units.SOCKET)
    unwise = [*advice.warnings(loaded), *fitness.without_environment(loaded)]
    if not user:
        unwise += fitness.out_of_reach(loaded, socket=held is not None)
        unwise += fitness.without_group(held or "", units.folder(user=False))
    for warning in document.located([*document.warnings, *unwise]):
        complain(warning.warning())
    written = [_write(place, text) for place, text in texts.items()]
    manager = ["systemctl", *(["--user"] if user else [])]
    if not _did(*manager, "daemon-reload"):
        complain("systemd did not reload its units: it does not answer here")
    running = [name for name in (units.SOCKET, units.SERVICE) if _did(*manager, "is-active", "--quiet", name)]
    print(f"next: {following(' '.join(manager), running, socket=held is not None, new=written[-1])}")


def following(control: str, running: list[str], *, socket: bool, new: bool) -> str:
    """The command that puts the written units into effect; `new` if the last of them has changed."""
    if units.SERVICE in running and (not socket or (units.SOCKET in running and not new)):
        return f"{control} restart roundsman"
    if not socket:
        return f"{control} enable --now roundsman"
    # systemd does not open a socket for a service that runs, and does not change an open one.
    first = f"{control} stop {' '.join(running)}; " if running else ""
    return f"{first}{control} enable --now {units.SOCKET} {units.SERVICE}"


def _write(place: Path, text: str) -> bool:
    """Write a unit. Returns whether it has changed."""
    place.parent.mkdir(parents=True, exist_ok=True)
    same = place.exists() and place.read_text(encoding="utf-8") == text
    half = place.with_name(f".{place.name}.new")
    half.write_text(text, encoding="utf-8")
    half.chmod(0o644)
    half.replace(place)
    print(f"{place}: unchanged" if same else f"wrote {place}")
    return not same


def _did(*command: str) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0  # noqa: S603 - fixed words


def _units(path: Path, *, user: bool, socket: bool) -> dict[Path, str]:
    """The service's unit, and the socket's if one is requested or installed already."""
    folder = units.folder(user=user)
    place = folder / units.SOCKET
    held = socket or place.is_file()
    texts = {folder / units.SERVICE: units.service(path, user=user, socket=held)}
    if held:
        _there(path, user=user)
        listen = configuration.listen_of(path)
        if listen is None:
            remove = f"; add it, or disable {units.SOCKET} and remove {place}" if place.is_file() else ""
            fail(f"{path}: without [listen], the daemon does not use the socket{remove}", 2)
        try:
            texts[place] = units.socket(listen.address, user=user)
        except ValueError as exc:
            fail(f"listen.address: {exc}", 2)
    return texts


def _path(config: Path | None, *, user: bool) -> Path:
    """The configuration file: `config`, else the user's own for a user's service, else the one in /etc."""
    return (config or (configuration.users() if user else units.CONFIG)).absolute()


def _there(path: Path, *, user: bool) -> None:
    if not path.exists():
        fail(
            f"{path}: there is no configuration yet; `roundsman init{' --user' if user else ' --service'}` writes one",
            2,
        )
