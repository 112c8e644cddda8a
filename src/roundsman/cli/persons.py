"""Who gives a command, and what that person notes."""

import os

from roundsman.cli.app import fail

LONGEST = 500
"""Maximum characters of a name and of a note."""


def name(by: str | None) -> str:
    """The name given with `--by`, else the person who runs `sudo`, else the user's login name."""
    if by is not None:
        return note(by, "--by") or fail('--by: is empty; it should be a name, as in --by "anna"', 2)
    sudo = _printable(os.environ.get("SUDO_USER", "")) if os.getuid() == 0 else ""
    return sudo if 0 < len(sudo) <= LONGEST else _login()


def note(text: str | None, option: str = "--note") -> str | None:
    """The note given with this option; None if it is empty."""
    text = _printable(text or "")
    if len(text) > LONGEST:
        fail(f"{option}: is {len(text)} characters long; at most {LONGEST} are stored", 2)
    return text or None


def _login() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # in a container, few users have an entry
        return f"uid {os.getuid()}"


def _printable(text: str) -> str:
    """The text without space around it. Bytes that are no UTF-8, which the store cannot take, are spelled out."""
    return os.fsencode(text).decode("utf-8", "backslashreplace").strip()
