"""Commands about the systemd service: show its unit, install it."""

import grp
import os
import re
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from roundsman import config as configuration, unit
from roundsman.cli.app import app, complain, config_option, fail
from roundsman.config import Config, ConfigError
from roundsman.plugin import Plugin, secrets

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
SERVICE, SOCKET = "roundsman.service", "roundsman.socket"


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
            f"{unit.PACKAGED} came with a package, and one of our own would hide it; systemctl edit roundsman changes it"
        )
    if not user and (why := unit.obstacles(path)):
        raise ConfigError(why)
    credentials = path.parent / "credentials"
    if not user and not credentials.exists():
        credentials.mkdir(mode=0o700)
        complain(f"made {credentials}, for secrets")
    loaded = configuration.load(path)
    if not user and (mistakes := literal_secrets(loaded)):
        raise ConfigError(mistakes, path)
    units = _units(path, user=user, socket=socket)
    held = units.get(unit.folder(user=user) / SOCKET)
    unwise = [*configuration.warnings(loaded), *without_environment(loaded)]
    if not user:
        unwise += out_of_reach(loaded, socket=held is not None)
        unwise += without_group(held or "", unit.folder(user=False))
    for warning in unwise:
        complain(f"warning: {warning}")
    written = [_write(place, text) for place, text in units.items()]
    manager = ["systemctl", *(["--user"] if user else [])]
    if not _did(*manager, "daemon-reload"):
        complain("systemd was not told: it does not answer here")
    running = [name for name in (SOCKET, SERVICE) if _did(*manager, "is-active", "--quiet", name)]
    print(f"next: {following(' '.join(manager), running, socket=held is not None, new=written[-1])}")


def following(control: str, running: list[str], *, socket: bool, new: bool) -> str:
    """What has to be done so that the units that were written count; `new` where the last of them is not as it was."""
    if SERVICE in running and (not socket or (SOCKET in running and not new)):
        return f"{control} restart roundsman"
    if not socket:
        return f"{control} enable --now roundsman"
    # systemd refuses to open a socket for what runs already, and leaves one open as it is.
    first = f"{control} stop {' '.join(running)}; " if running else ""
    return f"{first}{control} enable --now {SOCKET} {SERVICE}"


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
    units = {folder / SERVICE: unit.service(path, user=user)}
    place = folder / SOCKET
    if socket or place.is_file():
        _there(path, user=user)
        listen = configuration.load(path, only_daemon=True).listen
        if listen is None:
            remove = f"; add it, or disable {SOCKET} and remove {place}" if place.is_file() else ""
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


def _plugins(config: Config) -> dict[str, Plugin]:
    plugins: dict[str, Plugin] = {f"sources.{name}": source for name, source in config.sources.items()}
    return plugins | {f"sinks.{name}": sink for name, sink in config.sinks.items()}


def literal_secrets(config: Config) -> list[str]:
    """The service's user is nobody who could own the file: it has to be readable by all."""
    return [
        f"{place}: a secret stands in the file, which the service's user could not read if it were kept from others; put it into "
        f'{config.path.parent / "credentials"}, and write {{ credential = "name" }}'
        for place, plugin in _plugins(config).items()
        if any(secret.origin == "literal" for secret in secrets(plugin))
    ]


def without_environment(config: Config) -> list[str]:
    """A service has none of a shell's variables."""
    return [
        f"{place}: the service does not have the variable {secret.origin.removeprefix('env ')}; put the secret into "
        f'{config.path.parent / "credentials"}, and write {{ credential = "name" }}'
        for place, plugin in _plugins(config).items()
        for secret in secrets(plugin)
        if isinstance(secret.origin, str) and secret.origin.startswith("env ")
    ]


def without_group(socket: str, folder: Path) -> list[str]:
    """A group that the socket should be of, and this machine does not have; where nobody said another."""
    wanted = re.search(r"^SocketGroup=(.+)$", socket, flags=re.MULTILINE)
    changes = (folder / f"{SOCKET}.d").glob("*.conf")
    if not wanted or any("SocketGroup=" in change.read_text(encoding="utf-8") for change in changes):
        return []
    try:
        grp.getgrnam(group := wanted[1])
    except KeyError:
        why = f"this machine has no group {group}, and systemd would not open the socket"
        other = f"systemctl edit {SOCKET} with [Socket] and the SocketGroup= of your proxy"
        return [f"{SOCKET}: {why}: groupadd --system {group}, or {other}"]
    return []


def out_of_reach(config: Config, *, socket: bool) -> list[str]:
    """What root can do and the service cannot: read others' files, and write anywhere but in its own folder."""
    found = []
    credentials = config.path.parent / "credentials"
    for place, plugin in _plugins(config).items():
        for secret in secrets(plugin):
            origin = secret.origin
            if (
                isinstance(origin, Path)
                and origin.parent != credentials
                and not origin.stat().st_mode & 0o004
            ):
                found.append(
                    f'{place}: {origin} cannot be read by the service; put it into {credentials}, and write {{ credential = "name" }}'
                )
    places = {f"sinks.{name}.path": sink.place() for name, sink in config.sinks.items()}
    listen = config.listen.address.path if config.listen is not None and not socket else None
    for place, where in {
        **places,
        "daemon.store": str(config.store),
        "listen.address": listen and str(listen),
    }.items():
        if (
            where
            and "/" in where
            and not Path(where).is_relative_to(unit.STATE.resolve())
            and not Path(where).is_relative_to(unit.STATE)
        ):
            if place == "listen.address":
                found.append(
                    f"{place}: the service cannot make {where}; service install --socket has systemd make it"
                )
            else:
                found.append(
                    f"{place}: the service can write only below {unit.STATE}; for {where}, systemctl edit roundsman with "
                    "ReadWritePaths= of a folder that it may write to"
                )
    return found
