"""That a vendor's webhooks have fallen silent is noticed, once, and not for nothing."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from doors import HEADER, PARAKEY, VALUE
from rounds import Rounds
from roundsman.engine.silence import SILENT_AFTER, Silence
from roundsman.events import Event
from roundsman.sandbox import Parakey
from roundsman.times import rfc3339
from roundsman.web.app import app
from worlds import START, Time, event_logs

MINUTE = 60.0


def happened(at: float, kind: str = "co.parakey.event_log.created") -> Event:
    data: dict[str, Any] = {"raw": {}}
    time = rfc3339(datetime.fromtimestamp(at, UTC))
    return Event.of(vendor="parakey", source="doors", type=kind, id=str(at), data=data, time=time)


def finds(silence: Silence, *minutes: float) -> list[str]:
    """Visits that find what happened a second before; the messages."""
    told = []
    for minute in minutes:
        now = START + minute * MINUTE
        found = silence.find("doors", [happened(now - 1)], now)
        told += [event.document()["data"]["message"] for event in found]
    return told


def test_three_finds_over_half_an_hour_without_a_webhook_are_reported_once() -> None:
    silence = Silence(START)
    silence.received(START)
    assert finds(silence, 10, 20) == []
    [message] = finds(silence, 41)
    assert (
        "No webhook was received since 2026-05-01T06:00:00Z, and 3 visits found new events meanwhile."
        in message
    )
    assert finds(silence, *range(50, 500, 10)) == []


def test_a_burst_of_finds_is_no_silence() -> None:
    """Parakey tries a webhook again for twenty minutes."""
    assert finds(Silence(START), *range(1, int(SILENT_AFTER / MINUTE))) == []


def test_each_webhook_begins_anew_and_each_silence_is_reported() -> None:
    silence = Silence(START)
    for begin in range(0, 500, 100):
        silence.received(START + begin * MINUTE)
        assert len(finds(silence, *range(begin + 1, begin + 60, 10))) == 1


def test_a_silence_is_the_same_event_after_a_restart() -> None:
    ids = []
    for _ in range(2):
        silence = Silence(START + 1, last_webhook=START)
        for minute in (10, 20, 50):
            at = START + minute * MINUTE
            ids += [event.id for event in silence.find("doors", [happened(at - 1)], at)]
    assert len(ids) == 2
    assert len(set(ids)) == 1


def test_what_happened_without_a_listener_says_nothing() -> None:
    silence = Silence(START)
    for minute in (10, 20, 50, 90):
        assert silence.find("doors", [happened(START - 3600)], START + minute * MINUTE) == []
    own = happened(START + 100 * MINUTE, "roundsman.source.gap")
    assert silence.find("doors", [own], START + 100 * MINUTE) == []


def test_the_pages_of_one_visit_are_one_find() -> None:
    silence = Silence(START)
    assert finds(silence, 10, 10.1, 10.2, 10.3, 50) == []


async def test_the_daemon_says_so_while_it_listens_and_not_else(
    tmp_path: Path, parakey: Parakey, time: Time
) -> None:
    world = Rounds(tmp_path, parakey, time, event_logs(webhook=PARAKEY))

    async def an_hour() -> int:
        for _ in range(6):
            parakey.add(created=time.utc())
            await world.visit(after=600)
        return len(world.events("roundsman.source.webhook_silent"))

    await world.visit()
    assert await an_hour() == 0, "the daemon does not listen"
    world.engine.listening = time.now()
    await world.engine.setup({"doors": world.source}, {"recorder": world.sink})
    assert await an_hour() == 1
    assert await an_hour() == 1, "once"
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app(world.engine))) as client:
        log = {"id": "w1", "createdAt": rfc3339(time.utc()), "timestamp": rfc3339(time.utc())}
        answer = await client.post("http://daemon/hooks/doors", json=log, headers={HEADER: VALUE})
        assert answer.status_code == 200
    world.reboot()
    world.engine.listening = time.now()
    await world.engine.setup({"doors": world.source}, {"recorder": world.sink})
    assert await an_hour() == 2, "each silence"
    assert (
        "No webhook was received since" in world.told("roundsman.source.webhook_silent")[1]["data"]["message"]
    )


def test_a_hook_that_was_never_made_is_noticed_too() -> None:
    [message] = finds(Silence(START), 5, 20, 50)
    assert message.startswith("No webhook was ever received")
