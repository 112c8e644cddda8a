"""Fixtures, and how a test says what it needs."""

import logging
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from roundsman.masking import mask
from roundsman.sandbox import Parakey, Sandbox
from roundsman.store import Store
from worlds import PLANS, RECORDS, Time, keeps_the_contract


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """No log on the terminal, nothing left over from the test before, and no configuration from the environment."""

    def drop(*_: object) -> dict[str, object]:
        raise structlog.DropEvent

    structlog.reset_defaults()
    structlog.configure(processors=[drop], wrapper_class=structlog.make_filtering_bound_logger(10))
    yield
    logging.captureWarnings(False)
    RECORDS.clear()
    mask.clear()
    PLANS.clear()


@pytest.fixture(autouse=True)
def every_event_keeps_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever any test commits: the shape of its type, the envelope, and what the CloudEvents SDK can parse."""
    commit = Store.commit

    def checked(self: Store, name: str, revision: int, state: Any, events: Any, **more: Any) -> int:
        for event in events:
            keeps_the_contract(event)
        return commit(self, name, revision, state, events, **more)

    receive = Store.receive

    def checked_mails(self: Store, mails: Any, now: float) -> list[int]:
        for event in (event for mail in mails for event in mail.events):
            keeps_the_contract(event)
        return receive(self, mails, now)

    monkeypatch.setattr(Store, "commit", checked)
    monkeypatch.setattr(Store, "receive", checked_mails)


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def parakey(time: Time) -> Parakey:
    return Parakey(now=time.utc)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "roundsman.db")
    yield store
    store.close()


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """A Parakey on a real socket, with the real time."""
    async with Sandbox(Parakey()) as box:
        yield box


def need(there: bool, how: str) -> None:
    """Skip, with one line that says how to get what is missing; CI does not skip."""
    if not there:
        assert not os.environ.get("ROUNDSMAN_NO_SKIP"), how
        pytest.skip(how)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB of its own."""
    need(os.geteuid() == 0, "needs root, to mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], check=False)
    need(mounted.returncode == 0, "needs the right to mount a tmpfs (in a container: CAP_SYS_ADMIN)")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)
