"""What the daemon writes into the store about itself, for `roundsman status`."""

from pathlib import Path

import pytest

from inside import disk_has
from rounds import running
from roundsman.engine.engine import Engine
from roundsman.store import Store, open_view
from roundsman.store.sqlite.store import SqliteStore
from worlds import ByHand, Straight, Time, event_logs, web_of

MINUTE = 60.0


@pytest.fixture
async def engine(tmp_path: Path, parakey: object, time: Time) -> "Engine":
    made = Engine(
        SqliteStore.open(tmp_path / "beats.db"),
        ByHand(),
        web_of(Straight(parakey), time),  # type: ignore[arg-type]
        clock=time.clock(),
    )
    await made.setup({"doors": event_logs()}, {})
    return made


async def beat(store: Store) -> float | None:
    view = await open_view(store.path)
    try:
        return (await view.daemon()).beat
    finally:
        await view.close()


async def test_the_daemon_records_at_its_start_and_each_minute_that_it_runs(
    engine: Engine, time: Time
) -> None:
    async with running(engine):
        start = time.now()
        assert await beat(engine.store) == start, "before it has visited any source"
        await engine.beat()
        for _ in range(3):
            time.advance(MINUTE)
            await engine.beat()
            assert await beat(engine.store) == time.now()
        assert time.now() == start + 3 * MINUTE
    await engine.store.close()


async def test_it_records_that_it_runs_if_its_disk_cannot_be_looked_at(engine: Engine, time: Time) -> None:
    def fails() -> int:
        raise OSError(5, "Input/output error")

    disk_has(engine, fails, 1)
    async with running(engine):
        await engine.beat()
        time.advance(MINUTE)
        await engine.beat()
        assert await beat(engine.store) == time.now()
        assert engine.trouble.error == f"{engine.store.path}: Input/output error"
    await engine.store.close()
