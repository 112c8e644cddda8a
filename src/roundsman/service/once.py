"""`roundsman once`: one visit of each source and one delivery to each sink."""

import asyncio
import signal

import structlog

from roundsman.config.loading import Config
from roundsman.engine.alarms import Scheduler
from roundsman.engine.engine import Engine
from roundsman.service.service import web
from roundsman.store import StoreError, open_store
from roundsman.system import logs

log = structlog.get_logger()


async def once(config: Config, *, everything: bool) -> int:
    """The exit status: 0 if every visit and every delivery succeeded."""
    logs.configure(config.daemon.log_level, config.daemon.log_format)
    store = await open_store(config.store)
    engine = Engine(store, Scheduler(), web(config.http), retention=config.daemon.retention)
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await engine.setup(config.sources, config.sinks)
        return 0 if await _once(engine, config, everything=everything) else 1
    except asyncio.CancelledError:
        log.info("daemon.stopping", signal="interrupted")
        return 130
    finally:
        await engine.aclose()
        await store.close()


async def _once(engine: Engine, config: Config, *, everything: bool) -> bool:
    """Visit, deliver, and send the heartbeat, if there is one. Returns whether all visits and deliveries succeeded."""
    if config.heartbeat is None:
        return await engine.once(everything=everything)
    from roundsman.service.heartbeat import ping_once

    try:
        succeeded = await engine.once(everything=everything)
    except StoreError as exc:
        await ping_once(engine, config.heartbeat, succeeded=False, error=str(exc))
        raise
    await ping_once(engine, config.heartbeat, succeeded=succeeded)
    return succeeded
