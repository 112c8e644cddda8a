"""The machine: versions, the clock, and the space on its disks."""

import os
import platform
import sqlite3
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import roundsman
from roundsman.doctor.finding import Finding
from roundsman.doctor.outside import output
from roundsman.system.files import is_there

LOW = 256 * 2**20
"""Bytes: less free space is a warning. Less than a quarter of it is a failure."""
FEW = 1000
"""Fewer free inodes are a warning."""


def versions() -> dict[str, str]:
    """The version of each part, by its name."""
    said = output("systemctl", "--version")
    found = {
        "roundsman": roundsman.__version__,
        "python": f"{platform.python_version()} {platform.python_implementation()}",
        "sqlite": sqlite3.sqlite_version,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "distribution": _distribution(),
        "systemd": said.text.partition("\n")[0] or said.why,
        "user": "root" if os.geteuid() == 0 else f"uid {os.geteuid()}",
        "executable": sys.executable,
    }
    for name in ("httpx", "aiohttp", "pydantic", "typer"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")
    except OSError:
        return "unknown"


def clock() -> Finding:
    """Whether the clock is synchronised."""
    said = output("timedatectl", "show", "-p", "NTPSynchronized", "--value")
    match said.text.strip():
        case "yes":
            return Finding("clock", "ok", "synchronised")
        case "no":
            return Finding("clock", "warning", "not synchronised", "timedatectl set-ntp true")
    return Finding("clock", "ok", f"not known whether it is synchronised: {said.why or 'no answer'}")


def disks(places: Iterable[tuple[str, Path]]) -> list[Finding]:
    """The free space of each place, by its name: one line for each file system."""
    found: dict[int, Finding] = {}
    for name, path in places:
        try:
            there = next(each for each in (path.absolute(), *path.absolute().parents) if is_there(each))
            status, device = os.statvfs(there), there.stat().st_dev
        except OSError as exc:
            found[-len(found) - 1] = Finding("disk", "warning", f"{name}: {path}: {exc.strerror}", "try sudo")
            continue
        if device in found:
            continue
        free = status.f_bavail * status.f_frsize
        words = f"{free / 2**30:.1f} GiB free on the disk of {there} ({name})"
        inodes = f"{status.f_favail:,} inodes free" if status.f_files else "inodes without limit"
        few = status.f_files and status.f_favail < FEW
        if free < LOW // 4 or (status.f_files and not status.f_favail):
            state, advice = "failure", "make space: roundsman help disk-low"
        else:
            state, advice = ("warning", "make space soon") if free < LOW or few else ("ok", "")
        found[device] = Finding("disk", state, f"{words}, {inodes}", advice)  # type: ignore[arg-type]
    return list(found.values())
