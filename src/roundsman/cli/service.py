"""Commands about the systemd service: show its unit, install it."""

import os
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from roundsman import advice, config as configuration, unit
from roundsman.cli.app import app, complain, config_option, fail
from roundsman.errors import ConfigError

service_app = typer.Typer(no_args_is_help=True, help="The systemd service.")
app.add_typer(service_app, name="service")

User = Annotated[bool, typer.Option("--user", help="For this user's own systemd instead of the system's.")]
Socket = Annotated[
    bool,
    typer.Option("--socket", help="With a socket that systemd holds, for [listen]; kept where there is one."),
]
ServicePath = Annotated[
    Path | None, config_option(f"{unit.CONFIG}; with --user ~/.config/roundsman/roundsman.toml")
]


@service_app.command("show")
def show(user: User = False, socket: Socket = False, config: ServicePath = None) -> None:
    """Print the units that `install` would write."""
    for place, text in _units(_path(config, user=user), user=user, socket=socket).items():
        print(f"# {place}")
        print(text)


@service_app.command("install")
def install(user: User = False, socket: Socket = False, config: ServicePath = None) -> None:
    """Write the unit for this program and this configuration, once that has no mistakes. Replaces an older one."""
    path = _path(config, user=user)
    _there(path, user=user)
    if not user and os.geteuid() != 0:
        fail("the system's service is root's to install: sudo, or --user for a service of your own")
    if not user and unit.PACKAGED.exists():
        fail(
            f"{unit.PACKAGED} came with a package, and one of our own would hide it; systemctl edit roundsman.service changes it, systemctl edit roundsman.socket its socket"
        )
    if not user and (why := unit.obstacles(path)):
        raise ConfigError(why)
    credentials = path.parent / "credentials"
    if not user and not credentials.exists():
        credentials.mkdir(mode=0o700)
        complain(f"made {credentials}, for secrets")
    loaded = configuration.load(path)
    if not user and (mistakes := advice.literal_secrets(loaded)):
        raise ConfigError(mistakes, path)
    units = _units(path, user=user, socket=socket)
    held = units.get(unit.folder(user=user) / unit.SOCKET)
    unwise = [*advice.warnings(loaded), *advice.without_environment(loaded)]
    if not user:
        unwise += advice.out_of_reach(loaded, socket=held is not None)
        unwise += advice.without_group(held or "", unit.folder(user=False))
    for warning in unwise:
        complain(f"warning: {warning}")
    written = [_write(place, text) for place, text in units.items()]
    manager = ["systemctl", *(["--user"] if user else [])]
    if not _did(*manager, "daemon-reload"):
        complain("systemd was not told: it does not answer here")
    running = [name for name in (unit.SOCKET, unit.SERVICE) if _did(*manager, "is-active", "--quiet", name)]
    print(f"next: {following(' '.join(manager), running, socket=held is not None, new=written[-1])}")


def following(control: str, running: list[str], *, socket: bool, new: bool) -> str:
    """What has to be done so that the units that were written count; `new` where the last of them is not as it was."""
    if unit.SERVICE in running and (not socket or (unit.SOCKET in running and not new)):
        return f"{control} restart roundsman"
    if not socket:
        return f"{control} enable --now roundsman"
    # systemd refuses to open a socket for what runs already, and leaves one open as it is.
    first = f"{control} stop {' '.join(running)}; " if running else ""
    return f"{first}{control} enable --now {unit.SOCKET} {unit.SERVICE}"


def _write(place: Path, text: str) -> bool:
    """Whether it is another one than before."""
    place.parent.mkdir(parents=True, exist_ok=True)
    same = place.exists() and place.read_text(encoding="utf-8") == text
    half = place.with_name(f".{place.name}.new")
    half.write_text(text, encoding="utf-8")
    half.chmod(0o644)
    half.replace(place)
    print(f"{place}: as it was" if same else f"wrote {place}")
    return not same


def _did(*command: str) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0  # noqa: S603 - fixed words


def _units(path: Path, *, user: bool, socket: bool) -> dict[Path, str]:
    """The unit; and that of the socket, where one is wanted or there already."""
    folder = unit.folder(user=user)
    place = folder / unit.SOCKET
    held = socket or place.is_file()
    units = {folder / unit.SERVICE: unit.service(path, user=user, socket=held)}
    if held:
        _there(path, user=user)
        listen = configuration.load(path, only_daemon=True).listen
        if listen is None:
            remove = f"; add it, or disable {unit.SOCKET} and remove {place}" if place.is_file() else ""
            fail(f"{path}: without [listen] nobody would take the socket{remove}", 2)
        try:
            units[place] = unit.socket(listen.address, user=user)
        except ValueError as exc:
            fail(f"listen.address: {exc}", 2)
    return units


def _path(config: Path | None, *, user: bool) -> Path:
    """The system's service has its configuration in /etc; a user's in their own folder."""
    return (config or (configuration.users() if user else unit.CONFIG)).absolute()


def _there(path: Path, *, user: bool) -> None:
    if not path.exists():
        fail(
            f"{path}: there is no configuration yet; `roundsman init{' --user' if user else ' --service'}` writes one",
            2,
        )
