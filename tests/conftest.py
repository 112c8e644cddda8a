"""Fixtures, and how a test says what it needs."""

import logging
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

import postgres
from inside import done, forget_variables, left_in
from roundsman.masking import mask
from roundsman.sandbox import Parakey, Sandbox
from roundsman.store.sqlite.store import SqliteStore
from roundsman.system import logs
from typed import Program, typed
from worlds import PLANS, RECORDS, Time, keeps_the_contract

# A shell starts a background job with these ignored, and programs that the tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


BOOTED = "tests/systemd/"
"""Tests that mostly wait for another system: they come first, one after the other, beside files that need a core."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(BOOTED))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Files side by side, as of `--dist loadfile`; those that share the booted system are one."""
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return BOOTED if nodeid.startswith(BOOTED) else super()._split_scope(nodeid)

    return Files(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """No log on the terminal, nothing left over from the test before, and no configuration from the environment."""

    def drop(*_: object) -> dict[str, object]:
        raise structlog.DropEvent

    structlog.reset_defaults()
    structlog.configure(processors=[drop], wrapper_class=structlog.make_filtering_bound_logger(10))
    yield
    logging.captureWarnings(False)
    for handler in [each for each in logging.root.handlers if type(each).__module__ == logs.__name__]:
        logging.root.removeHandler(handler)
    RECORDS.clear()
    mask.clear()
    forget_variables()
    PLANS.clear()


@pytest.fixture(autouse=True)
def every_event_keeps_the_contract(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[None]:
    """Each event in a test's log has the shape of its type and its envelope, and the CloudEvents SDK can parse it."""
    yield
    if request.node.get_closest_marker("garbles"):
        return
    for path in (each for each in tmp_path.rglob("*.db") if each.is_file()):
        for event in left_in(path):
            keeps_the_contract(event)


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def parakey(time: Time) -> Parakey:
    return Parakey(now=time.utc)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore.open(tmp_path / "roundsman.db")
    yield store
    done(store.close())


@pytest.fixture
def roundsman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> Program:
    """The command, in an empty folder without any configuration."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return typed(tmp_path, monkeypatch, capfd)


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


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Postgres]:
    """One server for all tests of this process."""
    programs = postgres.programs()
    need(programs is not None, postgres.HOW)
    assert programs is not None
    server = postgres.Postgres(programs)
    yield server
    server.close()


@pytest.fixture
def database(postgres_server: postgres.Postgres) -> Iterator[str]:
    """The URL of an empty database."""
    name = postgres_server.database()
    yield postgres_server.url(name)
    postgres_server.drop(name)


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
