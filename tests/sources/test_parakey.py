"""Parakey's event logs: every pitfall of the published recipe, and every doubt about the server, as a promise."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from inside import feed, sql, unpinned
from rounds import Rounds
from roundsman.kit import probing
from roundsman.sandbox import Fault, Parakey, Quirks
from roundsman.sources.parakey import EventLogs
from roundsman.times import parse_time, rfc3339
from worlds import PLANS, RECORDS, START, Time

MINUTE = timedelta(minutes=1)


def fill(parakey: Parakey, time: Time, count: int, prefix: str = "h", apart: float = 60.0) -> list[str]:
    now = time.utc()
    ids = [f"{prefix}{n}" for n in range(count)]
    for n, log_id in enumerate(ids):
        created = now - timedelta(seconds=apart * (count - n))
        parakey.add(created=created, timestamp=created - timedelta(seconds=1), log_id=log_id)
    return ids


async def test_a_quiet_door_costs_one_request_and_no_event(rounds: Any, parakey: Parakey, time: Time) -> None:
    ids = fill(parakey, time, 3)
    world = rounds()
    await world.visit()
    assert world.ids() == ids
    world.asked()
    await world.visit()
    assert [q["limit"] for q in world.asked()] == ["1"]
    assert world.ids() == ids


async def test_an_etag_counts_only_after_the_list_was_read(rounds: Any, parakey: Parakey, time: Time) -> None:
    """Pitfall 1: a list that fails after the probe must not hide its rows behind a 304."""
    fill(parakey, time, 1)
    world = rounds()
    await world.visit()
    parakey.add(log_id="new")
    answer = parakey.answer

    def fail_the_list(method: str, path: str, query: Any, headers: Any) -> Any:
        reply = answer(method, path, query, headers)
        return type(reply)(500, {}, b"") if "startDate" in query else reply

    parakey.answer = fail_the_list  # type: ignore[method-assign]
    assert not await world.visit()
    assert "new" not in world.ids()
    parakey.answer = answer  # type: ignore[method-assign]
    await world.visit(after=200)
    assert "new" in world.ids()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
async def test_an_error_with_an_etag_of_its_own_changes_nothing(
    status: int, rounds: Any, parakey: Parakey, time: Time
) -> None:
    """Pitfall 2."""
    fill(parakey, time, 2)
    world = rounds()
    await world.visit()
    before = world.state
    parakey.faults.extend([Fault(status=status, headers={"ETag": '"error"'}, body=b"[]")] * 3)
    assert not await world.visit()
    assert world.state == before
    parakey.faults.clear()
    parakey.add(log_id="after")
    await world.visit(after=4000)
    assert "after" in world.ids()


async def test_a_refused_key_is_loud_at_once(rounds: Any, parakey: Parakey, time: Time) -> None:
    world = rounds()
    await world.visit()
    parakey.token = "another"
    await world.visit()
    [failing] = world.events("roundsman.source.failing")
    assert "401" in failing.document()["data"]["message"]
    parakey.token = "sandbox-access-token"
    await world.visit(after=4000)
    assert len(world.events("roundsman.source.recovered")) == 1


async def test_our_clock_is_no_cursor(rounds: Any, parakey: Parakey, time: Time) -> None:
    """Pitfalls 3 and 4: a clock that is ahead skips what is created in the meantime."""
    fill(parakey, time, 1)
    world = rounds()
    vendor = Time(time.wall)
    parakey.now = vendor.utc
    time.set_wall(3600)  # ours is an hour ahead
    await world.visit()
    vendor.advance(30)
    parakey.add(log_id="r1")
    await world.visit()
    vendor.advance(1)
    parakey.add(log_id="r2")
    await world.visit()
    assert world.ids()[-2:] == ["r1", "r2"]


@pytest.mark.parametrize("cap", [20, 1000])
async def test_more_rows_than_an_answer_holds_are_all_reported(
    cap: int, rounds: Any, parakey: Parakey, time: Time
) -> None:
    """Pitfall 5."""
    parakey.quirks.cap = cap
    ids = fill(parakey, time, 2135 if cap == 1000 else 135)
    world = rounds()
    await world.visit()
    assert world.ids() == ids


@pytest.mark.parametrize(
    "quirks", [Quirks(cap=20), Quirks(cap=20, offset_param="skip"), Quirks(cap=20, inclusive=False)]
)
async def test_rows_that_share_a_stamp_at_a_page_edge_are_all_reported(
    quirks: Quirks, rounds: Any, parakey: Parakey, time: Time
) -> None:
    """Pitfall 6."""
    parakey.quirks = quirks
    fill(parakey, time, 15)
    together = time.utc()
    for n in range(15):
        parakey.add(created=together, timestamp=together - MINUTE * n, log_id=f"same{n}")
    time.advance(30)
    parakey.add(log_id="last")
    world = rounds()
    await world.visit()
    assert len(world.ids()) == 31
    assert world.events("roundsman.source.gap") == []


async def test_more_rows_of_one_stamp_than_an_answer_holds_are_reported_or_said_to_be_missing(
    rounds: Any, parakey: Parakey, time: Time
) -> None:
    parakey.quirks = Quirks(cap=10)
    now = time.utc()
    for n in range(25):
        parakey.add(created=now, timestamp=now - MINUTE, log_id=f"same{n}")
    world = rounds()
    await world.visit()
    [gap] = world.events("roundsman.source.gap")
    assert "cuts its answers at 10 rows" in gap.document()["data"]["message"]
    assert feed(world.state).cursor is None, "the cursor never moves past a gap"
    parakey.quirks = Quirks(cap=10, offset_param="offset")  # and when there is a way, it is taken
    await world.visit(after=7 * 3600)
    assert len(world.ids()) == 25


async def test_beyond_a_gap_nothing_is_reported_again_when_its_id_has_been_forgotten(
    rounds: Any, parakey: Parakey, time: Time
) -> None:
    parakey.quirks = Quirks(cap=20, filters="nothing")
    now = time.utc()
    for n in range(41):
        parakey.add(created=now - timedelta(days=4 * n), log_id=f"h{n}")
    world = rounds()
    await world.visit()
    assert len(world.events("roundsman.source.gap")) == 1
    assert set(world.ids()) >= {f"h{n}" for n in range(20)}
    time.advance(40 * 86400)
    for _ in range(3):
        while await world.store.prune([], time.utc().timestamp(), 86400.0):
            pass
    left = set(world.ids())
    parakey.add(log_id="new")
    await world.visit()
    assert set(world.ids()) - left == {"new"}


async def test_a_gap_that_an_older_version_opened_reports_nothing_again(
    rounds: Any, parakey: Parakey, time: Time
) -> None:
    """Its store has forgotten ids that it would keep today."""
    parakey.quirks = Quirks(cap=20, filters="nothing")
    now = time.utc()
    for n in range(41):
        parakey.add(created=now - timedelta(days=4 * n), log_id=f"h{n}")
    world = rounds(reread={"sweep_interval": "3000d"})
    await world.visit()
    await world.store.rewind("doors", unpinned(world.state))
    await sql(world.store, "UPDATE sources SET position = ? WHERE name = 'doors'", (time.now(),))
    time.advance(40 * 86400)
    for _ in range(3):
        while await world.store.prune([], time.now(), 86400.0):
            pass
    left = set(world.ids())
    parakey.add(log_id="new")
    await world.visit()
    assert set(world.ids()) - left == {"new"}


@pytest.mark.parametrize("order", ["honoured", "descending"])
@pytest.mark.parametrize("version", ["this", "before 0.9"])
@pytest.mark.parametrize("back", [None, 60 * MINUTE, 20 * MINUTE])
async def test_a_rewind_in_a_gap_does_not_believe_a_server_that_still_cuts(
    back: timedelta | None, version: str, order: Any, rounds: Any, parakey: Parakey, time: Time
) -> None:
    """To the beginning, to a time before the cursor, and into the gap: the next visit reports it again."""
    parakey.quirks = Quirks(cap=10, order=order, filters="nothing")
    now = time.utc()
    old = [parakey.add(created=now - 40 * MINUTE, log_id=f"old{n}").id for n in range(5)]
    world = rounds(start="beginning")
    await world.visit()
    assert world.source.gap(world.state) is None
    for n in range(30):
        parakey.add(created=now - 30 * MINUTE + n * MINUTE, log_id=f"new{n}")
    time.advance(3600)
    await world.visit()
    assert world.source.gap(world.state)
    state = {**world.state}
    if version == "before 0.9":
        state["learned"] = {k: v for k, v in state["learned"].items() if k != "cuts"}
    to = now - back if back is not None else None
    await world.store.rewind("doors", world.source.rewound(state, to))
    await world.visit()
    assert world.source.gap(world.state) == (rfc3339(to) if to else "beginning")
    gaps = world.told("roundsman.source.gap")
    assert [gap["data"]["since"] for gap in gaps[1:]] == [rfc3339(to) if to else None]
    await world.visit(after=7 * 3600)
    assert world.source.gap(world.state), "a sweep does not believe it, either"
    parakey.quirks = Quirks(cap=1000)
    await world.visit(after=7 * 3600)
    assert world.source.gap(world.state) is None, "the server shows all: a sweep finds it"
    new = [f"new{n}" for n in range(30) if back != 20 * MINUTE or n >= 10]
    assert {*old, *new} <= set(world.ids())
    assert len(world.ids()) == len(set(world.ids()))


async def test_a_rewind_behind_a_gap_accepts_the_loss(rounds: Any, parakey: Parakey, time: Time) -> None:
    parakey.quirks = Quirks(cap=10, order="descending", filters="nothing")
    fill(parakey, time, 5)
    world = rounds()
    await world.visit()
    time.advance(3600)
    fill(parakey, time, 30, "new")
    await world.visit()
    [gap] = world.told("roundsman.source.gap")
    await world.store.rewind(
        "doors", world.source.rewound(world.state, parse_time(gap["data"]["details"]["until"]))
    )
    for after in (61, 61, 7 * 3600):
        await world.visit(after=after)
        assert world.source.gap(world.state) is None
    assert len(world.told("roundsman.source.gap")) == 1


@pytest.mark.parametrize("at", [4, 5, 6, 7])
@pytest.mark.parametrize("fault", [403, 404, 409, 200])
@pytest.mark.parametrize("order", ["honoured", "descending"])
async def test_a_refusal_in_the_middle_of_a_reading_that_is_taken_once_more_is_no_gap(
    order: Any, fault: int, at: int, rounds: Any, parakey: Parakey, time: Time
) -> None:
    parakey.quirks = Quirks(cap=100, order=order, offset_param="offset")
    ids = fill(parakey, time, 450)
    answer, asked = parakey.answer, 0

    def reply(*question: Any) -> Any:
        nonlocal asked
        asked += 1
        found = answer(*question)
        return type(found)(fault, {}, b'{"status":"error"}') if asked == at else found

    parakey.answer = reply  # type: ignore[method-assign]
    world = rounds()
    for _ in range(3):
        await world.visit()
    assert sorted(world.ids()) == sorted(ids)
    assert world.events("roundsman.source.gap") == []


@pytest.mark.parametrize("fault", [403, 200, 400])
async def test_an_offset_that_is_refused_for_good_ends_in_a_gap_and_no_silence(
    fault: int, rounds: Any, parakey: Parakey, time: Time
) -> None:
    parakey.quirks = Quirks(cap=100, order="descending", offset_param="offset")
    ids = fill(parakey, time, 450)
    answer = parakey.answer

    def reply(*question: Any) -> Any:
        found = answer(*question)
        deep = int(question[2].get("offset", 0)) > 200
        return type(found)(fault, {}, b'{"status":"error"}') if deep else found

    parakey.answer = reply  # type: ignore[method-assign]
    world = rounds()
    for _ in range(3):
        await world.visit()
    parakey.add(log_id="new")
    for _ in range(3):
        await world.visit()
    assert {"new", *ids[-100:]} <= set(world.ids())
    assert len(world.events("roundsman.source.gap")) == 1
    assert world.events("roundsman.source.failing") == []


@pytest.mark.parametrize("at", range(2, 14))
async def test_a_row_that_comes_between_two_questions_is_no_gap(
    at: int, rounds: Any, parakey: Parakey, time: Time
) -> None:
    """A server that heeds nothing, newest first: the answers before and after the row differ."""
    parakey.quirks = Quirks(order="descending", filters="nothing", smallest=4000, cap=4000)
    ids = fill(parakey, time, 41)
    answer, asked = parakey.answer, 0

    def reply(*question: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == at:
            ids.append(parakey.add(log_id="between").id)
        return answer(*question)

    parakey.answer = reply  # type: ignore[method-assign]
    world = rounds()
    for _ in range(2):
        await world.visit()
    assert sorted(world.ids()) == sorted(ids)
    assert world.events("roundsman.source.gap") == []


async def test_rows_of_one_stamp_are_old_also_where_start_date_excludes(
    rounds: Any, parakey: Parakey, time: Time
) -> None:
    parakey.quirks = Quirks(inclusive=False)
    now = time.utc()
    for n in range(5):
        parakey.add(created=now, log_id=f"same{n}")
    world = rounds(start="now")
    await world.visit()
    parakey.add(log_id="new")
    await world.visit()
    assert world.ids() == ["new"]


async def test_a_clock_of_ours_that_is_behind_makes_old_rows_no_news(
    rounds: Any, parakey: Parakey, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest come first, for any order in the request; and our clock is three days behind the vendor's."""
    fill(parakey, time, 300)
    listed = parakey._list
    monkeypatch.setattr(parakey, "_list", lambda query: listed({**query, "orderBy": "createdAt:ASC"}))
    world = rounds(start="now")
    parakey.now = lambda: time.utc() + timedelta(days=3)
    for log in parakey.logs:
        log.created += timedelta(days=3)
        log.timestamp = log.created
        log.visible = log.created
        log.encoded = b""
    await world.visit()
    assert len(world.ids()) <= 11


