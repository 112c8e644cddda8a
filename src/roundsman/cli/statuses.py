"""The exit statuses of all commands. The documentation is made of this, and a test compares it with the code and the program."""

from typing import NamedTuple


class Status(NamedTuple):
    """An exit status."""

    meaning: str
    cases: tuple[str, ...]
    """When a command ends with it."""


STATUSES = {
    0: Status(
        "Success.",
        (
            "The command did what it says. Warnings do not change that, except those of `hooks list`.",
            "`pause` of what is paused already, and `resume` of what is not paused.",
            "`run` and `demo` after SIGTERM or SIGINT, and `sandbox` after SIGINT: they were asked to stop.",
        ),
    ),
    1: Status(
        "It failed. The same command can succeed later.",
        (
            "A vendor or a receiver does not answer, or refuses: `once`, `poll`, `check --live`, `hooks`, `notify-test`.",
            "The store does not exist, cannot be read or written, is damaged, is of a newer version, or is in use by a daemon.",
            "`run`: the store was deleted or replaced while the daemon ran. systemd starts the service again.",
            "`healthy`: no daemon has recorded recently that it runs, the disk is full, or the store is damaged.",
            "`doctor`: a check has failed.",
            "`reload`: the daemon refused the configuration, does not run, or does not answer.",
            "`failures done` and `failures undo`: no failure has the given number. `failures undo`: it is open, or its event was pruned.",
            "`events show`: no event has the given number, or its content was pruned.",
            "A file exists and would be overwritten, or cannot be written.",
            "The program that reads standard output has ended, as in `roundsman events | head`.",
            "An unexpected error. The traceback is on standard error.",
        ),
    ),
    2: Status(
        "The command line or the configuration is wrong. The same command fails again.",
        (
            "An unknown command or option, or a wrong value. A command without a needed argument; a group without a command.",
            "The configuration has mistakes, cannot be read, or does not exist. A secret of it cannot be read.",
            "No source or sink has the given name, or for `pause` and `resume` both have it. Its type cannot do what the command needs.",
            "`events`, `failures`: a filter names a source, an event type or an outcome that there is not.",
            (
                "`run` as a service: systemd does not start it again (`RestartPreventExitStatus=2`). With a socket of systemd, it ends "
                "five seconds after the mistake was found, and the next connection starts it again."
            ),
        ),
    ),
    130: Status(
        "It was interrupted.",
        (
            "SIGINT, as by Ctrl-C, ends any command but `run`, `demo` and `sandbox`.",
            "SIGTERM ends `once`. What it had committed stays; the next run goes on from there.",
        ),
    ),
}
"""Every exit status of a command."""

SIGNALS = (
    "SIGTERM ends any command but `run`, `demo` and `once` at once. A shell shows the status 143.",
    "SIGHUP reloads the configuration of `run`, and ends any other command at once. A shell shows the status 129.",
    "SIGUSR1 makes `run` record what a reload would change, for `reload --dry-run`, and ends any other command at once. A shell shows the status 138.",
    "SIGKILL ends every command, and a shell shows the status 137. Nothing that was committed is lost.",
)
"""What signals do to commands that do not end with a status of their own."""
