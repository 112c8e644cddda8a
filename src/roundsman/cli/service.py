"""Commands about the systemd service: show its unit, install it."""

import os
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from roundsman import config as configuration, unit
from roundsman.cli.app import ConfigPath, app, complain, fail
from roundsman.config import Config, ConfigError
from roundsman.plugin import Plugin, secrets

service_app = typer.Typer(no_args_is_help=True, help="The systemd service.")
app.add_typer(service_app, name="service")

User = Annotated[bool, typer.Option("--user", help="For this user's own systemd instead of the system's.")]
Socket = Annotated[bool, typer.Option("--socket", help="With a socket that systemd holds, for [listen].")]


@service_app.command("show")
def show(user: User = False, socket: Socket = False, config: ConfigPath = None) -> None:
    """Print the units that `install` would write."""
    path = _config(config, user=user)
    for name, text in _units(path, user=user, socket=socket).items():
        if socket:
            print(f"# {unit.folder(user=user) / name}")
        print(text)


@service_app.command("install")
def install(user: User = False, socket: Socket = False, config: ConfigPath = None) -> None:
    """Write the unit for this program and this configuration, once that has no mistakes. Replaces an older one."""
    path = _config(config, user=user)
    if not user and os.geteuid() != 0:
        fail("the system's service is root's to install: sudo, or --user for a service of your own")
    if not user and (why := unit.obstacles(path)):
        raise ConfigError(why)
    credentials = path.parent / "credentials"
    if not user and not credentials.exists():
        credentials.mkdir(mode=0o700)
        complain(f"made {credentials}, for secrets")
    loaded = configuration.load(path)
    for warning in [*configuration.warnings(loaded), *([] if user else without_environment(loaded))]:
        complain(f"warning: {warning}")
    place = unit.folder(user=user)
    place.mkdir(parents=True, exist_ok=True)
    units = _units(path, user=user, socket=socket)
    for name, text in units.items():
        half = place / f".{name}.new"
        half.write_text(text, encoding="utf-8")
        half.chmod(0o644)
        half.replace(place / name)
        print(f"wrote {place / name}")
    manager = ["systemctl", *(["--user"] if user else [])]
    running = subprocess.run([*manager, "daemon-reload"], check=False, capture_output=True).returncode == 0  # noqa: S603 - fixed words
    if not running:
        complain("systemd was not told: it does not answer here")
    print(f"next: {' '.join(manager)} enable --now {' '.join(sorted(units, reverse=True))}")


def _units(path: Path, *, user: bool, socket: bool) -> dict[str, str]:
    units = {"roundsman.service": unit.service(path, user=user)}
    if socket:
        listen = configuration.load(path, only_daemon=True).listen
        if listen is None:
            fail(f"{path}: without [listen] nobody would take the socket", 2)
        units["roundsman.socket"] = unit.socket(listen.address)
    return units


def _config(config: Path | None, *, user: bool) -> Path:
    """The system's service has its configuration in /etc; a user's where commands find it."""
    path = config or (configuration.find(None) if user else unit.CONFIG)
    if not path.exists():
        fail(
            f"{path}: there is no configuration yet; `roundsman init{'' if user else ' --service'}` writes one",
            2,
        )
    return path.absolute()


def without_environment(config: Config) -> list[str]:
    """A service has none of a shell's variables."""
    plugins: dict[str, Plugin] = {f"sources.{name}": source for name, source in config.sources.items()}
    plugins |= {f"sinks.{name}": sink for name, sink in config.sinks.items()}
    return [
        f"{place}: the service does not have the variable {secret.origin.removeprefix('env ')}; put the secret into "
        f'{config.path.parent / "credentials"}, and write {{ credential = "name" }}'
        for place, plugin in plugins.items()
        for secret in secrets(plugin)
        if isinstance(secret.origin, str) and secret.origin.startswith("env ")
    ]
