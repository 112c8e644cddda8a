"""The real daemon under a clock that is set, back and forth: rounds go on, neither in a burst nor not at all."""

import asyncio
import time
from pathlib import Path

import pytest

from conftest import need
from processes import Daemon, configure
from roundsman.sandbox import TOKEN, Sandbox

FILE = '[sinks.archive]\ntype = "file"\npath = "events.jsonl"\n'
LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
AN_HOUR, A_DAY = 3600, 86400


@pytest.mark.parametrize("step", [AN_HOUR, -AN_HOUR, 400 * A_DAY], ids=["forward", "back", "years"])
async def test_rounds_go_on_as_before_when_the_clock_is_set(
    step: int, sandbox: Sandbox, tmp_path: Path
) -> None:
    """As NTP does at a start without a battery, or a person by hand; `faketime` is in the place of the person."""
    need(bool(LIBRARIES), "needs libfaketime: apt-get install faketime")
    clock = tmp_path / "clock"
    clock.write_text("+0")
    environ = {
        "LD_PRELOAD": str(LIBRARIES[0]),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    config = configure(tmp_path, sandbox.url, FILE, interval="200ms")
    async with Daemon(config, PARAKEY_TOKEN=TOKEN, **environ) as daemon:
        await daemon.ready()
        await daemon.until(lambda: sandbox.vendor.asked >= 5)
        before, began = sandbox.vendor.asked, time.monotonic()
        new = tmp_path / "new"
        new.write_text(f"{step:+d}")
        new.replace(clock)
        await daemon.until(lambda: daemon.logged("clock.stepped"))
        await daemon.until(lambda: sandbox.vendor.asked >= before + 5)
        # At most one visit each 200 ms, and what was under way when the clock was set.
        assert sandbox.vendor.asked - before <= (time.monotonic() - began) / 0.2 + 2
        [said] = daemon.logged("clock.stepped")
        assert abs(said["seconds"] - step) < 5
        row = sandbox.vendor.add()
        archive = tmp_path / "events.jsonl"
        await daemon.until(lambda: archive.exists() and row.id in archive.read_text())
        await daemon.until(lambda: "roundsman.clock.jumped" in archive.read_text())
        await daemon.stop()
        assert daemon.code == 0
        await asyncio.sleep(0)
