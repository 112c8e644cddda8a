"""States that do not fit, in any member: nothing stored stops a source, or asks a vendor without bound."""

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from inside import put
from jobs import ends, hidden_from_the_list, troubled, two_connections
from lists import a_list
from roundsman.sandbox import Parakey, Vendor
from roundsman.sandbox.mailchimp import Mailchimp, Operation, bad_address
from roundsman.sandbox.vendor import Reply, document
from roundsman.times import rfc3339
from worlds import Time, event_logs, mailchimp_batches, parakey_batches, railz_pushes


@pytest.mark.parametrize("seen", [[5], ["started"], ["started", "many", 0, 0, None]])
async def test_a_strange_look_in_a_state_stops_no_source(seen: Any, world_of: Any, time: Time) -> None:
    account = Mailchimp(now=time.utc)
    account.add([Operation()], batch_id="x", took=timedelta(hours=3))
    account.add([Operation()], batch_id="y")
    state = {"v": 1, "floor": "", "open": {"x": {"seen": seen, "since": rfc3339(time.utc())}}}
    world = await world_of(account, mailchimp_batches(), state)
    for _ in range(5):
        await world.visit()
    assert (await world.status()).failures == 0
    assert [event.id for event in world.events("com.mailchimp.batch.completed")] == ["y:completed"]


@pytest.mark.parametrize("batch", [{}, {"batch_id": "x", "failed": "many"}])
async def test_strange_results_that_are_due_stop_no_source(batch: Any, world_of: Any, time: Time) -> None:
    account = Mailchimp(now=time.utc)
    account.add([bad_address("a@b.example")], batch_id="x")
    account.add([bad_address("c@b.example")], batch_id="y")
    state = {"v": 1, "floor": "", "results_due": {"x": {"batch": batch}}}
    world = await world_of(account, mailchimp_batches(), state)
    for _ in range(5):
        await world.visit()
    assert (await world.status()).failures == 0
    done = {event.id for event in world.events("com.mailchimp.batch.completed")}
    assert done == {"x:completed", "y:completed"}


async def test_a_damaged_connection_in_an_old_state_hides_no_other(world_of: Any, time: Time) -> None:
    ledger = two_connections(time)
    ledger.push("CON-2", push_id="slow", took=timedelta(minutes=3), batch="b1")
    ledger.push("CON-2", push_id="named")
    hidden_from_the_list(ledger)
    tracked = {"seen": ["pending"], "since": rfc3339(time.utc()), "misses": 0, "stalled": False}
    state = {
        "floor": "",
        "books": {"CON-1": {"pending": 5}, "CON-2": {"pending": {"slow": tracked}}},
        "wanted": ["named"],
    }
    world = await world_of(ledger, railz_pushes(), state)
    for _ in range(6):
        await world.visit()
    assert ends(world) == {"slow", "named"}


DAMAGED: list[tuple[Any, dict[str, Any]]] = [
    (parakey_batches, {"list_order": None}),
    (mailchimp_batches, {"owed": {"x": 5}}),
    (railz_pushes, {"books": None}),
    (railz_pushes, {"wanted": ["named", 5]}),
]


@pytest.mark.parametrize(("make", "damage"), DAMAGED, ids=["parakey", "mailchimp", "railz", "an id"])
def test_a_damaged_member_of_an_old_state_hides_no_tracked_id(make: Any, damage: dict[str, Any]) -> None:
    source = make()
    assert list(source.following({"floor": "", "wanted": ["named"], **damage})) == ["named"]


@pytest.mark.parametrize("version", [None, "1", [1]])
async def test_a_strange_version_stops_no_source(version: Any, world_of: Any, time: Time) -> None:
    account = Mailchimp(now=time.utc)
    account.add([Operation()], batch_id="x")
    world = await world_of(account, mailchimp_batches(), {"v": version, "floor": ""})
    for _ in range(3):
        await world.visit()
    assert (await world.status()).failures == 0
    assert [event.id for event in world.events("com.mailchimp.batch.completed")] == ["x:completed"]


