"""systemd units for the running program and one configuration.

The templates are the files in `systemd/`. Only the paths of the program and the configuration, the socket,
and the settings that a user's own systemd supports differ.
"""

import os
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from roundsman.options.listen import Address

PACKAGE = Path(__file__).resolve().parents[1]
"""The folder of this package."""
SERVICE, SOCKET = "roundsman.service", "roundsman.socket"
SYSTEM = Path("/etc/systemd/system")
CONFIG = Path("/etc/roundsman/roundsman.toml")
STATE = Path("/var/lib/roundsman")
"""The service's own folder, StateDirectory= in its unit: the only one that it can write to."""
PACKAGED = Path("/usr/lib/systemd/system/roundsman.service")
"""The unit of a distribution's package."""
HIDDEN = (Path("/home"), Path("/root"), Path("/run/user"), Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - to refuse them
"""Folders that the service cannot see: ProtectHome= and PrivateTmp=."""
FOR_A_USER = {
    *("Type", "NotifyAccess", "ExecStart", "ExecReload", "WatchdogSec"),
    *(
        "Restart",
        "RestartSec",
        "RestartPreventExitStatus",
        "TimeoutStopSec",
        "KillMode",
        "TimeoutAbortSec",
        "UMask",
        "Environment",
        "LimitCORE",
    ),
    *("NoNewPrivileges", "LockPersonality", "MemoryDenyWriteExecute", "RestrictAddressFamilies"),
    *("RestrictNamespaces", "RestrictRealtime", "RestrictSUIDSGID"),
    *("SystemCallArchitectures", "SystemCallFilter", "SystemCallErrorNumber"),
}
"""Settings of [Service] that a user's own systemd supports. The others need the system manager's rights."""
HELD = f"""# The socket is opened before each start. Otherwise the daemon would listen there, and systemd could not.
Sockets={SOCKET}
"""
USERS = "systemctl --user "
"""The command prefix for a user's own systemd."""


def service(config: Path, *, user: bool = False, socket: bool = False) -> str:
    """`roundsman.service` for this program and configuration. With `socket`, systemd opens the socket."""
    command = f"{program()} {{}} --config {_quoted(str(config))}"
    text = _template(SERVICE)
    text = re.sub(r"^ExecStart=.*$", lambda _: "ExecStart=" + command.format("run"), text, flags=re.MULTILINE)
    text = re.sub(
        r"^ExecReload=.*$", lambda _: "ExecReload=" + command.format("reload"), text, flags=re.MULTILINE
    )
    credentials = config.parent / "credentials"
    text = re.sub(
        r"^(LoadCredential=roundsman:).*$",
        lambda m: m[1] + _escaped(str(credentials)),
        text,
        flags=re.MULTILINE,
    )
    text = _for_a_user(text) if user else text
    return text.replace("[Service]\n", f"[Service]\n{HELD}", 1) if socket else text


def socket(address: "Address", *, user: bool = False) -> str:
    """`roundsman.socket` for this address. ValueError if systemd cannot listen on it."""
    if address.path is None and not address.port:
        raise ValueError("systemd needs a port other than 0")
    place = _escaped(str(address.path or address))
    text = re.sub(
        r"^ListenStream=.*$",
        lambda _: f"ListenStream={place}",
        _template(SOCKET),
        flags=re.MULTILINE,
    )
    left_out = {"# For a proxy"}
    if address.path is None:
        left_out |= {"# The proxy's group", "SocketGroup=", "SocketMode="}  # only a socket file has these
    elif user:
        left_out |= {"# The proxy's group", "SocketGroup="}  # a user's systemd cannot set the group
    lines = [line for line in text.splitlines() if not line.startswith(tuple(left_out))]
    return "\n".join(lines).replace("systemctl ", USERS if user else "systemctl ") + "\n"


def folder(*, user: bool) -> Path:
    """The folder of the units."""
    if not user:
        return SYSTEM
    home = os.environ.get("XDG_CONFIG_HOME") or str(
        Path(os.environ.get("HOME", "~")).expanduser() / ".config"
    )
    return Path(home) / "systemd" / "user"


def obstacles(config: Path) -> list[str]:
    """Why the system's service, with a dynamic user and no /home, could not run with this configuration."""
    from roundsman import config as configuration

    found = []
    trees = [PACKAGE]
    if sys.prefix != sys.base_prefix:  # a virtual environment; /usr is not checked as a whole
        trees.insert(0, Path(sys.prefix))
    script = _script()
    for what, path in (
        ("the program", Path(sys.prefix)),
        ("its Python", Path(sys.executable).resolve()),
        ("the program", PACKAGE),
        *([("the program", script)] if script else []),
        ("the configuration", config.resolve()),
        *(("the configuration", each.resolve()) for each in configuration.included_files(config)),
    ):
        hidden = next((each for each in HIDDEN if path.is_relative_to(each)), None)
        if hidden is not None:
            found.append(
                f"{path}: {what} is there, and {hidden} is hidden from the service; move it to /opt or /etc, or use --user"
            )
            continue
        tree = next((each for each in trees if path.is_relative_to(each)), None)
        if tree is not None and _closed(tree):
            found.append(
                f"{tree}: not all of it can be read by the service's user: chmod -R o+rX {shlex.quote(str(tree))}"
            )
        for each in tree.parents if tree is not None else (path, *path.parents):
            if each.exists() and not _open(each):
                more = "x" if each.stat().st_mode & 0o100 else ""
                found.append(
                    f"{each}: cannot be read by the service's user: chmod o+r{more} {shlex.quote(str(each))}"
                )
    return list(dict.fromkeys(found))


def _closed(tree: Path) -> bool:
    """Whether a folder holds something that not all users can read, as after an install with umask 077."""
    return not _open(tree) or any(
        not _open(Path(folder, name))
        for folder, folders, names in os.walk(tree)
        for name in (*folders, *names)
        if "__pycache__" not in (name, Path(folder).name)  # Python works without it
    )


def _open(path: Path) -> bool:
    """Whether all users may read it, and also execute or enter it if its owner may."""
    mode = path.lstat().st_mode
    want = 0o005 if mode & 0o100 else 0o004
    return mode & want == want


def program() -> str:
    """The command for this program, independent of PATH.

    The script beside the interpreter, else the script that was called, else `python -m roundsman`.
    """
    script = _script()
    return _quoted(str(script)) if script else f"{_quoted(sys.executable)} -m roundsman"


def _script() -> Path | None:
    for script in (Path(sys.executable).with_name("roundsman"), Path(sys.argv[0]).absolute()):
        if script.name == "roundsman" and os.access(script, os.X_OK) and script.is_file():
            return script
    return None


def _template(name: str) -> str:
    from importlib.resources import files

    packaged = files("roundsman").joinpath("systemd", name)
    # An editable install does not contain a copy.
    return (packaged if packaged.is_file() else PACKAGE.parents[1] / "systemd" / name).read_text(
        encoding="utf-8"
    )


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    """Quoted as systemd.service(5) splits command lines."""
    text = _escaped(text).replace("$", "$$")
    return text if re.fullmatch(r"[\w@%+=:,./$-]+", text) else '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


def _for_a_user(text: str) -> str:
    """The unit without settings that a user's own systemd does not support, and without their comments."""
    before, _, rest = text.partition("[Service]\n")
    body, _, after = rest.partition("\n[Install]")
    blocks: list[str] = []
    comment: list[str] = []
    for line in body.splitlines():
        if not line or line.startswith("#"):
            comment = [*comment, line] if line else []
        else:
            blocks += [*comment, line] if line.partition("=")[0] in FOR_A_USER else []
            comment = []
    # Only the system manager has network-online.target.
    before = re.sub(r"^(Wants|After)=network-online.target\n", "", before, flags=re.MULTILINE)
    before = re.sub(r"^# Polling an unreachable.*\n", "", before, flags=re.MULTILINE)
    return (
        before
        + "[Service]\n"
        + "\n".join(blocks).replace("systemctl ", USERS)
        + "\n\n[Install]"
        + after.replace("multi-user.target", "default.target")
    )
