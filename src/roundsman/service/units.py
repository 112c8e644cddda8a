"""Units for systemd, written for the program that runs this and for one configuration.

The files in `systemd/` are what is installed; only the program, the configuration and what systemd can do for a user differ.
"""

import os
import re
import shlex
import sys
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from roundsman.options.listen import Address

PACKAGE = Path(__file__).resolve().parents[1]
"""Where this program is."""
SERVICE, SOCKET = "roundsman.service", "roundsman.socket"
SYSTEM = Path("/etc/systemd/system")
CONFIG = Path("/etc/roundsman/roundsman.toml")
STATE = Path("/var/lib/roundsman")
"""The service's own folder, StateDirectory= in its unit: the only one that it can write to."""
PACKAGED = Path("/usr/lib/systemd/system/roundsman.service")
"""Where a distribution's package brings it."""
HIDDEN = (Path("/home"), Path("/root"), Path("/run/user"), Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - to refuse them
"""What the service cannot see: ProtectHome and PrivateTmp."""
FOR_A_USER = {
    *("Type", "NotifyAccess", "ExecStart", "ExecReload", "WatchdogSec"),
    *(
        "Restart",
        "RestartSec",
        "RestartPreventExitStatus",
        "TimeoutStopSec",
        "TimeoutAbortSec",
        "UMask",
        "Environment",
        "LimitCORE",
    ),
    *("NoNewPrivileges", "LockPersonality", "MemoryDenyWriteExecute", "RestrictAddressFamilies"),
    *("RestrictNamespaces", "RestrictRealtime", "RestrictSUIDSGID"),
    *("SystemCallArchitectures", "SystemCallFilter", "SystemCallErrorNumber"),
}
"""Settings of [Service] that a user's own systemd can do: the rest needs rights that only the system's has."""
HELD = f"""# Opened before this starts, however that comes: else it would listen there itself, and systemd could not.
Sockets={SOCKET}
"""
USERS = "systemctl --user "
"""How they speak to it."""


def service(config: Path, *, user: bool = False, socket: bool = False) -> str:
    """`roundsman.service`, for this program and this configuration; with `socket`, beside a socket that systemd holds."""
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


def socket(address: Address, *, user: bool = False) -> str:
    """`roundsman.socket`, for this address. ValueError where systemd cannot listen there."""
    if address.path is None and not address.port:
        raise ValueError("systemd wants a port, and 0 is none")
    place = _escaped(str(address.path or address))
    text = re.sub(
        r"^ListenStream=.*$",
        lambda _: f"ListenStream={place}",
        _template(SOCKET),
        flags=re.MULTILINE,
    )
    left_out = {"# For a proxy"}
    if address.path is None:
        left_out |= {"# The proxy's group", "SocketGroup=", "SocketMode="}  # those of a socket's file
    elif user:
        left_out |= {"# The proxy's group", "SocketGroup="}  # no group is a user's to give
    lines = [line for line in text.splitlines() if not line.startswith(tuple(left_out))]
    return "\n".join(lines).replace("systemctl ", USERS if user else "systemctl ") + "\n"


def folder(*, user: bool, environ: Mapping[str, str] = os.environ) -> Path:
    """Where units go."""
    if not user:
        return SYSTEM
    home = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME", "~")).expanduser() / ".config")
    return Path(home) / "systemd" / "user"


def obstacles(config: Path) -> list[str]:
    """Why the system's service, with its made-up user and a hidden /home, could not run with this."""
    found = []
    trees = [PACKAGE]
    if sys.prefix != sys.base_prefix:  # not all of /usr
        trees.insert(0, Path(sys.prefix))
    script = _script()
    for what, path in (
        ("the program", Path(sys.prefix)),
        ("its Python", Path(sys.executable).resolve()),
        ("the program", PACKAGE),
        *([("the program", script)] if script else []),
        ("the configuration", config.resolve()),
    ):
        hidden = next((each for each in HIDDEN if path.is_relative_to(each)), None)
        if hidden is not None:
            found.append(
                f"{path}: {hidden} is hidden from the service, and {what} is there; /opt and /etc are good places, or --user"
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
    """Whether there is something in a folder that is not for everybody: who installed it had a umask of 077, say."""
    return not _open(tree) or any(
        not _open(Path(folder, name))
        for folder, folders, names in os.walk(tree)
        for name in (*folders, *names)
        if "__pycache__" not in (name, Path(folder).name)  # Python does without
    )


def _open(path: Path) -> bool:
    """Whether everybody may read it; and run it or look into it, if its owner may."""
    mode = path.lstat().st_mode
    want = 0o005 if mode & 0o100 else 0o004
    return mode & want == want


def program() -> str:
    """How to call this program, whatever PATH is: the script beside the interpreter, else the one that was called."""
    script = _script()
    return _quoted(str(script)) if script else f"{_quoted(sys.executable)} -m roundsman"


def _script() -> Path | None:
    for script in (Path(sys.executable).with_name("roundsman"), Path(sys.argv[0]).absolute()):
        if script.name == "roundsman" and os.access(script, os.X_OK) and script.is_file():
            return script
    return None


def _template(name: str) -> str:
    packaged = files("roundsman").joinpath("systemd", name)
    # An editable install has no copy of its own.
    return (packaged if packaged.is_file() else PACKAGE.parents[1] / "systemd" / name).read_text(
        encoding="utf-8"
    )


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    """As systemd.service(5) splits command lines."""
    text = _escaped(text).replace("$", "$$")
    return text if re.fullmatch(r"[\w@%+=:,./$-]+", text) else '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


def _for_a_user(text: str) -> str:
    """Without what a user's own systemd cannot do, and without comments on it."""
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
    before = re.sub(
        r"^(Wants|After)=network-online.target\n", "", before, flags=re.MULTILINE
    )  # the system's, not a user's
    before = re.sub(r"^# Polling an unreachable.*\n", "", before, flags=re.MULTILINE)
    return (
        before
        + "[Service]\n"
        + "\n".join(blocks).replace("systemctl ", USERS)
        + "\n\n[Install]"
        + after.replace("multi-user.target", "default.target")
    )