async def test_beyond_a_gap_an_idle_source_costs_one_question_and_hides_nothing(
    rounds: Any, parakey: Parakey, time: Time
) -> None:
    parakey.quirks = Quirks(cap=20, filters="nothing")
    fill(parakey, time, 41)
    world = rounds()
    await world.visit()
    assert len(world.events("roundsman.source.gap")) == 1
    for n in range(2):
        world.asked()
        await world.visit()
        assert len(world.asked()) == 1
        parakey.add(log_id=f"new{n}")
        await world.visit()
        assert f"new{n}" in world.ids()


async def test_one_of_several_rows_with_a_stamp_that_arrives_later_is_reported(
    rounds: Any, parakey: Parakey, time: Time
) -> None:
    """A strict cursor loses it."""
    world = rounds()
    now = time.utc()
    parakey.add(created=now, log_id="a")
    parakey.add(created=now, log_id="b")
    await world.visit()
    parakey.add(created=now, log_id="c")
    await world.visit()
    assert sorted(world.ids()) == ["a", "b", "c"]


@pytest.mark.parametrize("filters", ["createdAt", "timestamp"])
async def test_a_log_of_a_lock_that_was_offline_is_reported(
    filters: Any, rounds: Any, parakey: Parakey, time: Time
) -> None:
    """Pitfall 7: at once where startDate means createdAt, with the next sweep where it means the time of the unlock."""
    parakey.quirks.filters = filters
    fill(parakey, time, 3)
    world = rounds()
    await world.visit()
    time.advance(3 * 3600)
    now = time.utc()
    parakey.add(created=now, timestamp=now - timedelta(hours=2), log_id="late")
    await world.visit()
    await world.visit(after=6 * 3600)
    assert world.ids().count("late") == 1


