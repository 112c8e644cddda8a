"""States that earlier versions wrote, also in the middle of something: read by every method, and gone on with."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from inside import done, put
from lists import doors
from rounds import Rounds
from roundsman.kit.feed.state import FeedState
from roundsman.plugin import Source
from roundsman.sandbox import Parakey, Vendor
from roundsman.sandbox.mailchimp import Mailchimp, Operation, bad_address
from roundsman.sandbox.railz import Railz
from roundsman.sources.http_json.source import HttpJson
from roundsman.sources.mailchimp import Batches as MailchimpBatches
from roundsman.sources.parakey import Batches as ParakeyBatches, EventLogs
from roundsman.sources.railz import Pushes
from roundsman.times import rfc3339
from worlds import Time, event_logs, mailchimp_batches, parakey_batches, railz_pushes

STORES = Path(__file__).parent.parent / "stores"
JOBS: dict[str, Any] = {
    "parakey.batches": ParakeyBatches,
    "mailchimp.batches": MailchimpBatches,
    "railz.pushes": Pushes,
}


def of_stores(kinds: dict[str, Any] = JOBS) -> list[Any]:
    """The states of these sources in what earlier versions wrote."""
    found = []
    for path in sorted(STORES.glob("*.sql")):
        with closing(sqlite3.connect(":memory:")) as db:
            db.executescript(path.read_text())
            for kind, state in db.execute("SELECT type, state FROM sources"):
                if kind in kinds:
                    found.append(pytest.param(kinds[kind], state, id=f"{path.stem} {kind}"))
    return found


@pytest.mark.parametrize(("kind", "text"), of_stores())
def test_every_method_reads_what_earlier_versions_wrote(kind: Any, text: str) -> None:
    state = json.loads(text)
    before = kind.following(state)
    followed = kind.follow(state, ["new"])
    assert {*kind.following(followed)} == {*before, "new"}
    assert kind.follow(followed, ["new"]) == followed
    assert kind.gap(state) is None
    loaded = kind.document.load(state)
    assert kind.document.load(loaded.dump()).dump() == loaded.dump(), "once upgraded, it stays as it is"
    assert loaded.floor == state.get("floor")
    assert loaded.dropped == []
    assert state == json.loads(text), "what was given is not changed"


@pytest.mark.parametrize(("kind", "text"), of_stores({"parakey.event_logs": FeedState}))
def test_all_of_a_feeds_state_that_earlier_versions_wrote_is_read(kind: Any, text: str) -> None:
    loaded = kind.load(json.loads(text))
    assert loaded.dropped == []
    assert loaded.begun
    assert loaded.cursor is not None
    assert kind.load(json.loads(json.dumps(loaded.dump()))) == loaded


@pytest.fixture
def world_of(tmp_path: Path, time: Time) -> Iterator[Callable[[Vendor, Source, Any], Any]]:
    made: list[Rounds] = []

    async def make(vendor: Vendor, source: Source, state: Any) -> Rounds:
        made.append(Rounds(tmp_path, vendor, time, source))
        await put(made[-1].store, state=state, source=source.name)
        made[-1].reboot()
        return made[-1]

    yield make
    for world in made:
        done(world.store.close())


def entry(time: Time, seen: Any, **more: Any) -> dict[str, Any]:
    """A tracked thing, as 0.6 wrote it."""
    return {"seen": seen, "since": rfc3339(time.utc()), "misses": 0, "stalled": False, **more}


async def test_results_that_0_6_owed_are_read_and_their_batch_is_not_reported_again(
    world_of: Any, time: Time
) -> None:
    account = Mailchimp(now=time.utc)
    account.add([bad_address("a@b.example")], batch_id="owed")
    account.add([bad_address("c@b.example")], batch_id="missed")
    account.add([Operation()], batch_id="wanted", took=timedelta(minutes=2))
    batch = {
        "batch_id": "owed", "outcome": "failed", "status": "finished", "total": 1, "failed": 1,
        "submitted_at": rfc3339(time.utc()), "completed_at": rfc3339(time.utc()),
        "failures": None, "failures_cap": 20, "raw": {},
    }  # fmt: skip
    state = {
        "floor": rfc3339(time.utc() + timedelta(hours=1)),
        "owed": {"owed": {"batch": batch, "told": True, "tries": 3, "next": None, "missing": 0}},
        "missed": ["missed"],
        "wanted": ["missed", "wanted"],
        "open": {"gone": entry(time, ["started", 1, 0, 0, None], listed=True)},
        "turn": "results",
        "good": rfc3339(time.utc()),
        "list": "0123456789abcdef",
        "odd": ["status paused"],
    }
    world = await world_of(account, mailchimp_batches(), state)
    assert world.source.following(world.state) == ["missed", "wanted", "gone", "owed"]
    for _ in range(5):
        await world.visit()
    told = [event.id.partition(":")[0] for event in world.events("com.mailchimp.batch.operation_failed")]
    assert sorted(told) == ["missed", "owed"]
    assert [event.id for event in world.events("com.mailchimp.batch.completed")] == ["wanted:completed"]
    assert [event.id for event in world.events("roundsman.batch.gone")] == ["news:gone:gone"]
    assert world.state["remarked"] == ["status paused"]


async def test_a_connection_that_0_6_left_in_the_middle_is_gone_on_with(world_of: Any, time: Time) -> None:
    ledger = Railz(now=time.utc)
    ledger.connect("CON-1")
    ledger.connect("CON-2")
    started = time.utc()
    for number in range(230):
        requested = started - number * timedelta(seconds=1)
        ledger.push("CON-1", push_id=f"p{number}", requested=requested)
    ledger.push(
        "CON-1",
        push_id="slow",
        batch="b1",
        requested=started - timedelta(hours=9),
        took=timedelta(hours=9, minutes=2),
    )
    ledger.push("CON-2", push_id="other", requested=started)
    ledger.push("CON-2", push_id="named", requested=started)
    state = {
        "floor": "",
        "found": {"ids": ["CON-1", "CON-2"], "at": rfc3339(started)},
        "books": {
            "CON-1": {
                "page": "0123456789abcdef", "count": 231, "newest": rfc3339(started), "resume": 90,
                "pending": {"slow": entry(time, ["pending"], batch="b1", listed=False)},
                "batches": {"b1": entry(time, ["0123"], look="0123")},
                "left": ["b0"], "stumbled": 1, "whole": [100, "p99"],
            },
            "CON-2": {"failed": {"times": 3, "since": rfc3339(started), "until": rfc3339(started)}},
        },
        "wanted": {"named": 1},
        "at": "CON-2",
    }  # fmt: skip
    world = await world_of(ledger, railz_pushes(), state)
    assert world.source.following(world.state) == ["named", "CON-1/slow", "CON-1/batch:b1"]
    for _ in range(6):
        await world.visit()
    told = {event.id for event in world.events("ai.railz.push.completed")}
    assert told >= {f"p{number}:success" for number in range(90, 230)}, "the rest of the list"
    for _ in range(32):
        await world.visit()
    told = {event.id for event in world.events("ai.railz.push.completed")}
    expected = {f"p{number}:success" for number in range(230)}
    assert told == expected | {"slow:success", "other:success", "named:success"}
    assert [event.id for event in world.events("ai.railz.batch_push.completed")] == ["b1:completed"]
    assert len(world.events("roundsman.source.recovered")) == 1
    assert "wanted" not in world.state


async def test_a_list_that_0_6_left_in_the_middle_is_gone_on_with(world_of: Any, time: Time) -> None:
    parakey = Parakey(now=time.utc)
    parakey.quirks.batch_list, parakey.quirks.default_limit = True, 20
    parakey.quirks.batch_order = "oldest"
    for number in range(70):
        time.advance(1)
        parakey.batch([{"error": "no"}], batch_id=f"b{number}")
    state = {
        "floor": "", "fine": True, "list_at": [40, "b40"], "list_order": 1, "list_pages": True, "list_read": True,
        "open": {"b3": entry(time, None)}, "wanted": ["b5"],
        "odd": ["asking b3"],
    }  # fmt: skip
    world = await world_of(parakey, parakey_batches(request={"list_path": "/batches"}), state)
    assert world.source.following(world.state) == ["b5", "b3"]
    for _ in range(4):
        await world.visit()
    told = {event.id for event in world.events("co.parakey.batch.completed")}
    assert told == {f"b{number}:completed" for number in (3, 5, *range(40, 70))}, "what is before was read"
    await world.store.rewind("keys", world.source.rewound(state, None))
    for _ in range(8):
        await world.visit()
    assert len(world.events("co.parakey.batch.completed")) == 70


MALFORMED: list[dict[str, Any]] = [
    {"open": [1]},
    {"v": 1, "open": {"x": {}, "y": 5}},
    {"open": {"x": {"seen": None, "since": None}}},
    {"v": 1, "list": {"at": [1], "page": 5}},
    {"floor": 5, "odd": "x", "unread": [1]},
    {"wanted": [5]},
    {"wanted": 5, "tag": "abc", "list": "abc", "list_at": 40},
    {"books": []},
    {"books": {"CON-1": {"whole": [1], "failed": {"times": 1}, "pending": {"x": {}}}}, "found": {}},
    {"owed": {"x": {}}, "missed": {"a": 1}},
]


@pytest.mark.parametrize("state", MALFORMED, ids=json.dumps)
@pytest.mark.parametrize("kind", list(JOBS))
async def test_what_does_not_fit_in_a_state_stops_no_source(
    kind: str, state: dict[str, Any], world_of: Any, time: Time
) -> None:
    vendor: Vendor
    source: Source
    if kind == "mailchimp.batches":
        account = Mailchimp(now=time.utc)
        vendor, source = account, mailchimp_batches()
        account.add([Operation()], batch_id="x")
    elif kind == "railz.pushes":
        ledger = Railz(now=time.utc)
        vendor, source = ledger, railz_pushes()
        ledger.connect("CON-1")
        ledger.push("CON-1", push_id="x")
    else:
        keys = Parakey(now=time.utc)
        vendor, source = keys, parakey_batches(request={"list_path": "/batches"})
        keys.quirks.batch_list = True
        keys.batch([{}], batch_id="x")
    world = await world_of(vendor, source, state)
    source.following(world.state)
    source.rewound(world.state, None)
    for _ in range(4):
        await world.visit()
    assert [event.id for event in world.events() if event.id.startswith("x:")] in (
        ["x:completed"],
        ["x:success"],
    )
    assert (await world.status()).failures == 0


async def test_a_tracked_batch_whose_time_cannot_be_read_ends_all_the_same(world_of: Any, time: Time) -> None:
    parakey = Parakey(now=time.utc)
    parakey.batch([], batch_id="b1")
    state = {"open": {"b1": {"seen": ["completed", 0, 0, 0], "since": "soon", "misses": "none"}}}
    world = await world_of(parakey, parakey_batches(), state)
    for _ in range(3):
        await world.visit()
    assert [event.id for event in world.events()] == ["b1:completed"]


@pytest.mark.parametrize("kind", list(JOBS))
def test_a_state_of_a_later_version_is_not_taken_for_an_old_one(kind: str) -> None:
    with pytest.raises(ValueError, match="later version"):
        JOBS[kind].follow({"v": 2, "floor": ""}, ["new"])


@pytest.mark.parametrize("kind", [EventLogs, HttpJson])
def test_a_state_of_a_list_of_a_later_version_is_refused(kind: type[Source]) -> None:
    with pytest.raises(ValueError, match="later version"):
        kind.gap({"v": 2})


DAMAGED: list[Any] = [
    (
        event_logs(),
        {"v": 1, "begun": True, "cursor": 5, "learned": {"largest": "secret", "dates": True}, "reading": {"limit": []}},
        "cursor, learned.largest, reading",
    ),
    (
        parakey_batches(),
        {"v": 1, "floor": "", "open": {"secret": {"misses": "none", "since": "soon"}}, "fine": 5},
        "open.misses, fine",
    ),
    (
        doors(),
        {"v": 1, "floor": "", "unread": ["secret", 5], "list": {"begun": True, "before": 5, "walk": {"at": []}}},
        "unread, list.before, list.walk",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("source", "state", "names"), DAMAGED, ids=lambda value: getattr(value, "type", ""))
async def test_what_does_not_fit_in_a_state_is_said_once_by_its_name(
    source: Source, state: dict[str, Any], names: str, world_of: Any, time: Time
) -> None:
    parakey = Parakey(now=time.utc)
    parakey.add(log_id="row")
    world = await world_of(parakey, source, state)
    with capture_logs() as logs:
        for _ in range(3):
            await world.visit(after=4000)
            world.reboot()
    said = [line for line in logs if line["event"] == "vendor.surprise"]
    assert [line["source"] for line in said] == [source.name]
    assert [line["what"].partition(": ")[2] for line in said] == [names]
    assert source.name == "keys" or "row" in [event.id for event in world.events()]


async def test_what_does_not_fit_in_the_states_of_parts_is_said_once_by_its_name(
    world_of: Any, time: Time
) -> None:
    railz = Railz(now=time.utc)
    parts: dict[str, Any] = {}
    for name in ("CON-1", "CON-2", "CON-3"):
        railz.connect(name)
        railz.push(name, push_id=f"p-{name}")
        parts[name] = {"open": {"secret": {"misses": "none", "since": "soon"}}, "given_up": 5}
    world = await world_of(railz, railz_pushes(), {"v": 1, "floor": "", "parts": parts})
    with capture_logs() as logs:
        for _ in range(3):
            await world.visit()
            world.reboot()
    said = [line["what"].partition(": ")[2] for line in logs if line["event"] == "vendor.surprise"]
    assert said == ["parts.open.misses, parts.given_up"]
    assert "dropped" not in json.dumps(world.state)
    assert {"p-CON-1:success", "p-CON-2:success", "p-CON-3:success"} <= {event.id for event in world.events()}


def test_what_does_not_fit_in_the_state_of_a_part_is_still_to_be_said_after_a_rewind() -> None:
    damaged = {"v": 1, "floor": "", "parts": {"CON-1": {"given_up": 5}, "CON-2": {"open": 5}, "CON-3": 5}}
    source = railz_pushes()
    twice = source.rewound(source.rewound(damaged, None), None)
    assert sorted(Pushes.document.load(twice).dropped) == ["parts", "parts.given_up", "parts.open"]


@pytest.mark.parametrize("kind", list(JOBS))
def test_what_does_not_fit_in_a_state_is_still_to_be_said_if_something_is_tracked_meanwhile(
    kind: str,
) -> None:
    followed = JOBS[kind].follow({"v": 1, "given_up": 5}, ["new"])
    assert JOBS[kind].document.load(JOBS[kind].follow(followed, ["newer"])).dropped == ["given_up"]
