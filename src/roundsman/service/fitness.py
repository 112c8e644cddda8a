"""Checks for what a configuration asks for and the systemd service cannot do."""

import grp
import re
from pathlib import Path

from roundsman.config.advice import secret_tables
from roundsman.config.loading import Config
from roundsman.plugin import secrets
from roundsman.service import units


def literal_secrets(config: Config) -> list[str]:
    """Literal secrets. The service's user is dynamic and cannot own the file: it must be world-readable."""
    return [
        f"{place}: a secret stands in the file, which all users have to be able to read for the service; put it into "
        f'{config.path.parent / "credentials"}, and write {{ credential = "name" }}'
        for place, plugin in secret_tables(config).items()
        if any(secret.origin == "literal" for secret in secrets(plugin))
    ]


def without_environment(config: Config) -> list[str]:
    """Secrets in environment variables: a service does not have those of a shell."""
    return [
        f"{place}: the service does not have the variable {secret.origin.removeprefix('env ')}; put the secret into "
        f'{config.path.parent / "credentials"}, and write {{ credential = "name" }}'
        for place, plugin in secret_tables(config).items()
        for secret in secrets(plugin)
        if isinstance(secret.origin, str) and secret.origin.startswith("env ")
    ]


def without_group(socket: str, folder: Path) -> list[str]:
    """The SocketGroup= of the unit, if this machine has no such group and no drop-in sets another one."""
    wanted = re.search(r"^SocketGroup=(.+)$", socket, flags=re.MULTILINE)
    changes = (folder / f"{units.SOCKET}.d").glob("*.conf")
    if not wanted or any("SocketGroup=" in change.read_text(encoding="utf-8") for change in changes):
        return []
    try:
        grp.getgrnam(group := wanted[1])
    except KeyError:
        why = f"this machine has no group {group}, and systemd would not open the socket"
        other = f"systemctl edit {units.SOCKET} with [Socket] and the SocketGroup= of your proxy"
        return [f"{units.SOCKET}: {why}: groupadd --system {group}, or {other}"]
    return []


def out_of_reach(config: Config, *, socket: bool, folder: Path = units.SYSTEM) -> list[str]:
    """What root can do and the service cannot: read other users' files, and write outside its own folder."""
    found = []
    open_to_it = [units.STATE, units.STATE.resolve(), *_allowed(folder / f"{units.SERVICE}.d")]
    credentials = config.path.parent / "credentials"
    for place, plugin in secret_tables(config).items():
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
    found += _unreadable_tls(config)
    found += _hidden_programs(config)
    places = {f"sinks.{name}.path": sink.place() for name, sink in config.sinks.items()}
    listen = config.listen.address.path if config.listen is not None and not socket else None
    named: dict[str, str | None] = {
        **places,
        "daemon.store": str(config.store) if isinstance(config.store, Path) else None,
        "listen.address": str(listen) if listen else None,
    }
    for place, where in named.items():
        if where and "/" in where and not any(Path(where).is_relative_to(each) for each in open_to_it):
            if place == "listen.address":
                found.append(
                    f"{place}: the service cannot make {where}; service install --socket has systemd make it"
                )
            else:
                found.append(
                    f"{place}: the service can write only below {units.STATE}; for {where}, systemctl edit roundsman with "
                    "ReadWritePaths= of a folder that it may write to"
                )
    return found


def _hidden_programs(config: Config) -> list[str]:
    """Programs that the service cannot see, or that only their owner and group can execute."""
    programs = [
        (f"sinks.{name}.command", Path(getattr(sink, "command", [""])[0]))
        for name, sink in config.sinks.items()
        if sink.type == "exec"
    ]
    programs += [
        (place, Path(secret.origin.removeprefix("program ")))
        for place, plugin in secret_tables(config).items()
        for secret in secrets(plugin)
        if isinstance(secret.origin, str) and secret.origin.startswith("program ")
    ]
    found = []
    for place, program in programs:
        hidden = next((each for each in units.HIDDEN if program.is_relative_to(each)), None)
        if hidden is not None:
            why = f"{hidden} is hidden from the service; move the program to /usr/local/bin"
            found.append(f"{place}: {program}: {why}")
        elif program.is_absolute() and program.is_file() and not program.stat().st_mode & 0o001:
            found.append(f"{place}: {program} cannot be executed by the service's user; chmod o+rx")
    return found


def _unreadable_tls(config: Config) -> list[str]:
    """The certificate and the key, if others than their owner and group cannot read them."""
    options = config.listen
    files = {"tls_certificate": options.tls_certificate, "tls_key": options.tls_key} if options else {}
    how = "systemctl edit roundsman with SupplementaryGroups= of a group that may, or let a proxy do TLS"
    return [
        f"listen.{name}: {path}, mode {path.stat().st_mode & 0o777:04o}, may be unreadable for the service; {how}"
        for name, path in files.items()
        if path is not None and not path.stat().st_mode & 0o004
    ]


def _allowed(drop_ins: Path) -> list[Path]:
    """Folders that drop-ins allow the service to write to (ReadWritePaths=, from `systemctl edit`)."""
    lines = [
        line
        for file in sorted(drop_ins.glob("*.conf"))
        for line in file.read_text(encoding="utf-8").splitlines()
    ]
    words = [line.partition("=")[2] for line in lines if line.startswith("ReadWritePaths=")]
    return [Path(word.lstrip("-+")) for each in words for word in each.split()]
