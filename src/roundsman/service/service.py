"""The daemon process: signals, systemd's notifications and watchdog, reload, shutdown."""

import asyncio
import contextlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import structlog
import uvloop

import roundsman
from roundsman import config as configuration
from roundsman.config.differences import differences
from roundsman.config.loading import Config
from roundsman.engine.alarms import Scheduler
from roundsman.engine.engine import Engine
from roundsman.errors import ConfigError, StoreAway, reason
from roundsman.http.transport import Clients, HttpOptions
from roundsman.masking import mask, safe
from roundsman.options.listen import ListenOptions
from roundsman.options.values import counted
from roundsman.service.systemd import Systemd, handed_over
from roundsman.store import Store, StoreError, open_store
from roundsman.store.origins import Change, changes
from roundsman.system import logs
from roundsman.system.threads import in_thread

if TYPE_CHECKING:
    from roundsman.config.heartbeat import HeartbeatOptions
    from roundsman.engine.fleet import Pace
    from roundsman.service.heartbeat import Heartbeat
    from roundsman.web import Listener

TICK = 0.5
"""Seconds between two updates of the progress line and the watchdog."""
STATUS_EVERY = 10.0

log = structlog.get_logger()


class Service:
    """One daemon: a store, an engine and a listener, controlled by signals."""

    def __init__(self, config: Config, store: Store, line: logs.Line, pace: "Pace | None" = None) -> None:
        """`pace`: of a worker that shares its store with others."""
        self.config = config
        self.store = store
        self.engine = Engine(self.store, Scheduler(), web(config.http), retention=config.daemon.retention)
        self.engine.join(config.worker, pace)
        self.listener: Listener | None = None
        self._heartbeat: Heartbeat | None = None
        self._line = line
        self._systemd = Systemd()
        self._reloads: set[asyncio.Task[None]] = set()
        self._one_at_a_time = asyncio.Lock()
        self._refused = False
        self.stopping = False
        """Whether a signal stops it."""
        self._ready = False
        """Whether a reload is possible."""
        self.asked: set[bool] = set()
        """What was requested before it was possible: False a reload, True only its result."""

    async def run(self) -> int:
        """Run until a signal stops it, or the store is lost. Returns the exit status."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        # Before `runs`: the command sends it only to a daemon that has recorded its version.
        loop.add_signal_handler(signal.SIGUSR1, self.reload, True)
        try:
            with contextlib.suppress(StoreError):  # the engine reports it as an error
                digest = await in_thread(configuration.digest, self.config.path)
                await self.store.runs(self.config.path.absolute(), digest)
            if self.config.listen is not None:
                self.engine.listening = time.time()
            await self._mind_memories(self.config)
            await self.engine.setup(self.config.sources, self.config.sinks)
            self._agree(self.config)
            await self._listen(self.config.listen)
            self._ping(self.config.heartbeat)
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._stop, signal.Signals(number).name)
            self._ready = True
            for dry in self.asked:
                self.reload(dry)
            log.info(
                "daemon.started",
                version=roundsman.__version__,
                config=str(self.config.path),
                store=str(self.config.store),
                sources=len(self.config.sources),
                sinks=len(self.config.sinks),
            )
            for what in self.config.unmatched:
                log.warning("config.unmatched", what=what)
            ticking = asyncio.create_task(self._tick())
            ready = asyncio.create_task(self._say_ready())
            try:
                await self.engine.run()
            finally:
                ready.cancel()
                ticking.cancel()
                self._line.show("")
        finally:
            for task in self._reloads:
                task.cancel()
            await asyncio.gather(*self._reloads, return_exceptions=True)
            self._ping(None)
            if self.listener is not None:
                await self.listener.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.engine.aclose(), 1)
            await self.store.close()
        log.info("daemon.stopped")
        return 1 if self.engine.upkeep.lost else 0

    @property
    def is_replaced(self) -> bool:
        """Whether it has ended because another worker has ended its session, and no signal has stopped it."""
        fleet = self.engine.fleet
        return fleet is not None and fleet.ended and not self.stopping

    async def _say_ready(self) -> None:
        await self.engine.started.wait()
        self._systemd.say("READY=1")

    def reload(self, dry: bool = False) -> None:
        """Use the current configuration file, or refuse it and keep the old configuration. With `dry`, only record what
        would change.

        One reload runs at a time and one more waits. Further requests are dropped: the waiting reload reads
        the newest file.
        """
        if not self._ready:
            self.asked.add(dry)
            return
        name = "compare" if dry else "reload"
        if self.stopping or sum(task.get_name() == name for task in self._reloads) > 1:
            return
        task = asyncio.get_running_loop().create_task(self._reload(dry), name=name)
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _reload(self, dry: bool) -> None:
        async with self._one_at_a_time:
            if self.stopping:
                return
            if not dry:
                self._systemd.say("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
            digest = ""
            problems: list[str] = []
            changed: list[str] = []
            document = None
            try:
                # In a thread: the disk may be slow, or dead.
                digest = await in_thread(configuration.digest, self.config.path)
                document = await in_thread(configuration.read, self.config.path, regular=True)
                new = await configuration.load_beside(document)
                changed = await self._compared(new)
                if not dry:
                    await self._take_over(new)
            except Exception as exc:
                # A plugin's options may raise anything, and `roundsman reload` waits for an answer.
                # A mistake that has its place is not read again as a text: it may begin with the name of a file.
                found = (
                    [each if each.place or each.file else each.words for each in exc.found]
                    if isinstance(exc, ConfigError)
                    else reason(exc).splitlines()
                )
                problems = [str(each) for each in (document.located(found) if document else found)]
                if not dry:
                    expected = isinstance(exc, ConfigError | StoreError | OSError)
                    self.engine.deliveries.reopen()  # SIGHUP may come from a log rotation, whether the file is right or not
                    log.error("config.refused", problems=problems, exc_info=None if expected else exc)
            else:
                if not dry:
                    log.info(
                        "config.reloaded", sources=len(new.sources), sinks=len(new.sinks), changes=changed
                    )
            finally:
                if not dry:
                    self._systemd.say("READY=1")
            if not dry:
                self._refused = bool(problems)
                await self._show_status()
            with contextlib.suppress(StoreError):  # `roundsman reload` then reports that no answer came
                path = self.config.path.absolute()
                await self.store.reloaded(path, digest, problems, changed, dry=dry)

    async def _compared(self, new: Config) -> list[str]:
        """What this configuration changes, one sentence each. Raises if it cannot be used."""
        if new.store != self.config.store:
            raise ConfigError([f"daemon.store: {new.store} is another store; that needs a restart"])
        if new.worker != self.config.worker and self.engine.fleet is not None:
            raise ConfigError([f"daemon.name: {new.worker} is another name; that needs a restart"])
        await self.engine.fits(new.sources, new.sinks)
        found = differences(self.config, new)
        if not found:
            return []
        return found + [f"sources.{change.source}: {change.what}" for change in await self._changes(new)]

    async def _take_over(self, new: Config) -> None:
        """Use this configuration, or raise and keep the old one."""
        await self._listen(new.listen)
        try:
            await self._mind_memories(new)
            connections = web(new.http) if new.http != self.config.http else None
            await self.engine.setup(new.sources, new.sinks, connections)
        except BaseException:
            await self._listen(self.config.listen)
            raise
        self._agree(new)
        self.engine.upkeep.retention = new.daemon.retention
        logs.configure(new.daemon.log_level, new.daemon.log_format, self._line)
        self._ping(None if self.stopping else new.heartbeat)
        for what in new.unmatched:
            if what not in self.config.unmatched:
                log.warning("config.unmatched", what=what)
        self.config = new

    def _agree(self, config: Config) -> None:
        """Let other workers see whether they have the same sources and sinks."""
        if self.engine.fleet is not None:
            self.engine.fleet.common = config.common

    async def _mind_memories(self, config: Config) -> None:
        """Warn if a source's stored state is of another origin, or a new source looks like a renamed one."""
        for change in await self._changes(config):
            log.warning("source.changed", source=change.source, what=change.what)

    async def _changes(self, config: Config) -> list[Change]:
        others = await self.store.holders("source") if self.engine.fleet is not None else {}
        others = {name: worker for name, worker in others.items() if worker != config.worker}
        return changes(await self.store.sources(), config.sources, others)

    async def _listen(self, options: ListenOptions | None) -> None:
        """Listen by these options, or not at all. A listener with the same options is kept.

        Raises ListenError, an OSError, if that is not possible. The daemon then listens as before.
        """
        old = self.listener
        if options is None and handed_over():
            log.warning(
                "listen.unwanted", reason="systemd opened a socket, and there is no [listen] to take it"
            )
        if options is None and old is None:
            return  # without a listener, do not import it and its libraries
        from roundsman.web import Listener, ListenError

        if old is not None and options is not None and old.options == options:
            old.renew()
            return
        new = Listener(self.engine, options) if options is not None else None
        # The same port is free only after the old listener is closed.
        clash = old is not None and options is not None and options.address.clashes(old.options.address)
        if old is not None and (new is None or clash):
            await old.close()
        try:
            if new is not None:
                await new.start(handed_over())
        except ListenError:
            if old is not None and clash:
                self.listener = None
                again = Listener(self.engine, old.options)
                await again.start(handed_over())
                self.listener = again
            raise
        if old is not None and new is not None and not clash:
            await old.close()
        self.listener = new
        self.engine.listening = (self.engine.listening or time.time()) if new is not None else None

    def _ping(self, options: "HeartbeatOptions | None") -> None:
        """Send heartbeats by these options, or none."""
        if options is None:
            if self._heartbeat is not None:
                self._heartbeat.stop()
            self._heartbeat = None
            return
        if self._heartbeat is None:  # without the table, do not import it
            from roundsman.service.heartbeat import Heartbeat

            self._heartbeat = Heartbeat(self.engine)
        self._heartbeat.follow(options)

    async def _show_status(self) -> None:
        refused = "; the configuration file was refused, see the log" if self._refused else ""
        with contextlib.suppress(StoreError):  # the engine logs it
            self._systemd.status(await summary(self.engine) + refused)

    def _stop(self, signal_name: str) -> None:
        log.info("daemon.stopping", signal=signal_name)
        self.stopping = True
        self._ping(None)  # a stop is no failure, and no success
        self._systemd.say("STOPPING=1")
        self.engine.stop()

    async def _tick(self) -> None:
        """Feed the watchdog while the engine is healthy, and show the progress of a long read."""
        patience = self._systemd.watchdog()
        interactive = sys.stderr.isatty() and not any(s.type == "stdout" for s in self.config.sinks.values())
        fed = said = 0.0
        changes = 0
        while True:
            now = time.monotonic()
            if patience and now - fed > patience / 3 and self.engine.healthy():
                self._systemd.say("WATCHDOG=1")
                fed = now
            if now - said > STATUS_EVERY or changes != self.engine.meter.changes or not said:
                await self._show_status()
                said, changes = now, self.engine.meter.changes
            if interactive:
                self._line.show(progress(self.engine, now))
            await asyncio.sleep(TICK)