async def test_a_probe_whose_etag_does_not_move_is_not_trusted_for_long(
    rounds: Any, parakey: Parakey, time: Time
) -> None:
    """Pitfalls 8 and 12: a row behind the newest one moves no tag; a full read every half hour finds it."""
    fill(parakey, time, 3, apart=10)
    world = rounds()
    await world.visit()
    parakey.add(created=time.utc() - timedelta(seconds=75), log_id="behind")
    await world.visit()
    assert "behind" not in world.ids(), "nothing showed that it was there"
    await world.visit(after=1800)
    assert world.ids().count("behind") == 1


async def test_a_row_that_becomes_visible_late_is_reported(rounds: Any, parakey: Parakey, time: Time) -> None:
    """Pitfall 9."""
    fill(parakey, time, 2)
    world = rounds()
    now = time.utc()
    parakey.add(created=now, visible=now + timedelta(seconds=90), log_id="hidden")
    parakey.add(created=now + timedelta(seconds=1), log_id="seen")
    await world.visit()
    assert "hidden" not in world.ids()
    time.advance(60)
    parakey.add(log_id="next")
    await world.visit()
    assert world.ids().count("hidden") == 1


async def test_start_now_reports_nothing_old_and_everything_new(
    rounds: Any, parakey: Parakey, time: Time
) -> None:
    """Pitfall 10."""
    fill(parakey, time, 30)
    world = rounds(start="now")
    await world.visit()
    assert world.ids() == []
    parakey.add(created=parakey.logs[-1].created, log_id="same-stamp")
    parakey.add(log_id="new")
    await world.visit()
    assert world.ids() == ["same-stamp", "new"]


async def test_start_now_with_a_wrong_order_does_not_report_the_whole_history(
    rounds: Any, parakey: Parakey, time: Time
) -> None:
    parakey.quirks.order = "shuffled"
    fill(parakey, time, 200)
    world = rounds(start="now")
    await world.visit()
    assert len(world.ids()) <= 11, "at most the overlap"
    parakey.add(log_id="new")
    await world.visit(after=1800)
    assert "new" in world.ids()


async def test_start_now_at_an_empty_place_reports_the_first_log(
    rounds: Any, parakey: Parakey, time: Time
) -> None:
    world = rounds(start="now")
    await world.visit()
    parakey.add(log_id="first")
    await world.visit()
    assert world.ids() == ["first"]


async def test_a_start_date_is_inclusive(rounds: Any, parakey: Parakey, time: Time) -> None:
    ids = fill(parakey, time, 10)
    start = datetime.fromtimestamp(START, UTC) - 5 * MINUTE
    world = rounds(start=start.isoformat())
    await world.visit()
    assert world.ids() == ids[5:]


async def test_blanked_personal_data_is_no_new_event(rounds: Any, parakey: Parakey, time: Time) -> None:
    """Pitfalls 11 and 17."""
    parakey.add(log_id="a", user={"id": "u", "email": "a@example.com"})
    world = rounds()
    await world.visit()
    time.advance(3600)
    assert parakey.blank(time.utc()) == 1
    await world.visit()
    assert world.ids() == ["a"]
    assert world.events()[0].document()["data"]["user"]["email"] == "a@example.com"


async def test_a_tag_of_another_key_is_not_sent(
    rounds: Any, parakey: Parakey, time: Time, tmp_path: Path
) -> None:
    """Pitfall 13."""
    fill(parakey, time, 1)
    world = rounds()
    await world.visit()
    await world.store.close()
    parakey.token = "new-token"
    again = rounds(access_token="new-token")
    await again.visit()
    assert all("if-none-match" not in r.headers for r in again.transport.requests)
    assert {r.headers["accept-encoding"] for r in again.transport.requests} == {"gzip"}


@pytest.mark.parametrize("quirks", [Quirks(weak_etag=True), Quirks(unconditional=True)])
async def test_weak_tags_and_servers_that_never_say_304_are_fine(
    quirks: Quirks, rounds: Any, parakey: Parakey, time: Time
) -> None:
    parakey.quirks = quirks
    fill(parakey, time, 2)
    world = rounds()
    await world.visit()
    world.asked()
    await world.visit()
    assert len(world.asked()) == 1, "200 with the tag that was sent is unchanged"


