"""The name of the person who runs a command, for records of what persons did."""

import os
import pwd


def name_of_user() -> str:
    """The login name of the real user, or `uid 1000` if there is none. For root, the user that called sudo."""
    uid = os.getuid()
    if uid == 0 and (caller := os.environ.get("SUDO_USER")):
        return caller
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
