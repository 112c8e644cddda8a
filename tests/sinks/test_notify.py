"""Messages to people: when one is sent, what it says, and what no receiver and no name can do."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from apprise.plugins.base import NotifyBase
from structlog.testing import capture_logs

from doors import until
from inside import log, put
from receivers import Answer, Mails, Pushes, mail_server, mute_server, push_server
from rounds import running
from roundsman import screen
from roundsman.engine.engine import Engine
from roundsman.errors import ConfigError, Conflict
from roundsman.events import Event, notice
from roundsman.plugin import Sink
from roundsman.sinks.notify import NotifySink
from roundsman.sinks.notify.quiet import quiet_until, read_range, read_zone
from roundsman.store import DAEMON
from roundsman.store.sqlite.store import SqliteStore
from roundsman.terminal.terminal import Terminal
from worlds import RECORDS, ByHand, Recorder, Straight, Time, an_event, web_of

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0


@pytest.fixture
def mails() -> Iterator[Mails]:
    with mail_server() as found:
        yield found


@pytest.fixture
def pushes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pushes]:
    """Apprise waits 5.5 s between two messages to a service; here it does not."""
    monkeypatch.setattr(NotifyBase, "request_rate_per_sec", 0)
    with push_server() as found:
        yield found


def notify(*urls: str, **options: Any) -> NotifySink:
    return NotifySink(type="notify", urls=urls, **options).named("oncall")


class World:
    """A store, a clock, and a daemon that is started anew for each delivery, as by cron."""

    def __init__(self, folder: Path, *sinks: Sink) -> None:
        self.path = folder / "roundsman.db"
        self.time = Time()
        self.sinks = {sink.name: sink for sink in sinks}
        self._count = 0

    async def daemon(self) -> Engine:
        store, clients = SqliteStore.open(self.path), web_of(Straight(None), self.time)  # type: ignore[arg-type]
        engine = Engine(store, ByHand(), clients, clock=self.time.clock(), grace=0.2)
        # A daemon that was killed leaves nothing but its store: each one gets new sinks, too.
        await engine.setup({}, {name: each.model_copy().named(name) for name, each in self.sinks.items()})
        return engine

    async def deliver(self, *events: Event, after: float = 0.0) -> bool:
        """These events are committed, and delivered by a daemon that ends. Returns whether all sinks took them."""
        self.time.advance(after)
        engine = await self.daemon()
        if events:
            await put(engine.store, *events, now=self.time.now())
        try:
            return await engine.once()
        finally:
            await engine.store.close()

    async def status(self) -> dict[str, Any]:
        store = SqliteStore.open(self.path)
        try:
            found = await screen.status(store)
            return next(row for row in found["sinks"] if row["name"] == "oncall")
        finally:
            await store.close()

    def failed(self, count: int = 1, **data: Any) -> list[Event]:
        self._count += count
        return [failure(number, **data) for number in range(self._count - count, self._count)]


def failure(number: int, source: str = "keys", message: str = "no such key", **data: Any) -> Event:
    person = {"id": f"u{number}", "name": f"Person {number}", "email": None}
    made = {
        "batch_id": "b1",
        "item_id": None,
        "index": number,
        "code": None,
        "message": message,
        "fields": [],
        "person": person,
        "about": None,
        "raw": {},
        **data,
    }
    return Event.of(
        vendor="parakey",
        source=source,
        type="co.parakey.batch.item_failed",
        id=f"b1:{number}:failed",
        subject="b1",
        outcome="failed",
        data=made,
    )


# -- one message for many ----------------------------------------------------------------------------------------------


async def test_the_first_is_sent_at_once_and_those_of_the_next_minutes_in_one_message(
    tmp_path: Path, mails: Mails
) -> None:
    world = World(tmp_path, notify(mails.url, digest="5m"))
    await world.deliver()
    assert await world.deliver(*world.failed())
    assert mails.texts == ["Person 0: failed: no such key, batch b1 [keys]"]
    assert mails.taken[0]["subject"] == "1 failed: keys"
    for _ in range(4):
        assert await world.deliver(*world.failed(10), after=MINUTE)
    assert len(mails.taken) == 1
    assert await world.deliver(after=MINUTE)
    assert len(mails.taken) == 2
    assert mails.taken[1]["subject"] == "40 failed: keys"
    lines = mails.texts[1].splitlines()
    assert lines[0] == "Person 1: failed: no such key, batch b1 [keys]"
    assert lines[20:] == ["... and 20 more:", "keys: 40 failed"]
    assert await world.deliver(after=HOUR)
    assert len(mails.taken) == 2, "nothing came, so nothing is sent"


async def test_what_was_not_sent_survives_a_crash_and_is_sent_without_a_new_event(
    tmp_path: Path, pushes: Pushes
) -> None:
    """The daemon ends after each step, without a stop: only its store is left."""
    world = World(tmp_path, notify(pushes.url, digest="5m"))
    await world.deliver()
    await world.deliver(*world.failed())
    await world.deliver(*world.failed(2), after=1)
    world.time.advance(5 * MINUTE)
    engine = await world.daemon()
    async with running(engine):
        await until(lambda: len(pushes.taken) == 2)
    await engine.store.close()
    assert pushes.texts[1].count("\n") == 1
    assert pushes.taken[1]["title"] == "2 failed: keys"


async def test_the_daemon_sends_at_the_end_of_the_time_and_not_before(tmp_path: Path, pushes: Pushes) -> None:
    world = World(tmp_path, notify(pushes.url, digest="5m"))
    engine = await world.daemon()
    async with running(engine):
        await put(engine.store, *world.failed(), now=world.time.now())
        engine._news.publish()
        await until(lambda: len(pushes.taken) == 1)
        await put(engine.store, *world.failed(), now=world.time.now())
        engine._news.publish()

        async def held() -> bool:
            return (await engine.store.later("oncall")).held == 1

        await until(held)
        for _ in range(4):
            world.time.advance(MINUTE)
            await engine.beat()
        assert len(pushes.taken) == 1
        world.time.advance(MINUTE)
        await engine.beat()
        await until(lambda: len(pushes.taken) == 2)
    await engine.store.close()


async def test_a_sink_that_waits_is_waiting_and_does_not_fail_lag_or_hold_up_pruning(
    tmp_path: Path, pushes: Pushes
) -> None:
    world = World(tmp_path, notify(pushes.url, digest="1d"))
    await world.deliver()
    await world.deliver(*world.failed())
    assert (await world.status())["state"] == "ok"
    await world.deliver(*world.failed(3), after=1)
    row = await world.status()
    assert (row["state"], row["held"], row["waiting"], row["failures"]) == ("waiting", 3, 0, 0)
    assert row["until"] == f"{datetime.fromtimestamp(world.time.now() - 1 + DAY, UTC):%Y-%m-%dT%H:%M:%SZ}"
    world.time.advance(HOUR)
    engine = await world.daemon()
    try:
        wanted = {"oncall": engine.deliveries["oncall"].wanted}
        assert (await engine.store.census(wanted)).lags == {"oncall": (0, None)}
        while await engine.store.prune(["oncall"], world.time.now(), 60.0):
            pass
        assert await log(engine.store) == []
    finally:
        await engine.store.close()
    await world.deliver(after=DAY)
    assert pushes.taken[1]["title"] == "3 failed: keys", "also after the events are pruned"


async def test_status_promises_no_time_of_sending_that_a_failing_or_paused_sink_does_not_keep(
    tmp_path: Path, pushes: Pushes
) -> None:
    world = World(tmp_path, notify(pushes.url))
    await world.deliver(*world.failed())
    await world.deliver(*world.failed(2), after=1)
    pushes.answer = Answer(500)
    states = {
        "waiting": "oncall: 2 gathered, sent at ",
        "failing": "oncall: 2 gathered, sent once it works again",
        "paused": "oncall: 2 gathered, sent after the pause",
    }
    for state, line in states.items():
        row = await world.status()
        if state == "paused":
            row.update(state=state, paused="2026-05-03T07:00:00Z", paused_by="anna")
        assert row["state"] == state
        found = {"sinks": [row], "sources": [], "daemon": None, "open_failures": 0}
        shown = screen.status_tables(
            {"trouble": None, "damage": None, **found}, Terminal(utc=True, colours=False)
        )
        assert line in "\n".join(shown)
        await world.deliver(after=5 * MINUTE)


async def test_a_digest_of_100_000_is_one_message_and_a_small_receipt(tmp_path: Path, pushes: Pushes) -> None:
    world = World(tmp_path, notify(pushes.url, digest="5m"))
    await world.deliver()
    await world.deliver(*world.failed())
    for source in range(50):
        batch = [failure(n, source=f"source-{source:02}") for n in range(2000)]
        engine = await world.daemon()
        await put(engine.store, *batch, source=f"source-{source:02}", now=world.time.now())
        await engine.store.close()
    assert await world.deliver(after=1)
    store = SqliteStore.open(world.path)
    _, receipt = await store.cursor("oncall")
    await store.close()
    assert len(json.dumps(receipt)) < 8000
    assert await world.deliver(after=5 * MINUTE)
    assert len(pushes.taken) == 2
    assert pushes.taken[1]["title"].startswith("100000 failed: source-00, source-01, ")
    assert "... and 99980 more:" in pushes.texts[1]
    assert "other sources: 20000 failed" in pushes.texts[1]


async def test_the_worst_result_is_named_first_in_any_order_of_events(tmp_path: Path, pushes: Pushes) -> None:
    world = World(tmp_path, notify(pushes.url))
    await world.deliver()
    await world.deliver(an_event(1, source="keys", outcome="partial"), failure(2))
    assert pushes.taken[0]["title"] == "1 failed, 1 partial: keys"


async def test_what_is_held_follows_options_that_were_changed(tmp_path: Path, pushes: Pushes) -> None:
    """A shorter digest, or quiet hours that were removed, hold nothing up to the time that the old ones set."""
    world = World(tmp_path, notify(pushes.url, digest="1d"))
    await world.deliver()
    await world.deliver(*world.failed())
    await world.deliver(*world.failed(2), after=1)
    world.sinks["oncall"] = notify(pushes.url, digest="5m")
    assert await world.deliver(after=MINUTE)
    assert len(pushes.taken) == 1
    assert await world.deliver(after=5 * MINUTE)
    assert [each["title"] for each in pushes.taken] == ["1 failed: keys", "2 failed: keys"]


async def test_a_clock_that_is_set_back_holds_up_no_message(tmp_path: Path, pushes: Pushes) -> None:
    world = World(tmp_path, notify(pushes.url, digest="5m", repeat="1h"))
    engine = await world.daemon()
    async with running(engine):
        await put(engine.store, *world.failed(), now=world.time.now())
        engine._news.publish()
        await until(lambda: len(pushes.taken) == 1)
        await put(engine.store, *world.failed(), now=world.time.now())
        engine._news.publish()
        await until(lambda: engine.deliveries["oncall"].held == 1)
        world.time.wall -= DAY
        world.time.advance(5 * MINUTE)
        await engine.beat()
        await until(lambda: len(pushes.taken) == 2)
        world.time.advance(2 * HOUR)
        await engine.beat()
        await until(lambda: len(pushes.taken) == 3)
    await engine.store.close()
    assert pushes.taken[2]["title"].startswith("2 failures still open")


async def test_a_replay_during_a_delivery_counts_no_event_twice(tmp_path: Path, pushes: Pushes) -> None:
    world = World(tmp_path, notify(pushes.url, digest="5m"))
    engine = await world.daemon()
    delivery = engine.deliveries["oncall"]
    await put(engine.store, *world.failed(), now=world.time.now())
    assert await engine.once()
    await put(engine.store, *world.failed(), now=world.time.now())
    ack, refused = engine.store.ack, []

    async def once_refused(*args: Any, **named: Any) -> None:
        if not refused:
            refused.append(args)
            raise Conflict
        await ack(*args, **named)

    engine.store.ack = once_refused  # type: ignore[method-assign]
    assert await delivery.once()
    assert delivery.held == 1
    await engine.store.close()


# -- what is sent ------------------------------------------------------------------------------------------------------


async def test_without_filters_it_gets_failures_and_notices_and_none_about_itself(
    tmp_path: Path, pushes: Pushes
) -> None:
    world = World(tmp_path, notify(pushes.url, digest=0))
    await world.deliver()
    about = {"oncall": "roundsman.sink.failing", "archive": "roundsman.sink.failing"}
    notices = [
        notice(kind, DAEMON, f"{name}:1", f"{name} fails.", subject=name) for name, kind in about.items()
    ]
    partial = Event.of(
        vendor="parakey",
        source="keys",
        type="co.parakey.batch.completed",
        id="b1:completed",
        outcome="partial",
        data={
            "batch_id": "b1",
            "outcome": "partial",
            "status": None,
            "total": 3,
            "failed": 1,
            "submitted_at": None,
            "completed_at": None,
            "failures": None,
            "failures_cap": 20,
            "raw": {},
        },
    )
    await world.deliver(an_event(1), an_event(2, outcome="denied"), source_failing("doors"))
    await world.deliver(partial, *world.failed())
    engine = await world.daemon()
    await engine.store.append_notices(DAEMON, notices, world.time.now())
    await engine.store.close()
    await world.deliver()
    assert [line for text in pushes.texts for line in text.splitlines()] == [
        "It refuses the key. [doors]",
        "batch b1: 1 of 3 failed [keys]",
        "Person 0: failed: no such key, batch b1 [keys]",
        "archive fails.",
    ]
    assert (await world.status())["waiting"] == 0


def source_failing(source: str) -> Event:
    return notice("roundsman.source.failing", source, "1", "It refuses the key.")


async def test_a_notice_is_not_cut_before_it_says_what_to_do(
    tmp_path: Path, pushes: Pushes, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(tmp_path, notify(pushes.url))
    await world.deliver()
    said = f"Rows may be missing. {'Each visit reports the newest rows. ' * 8}To get them, raise paging.max_limit."
    gap = notice("roundsman.source.gap", "keys", "1", said)
    await world.deliver(gap)
    assert pushes.texts == [f"{said} [keys]"]
    screen.show_event(gap, None)
    assert said in capsys.readouterr().out


async def test_with_types_or_outcomes_it_gets_what_they_select(tmp_path: Path, pushes: Pushes) -> None:
    world = World(tmp_path, notify(pushes.url, digest=0, outcomes=("denied",)))
    await world.deliver()
    await world.deliver(an_event(1), an_event(2, outcome="denied"), source_failing("doors"))
    assert pushes.texts == ["unknown person: denied at id00002 [doors]"]


async def test_the_templates_have_named_fields(tmp_path: Path, pushes: Pushes) -> None:
    title, body = "$$ $count from $sources at ${sink}", "$summary since $since"
    sink = notify(pushes.url, title=title, body=body, time_zone="Europe/Stockholm")
    world = World(tmp_path, sink)
    await world.deliver()
    await world.deliver(*world.failed(2))
    assert pushes.taken[0]["title"] == "$ 2 from keys at oncall"
    since = datetime.fromtimestamp(world.time.now(), UTC).astimezone(read_zone("Europe/Stockholm"))
    assert pushes.texts == [f"Person 0: failed: no such key, batch b1 [keys] since {since:%Y-%m-%d %H:%M}"]


HOSTILE = [
    "Robert\r\nBcc: all@berg.example\r\n\r\nPay here",
    "@everyone <@123> <!channel>",
    "<script>alert(1)</script> <b>&amp;</b>",
    "\x1b]0;owned\x07\x1b[2J",
    "$counts ${body} %s {0}",
    "x" * 5000,
]


@pytest.mark.parametrize("name", HOSTILE)
async def test_no_name_changes_a_mail_or_calls_others(
    tmp_path: Path, mails: Mails, pushes: Pushes, name: str
) -> None:
    world = World(tmp_path, notify(mails.url, pushes.url, title="$summary"))
    await world.deliver()
    person = {"id": None, "name": name, "email": None}
    assert await world.deliver(*world.failed(person=person, message=name))
    [mail], [push] = mails.taken, pushes.taken
    assert [key.lower() for key, _ in mail.items()].count("bcc") == 0
    assert mail["to"] == "anna@berg.example"
    assert mail.get_content_type() == "text/plain"
    text = mails.texts[0]
    assert "\x1b" not in text + push["message"] + push["title"]
    assert not re.search(r"(?<!\w)@everyone|<@|<!|<script|<b>", text + push["message"] + push["title"])
    assert len(text) <= 200
    if "$" in name:
        assert name in text


# -- until it is ticked off --------------------------------------------------------------------------------------------


async def test_what_is_open_is_repeated_until_it_is_ticked_off(tmp_path: Path, pushes: Pushes) -> None:
    world = World(tmp_path)
    await world.deliver(*world.failed())  # before the sink exists: it did not report this one
    world.sinks["oncall"] = notify(pushes.url, repeat="1d", digest="5m")
    await world.deliver(*world.failed(2))
    assert len(pushes.taken) == 1
    await world.deliver(after=DAY - 1)
    assert len(pushes.taken) == 1
    await world.deliver(after=1)
    assert len(pushes.taken) == 2
    assert pushes.taken[1]["title"] == "2 failures still open: keys"
    assert "#3 Person 2: failed: no such key" in pushes.texts[1]
    assert "Person 0:" not in pushes.texts[1]
    assert "roundsman failures done 3" in pushes.texts[1]
    assert (await world.status())["state"] == "ok", "it holds nothing back"
    engine = await world.daemon()
    await engine.store.tick_off([2, 3], "anna", None, 0.0)
    await engine.store.close()
    await world.deliver(after=DAY)
    await world.deliver(after=DAY)
    assert len(pushes.taken) == 2


async def test_later_failures_do_not_put_off_the_repetition(tmp_path: Path, pushes: Pushes) -> None:
    world = World(tmp_path, notify(pushes.url, repeat="1d", digest="5m"))
    await world.deliver()
    await world.deliver(*world.failed())
    for _ in range(3):
        await world.deliver(*world.failed(), after=6 * HOUR)
    await world.deliver(after=6 * HOUR)
    assert pushes.taken[-1]["title"] == "4 failures still open: keys"


async def test_a_later_failure_begins_the_repetition_anew(tmp_path: Path, pushes: Pushes) -> None:
    world = World(tmp_path, notify(pushes.url, repeat="1d", digest="5m"))
    await world.deliver()
    await world.deliver(*world.failed())
    engine = await world.daemon()
    await engine.store.tick_off([1], "anna", None, 0.0)
    await engine.store.close()
    await world.deliver(after=DAY)
    assert len(pushes.taken) == 1
    await world.deliver(*world.failed())
    await world.deliver(after=DAY)
    assert [each["title"] for each in pushes.taken[1:]] == ["1 failed: keys", "1 failure still open: keys"]


# -- quiet hours -------------------------------------------------------------------------------------------------------


async def test_nothing_is_sent_in_the_quiet_hours_and_all_of_it_at_their_end(
    tmp_path: Path, pushes: Pushes
) -> None:
    world = World(
        tmp_path, notify(pushes.url, quiet=["22:00-07:00"], time_zone="Europe/Stockholm", repeat="1h")
    )
    night = datetime(2026, 5, 3, 23, 30, tzinfo=read_zone("Europe/Stockholm")).timestamp()
    await world.deliver()
    await world.deliver(*world.failed(), after=night - world.time.now())
    await world.deliver(*world.failed(), after=HOUR)
    assert pushes.taken == []
    assert (await world.status())["until"] == "2026-05-04T05:00:00Z"
    await world.deliver(after=6 * HOUR + 29 * MINUTE)
    assert pushes.taken == []
    await world.deliver(after=MINUTE)
    assert [each["title"] for each in pushes.taken] == ["2 failed: keys"]
    await world.deliver(after=14 * HOUR)
    assert len(pushes.taken) == 2, "repeated by day"
    await world.deliver(after=2 * HOUR)
    assert len(pushes.taken) == 2, "and not by night"


STOCKHOLM = read_zone("Europe/Stockholm")


@pytest.mark.parametrize(
    ("ranges", "now", "end"),
    [
        (["22:00-07:00"], "2026-05-03T21:59", None),
        (["22:00-07:00"], "2026-05-03T22:00", "2026-05-04T07:00"),
        (["22:00-07:00"], "2026-05-04T06:59", "2026-05-04T07:00"),
        (["22:00-07:00"], "2026-05-04T07:00", None),
        (["12:00-13:00"], "2026-05-04T12:30", "2026-05-04T13:00"),
        (["22:00-24:00", "0:00-07:00"], "2026-05-03T23:00", "2026-05-04T07:00"),
        (["22:00-07:00", "06:30-08:00"], "2026-05-03T23:00", "2026-05-04T08:00"),
        (["01:00-03:00"], "2026-03-29T01:30", "2026-03-29T03:00"),  # the clock is set forward at 2:00
        (["01:00-04:00"], "2026-10-25T01:30", "2026-10-25T04:00"),  # and back at 3:00
    ],
)
def test_quiet_hours_are_those_of_the_clock_on_the_wall(ranges: list[str], now: str, end: str | None) -> None:
    moment = datetime.fromisoformat(now).replace(tzinfo=STOCKHOLM).astimezone(UTC)
    found = quiet_until(moment, [read_range(each) for each in ranges], STOCKHOLM)
    assert (found.astimezone(STOCKHOLM).strftime("%Y-%m-%dT%H:%M") if found else None) == end


# -- receivers ---------------------------------------------------------------------------------------------------------


async def test_a_service_that_asks_to_wait_is_not_asked_before(tmp_path: Path, pushes: Pushes) -> None:
    pushes.answer = Answer(429, (("Retry-After", "1800"),), b'{"error":"limit reached: 250 messages"}')
    world = World(tmp_path, notify(pushes.url))
    await world.deliver()
    engine = await world.daemon()
    with capture_logs() as lines:
        async with running(engine):
            await put(engine.store, *world.failed(), now=world.time.now())
            engine._news.publish()
            await until(lambda: any(line["event"] == "sink.failing" for line in lines))
    await engine.store.close()
    [line] = [line for line in lines if line["event"] == "sink.failing"]
    assert line["wait"] == 1800
    assert line["error"].startswith("ntfy answered 429")
    assert line["exc_info"] is None
    assert pushes.requests == 1


async def test_a_mail_server_that_refuses_for_now_gets_the_message_later(
    tmp_path: Path, mails: Mails
) -> None:
    world = World(tmp_path, notify(mails.url))
    await world.deliver()
    mails.refuses = True
    assert not await world.deliver(*world.failed())
    row = await world.status()
    assert row["state"] == "failing"
    assert row["error"].startswith("E-Mail did not take the message")
    mails.refuses = False
    assert await world.deliver(after=MINUTE)
    assert len(mails.taken) == 1
    assert (await world.status())["state"] == "ok"


async def test_those_who_have_a_message_do_not_get_it_again_when_another_receiver_fails(
    tmp_path: Path, mails: Mails, pushes: Pushes
) -> None:
    world = World(tmp_path, notify(mails.url, pushes.url))
    engine = await world.daemon()
    await put(engine.store, *world.failed(), now=world.time.now())
    pushes.answer = Answer(500)
    assert not await engine.deliveries.once()
    assert not await engine.deliveries.once()
    pushes.answer = Answer()
    assert await engine.deliveries.once()
    assert (len(mails.taken), len(pushes.taken)) == (1, 1)
    await engine.store.close()


async def test_while_one_receiver_fails_the_others_get_one_message_and_then_one_digest(
    tmp_path: Path, mails: Mails, pushes: Pushes
) -> None:
    world = World(tmp_path, notify(mails.url, pushes.url, digest="1h"))
    engine = await world.daemon()
    pushes.answer = Answer(500)
    for number in range(1, 5):
        await put(engine.store, *world.failed(number), now=world.time.now())
        assert not await engine.deliveries.once()
        world.time.advance(MINUTE)
    assert [each["subject"] for each in mails.taken] == ["1 failed: keys"]
    pushes.answer = Answer()
    assert await engine.deliveries.once()
    assert [each["title"] for each in pushes.taken] == ["1 failed: keys"]
    assert (await engine.store.later("oncall")).held == 9
    world.time.advance(HOUR)
    assert await engine.deliveries.once()
    assert [each["title"] for each in pushes.taken] == ["1 failed: keys", "9 failed: keys"]
    assert [each["subject"] for each in mails.taken] == ["1 failed: keys", "9 failed: keys"]
    await engine.store.close()


async def test_a_replay_while_a_receiver_fails_leaves_no_event_out(
    tmp_path: Path, mails: Mails, pushes: Pushes
) -> None:
    world = World(tmp_path, notify(mails.url, pushes.url, digest=0))
    await world.deliver(*world.failed())
    engine = await world.daemon()
    pushes.answer = Answer(500)
    await put(engine.store, *world.failed(), now=world.time.now())
    assert not await engine.deliveries.once()
    await engine.store.replay("oncall", 0)
    pushes.answer = Answer()
    assert await engine.deliveries.once()
    assert {line for text in pushes.texts for line in text.splitlines()} == {
        f"Person {number}: failed: no such key, batch b1 [keys]" for number in range(2)
    }
    await engine.store.close()


async def test_a_mail_server_that_accepts_and_hangs_blocks_no_other_sink_and_no_stop(tmp_path: Path) -> None:
    with mute_server() as port:
        url = f"mailto://127.0.0.1:{port}/?from=r@berg.example&to=a@berg.example&mode=insecure&cto=60&rto=60"
        world = World(tmp_path, notify(url), Recorder().named("other"))
        engine = await world.daemon()
        async with running(engine):
            await put(engine.store, *world.failed(), now=world.time.now())
            engine._news.publish()
            await until(lambda: RECORDS.get("other"))
            await put(engine.store, *world.failed(), now=world.time.now())
            engine._news.publish()
            await until(lambda: len(RECORDS["other"]) == 2)
        await engine.store.close()


# -- what is wrong in the configuration --------------------------------------------------------------------------------

SOURCE = '[sources.doors]\ntype = "parakey.event_logs"\naccess_token = "a-token-of-24-letters-ok"\n'


def roundsman(folder: Path, sink: str, *command: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    (folder / "roundsman.toml").write_text(f'{SOURCE}[sinks.oncall]\ntype = "notify"\n{sink}\n')
    program = [sys.executable, "-m", "roundsman", *command, "-c", "roundsman.toml"]
    return subprocess.run(
        program, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, **environ}
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("", "sinks.oncall.urls: is missing"),
        ("urls = []", 'sinks.oncall.urls: is empty; write [{ env = "APPRISE_URL" }]'),
        ('urls = { env = "URL" }', "sinks.oncall.urls: the value is not a list; write it inside [ ]"),
        (
            'urls = [{ env = "URL" }]',
            "sinks.oncall.urls: is not an address that Apprise can use: it begins with nope://",
        ),
        (
            'urls = [{ env = "HALF" }]',
            "sinks.oncall.urls: is not an address that Apprise can use: behind mailto:, a part is missing or wrong",
        ),
        (
            'urls = [{ env = "TEXT" }]',
            "sinks.oncall.urls: is not an address that Apprise can use: it has no scheme such as mailto://",
        ),
        ('urls = [{ env = "GOOD" }]\nquiet = ["22-7"]', 'sinks.oncall.quiet.0: 22-7 is not a part of the day; write "22:00-07:00"'),
        ('urls = [{ env = "GOOD" }]\nquiet = "22:00-07:00"', 'sinks.oncall.quiet: 22:00-07:00 is not a list; write ["22:00-07:00"]'),
        (
            'urls = [{ env = "GOOD" }]\nquiet = ["22:00-10:00", "09:00-23:00"]',
            "sinks.oncall: quiet leaves no part of the day for messages",
        ),
        (
            'urls = [{ env = "GOOD" }]\ntime_zone = "Mars/Olympus"',
            'sinks.oncall.time_zone: Mars/Olympus is not a time zone that this machine knows; write a name such as "Europe/Stockholm"',
        ),
        ('urls = [{ env = "GOOD" }]\ntitle = "$sumary"', "$summary"),
        ('urls = [{ env = "GOOD" }]\nrepeat = "1s"', "sinks.oncall.repeat: 1s is less than 1m"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence_without_the_address(tmp_path: Path, options: str, sentence: str) -> None:
    urls = {
        "URL": "nope://secret-thing",
        "TEXT": "just-a-secret",
        "HALF": "mailto://secret@",
        "GOOD": "ntfy://127.0.0.1:1/x",
    }
    result = roundsman(tmp_path, options, "check", **urls)
    assert result.returncode == 2, result
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 2
    assert "secret" not in result.stderr


def test_the_extra_is_named_if_apprise_is_missing(tmp_path: Path) -> None:
    (tmp_path / "apprise.py").write_text("raise ImportError\n")
    result = roundsman(
        tmp_path,
        'urls = [{ env = "GOOD" }]',
        "check",
        GOOD="ntfy://127.0.0.1:1/x",
        PYTHONPATH=os.pathsep.join([str(tmp_path), *sys.path]),
    )
    assert "sinks.oncall.urls: needs Apprise; install roundsman[notify]\n" in result.stderr


def test_apprise_is_imported_only_for_a_sink_that_uses_it() -> None:
    program = (
        "import sys; from roundsman import config; from roundsman.config.registry import sinks_registry\n"
        "import roundsman.sinks.http, roundsman.sinks.file, roundsman.sinks.notify\n"
        "assert not {'apprise', 'requests'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_test_message_is_sent_and_what_is_wrong_is_printed(
    tmp_path: Path, mails: Mails, pushes: Pushes
) -> None:
    options = 'urls = [{ env = "MAIL" }, { env = "PUSH" }]\nquiet = ["00:00-23:59"]'
    result = roundsman(tmp_path, options, "notify-test", "oncall", MAIL=mails.url, PUSH=pushes.url)
    assert (result.returncode, result.stdout, result.stderr) == (0, "E-Mail: sent\nntfy: sent\n", "")
    assert mails.texts == pushes.texts == ["This is a test of the sink oncall: messages arrive."]
    pushes.answer = Answer(403)
    result = roundsman(tmp_path, options, "notify-test", "oncall", MAIL=mails.url, PUSH=pushes.url)
    assert (result.returncode, result.stdout) == (1, "E-Mail: sent\n")
    assert result.stderr.startswith("oncall: ntfy answered 403")
    assert roundsman(tmp_path, options, "notify-test", "nope").returncode == 2


def test_a_sink_that_sends_no_messages_cannot_be_tested(tmp_path: Path) -> None:
    (tmp_path / "roundsman.toml").write_text(f'{SOURCE}[sinks.console]\ntype = "stdout"\n')
    program = [sys.executable, "-m", "roundsman", "notify-test", "console", "-c", "roundsman.toml"]
    result = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (
        2,
        "console: is a stdout sink, which sends no messages to people\n",
    )


def test_addresses_are_secrets(mails: Mails) -> None:
    sink = notify("mailtos://anna:hunter22@berg.example")
    assert "hunter22" not in repr(sink)
    with pytest.raises(ValueError, match="not an address") as caught:
        notify("nope://anna:hunter22@127.0.0.1")
    assert "hunter22" not in str(caught.value)
    assert not isinstance(caught.value, ConfigError)