async def test_the_tag_is_the_one_from_before_the_list(rounds: Any, parakey: Parakey, time: Time) -> None:
    """Pitfall 14: a row stored between probe and list moves the next probe, and is reported once."""
    fill(parakey, time, 1)
    world = rounds()
    await world.visit()
    time.advance(5)
    parakey.add(log_id="seen-by-probe")
    answer, asked = parakey.answer, 0

    def between(method: str, path: str, query: Any, headers: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == 2:
            parakey.add(log_id="between")
        return answer(method, path, query, headers)

    parakey.answer = between  # type: ignore[method-assign]
    await world.visit()
    world.asked()
    await world.visit()
    assert len(world.asked()) > 1, "the tag from before the list does not hold any more"
    assert world.ids() == ["h0", "seen-by-probe", "between"]


async def test_an_empty_list_where_rows_were_is_a_trouble_and_not_silence(
    rounds: Any, parakey: Parakey, time: Time
) -> None:
    """Pitfall 15."""
    fill(parakey, time, 2)
    world = rounds()
    await world.visit()
    kept, parakey.logs = parakey.logs, []
    assert not await world.visit()
    assert "the list is empty although it had rows before" in (await world.store.sources())[0].status.error
    parakey.logs = kept
    parakey.add(log_id="back")
    await world.visit(after=4000)
    assert "back" in world.ids()


async def test_offset_pages_that_shift_while_being_read_lose_nothing(
    rounds: Any, parakey: Parakey, time: Time
) -> None:
    """Pitfall 18: rows vanish and appear between two pages."""
    parakey.quirks = Quirks(cap=20, order="descending", offset_param="offset")
    ids = fill(parakey, time, 90)
    world = rounds()
    asked = 0
    answer = parakey.answer

    def shifting(method: str, path: str, query: Any, headers: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked in (5, 6):
            del parakey.logs[-3:]
        if asked == 7:
            parakey.add(log_id="fresh")
        return answer(method, path, query, headers)

    parakey.answer = shifting  # type: ignore[method-assign]
    await world.visit()
    parakey.answer = answer  # type: ignore[method-assign]
    await world.visit()
    assert set(world.ids()) >= {*ids, "fresh"} - set(ids[-6:])


@pytest.mark.parametrize(
    ("quirks", "way"),
    [
        (Quirks(cap=50), None),
        (Quirks(cap=50, order="descending", offset_param="offset"), "offset:offset"),
        (Quirks(cap=50, order="descending", offset_param="skip"), "offset:skip"),
        (Quirks(cap=4000, order="descending"), "grow"),
        (Quirks(cap=50, filters="timestamp", offset_param="skip"), None),
        (Quirks(cap=50, filters="nothing", offset_param="offset"), None),
    ],
)
async def test_a_backlog_is_read_whole_with_any_abilities_of_the_server(
    quirks: Quirks, way: str | None, rounds: Any, parakey: Parakey, time: Time
) -> None:
    parakey.quirks = quirks
    ids = fill(parakey, time, 1203, apart=3)
    world = rounds()
    await world.visit()
    assert sorted(world.ids()) == sorted(ids)
    assert world.events("roundsman.source.gap") == []
    if way:
        assert feed(world.state).learned.strategies[0] == way, "and the way is remembered"
    time.advance(5)
    parakey.add(log_id="new")
    await world.visit()
    assert world.ids()[-1] == "new"


@pytest.mark.parametrize("apart", [1, 2, 3, 7])
async def test_rows_of_one_stamp_on_two_pages_are_reported_where_startdate_excludes(
    apart: int, rounds: Any, parakey: Parakey, time: Time
) -> None:
    parakey.quirks = Quirks(cap=20, inclusive=False)
    for n in range(100):
        parakey.add(created=time.utc() - timedelta(seconds=100 - n // apart), log_id=f"h{n}")
    world = rounds()
    await world.visit()
    assert set(world.ids()) == {f"h{n}" for n in range(100)}
    assert world.events("roundsman.*") == []


@pytest.mark.parametrize(
    "fault", [Fault(403, {}, b'{"message": "no"}'), Fault(409), Fault(200, {}, b'{"status": "error"}')]
)
@pytest.mark.parametrize("at", [4, 5, 6])
async def test_a_fault_of_the_moment_in_the_middle_of_a_reading_is_no_gap(
    at: int, fault: Fault, rounds: Any, parakey: Parakey, time: Time
) -> None:
    parakey.quirks = Quirks(cap=100)
    ids = fill(parakey, time, 450)
    answered, asked = parakey.answer, 0

    def once(*args: Any) -> Any:
        nonlocal asked
        asked += 1
        reply = answered(*args)
        return type(reply)(fault.status, {}, fault.body) if asked == at else reply

    parakey.answer = once  # type: ignore[method-assign]
    world = rounds()
    await world.visit()
    await world.visit(after=300)
    assert set(world.ids()) == set(ids)
    assert world.events("roundsman.source.gap") == []


async def test_a_start_from_now_reports_nothing_old_where_startdate_excludes(
    rounds: Any, parakey: Parakey, time: Time
) -> None:
    parakey.quirks = Quirks(inclusive=False)
    fill(parakey, time, 20, apart=1)
    world = rounds(start="now")
    await world.visit()
    time.advance(60)
    parakey.add(log_id="new")
    await world.visit()
    assert world.ids() == ["new"]


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("start", ["now", "beginning"])
@pytest.mark.parametrize("old", [0, 20])
async def test_a_row_of_the_future_hides_nothing_that_comes(
    old: int, start: str, there: bool, rounds: Any, parakey: Parakey, time: Time
) -> None:
    """It is the newest for long: neither where to begin nor whether something is new can be seen by it."""

    def add_future() -> None:
        parakey.add(created=time.utc() + timedelta(days=400), visible=time.utc(), log_id="future")

    ids = fill(parakey, time, old)
    if there:
        add_future()
    world = rounds(start=start)
    assert await world.visit()
    if not there:
        add_future()
    new = []
    for n in range(4):
        time.advance(60)
        new.append(parakey.add(log_id=f"late{n}").id)
        assert await world.visit()
        assert new[-1] in world.ids()
    known = there and start == "now"
    assert sorted(world.ids()) == sorted(
        [*(ids if start == "beginning" else []), *new, *(["future"] * (not known))]
    )


async def test_a_row_of_the_future_ends_nothing_beyond_a_gap(
    rounds: Any, parakey: Parakey, time: Time
) -> None:
    parakey.quirks = Quirks(cap=21, filters="nothing")
    fill(parakey, time, 60)
    world = rounds()
    await world.visit()
    parakey.add(created=time.utc() + timedelta(days=400), visible=time.utc(), log_id="future")
    for n in range(4):
        time.advance(60)
        new = parakey.add(log_id=f"late{n}").id
        await world.visit()
        assert new in world.ids()


async def test_an_answer_as_long_as_the_largest_limit_is_a_cut(
    rounds: Any, parakey: Parakey, time: Time
) -> None:
    parakey.quirks = Quirks(order="descending", filters="nothing")
    ids = fill(parakey, time, 300)
    world = rounds(paging={"limit": 51, "max_limit": 101})
    await world.visit()
    assert set(world.ids()) >= set(ids[-51:])
    assert len(world.told("roundsman.source.gap")) == 1


async def test_a_gap_is_reported_once_and_the_cursor_stays(rounds: Any, parakey: Parakey, time: Time) -> None:
    parakey.quirks = Quirks(cap=20, order="descending")
    ids = fill(parakey, time, 50)
    world = rounds()
    await world.visit()
    assert world.events("roundsman.source.gap") == [], "a round number of rows alone is no cut"
    cursor = feed(world.state).cursor
    for n in range(3):
        more = [parakey.add(log_id=f"more{n}-{k}").id for k in range(30)]
        time.advance(1)
        await world.visit()
        assert set(world.ids()) >= set(more[-20:]), "the newest are reported at every visit"
    gaps = world.told("roundsman.source.gap")
    assert [gap["data"]["details"]["since"] for gap in gaps] == sorted(
        {gap["data"]["details"]["since"] for gap in gaps}
    ), "each gap is reported once"
    assert world.source.gap(world.state)
    assert feed(world.state).cursor == cursor
    assert set(world.ids()) >= set(ids[-20:]), "what could be seen is reported"


async def test_a_backlog_goes_on_where_it_was_after_a_crash(
    rounds: Any, parakey: Parakey, time: Time
) -> None:
    parakey.quirks.cap = 20
    ids = fill(parakey, time, 100)
    world = rounds()
    asked = 0

    class Died(BaseException):
        pass

    def die() -> None:
        nonlocal asked
        asked += 1
        if asked == 13:
            raise Died

    world.transport.before = die
    with pytest.raises(Died):
        await world.visit()
    told = len(world.ids())
    assert 0 < told < 100
    world.reboot()
    await world.visit(after=0)
    assert world.ids() == ids
    assert world.asked()[0]["limit"] != "1", "it went on instead of beginning anew"


@pytest.mark.parametrize("envelope", [None, "data", "items"])
async def test_a_bare_list_and_an_envelope_are_read_alike(
    envelope: str | None, rounds: Any, parakey: Parakey, time: Time
) -> None:
    parakey.quirks.envelope = envelope
    ids = fill(parakey, time, 3)
    world = rounds()
    await world.visit()
    assert world.ids() == ids


async def test_missing_null_and_odd_fields_become_null(rounds: Any, parakey: Parakey, time: Time) -> None:
    parakey.add(
        log_id="1", user=None, device="plain-id", access={"id": 7, "name": None}, domain=[], extra={"x": 1}
    )
    parakey.logs[0].encoded = parakey.logs[0].encoded.replace(b'"createdAt"', b'"created"')
    world = rounds()
    await world.visit()
    [event] = world.events("co.parakey.*")
    document = event.document()
    data = document["data"]
    assert data["user"] is None
    assert data["door"] == {"id": "plain-id", "name": None}
    assert data["key"] == {"id": "7", "name": None}
    assert data["place"] is None
    assert data["recorded_at"] is None
    assert data["raw"]["extra"] == {"x": 1}
    assert document["outcome"] == "unknown"


async def test_a_row_without_an_id_is_reported_once(rounds: Any, parakey: Parakey, time: Time) -> None:
    parakey.add(log_id="x")
    parakey.logs[0].encoded = parakey.logs[0].encoded.replace(b'"id":"x",', b"")
    world = rounds()
    await world.visit()
    await world.visit(after=7 * 3600)
    [only] = world.ids()
    assert only.startswith("row:")


@pytest.mark.parametrize(
    ("value", "outcome"),
    [
        (True, "granted"),
        (False, "denied"),
        ("DENIED", "denied"),
        ("ok", "granted"),
        ("pending", "unknown"),
        (1, "unknown"),
    ],
)
async def test_success_is_never_assumed(
    value: object, outcome: str, rounds: Any, parakey: Parakey, time: Time
) -> None:
    """Pitfall 21."""
    parakey.add(log_id="a", success=value)
    world = rounds()
    await world.visit()
    assert world.events()[0].outcome == outcome


async def test_a_lock_shared_by_two_places_can_repeat_ids(rounds: Any, parakey: Parakey, time: Time) -> None:
    """Pitfall 22."""
    for place in ("p1", "p2"):
        time.advance(1)
        parakey.add(log_id="same", domain={"id": place, "name": place})
    world = rounds(dedupe="place")
    await world.visit()
    assert world.ids() == ["p1:same", "p2:same"]


async def test_questions_are_utc_with_milliseconds_and_encoded(
    rounds: Any, parakey: Parakey, time: Time
) -> None:
    """Pitfall 25."""
    fill(parakey, time, 2)
    world = rounds(domain_id="d 1")
    await world.visit()
    time.advance(5)
    parakey.add()
    world.asked()
    await world.visit()
    raw = [str(request.url) for request in world.transport.requests]
    assert all("domainId=d+1" in url or "domainId=d%201" in url for url in raw)
    assert any("startDate=2026-05-01T05%3A48%3A59.999Z" in url for url in raw), raw
    assert any("orderBy=createdAt%3ADESC" in url for url in raw)


async def test_the_vendors_object_is_kept_to_the_byte(rounds: Any, parakey: Parakey, time: Time) -> None:
    parakey.add(log_id="a")
    parakey.logs[
        0
    ].encoded = (
        b'{"id":"a","createdAt":"2026-05-01T05:00:00Z","n":1.10000000000000000001,"n":2,"s":"\\u00e9"}'
    )
    world = rounds()
    await world.visit()
    assert b'"raw":' + parakey.logs[0].encoded in world.events()[0].body


async def test_an_answer_of_several_lines_is_still_one_line_an_event(
    rounds: Any, parakey: Parakey, time: Time
) -> None:
    parakey.add(log_id="a")
    parakey.logs[0].encoded = b'{\n  "id": "a",\r\n  "note": "x y"\n}'
    world = rounds()
    await world.visit()
    assert b"\n" not in world.events()[0].body
    assert b'"raw":{"id":"a","note":"x y"}' in world.events()[0].body


async def test_an_answer_that_is_too_large_is_asked_for_in_smaller_pieces(
    tmp_path: Path, parakey: Parakey, time: Time
) -> None:
    for n in range(40):
        time.advance(1)
        parakey.add(log_id=f"big{n}", timestamp=time.utc() - timedelta(seconds=1), note="x" * 10_000)
    world = Rounds(tmp_path, parakey, time)
    world.engine.clients.options = world.engine.clients.options.model_copy(update={"max_body": 150_000})
    await world.visit()
    assert len(world.ids()) == 40
    await world.store.close()


async def test_a_rewind_reports_again_only_what_the_log_does_not_have(
    rounds: Any, parakey: Parakey, time: Time
) -> None:
    ids = fill(parakey, time, 6)
    world = rounds(start=datetime.fromtimestamp(START - 150, UTC).isoformat())
    await world.visit()
    assert world.ids() == ids[4:]
    state = (await world.store.memory("doors")).state
    await world.store.rewind("doors", world.source.rewound(state, None))
    await world.visit(after=0)
    assert sorted(world.ids()) == ids
    assert len(world.ids()) == 6


async def test_a_stamp_of_the_future_does_not_carry_the_cursor_away(
    rounds: Any, parakey: Parakey, time: Time
) -> None:
    world = rounds()
    parakey.add(created=time.utc() + timedelta(days=400), visible=time.utc(), log_id="odd")
    await world.visit()
    parakey.add(log_id="normal")
    await world.visit(after=1800)
    assert world.ids() == ["odd", "normal"]


# -- what the simulation found ------------------------------------------------------------------------------------------


async def test_offsets_that_never_fit_together_are_given_up(
    rounds: Any, parakey: Parakey, time: Time
) -> None:
    """The newest rows in ascending order, by offset: no page begins where the one before ended. It asked without end."""
    parakey.quirks = Quirks(cap=5, order="newest-ascending", offset_param="offset")
    fill(parakey, time, 9)
    world = rounds()
    await world.visit()
    assert len(world.asked()) < 60
    assert len(world.events("roundsman.source.gap")) == 1


async def test_rows_that_only_a_sweep_could_see_are_said_to_be_missing(
    rounds: Any, parakey: Parakey, time: Time
) -> None:
    """Newest first, cut, and startDate compares with the time of the unlock: the sweep took reaching a known row for all."""
    parakey.quirks = Quirks(cap=5, order="descending", filters="timestamp")
    fill(parakey, time, 1)
    world = rounds()
    await world.visit()
    for n in range(5):
        time.advance(1)
        now = time.utc()
        parakey.add(created=now, timestamp=now - timedelta(hours=1), log_id=f"late{n}")
    parakey.add(log_id="new")
    await world.visit()
    await world.visit(after=7 * 3600)
    assert set(world.ids()) == {"h0", "new", "late1", "late2", "late3", "late4"}, (
        "what could be seen is reported"
    )
    assert len(world.events("roundsman.source.gap")) == 1, "and that something may be missing"


async def test_a_short_last_page_does_not_prove_what_start_date_means(
    rounds: Any, parakey: Parakey, time: Time
) -> None:
    """A late row after a full page, stamps that prove nothing, startDate by the time of the unlock: it was passed over."""
    parakey.quirks = Quirks(cap=5, filters="timestamp")
    now = time.utc()
    for n in range(5):
        parakey.add(created=now - MINUTE * (5 - n), log_id=f"h{n}")
    parakey.add(created=now, timestamp=now - MINUTE * 5, log_id="late")
    world = rounds()
    await world.visit()
    assert len(world.events("roundsman.source.gap")) == 1
    assert feed(world.state).cursor is None


async def test_rows_that_become_visible_below_the_newest_are_swept_or_said_to_be_missing(
    rounds: Any, parakey: Parakey, time: Time
) -> None:
    parakey.quirks = Quirks(cap=5, order="descending")
    now = time.utc()
    for n in range(5):
        parakey.add(created=now + n * MINUTE / 60, visible=now + 2 * MINUTE, log_id=f"hidden{n}")
    parakey.add(created=now + MINUTE / 2, log_id="seen")
    world = rounds()
    await world.visit()
    assert world.ids() == ["seen"]
    with capture_logs() as logs:
        await world.visit(after=7 * 3600)
    assert set(world.ids()) == {"seen", "hidden1", "hidden2", "hidden3", "hidden4"}, (
        "what could be seen is reported"
    )
    [said] = [line["what"] for line in logs if line["event"] == "vendor.surprise"]
    assert said == "an answer has exactly 5 rows, and nothing shows whether these are all"


# -- faults that last -------------------------------------------------------------------------------------------------


async def test_a_sink_that_is_down_for_an_hour_gets_everything_in_order(
    rounds: Any, parakey: Parakey, time: Time
) -> None:
    def down(event: Any) -> None:
        raise OSError("the receiver is down")

    world = rounds()
    PLANS["recorder"] = down
    for n in range(60):
        parakey.add(log_id=f"r{n:02d}")
        await world.visit()
    assert RECORDS.get("recorder", []) == []
    del PLANS["recorder"]
    await world.visit()
    got = RECORDS["recorder"]
    assert [event.id for event in got if event.source == "doors"] == [f"r{n:02d}" for n in range(60)]
    own = ["roundsman.sink.failing", "roundsman.sink.recovered"]
    assert [event.type for event in got if event.source == "daemon"] == own


@pytest.mark.parametrize("fault", [Fault(401), Fault(kind="drop"), Fault(502)])
async def test_nothing_is_missing_after_two_hours_of_trouble(
    fault: Fault, rounds: Any, parakey: Parakey, time: Time
) -> None:
    world = rounds()
    await world.visit()
    for n in range(120):
        time.advance(60)
        parakey.add(log_id=f"r{n:03d}", timestamp=time.utc() - MINUTE / 60)
        parakey.faults.extend([fault] * 9)
        await world.visit(after=1)
        parakey.faults.clear()
    await world.visit(after=4000)
    assert world.ids() == [f"r{n:03d}" for n in range(120)]
    assert len(world.events("roundsman.source.failing")) == 1
    assert len(world.events("roundsman.source.recovered")) == 1


async def test_rows_of_ten_megabytes_pass(rounds: Any, parakey: Parakey, time: Time) -> None:
    for n in range(3):
        time.advance(1)
        parakey.add(log_id=f"huge{n}", timestamp=time.utc() - MINUTE / 60, note="x" * 10_000_000)
    world = rounds()
    await world.visit()
    assert [event.id for event in RECORDS["recorder"]] == ["huge0", "huge1", "huge2"]


# -- what was found by trying to break it -------------------------------------------------------------------------------


@pytest.mark.parametrize("odd", [b'"a\\ud83d"', b"1e999", b'"caf\xe9"'])
async def test_a_row_at_the_limits_of_json_blocks_no_other(
    odd: bytes, rounds: Any, parakey: Parakey, time: Time
) -> None:
    for n in range(3):
        time.advance(1)
        parakey.add(log_id=f"r{n}", device={"id": "d", "name": "door"})
    parakey.logs[1].encoded = parakey.logs[1].encoded.replace(b'"door"', odd)
    world = rounds()
    await world.visit()
    assert world.ids() == ["r0", "r1", "r2"]
    assert [event.id for event in RECORDS["recorder"]] == ["r0", "r1", "r2"], "and the sink got it"
    for event in world.events():
        assert event.document()["data"]["raw"]["id"] == event.id
        json.loads(event.body, parse_constant=pytest.fail)


async def test_rows_of_one_stamp_that_do_not_fit_are_not_asked_for_without_end(
    tmp_path: Path, parakey: Parakey, time: Time
) -> None:
    for n in range(12):
        time.advance(1)
        parakey.add(log_id=f"r{n}", timestamp=time.utc() - MINUTE, note="x" * 10_000)
    now = time.utc() + MINUTE
    time.advance(120)
    for n in range(12):
        parakey.add(created=now, timestamp=now - MINUTE, log_id=f"same{n}", note="x" * 10_000)
    world = Rounds(tmp_path, parakey, time)
    world.engine.clients.options = world.engine.clients.options.model_copy(update={"max_body": 65_000})
    await world.visit()
    assert len(world.asked()) < 100
    assert len(world.events("roundsman.source.gap")) == 1
    await world.store.close()


@pytest.mark.parametrize("stamp", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
async def test_stamps_that_mean_never_are_no_stamps(
    stamp: str, rounds: Any, parakey: Parakey, time: Time
) -> None:
    parakey.add(log_id="a")
    parakey.logs[0].encoded = b'{"id":"a","createdAt":"%s"}' % stamp.encode()
    world = rounds()
    assert await world.visit()
    parakey.add(log_id="b")
    assert await world.visit(after=1900)
    assert sorted(world.ids()) == ["a", "b"]


async def test_a_quiet_door_is_not_reported_again_when_its_ids_grow_old(
    rounds: Any, parakey: Parakey, time: Time
) -> None:
    fill(parakey, time, 3, apart=86400)
    world = rounds()
    await world.visit()
    for _ in range(8):
        await world.visit(after=15 * 86400)
        while await world.store.prune(["recorder"], time.now(), 35 * 86400.0):
            pass
    assert [event.id for event in RECORDS["recorder"] if event.type.startswith("co.")] == ["h0", "h1", "h2"]


# -- no doubt stops a reading -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("apart", [0.001, 1.0, 9.0])
async def test_rows_stored_the_moment_they_happened_are_read_to_the_end(
    apart: float, rounds: Any, parakey: Parakey, time: Time
) -> None:
    """Nothing proves then what startDate compares with: such a log was never read past its second answer."""
    parakey.quirks = Quirks(cap=10)
    world = rounds()
    await world.visit()
    begin = time.utc() - timedelta(seconds=apart * 130)
    ids = [parakey.add(created=begin + timedelta(seconds=apart * n), log_id=f"e{n}").id for n in range(120)]
    with capture_logs() as logs:
        await world.visit()
        await world.visit()
    assert set(world.ids()) == set(ids)
    assert world.events("roundsman.*") == []
    assert len([line for line in logs if line["event"] == "vendor.surprise"]) == 1, "the doubt is said once"
    new = parakey.add(log_id="new").id
    await world.visit()
    assert new in world.ids()


@pytest.mark.parametrize(
    "refuses",
    [
        {"offset", "skip"},
        {"offset", "skip", "limit>100"},
        {"limit>20"},
        {"ascending"},
        {"ascending", "limit>100"},
        {"startDate"},
        {"ascending", "startDate", "limit>100", "offset", "skip"},
    ],
)
async def test_what_is_refused_is_asked_for_another_way(
    refuses: set[str], rounds: Any, parakey: Parakey, time: Time
) -> None:
    parakey.quirks = Quirks(cap=20, refuses=frozenset(refuses))
    ids = fill(parakey, time, 15)
    world = rounds()
    assert await world.visit()
    assert set(world.ids()) == set(ids)
    new = parakey.add(log_id="new").id
    assert await world.visit()
    assert new in world.ids()


async def test_a_refusal_of_every_question_is_the_vendors_trouble(
    rounds: Any, parakey: Parakey, time: Time
) -> None:
    fill(parakey, time, 3)
    parakey.quirks = Quirks(refuses=frozenset({"limit>1", "orderBy"}))
    world = rounds(paging={"probe_order": None})
    assert not await world.visit()
    assert len(world.asked()) < 12


async def test_beyond_a_gap_the_newest_rows_are_reported_and_each_sweep_tries_again(
    rounds: Any, parakey: Parakey, time: Time
) -> None:
    """One stamp for more rows than an answer has, and no offset: what is between is a gap, and nothing else stops."""
    parakey.quirks = Quirks(cap=10)
    world = rounds(paging={"max_limit": 40, "limit": 20})
    stamp = time.utc() - MINUTE
    for n in range(60):
        parakey.add(created=stamp, timestamp=stamp, log_id=f"same{n}")
    await world.visit()
    [gap] = world.told("roundsman.source.gap")
    assert gap["data"]["details"]["until"]
    assert EventLogs.gap(world.state) == "beginning"
    for n in range(3):
        new = parakey.add(log_id=f"new{n}").id
        await world.visit()
        assert new in world.ids()
    assert len(world.told("roundsman.source.gap")) == 1, "reported once"
    parakey.quirks.offset_param = "offset"
    await world.visit(after=7 * 3600)
    assert len(world.ids()) == 63, "the next sweep found a way"
    assert EventLogs.gap(world.state) is None


@pytest.mark.parametrize("count", [5, 40, 41, 100])
async def test_a_server_that_ignores_every_parameter_cuts_nothing(
    count: int, rounds: Any, parakey: Parakey, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plain web server with a file of rows."""
    ids = fill(parakey, time, count)
    listed = parakey._list
    monkeypatch.setattr(parakey, "_list", lambda query: listed({"limit": "1000"}))
    world = rounds()
    await world.visit()
    assert set(world.ids()) == set(ids)
    new = parakey.add(log_id="new").id
    await world.visit()
    await world.visit(after=7 * 3600)
    assert set(world.ids()) == {*ids, new}
    assert world.events("roundsman.*") == []


@pytest.mark.parametrize("start", [None, "offset", "backwards"])
async def test_a_server_with_a_page_size_of_its_own_is_not_taken_for_whole(
    start: str | None, rounds: Any, parakey: Parakey, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It heeds no limit, and shows 100 rows, newest first. With an offset, all is read; with an order, a gap is reported."""
    order: Any = "honoured" if start == "backwards" else "descending"
    parakey.quirks = Quirks(
        order=order, offset_param="offset" if start == "offset" else None, filters="nothing"
    )
    ids = fill(parakey, time, 300)
    listed = parakey._list
    monkeypatch.setattr(parakey, "_list", lambda query: listed({**query, "limit": "100"}))
    world = rounds()
    with capture_logs() as logs:
        await world.visit()
    doubts = [line for line in logs if line["event"] == "vendor.surprise"]
    gaps = world.events("roundsman.source.gap")
    if start == "offset":
        assert set(world.ids()) == set(ids)
        assert (gaps, doubts) == ([], [])
    else:
        assert set(world.ids()) >= set(ids[200:])
        assert len(doubts) + len(gaps) == 1, "it reports a gap or a surprise"
    for n in range(3):
        new = [parakey.add(log_id=f"new{n}-{k}").id for k in range(10)]
        time.advance(3600)
        await world.visit()
        assert set(world.ids()) >= set(new)
    assert len(world.ids()) == len(set(world.ids()))


@pytest.mark.parametrize("smallest", [10, 1000, 1003])
async def test_a_server_with_a_smallest_limit_heeds_larger_ones(
    smallest: int, rounds: Any, parakey: Parakey, time: Time
) -> None:
    """Newest first, and never fewer rows than its smallest limit: it was taken for a server that heeds none."""
    parakey.quirks = Quirks(cap=4000, smallest=smallest, order="descending", filters="nothing")
    ids = fill(parakey, time, 2500)
    world = rounds()
    await world.visit()
    assert sorted(world.ids()) == sorted(ids)
    assert world.events("roundsman.source.gap") == []


async def test_a_whole_list_that_heeds_no_limit_is_not_fetched_over_and_over(
    rounds: Any, parakey: Parakey, time: Time
) -> None:
    parakey.quirks = Quirks(cap=4000, smallest=4000, order="descending", filters="nothing")
    fill(parakey, time, 1203)
    world = rounds()
    await world.visit()
    for _ in range(3):
        parakey.add()
        time.advance(60)
        before = len(world.asked())
        await world.visit()
        assert len(world.asked()) - before <= 4
    assert world.events("roundsman.source.gap") == []


async def test_what_is_absorbed_at_first_ends_with_the_first_reading_however_it_ends(
    rounds: Any, parakey: Parakey, time: Time
) -> None:
    parakey.quirks = Quirks(cap=20, filters="nothing")

    def add(key: str) -> None:
        parakey.add(log_id=key).encoded = b'{"id":"%s","createdAt":"klockan"}' % key.encode()

    for n in range(41):
        add(f"old{n}")
    world = rounds(start="now")
    for _ in range(2):
        await world.visit()
    for n in range(3):
        add(f"new{n}")
        await world.visit()
    assert {f"new{n}" for n in range(3)} <= set(world.ids())


@pytest.mark.parametrize("refuses", [frozenset(), frozenset({"orderBy"})])
async def test_a_tag_of_the_oldest_row_hides_nothing(
    refuses: Any, rounds: Any, parakey: Parakey, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest row is the first, for any order in the request, so that the tag of one row never changes."""
    parakey.quirks = Quirks(refuses=refuses)
    fill(parakey, time, 5)
    listed = parakey._list
    monkeypatch.setattr(parakey, "_list", lambda query: listed({**query, "orderBy": "createdAt:ASC"}))
    world = rounds()
    await world.visit()
    for n in range(3):
        parakey.add(log_id=f"new{n}")
        await world.visit(after=60)
        assert world.ids()[-1] == f"new{n}"


# -- times and rows that are not what they should be ------------------------------------------------------------------


@pytest.mark.parametrize(
    "write",
    [
        lambda t: f"/Date({int(t * 1000)})/",
        lambda t: str(int(t * 1000)),
        lambda t: datetime.fromtimestamp(t, UTC).strftime("%a, %d %b %Y %H:%M:%S GMT"),
        lambda t: int(t * 1e6),
        lambda t: datetime.fromtimestamp(t, UTC).strftime("%d/%m/%Y klockan %H.%M"),
        lambda t: {"when": t},
    ],
)
async def test_times_that_cannot_be_read_are_not_times_that_are_missing(
    write: Any, rounds: Any, parakey: Parakey, time: Time
) -> None:
    """With `start = "now"`, what was there before is not news, however its times are written."""

    def add(key: str, at: float) -> None:
        log = parakey.add(log_id=key, created=datetime.fromtimestamp(at, UTC))
        data = {"id": key, "createdAt": write(at), "success": True}
        log.encoded = json.dumps(data).encode()

    for n in range(40):
        add(f"old{n}", time.now() - 30 * 86400 + n)
    world = rounds(start="now")
    with capture_logs() as logs:
        await world.visit()
        await world.visit()
        add("new", time.now())
        await world.visit(after=3600)
    assert world.ids() == ["new"]
    said = [line["what"] for line in logs if line["event"] == "vendor.surprise"]
    readable = not isinstance(write(0.0), dict) and "klockan" not in str(write(0.0))
    assert [what.startswith("createdAt of a row cannot be read") for what in said] == [True] * (not readable)


async def test_an_object_without_an_id_and_any_time_is_no_row(
    rounds: Any, parakey: Parakey, time: Time
) -> None:
    ids = fill(parakey, time, 2)
    world = rounds()
    await world.visit()
    fault = Fault(200, {}, b'[{"message": "upstream timed out"}]')
    parakey.faults += [fault, fault]
    assert not await world.visit(), "a whole list of them is an error"
    assert world.ids() == ids
    parakey.faults.append(fault)
    assert await world.visit(), "one is a row that cannot be read"
    assert world.ids() == ids


@pytest.mark.parametrize("start", ["now", "beginning"])
async def test_a_newest_row_that_cannot_be_read_silences_nothing(
    start: str, rounds: Any, parakey: Parakey, time: Time
) -> None:
    ids = fill(parakey, time, 3)
    time.advance(60)
    parakey.add(log_id="odd").encoded = b"null"
    world = rounds(start=start)
    assert await world.visit()
    for n in range(3):
        time.advance(60)
        ids.append(parakey.add(log_id=f"new{n}").id)
        parakey.add(log_id=f"odd{n}").encoded = b"[%d]" % n
        assert await world.visit()
    assert world.ids() == (ids if start == "beginning" else ids[3:])
    assert len(await world.store.unread("doors")) == 4


@pytest.mark.parametrize("start", ["now", "beginning"])
@pytest.mark.parametrize("refused", ["limit>100", "ascending", "startDate"])
async def test_a_guess_that_is_refused_stops_no_first_visit(
    refused: str, start: str, rounds: Any, parakey: Parakey, time: Time
) -> None:
    parakey.quirks = Quirks(refuses=frozenset({refused}))
    ids = fill(parakey, time, 3)
    world = rounds(start=start)
    assert await world.visit()
    time.advance(60)
    ids.append(parakey.add(log_id="new").id)
    assert await world.visit()
    assert set(world.ids()) == set(ids if start == "beginning" else ids[3:])


@pytest.mark.parametrize(
    "how", [(200, {"status": "error", "message": "unknown orderBy"}), (403, {"message": "not allowed"})]
)
@pytest.mark.parametrize("guess", ["ASC", "startDate", "offset", "limit"])
async def test_a_guess_is_refused_by_any_error_about_it(
    guess: str, how: Any, rounds: Any, parakey: Parakey, time: Time
) -> None:
    parakey.quirks = Quirks(cap=20)
    ids = fill(parakey, time, 15)
    answered = parakey.answer

    def strict(method: str, path: str, query: Any, headers: Any) -> Any:
        reply = answered(method, path, query, headers)
        asks = {"limit": int(query["limit"]) > 100, "ASC": "ASC" in query.get("orderBy", "")}
        refuses = asks.get(guess, guess in query)
        return type(reply)(how[0], {}, json.dumps(how[1]).encode()) if refuses else reply

    parakey.answer = strict  # type: ignore[method-assign]
    world = rounds()
    for n in range(2):
        assert await world.visit()
        ids.append(parakey.add(log_id=f"new{n}").id)
        time.advance(60)
    assert await world.visit()
    assert set(world.ids()) == set(ids)


@pytest.mark.parametrize("start", ["now", "beginning"])
async def test_a_server_that_knows_no_order_is_asked_without(
    start: str, rounds: Any, parakey: Parakey, time: Time
) -> None:
    parakey.quirks = Quirks(order="descending", refuses=frozenset({"orderBy"}))
    ids = fill(parakey, time, 15)
    world = rounds(start=start)
    assert await world.visit()
    ids.append(parakey.add(log_id="new").id)
    assert await world.visit()
    assert set(world.ids()) == set(ids if start == "beginning" else ids[15:])
    world.asked()
    await world.visit()
    assert len(world.asked()) == 1, "it is remembered"


async def test_where_nothing_was_listed_yet_a_clock_that_is_ahead_hides_nothing(
    rounds: Any, parakey: Parakey, time: Time
) -> None:
    answered = parakey.answer

    def ahead(*args: Any) -> Any:
        reply = answered(*args)
        headers = {**reply.headers, "Date": format_datetime(time.utc() + timedelta(hours=1), usegmt=True)}
        return type(reply)(reply.status, headers, reply.body)

    parakey.answer = ahead  # type: ignore[method-assign]
    world = rounds(start="now")
    assert await world.visit()
    time.advance(60)
    parakey.add(log_id="new")
    assert await world.visit()
    assert world.ids() == ["new"]


async def test_a_larger_limit_that_is_refused_takes_nothing_from_what_was_accepted() -> None:
    learned = probing.Learned()
    asked: list[int] = []

    async def ask(question: probing.Question) -> tuple[list[probing.Row], int]:
        asked.append(question.limit)
        if question.limit > 1000:
            raise probing.Refused(ValueError("too many"))
        return [], question.limit

    await probing.asked(learned, probing.Question(None, 1000), ask)
    assert (await probing.asked(learned, probing.Question(None, 2000), ask))[1] == 1000
    assert asked == [1000, 2000, 1000]


async def test_a_row_that_cannot_be_read_is_kept_once_as_it_came(
    rounds: Any, parakey: Parakey, time: Time
) -> None:
    fill(parakey, time, 1)
    odd = parakey.add(log_id="odd")
    odd.encoded = b"null"
    deep = parakey.add(log_id="deep")
    deep.encoded = odd_row = json.dumps({"id": "deep", "createdAt": "2026-05-01T05:59:59Z"}).encode()[:-1] + (
        b',"x":' + b"[" * 500 + b"]" * 500 + b"}"
    )
    world = rounds()
    with capture_logs() as logs:
        await world.visit()
        await world.visit(after=3600)
        await world.visit(after=7 * 3600)
    assert set(world.ids()) == {"h0", "deep"}
    kept = {row.body for row in await world.store.unread("doors")}
    assert kept == {b"null", odd_row}
    assert len(await world.store.unread("doors")) == 2
    assert [line["rows"] for line in logs if line["event"] == "poll.unread"] == [2], "said once"


async def test_ids_that_only_differ_in_what_utf_8_cannot_say_are_two_events(
    rounds: Any, parakey: Parakey, time: Time
) -> None:
    for n, key in enumerate((b"x\\ud800", b"x\\ud801")):
        log = parakey.add(log_id=f"r{n}")
        log.encoded = log.encoded.replace(f"r{n}".encode(), key)
    world = rounds()
    await world.visit()
    assert len(set(world.ids())) == 2


async def test_a_row_that_an_earlier_version_reported_with_a_question_mark_is_not_reported_again(
    rounds: Any, parakey: Parakey, time: Time
) -> None:
    log = parakey.add(log_id="x?")
    world = rounds()
    await world.visit()
    log.encoded = log.encoded.replace(b"x?", b"x\\ud800")
    await world.visit(after=7 * 3600)
    assert world.ids() == ["x?"]


async def test_a_number_and_the_same_as_text_are_one_id(rounds: Any, parakey: Parakey, time: Time) -> None:
    log = parakey.add(log_id="17")
    world = rounds()
    await world.visit()
    log.encoded = log.encoded.replace(b'"17"', b"17")
    await world.visit(after=7 * 3600)
    assert world.ids() == ["17"]


# -- ways that are seldom needed --------------------------------------------------------------------------------------


async def test_more_rows_of_one_stamp_than_a_page_are_read_with_a_larger_one(
    rounds: Any, parakey: Parakey, time: Time
) -> None:
    parakey.quirks = Quirks(cap=1000)
    stamp = time.utc() - MINUTE
    ids = [parakey.add(created=stamp, timestamp=stamp - MINUTE, log_id=f"s{n}").id for n in range(70)]
    world = rounds(paging={"limit": 10, "max_limit": 160})
    await world.visit()
    assert set(world.ids()) == set(ids)
    limits = [int(q["limit"]) for q in world.asked() if int(q["limit"]) > 1]
    assert max(limits) == 80, "doubled, and no further than it has to be"
    assert world.events("roundsman.source.gap") == []


async def test_rows_that_vanish_before_an_offset_are_stepped_back_for(
    rounds: Any, parakey: Parakey, time: Time
) -> None:
    """Retention removes old rows while pages are read by offset: the rest moves up."""
    parakey.quirks = Quirks(cap=10, offset_param="offset", filters="nothing")
    ids = fill(parakey, time, 45)
    world = rounds(paging={"mode": "offset"})
    asked = 0

    def remove() -> None:
        nonlocal asked
        asked += 1
        if asked == 8:
            del parakey.logs[:6]

    world.transport.before = remove
    await world.visit()
    assert set(world.ids()) == set(ids)
    assert world.events("roundsman.source.gap") == []
