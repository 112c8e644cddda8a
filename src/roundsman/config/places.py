"""The places of the configuration file."""

import os
from collections.abc import Mapping
from pathlib import Path

from roundsman.errors import ConfigError

PLACES = (Path("roundsman.toml"), Path("/etc/roundsman/roundsman.toml"))


def find(path: Path | None, environ: Mapping[str, str] = os.environ, *, euid: int | None = None) -> Path:
    """The configuration file: `path`, $ROUNDSMAN_CONFIG, this folder's, the user's own, or the one in /etc.

    ConfigError if none of the last three exists.

    For root, a file in the working directory or in the home folder counts only if it and its folder belong to root, and
    no other user can write there. `$XDG_CONFIG_HOME` replaces `~/.config`.
    """
    if named := path or _named(environ):
        return named
    root = (os.geteuid() if euid is None else euid) == 0
    places = [place for place in _places(environ) if not (root and _may_be_a_trap(place))]
    for place in places:
        if _is_there(place):
            return place
    service = ", `roundsman init --service` one for the service" if root else ""
    raise ConfigError(
        [
            f"no configuration: neither {' nor '.join(map(str, places))} exists; `roundsman init` writes one{service}; -c names another"
        ]
    )


def passed_over(environ: Mapping[str, str] = os.environ, *, euid: int | None = None) -> list[str]:
    """Files that `find` skips for root because another user may control them: one line each."""
    if (os.geteuid() if euid is None else euid) != 0 or _named(environ):
        return []
    found = []
    for place in _places(environ):
        if _may_be_a_trap(place):
            name = f"./{place}" if not place.is_absolute() else str(place)
            found.append(
                f"{name} is skipped: another user than root may change it or its folder; -c {name} uses it"
            )
        elif _is_there(place):
            break
    return found


def _named(environ: Mapping[str, str]) -> Path | None:
    return Path(environ["ROUNDSMAN_CONFIG"]) if environ.get("ROUNDSMAN_CONFIG") else None


def _places(environ: Mapping[str, str]) -> tuple[Path, ...]:
    here, system = PLACES
    return here, users(environ), system


def _is_there(place: Path) -> bool:
    """Whether there is a file; False also in a folder that this user may not search, as another user's home."""
    return os.path.exists(place)  # noqa: PTH110 - Path.exists may raise OSError


def _may_be_a_trap(place: Path) -> bool:
    """Whether a user other than root could have put it there, as in /tmp or in a home folder."""
    if place == PLACES[-1]:  # root decides who may write in /etc
        return False
    try:
        # lstat: the owner of a link chooses its target.
        seen = (place.lstat(), place.absolute().parent.stat())
    except OSError:
        return False
    return any(each.st_uid != 0 or each.st_mode & 0o022 for each in seen)


def is_safe_beside(path: Path, main: Path) -> bool:
    """Whether root may do as this file says, which the main file includes: it is as safe as `find` demands of that one.

    If the main file is another user's, root has named it with -c, and so has trusted its user.
    """
    if os.geteuid() != 0 or path.absolute().is_relative_to(PLACES[-1].parent):
        return True
    return _may_be_a_trap(main) or not _may_be_a_trap(path)


def users(environ: Mapping[str, str] = os.environ) -> Path:
    """The configuration file of a user's own service."""
    # Without $HOME, a user that the system does not know has no home: then the path stays as it is, and is no file's.
    home = os.path.expanduser(environ.get("HOME", "~"))  # noqa: PTH111 - Path.expanduser may raise RuntimeError
    return Path(environ.get("XDG_CONFIG_HOME") or f"{home}/.config") / "roundsman" / "roundsman.toml"