@pytest.mark.parametrize("member", ["cursor", "learned", "tag", "swept_at", "reading", "edge"])
async def test_what_does_not_fit_in_the_state_of_a_feed_stops_no_source(
    member: str, world_of: Any, time: Time
) -> None:
    parakey = Parakey(now=time.utc)
    world = await world_of(parakey, event_logs())
    parakey.add(log_id="one")
    await world.visit()
    state = world.state | {member: 5}
    await put(world.store, state=state, source="doors")
    world.reboot()
    parakey.add(log_id="two")
    for _ in range(3):
        await world.visit()
    assert (await world.status("doors")).failures == 0
    assert set(world.ids()) == {"one", "two"}


def test_a_feed_whose_state_cannot_be_read_can_be_rewound() -> None:
    event_logs().rewound({"v": 1, "begun": True, "cursor": 5}, None)


OLD_FEEDS: list[dict[str, Any]] = [
    {"walk": 5}, {"walk": [1]}, {"edge": 5}, {"edge": ["x"]}, {"edge": {"a": 1}},
]  # fmt: skip


@pytest.mark.parametrize("state", OLD_FEEDS, ids=json.dumps)
async def test_what_does_not_fit_in_an_old_state_of_a_feed_stops_no_source(
    state: dict[str, Any], world_of: Any, time: Time
) -> None:
    parakey = Parakey(now=time.utc)
    parakey.add(log_id="one")
    world = await world_of(parakey, event_logs(), {"begun": True, **state})
    event_logs().rewound(state, None)
    for _ in range(3):
        await world.visit()
    assert (await world.status("doors")).failures == 0
    assert world.ids() == ["one"]


@pytest.mark.parametrize(
    "state",
    [
        {"walk": {"way": "grow"}},
        {"v": 1, "reading": {"strategy": "grow"}, "progress": {}},
        {"v": 1, "reading": {"strategy": "keyset"}, "progress": {}},
    ],
    ids=["old", "grow", "keyset"],
)
async def test_a_stored_reading_without_a_limit_asks_no_vendor_without_end(
    state: dict[str, Any], world_of: Any, time: Time
) -> None:
    parakey = Parakey(now=time.utc)
    for number in range(30):
        parakey.add(log_id=f"l{number}")
    asked = 0

    def trouble(path: str, query: Mapping[str, str]) -> Reply | None:
        nonlocal asked
        asked += 1
        return Reply(500, {}, b"") if asked > 300 else None

    troubled(parakey, trouble)
    world = await world_of(parakey, event_logs(paging={"limit": 10}), {"begun": True, **state})
    for _ in range(2):
        await world.visit()
    assert asked < 300
    assert len(world.ids()) == 30


class Numbered(Vendor):
    """A list of 25 rows, ten in an answer, by offset."""

    def reply(self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Reply:
        first = int(query.get("offset", 0))
        rows = [{"id": n, "at": rfc3339(self.now() + timedelta(seconds=n - 60))} for n in range(25)]
        return document(
            200, [row for row in rows if row["id"] > float(query.get("above", -1))][first : first + 10]
        )


BY_TIME = {"rows": {"id": "id", "time": "at"}, "since": {"param": "since", "row": "at"}}
BY_NUMBER = {"rows": {"id": "id"}, "since": {"param": "above", "row": "id", "format": "number"}}


@pytest.mark.parametrize(
    ("options", "position"),
    [
        (BY_TIME, {"cursor": 0}),
        (BY_TIME, {"cursor": -1.5, "begun": True}),
        (BY_TIME, {"cursor": "soon", "begun": True}),
        (BY_NUMBER, {"cursor": "soon", "begun": True}),
        ({}, {"walk": {"at": "far"}}),
    ],
)
async def test_a_position_in_a_list_that_does_not_fit_stops_no_source(
    options: Any, position: Any, world_of: Any, time: Time
) -> None:
    pages = {"pages": {"next": "rows", "param": "offset", "size": 10}}
    world = await world_of(Numbered(time.utc), a_list(**(pages | options)), {"v": 1, "list": position})
    for _ in range(3):
        await world.visit()
    assert (await world.status()).failures == 0
    assert sorted(int(event.id) for event in world.events("http.json.row")) == list(range(25))
