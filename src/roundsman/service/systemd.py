"""What systemd is told, and what it hands over."""

import os
from collections.abc import Mapping

import sdnotify


class Systemd:
    """The notification protocol of sd_notify(3); silent where there is no systemd."""

    def __init__(self) -> None:
        self._notifier = sdnotify.SystemdNotifier() if os.environ.get("NOTIFY_SOCKET") else None
        self._said = ""

    def say(self, *words: str) -> None:
        if self._notifier is not None:
            self._notifier.notify("\n".join(words))

    def status(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self.say(f"STATUS={text}")

    @staticmethod
    def watchdog() -> float | None:
        """Seconds within which systemd wants to hear from us, if it does."""
        micros, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", str(os.getpid()))
        return int(micros) / 1e6 if micros.isdigit() and pid == str(os.getpid()) else None


def handed_over(environ: Mapping[str, str] = os.environ) -> int:
    """How many sockets systemd opened for us, sd_listen_fds(3)."""
    ours = environ.get("LISTEN_PID") == str(os.getpid()) and environ.get("LISTEN_FDS", "").isdecimal()
    return int(environ["LISTEN_FDS"]) if ours else 0
