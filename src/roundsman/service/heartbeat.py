"""The heartbeat: requests a URL while nothing fails, so that another machine can report a silence (a dead man's switch).

Success is a GET, because every such service accepts one. A failure is a POST to the path with `/fail` at its end, as
healthchecks.io documents it, with the reasons in the body.
"""

import asyncio
import re
from collections.abc import Sequence
from contextlib import suppress

import httpx
import structlog

from roundsman.config.heartbeat import HeartbeatOptions
from roundsman.engine.delivery import Delivery
from roundsman.engine.engine import Engine
from roundsman.engine.roster import Watched
from roundsman.errors import RequestFailed, StoreError, reason
from roundsman.http.faults import translated
from roundsman.http.request import Request, target
from roundsman.masking import mask, safe

FIRST = 10.0
"""Seconds from the start to the first ping: the sources that are due then were visited, and a daemon that fails within
seconds of each start sends none.
"""
LINE, LINES = 500, 50
"""Maximum characters of a reason, and reasons in one body: healthchecks.io keeps the first 100 kB."""
_UNHEALTHY = "visits or deliveries do not run, or the store does not answer"
_NOT_TAKEN = re.compile(rb"OK \([a-z ]{1,40}\)")
"""The body of an answer 200 by which healthchecks.io states that it has not recorded a ping."""

log = structlog.get_logger()


class Heartbeat:
    """Pings by the options that it follows, one ping at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._options: HeartbeatOptions | None = None
        self._task: asyncio.Task[None] | None = None
        self._failing = False
        """Whether the last ping failed."""

    def follow(self, options: HeartbeatOptions) -> None:
        """Ping by these options from now on; the same options keep their rhythm."""
        if options == self._options:
            return
        wait = (
            0.0 if self._options is not None or self._engine.started.is_set() else min(FIRST, options.every)
        )
        self.stop()
        self._options = options
        self._task = asyncio.get_running_loop().create_task(self._run(options, wait), name="heartbeat")
        self._task.add_done_callback(_complain)

    def stop(self) -> None:
        """Send nothing more: also the ping under way is dropped."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self, options: HeartbeatOptions, wait: float) -> None:
        time = self._engine.time
        await self._engine.started.wait()
        while True:
            await time.sleep(wait)
            began = time.monotonic()
            await self.ping(options, await reasons(self._engine))
            wait = options.every - (time.monotonic() - began) % options.every

    async def ping(self, options: HeartbeatOptions, why: Sequence[str]) -> None:
        """One ping: a success without reasons. Logs when pings begin to fail, and when they succeed again."""
        try:
            await self._send(options, why)
        except (RequestFailed, OSError) as exc:  # `ca_file` cannot be read, for example
            if not self._failing:
                log.warning("heartbeat.failed", error=reason(exc))
            self._failing = True
        else:
            if self._failing:
                log.info("heartbeat.recovered")
            self._failing = False

    async def _send(self, options: HeartbeatOptions, why: Sequence[str]) -> None:
        """Raises RequestFailed, with the host alone: the path is the key."""
        clients, url = self._engine.clients, options.url.reveal()
        headers = {**clients.headers, "accept": "*/*"}
        with translated(url):
            if why:
                headers["content-type"] = "text/plain; charset=utf-8"
                request = Request("POST", target(failing(url)), headers, body(why), is_secret=True)
            else:
                request = Request("GET", target(url), headers, is_secret=True)
            try:
                async with asyncio.timeout(min(options.every, clients.options.deadline)):
                    answer = await clients.sender(request.target).send(request)
            except TimeoutError:
                raise httpx.ReadTimeout("deadline") from None
        what = f"{request.target.origin} answered {answer.status}"
        if 300 <= answer.status < 400:
            raise RequestFailed(f"{what}: a redirect is not followed: check url")
        if not 200 <= answer.status < 300:
            raise RequestFailed(what)
        if _NOT_TAKEN.fullmatch(answer.body.strip()):
            raise RequestFailed(f"{what} with {answer.body.strip().decode()}: check url")


def _complain(task: asyncio.Task[None]) -> None:
    """Log the error that ended the pings: from now on, the switch raises the alarm."""
    if not task.cancelled() and (exc := task.exception()) is not None:
        log.warning("heartbeat.failed", error=reason(exc), exc_info=exc)


async def ping_once(engine: Engine, options: HeartbeatOptions, *, succeeded: bool, error: str = "") -> None:
    """The ping of `roundsman once`. `succeeded`: all visits and deliveries did. `error`: what ended it.

    If all succeeded, a source that is reported as failing and was not due is still a reason: else the pings would
    alternate while it fails.
    """
    why = [error] if error else await _failures(engine, at_once=not succeeded)
    if not succeeded and not why:
        why = ["a visit or a delivery failed"]
    await Heartbeat(engine).ping(options, why)


def failing(url: str) -> str:
    """The URL for a failure: `/fail` at the end of the path, before the query."""
    path, mark, query = url.partition("?")
    return f"{path.rstrip('/')}/fail{mark}{query}"


def body(why: Sequence[str]) -> bytes:
    """The reasons as lines of text, masked, without control characters, and not too many or too long."""
    lines = [safe(mask(each)) for each in why[:LINES]]
    lines = [line if len(line) <= LINE else line[:LINE] + "..." for line in lines]
    if len(why) > LINES:
        lines.append(f"and {len(why) - LINES} more")
    return "".join(f"{line}\n" for line in lines).encode()


async def reasons(engine: Engine) -> list[str]:
    """What fails in a daemon, one line each; empty if nothing does."""
    return await _failures(engine, at_once=False) + ([] if engine.healthy() else [_UNHEALTHY])


async def _failures(engine: Engine, *, at_once: bool) -> list[str]:
    """Sources and sinks that fail, and trouble of the store. `at_once`: also a failure that is not reported yet."""
    found = [
        f"{name}: {watched.status.error or 'no good answer'}"
        for name, watched in engine.roster.items()
        if _source_fails(watched, at_once=at_once)
    ]
    sinks = [name for name, delivery in engine.deliveries.items() if _sink_fails(delivery, at_once=at_once)]
    errors: dict[str, str | None] = {}
    if sinks:
        with suppress(StoreError):
            errors = {entry.name: entry.error for entry in await engine.store.sinks()}
    found += [f"{name}: {errors.get(name) or 'no event can be delivered'}" for name in sinks]
    if engine.trouble.error:
        found.append(f"store: {engine.trouble.error}")
    return found


def _source_fails(watched: Watched, *, at_once: bool) -> bool:
    """Whether this source makes the ping a failure. One fault that passes is not reported, nor is a paused source."""
    status = watched.status
    fails = bool(status.failures) if at_once else status.failing_since is not None
    return fails and status.paused is None


def _sink_fails(delivery: Delivery, *, at_once: bool) -> bool:
    """Whether this sink makes the ping a failure. A receiver's restart is not reported."""
    return delivery.outage.fails if at_once else delivery.outage.is_reported
