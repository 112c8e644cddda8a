"""The machine that the tests here boot: found once it is there, and nothing else taken for it."""

import os
import signal
import subprocess
from pathlib import Path

from conftest import need
from machine import awaited, leader


def test_a_process_that_only_helps_to_boot_is_not_taken_for_the_machine() -> None:
    """The process ends early: a command that entered it would wait there for a system to answer."""
    with subprocess.Popen(["sh", "-c", "sleep 60 & wait"], start_new_session=True) as starter:
        try:
            awaited(lambda: (children := _children(starter.pid)) and _name(children[0]) == "sleep")
            assert leader(starter.pid) is None
        finally:
            os.killpg(starter.pid, signal.SIGKILL)


def test_the_first_process_of_a_system_is_the_machine() -> None:
    need(os.geteuid() == 0, "needs root, to begin a system of its own")
    with subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", "sleep", "60"]) as starter:
        try:
            found = awaited(lambda: leader(starter.pid))
            awaited(lambda: _name(found) == "sleep")
        finally:
            starter.kill()


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()