def web(options: HttpOptions) -> Clients:
    return Clients(options, version=roundsman.__version__)


async def summary(engine: Engine) -> str:
    """One line about sources, sinks and counts, for `systemctl status`."""
    statuses = [watched.status for watched in engine.roster.values()]
    active = [status for status in statuses if status.paused is None]
    failing = sum(status.failing_since is not None for status in active)
    retrying = sum(status.failures > 0 and status.failing_since is None for status in active)
    paused = len(statuses) - len(active)
    sources = counted(len(statuses), "source") + _trouble(failing=failing, retrying=retrying, paused=paused)
    deliveries = engine.deliveries.values()
    sinks = counted(len(deliveries), "sink")
    sinks += _trouble(
        failing=sum(delivery.outage.fails for delivery in deliveries),
        paused=sum(delivery.paused is not None for delivery in deliveries),
    )
    visits = sum(status.visits for status in statuses)
    trouble = f"; {engine.trouble.error}" if engine.trouble.error else ""
    events = counted(await engine.store.head(), "event")
    return f"{sources}, {sinks}; {counted(visits, 'visit')}, {events}{trouble}"


def _trouble(**counts: int) -> str:
    words = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return f" ({words})" if words else ""


def progress(engine: Engine, now: float) -> str:
    """The progress of long reads; empty if there is none."""
    parts = []
    for name, watched in engine.roster.items():
        reading = watched.reading
        if reading is not None and now - reading.since > 1:
            rate = reading.rows / (now - reading.since)
            parts.append(f"{name}: {reading.rows:,} rows read, {reading.new:,} new, {rate:,.0f}/s")
    return safe("  ".join(parts)[:150])


