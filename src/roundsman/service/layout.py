"""Where the files of an installation are. The documentation is made of this, and a test compares it with the code and the units."""

from typing import NamedTuple

from roundsman.service.units import CONFIG, PACKAGED, SERVICE, SOCKET, STATE, SYSTEM


class Place(NamedTuple):
    """A file or a folder."""

    path: str
    what: str
    owner: str = ""
    """The user that it belongs to, and a group if that matters; empty if nothing fixes it."""
    mode: str = ""
    """The permissions that Roundsman, a unit or the package sets; empty if nothing fixes them."""


class Installation(NamedTuple):
    """A way to install Roundsman."""

    how: str
    """How its files came there."""
    page: str
    """The page of the documentation about it."""
    places: tuple[Place, ...]


CREDENTIALS = str(CONFIG.parent / "credentials")
STORED = (
    Place(str(STATE), "A link that systemd makes to the next folder.", "root"),
    Place(
        "/var/lib/private/roundsman/",
        "The state folder, the only one that the service can write to.",
        "the service",
        "0700",
    ),
    Place(str(STATE / "roundsman.db"), "The store.", "the service", "0600"),
    Place(
        str(STATE / "events.jsonl"),
        "The file of the sink that `init --service` configures.",
        "the service",
        "0600",
    ),
)
SOCKET_FILE = Place("/run/roundsman.sock", "The socket file, if systemd opens it.", "root:www-data", "0660")

INSTALLATIONS = {
    "For a user": Installation(
        "A virtual environment or pipx; `roundsman init`, or `init --user` and `service install --user`.",
        "start/install.md",
        (
            Place(
                "roundsman.toml",
                "The configuration that `init` writes, in the working directory.",
                "the user",
                "0600",
            ),
            Place(
                "~/.config/roundsman/roundsman.toml",
                "The configuration that `init --user` writes; `$XDG_CONFIG_HOME` replaces `~/.config`.",
                "the user",
                "0600",
            ),
            Place(
                "~/.config/roundsman/credentials/",
                'Secrets: one file for each `{ credential = "NAME" }`.',
                "the user",
                "0700",
            ),
            Place(
                "~/.local/state/roundsman/roundsman.db",
                "The store, without `store` in `[daemon]`; `$XDG_STATE_HOME` replaces `~/.local/state`.",
                "the user",
                "0600",
            ),
            Place("~/.local/state/roundsman/", "The folder of the store.", "the user", "0700"),
            Place(
                "events.jsonl",
                "The file of the sink that `init` configures, beside the configuration.",
                "the user",
                "0600",
            ),
            Place(
                f"~/.config/systemd/user/{SERVICE}",
                "The unit that `service install --user` writes.",
                "the user",
                "0644",
            ),
            Place(
                f"~/.config/systemd/user/{SOCKET}",
                "The unit of its socket, with `--socket`.",
                "the user",
                "0644",
            ),
        ),
    ),
    "As a service": Installation(
        "A virtual environment in `/opt/roundsman`; `roundsman init --service` and `service install`.",
        "guides/systemd.md",
        (
            Place(f"{CONFIG.parent}/", "The folder of the configuration.", "root", "0755"),
            Place(str(CONFIG), "The configuration.", "root", "0644"),
            Place(f"{CREDENTIALS}/", 'Secrets: one file for each `{ credential = "NAME" }`.', "root", "0700"),
            *STORED,
            SOCKET_FILE,
            Place(str(SYSTEM / SERVICE), "The unit that `service install` writes.", "root", "0644"),
            Place(str(SYSTEM / SOCKET), "The unit of its socket, with `--socket`.", "root", "0644"),
            Place(f"{SYSTEM / SERVICE}.d/", "What `systemctl edit roundsman` adds to the unit.", "root"),
            Place("/opt/roundsman/", "The program: a virtual environment.", "root"),
            Place("/usr/local/bin/roundsman", "A link to the command.", "root"),
        ),
    ),
    "Debian package": Installation(
        "`make deb` and `apt install`; `roundsman init --service` writes the configuration.",
        "guides/systemd.md#debian-package",
        (
            Place(f"{CONFIG.parent}/", "The folder of the configuration.", "root", "0755"),
            Place(str(CONFIG), "The configuration. `apt purge` leaves it.", "root", "0644"),
            Place(
                f"{CREDENTIALS}/",
                'Secrets: one file for each `{ credential = "NAME" }`. `apt purge` leaves them.',
                "root",
                "0700",
            ),
            *STORED,
            SOCKET_FILE,
            Place(str(PACKAGED), "The unit.", "root", "0644"),
            Place(str(PACKAGED.with_name(SOCKET)), "The unit of its socket.", "root", "0644"),
            Place(f"{SYSTEM / SERVICE}.d/", "What `systemctl edit roundsman` adds to the unit.", "root"),
            Place("/usr/lib/roundsman/", "The program and its libraries.", "root"),
            Place(
                "/usr/local/lib/roundsman/plugins/",
                "Plugins that you install. `apt purge` leaves them.",
                "root",
            ),
            Place("/usr/bin/roundsman", "The command.", "root", "0755"),
            Place(
                "/usr/share/doc/roundsman/",
                "README, changelog, the example configuration, and in `examples/` alert rules and a dashboard.",
                "root",
            ),
        ),
    ),
}
"""The three installations."""

BESIDE_STORE = {
    "-wal": "Transactions that are not in the store yet. It is a part of the store: do not delete it.",
    "-shm": "The index of the `-wal` file. Do not delete it while a process uses the store.",
    "-journal": "SQLite's journal of a copy that is being written.",
    ".lock": "The lock of the daemon, with its process id. It can stay when the daemon has ended.",
    ".before-NNN": "The copy from before an upgrade that rewrote rows. It is removed a day later.",
    ".before-NNN.part": "Such a copy that is being written. It can be deleted if no daemon runs.",
    ".restoring": "A backup that `restore` is copying. It can be deleted if no `restore` runs.",
    ".replaced": "A damaged store that `restore` has moved aside, also with `-wal` and `-shm`. You can delete it.",
}
"""What can be beside the store: what is added to its name, and what that is. The mode of each is 0600."""

BESIDE_FILE = {
    "events-DAY.NNNN.jsonl": "A file that was rotated on that UTC day.",
    "events-DAY.NNNN.jsonl.gz": "The same with `compress = true`.",
    "events-DAY.NNNN.jsonl.gz.tmp": "One that is being compressed. The next rotation replaces it.",
}
"""What can be beside `events.jsonl`, the file of a `file` sink. Modes are those of the `mode` of the sink."""

ELSEWHERE = {
    ".FILE.PID.part": "Beside a backup: one that is being written. The next `backup` removes what a killed one left.",
    "`address` of `[listen]`": "A socket file that the daemon opens itself: mode 0660. It is removed at the end.",
}
"""Other files that Roundsman writes."""
