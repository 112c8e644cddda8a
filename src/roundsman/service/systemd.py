"""systemd's interfaces: notifications, the watchdog, and the sockets that it passes to the daemon."""

import os
import socket
from contextlib import suppress


class Systemd:
    """The notification protocol of sd_notify(3); does nothing without systemd."""

    def __init__(self) -> None:
        self._socket = os.environ.get("NOTIFY_SOCKET", "")
        self._said = ""

    def say(self, *words: str) -> None:
        """Send these assignments, such as `READY=1`, in one datagram. A failure to send is ignored."""
        if not self._socket.startswith(("/", "@")):
            return
        address = "\0" + self._socket[1:] if self._socket[0] == "@" else self._socket
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            out.setblocking(False)
            out.sendto("\n".join(words).encode(), address)

    def status(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self.say(f"STATUS={text}")

    @staticmethod
    def watchdog() -> float | None:
        """The watchdog timeout in seconds; None if systemd expects no keep-alive messages of this process."""
        micros, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", str(os.getpid()))
        return int(micros) / 1e6 if micros.isdigit() and pid == str(os.getpid()) else None


def handed_over() -> int:
    """The number of sockets that systemd passed to this process, sd_listen_fds(3)."""
    ours, given = os.environ.get("LISTEN_PID") == str(os.getpid()), os.environ.get("LISTEN_FDS", "")
    return int(given) if ours and given.isdecimal() else 0