def run(main: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run on uvloop; returns the exit status. Does not wait for threads that hang on a dead disk or pipe."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_leaving(main))


async def _leaving(main: Callable[[], Coroutine[Any, Any, int]]) -> int:
    failure: BaseException | None = None
    code = 1
    try:
        code = await main()
    except (Exception, asyncio.CancelledError) as exc:  # noqa: BLE001 - raised again below
        failure = exc
    loop = asyncio.get_running_loop()
    try:
        await asyncio.wait_for(asyncio.shield(loop.shutdown_default_executor()), 0.5)
    except TimeoutError:
        # The data is on the disk. A thread that hangs (in a DNS lookup, say) would block the exit forever.
        if failure is not None:
            sys.stderr.write(mask("".join(traceback.format_exception(failure))))
        sys.stderr.flush()
        os._exit(code)
    if failure is not None:
        raise failure
    return code


async def daemon(config: Config, pace: "Pace | None" = None) -> int:
    """`roundsman run`."""
    line = logs.configure(config.daemon.log_level, config.daemon.log_format)
    # Without a handler, SIGHUP would end the process. `Service.reload` handles one that comes now.
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, lambda: None)
    store: Store | None = await open_store(config.store, config.worker)
    asked: set[bool] = set()
    replaced = False
    while store is not None:
        service = Service(config, store, line, pace)
        service.asked |= asked
        try:
            status = await service.run()
        except StoreAway as exc:
            if not replaced or service.stopping:
                raise
            log.error("store.failed", error=str(exc))  # it begins again once the server answers
            asked |= service.asked
        else:
            if not service.is_replaced:
                return status
            # All that was in memory is void. What it held is held by others; it takes its share again.
            log.warning("worker.replaced", worker=config.worker)
            config, replaced, asked = service.config, True, set()
        from roundsman.service.reopening import reopened  # a single daemon does not need it

        store = await reopened(config.store, config.worker, asked)
    return 0
