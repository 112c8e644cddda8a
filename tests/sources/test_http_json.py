"""Lists of any JSON API, by a table of TOML: the worked examples, and what a naive design lacks."""

import json
import tomllib
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from email.utils import format_datetime
from itertools import pairwise
from pathlib import Path
from time import process_time
from typing import Any

import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from inside import seen
from lists import EXAMPLES, a_list, doors, example, graph, windows, worked
from rounds import Rounds, opened
from roundsman import config, wire
from roundsman.errors import ConfigError
from roundsman.plugin import Source
from roundsman.sandbox import Parakey, Quirks as ParakeyQuirks, Vendor
from roundsman.sandbox.github import GitHub, Quirks as GitHubQuirks
from roundsman.sandbox.nvd import Nvd, Quirks as NvdQuirks
from roundsman.sandbox.okta import Okta, Quirks as OktaQuirks
from roundsman.sandbox.vendor import Reply, document
from roundsman.sandbox.zendesk import Quirks as ZendeskQuirks, Zendesk
from roundsman.testing import Reply as Answered, Request, Web, contract
from roundsman.times import parse_time, rfc3339
from worlds import Time, event_logs, keeps_the_contract

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
GAP = "roundsman.source.gap"
START_OF_MAY = "2026-05-01T00:00:00Z"
Answers = Callable[[Mapping[str, str]], Any]


class Served(Vendor):
    """A server that is a function from the query to a document, or to a reply."""

    def __init__(self, time: Time, answers: Answers) -> None:
        super().__init__(time.utc)
        self.answers = answers
        self.asked_for: list[tuple[str, dict[str, str], dict[str, str], bytes]] = []

    def reply(self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Reply:
        self.asked_for.append((path, dict(query), dict(headers), self.body))
        found = self.answers(query)
        return found if isinstance(found, Reply) else document(200, found)


class World(Rounds):
    """Visits to one list."""

    def told(self, kind: str = "*") -> list[Any]:
        return [each for each in super().told(kind) if not each["type"].startswith("roundsman.")]

    def keys(self) -> list[str]:
        """The ids that were reported, in order."""
        return [each["id"] for each in self.told()]

    def error(self) -> str:
        """Why the last visit failed."""
        found: str = seen(self.store.sources())[0].status.error
        return found

    def told_notices(self, kind: str) -> list[Any]:
        """The daemon's own events."""
        return super().told(kind)

    async def visits(self, count: int = 1, after: float = 61.0) -> list[bool]:
        return [await self.visit(after) for _ in range(count)]


@pytest.fixture
def world(tmp_path: Path, time: Time) -> Iterator[Callable[..., World]]:
    def make(vendor: Vendor | Answers, source: Source) -> World:
        served = vendor if isinstance(vendor, Vendor) else Served(time, vendor)
        return World(tmp_path, served, time, source)

    yield from opened(make)


def row(key: Any, at: str = "2026-05-01T05:00:00Z", **more: Any) -> dict[str, Any]:
    return {"id": key, "at": at, **more}


TIMED = {"rows": {"id": "id", "time": "at"}}
MAKERS: dict[str, tuple[Callable[[Time], Any], Callable[..., Source]]] = {
    "github": (lambda t: GitHub(t.utc, GitHubQuirks(limit=None, cap=10)), lambda **o: worked("github", **o)),
    "okta": (lambda t: Okta(t.utc, OktaQuirks(limit=None, cap=10)), lambda **o: worked("okta", **o)),
    "zendesk": (
        lambda t: Zendesk(t.utc, ZendeskQuirks(limit=None, cap=10)),
        lambda **o: worked("zendesk", **o),
    ),
    "nvd": (lambda t: Nvd(t.utc, NvdQuirks(limit=None, cap=25)), windows),
    "graph": (lambda t: GitHub(t.utc, GitHubQuirks(limit=None)), graph),
}


@pytest.fixture(params=MAKERS)
def pair(request: pytest.FixtureRequest, world: Any, time: Time) -> tuple[Any, World]:
    """A mimic with more rows than a page has, and the worked example that reads it."""
    vendor, source = MAKERS[request.param]
    made = vendor(time)
    return made, world(made, source())


# -- the worked examples ---------------------------------------------------------------------------------------------


ROWS = [row(n, f"2026-05-01T05:00:{n:02}Z") for n in range(22)]
OFFSETS: dict[str, Any] = {
    "start": "2026-05-01T00:00:00Z",
    "rows": {"at": "rows", "id": "id", "time": "at"},
    "pages": {"next": "rows", "param": "skip", "total": "total"},
    "since": {"param": "from", "row": "at", "until": "to", "window": "1d"},
}
NEWEST: dict[str, Any] = {
    "rows": {"id": "id", "time": "at", "newest_first": True},
    "pages": {"next": "link"},
}


@pytest.mark.parametrize("options", [OFFSETS, NEWEST])
def test_a_list_keeps_each_promise_of_a_source(options: dict[str, Any]) -> None:
    def web(rows: list[Any]) -> Web:
        def offsets(request: Request) -> Any:
            asked, skip = request.params, int(request.params.get("skip", 0))
            found = [each for each in rows if asked["from"] <= each["at"] <= asked["to"]]
            return {"total": len(found), "rows": found[skip : skip + 10]}

        def newest(request: Request) -> Any:
            skip = int(request.params.get("skip", 0))
            more = {"link": f'<?skip={skip + 10}>; rel="next"'} if skip + 10 < len(rows) else {}
            return Answered(rows[::-1][skip : skip + 10], headers=more)

        return Web(offsets if options is OFFSETS else newest)

    contract(a_list(auth={"bearer": "s3cret-token-1"}, **options), web(ROWS[:12]), news=web(ROWS))


async def test_every_row_is_reported_once_page_after_page(pair: tuple[Any, World], time: Time) -> None:
    vendor, world = pair
    for _ in range(3):
        for _ in range(33):
            vendor.add()
            time.advance(1)
        assert await world.visits(2) == [True, True]
    assert set(world.keys()) == vendor.expected() == vendor.current()
    assert len(world.keys()) == 99
    for event in world.events():
        keeps_the_contract(event)


async def test_rows_with_equal_stamps_are_all_reported(pair: tuple[Any, World], time: Time) -> None:
    vendor, world = pair
    for _ in range(4):
        for _ in range(9):
            vendor.add()
        await world.visits(2)
    assert set(world.keys()) == vendor.expected()


async def test_a_row_that_comes_late_is_reported(pair: tuple[Any, World], time: Time) -> None:
    vendor, world = pair
    for _ in range(12):
        vendor.add()
        time.advance(5)
    await world.visits(2)
    vendor.add(at=time.utc() - 4 * MINUTE, shown=time.utc())
    vendor.add()
    await world.visits(35)  # GitHub's is found by a full read
    assert set(world.keys()) == vendor.expected()
    assert len(world.keys()) == 14


@pytest.mark.parametrize("name", ["zendesk", "nvd"])
async def test_an_edited_row_is_a_new_event(name: str, world: Any, time: Time) -> None:
    make, source = MAKERS[name]
    vendor = make(time)
    made = world(vendor, source())
    keys = [vendor.add() for _ in range(12)]
    await made.visits(3)
    time.advance(5)
    vendor.edit(keys[3])
    await made.visits(3)
    assert len(made.keys()) == 13
    assert set(made.keys()) == vendor.expected()
    assert sum(key.startswith(f"{keys[3]}:") for key in made.keys()) == 2  # noqa: SIM118 - no dictionary


async def test_a_death_between_any_two_pages_loses_nothing(pair: tuple[Any, World], time: Time) -> None:
    """A walk goes on where it was, and what came meanwhile is found, too."""
    vendor, world = pair
    for pages in (1, 2, 3, 4, 1):
        for _ in range(37):
            vendor.add()
            time.advance(0.5)
        await broken_after(pages, world, vendor)
        world.reboot()
        for _ in range(7):
            vendor.add()
    await world.visits(3, after=4000)
    assert vendor.current() <= set(world.keys()) <= vendor.expected()
    assert len(world.keys()) == len(set(world.keys()))


async def broken_after(pages: int, world: World, vendor: Any) -> None:
    """A visit that ends after so many pages with an error that is not tried again."""
    answered, count = vendor.reply, 0

    def reply(*args: Any) -> Reply:
        nonlocal count
        count += 1
        found: Reply = answered(*args) if count <= pages else Reply(200, {}, b"<html>")
        return found

    vendor.reply = reply
    await world.visit(300)
    vendor.reply = answered


@pytest.mark.parametrize("start", ["now", "2026-05-01T05:30:00Z"])
@pytest.mark.parametrize("name", MAKERS)
async def test_what_was_there_before_the_start_is_not_reported(
    name: str, start: str, world: Any, time: Time
) -> None:
    make, source = MAKERS[name]
    vendor = make(time)
    for minutes in range(300, 4, -5):
        vendor.add(at=time.utc() - minutes * MINUTE)
    made = world(vendor, source(start=start))
    await made.visits(2)
    wanted = 0 if start == "now" else 6
    assert len(made.keys()) == wanted
    vendor.add()
    await made.visits(3)
    assert len(made.keys()) == wanted + 1


async def test_a_failure_is_listed_with_its_person_and_reason(world: Any, time: Time) -> None:
    vendor = Okta(time.utc)
    made = world(vendor, worked("okta"))
    vendor.add(failed=True)
    vendor.add()
    await made.visit()
    failed, fine = made.told()
    assert (failed["outcome"], failed["type"]) == ("failed", "com.okta.log.user.session.start")
    assert failed["data"]["message"] == "INVALID_CREDENTIALS"
    assert failed["data"]["person"]["email"] == failed["subject"] == "admin@example.com"
    assert "outcome" not in fine


# -- 1: a next that is kept ------------------------------------------------------------------------------------------


async def test_a_kept_next_is_asked_again_and_an_empty_page_is_the_end(world: Any, time: Time) -> None:
    vendor = Okta(time.utc, OktaQuirks(cap=5))
    made = world(vendor, worked("okta"))
    for _ in range(12):
        vendor.add()
    await made.visit()
    made.asked()
    assert await made.visits(3) == [True] * 3
    queries = made.asked()
    assert len(queries) == 3, "one question a visit, when nothing is new"
    assert all("after" in query and "since" not in query for query in queries)


async def test_a_kept_next_that_is_refused_is_given_up_after_three_visits_and_said(
    world: Any, time: Time
) -> None:
    vendor = Okta(time.utc, OktaQuirks(after_life=HOUR))
    made = world(vendor, worked("okta"))
    for _ in range(5):
        vendor.add()
    await made.visit()
    time.advance(2 * 3600)
    vendor.add()
    assert await made.visits(3, after=4000) == [False, False, True]
    assert set(made.keys()) == vendor.expected()
    [gap] = made.told_notices(GAP)
    assert "rows that came late" in gap["data"]["message"]


async def test_a_kept_next_that_was_not_refused_in_a_row_is_kept(world: Any, time: Time) -> None:
    refused = [False]

    def answers(query: Mapping[str, str]) -> Any:
        if query and refused[0]:
            return Reply(400, {}, b"")
        page = {"rows": [] if query else [row(1)], "next": "last"}
        return Reply(200, {"ETag": '"same"'}, wire.encode(page))

    source = a_list(
        pages={"next": "next", "param": "c"}, since={"next": True}, full_read_every="30d", **TIMED
    )
    made = world(answers, source)
    await made.visits(3)
    for _ in range(3):
        for refused[0] in (True, True, False):
            await made.visit(4000)
    assert made.told_notices(GAP) == []
    assert made.state["list"]["next"] == "last"


async def test_a_kept_next_survives_an_answer_without_one(world: Any, time: Time) -> None:
    vendor = Zendesk(time.utc, ZendeskQuirks(limit=None, null_when_empty=True))
    made = world(vendor, worked("zendesk", query={"start_time": int(time.now())}))
    time.advance(100)
    assert await made.visits(2) == [True, True]
    vendor.add()
    await made.visits(2, after=120)
    assert set(made.keys()) == vendor.expected()


async def test_a_next_that_is_never_there_is_no_silent_standstill(world: Any) -> None:
    made = world(
        lambda q: {"rows": [row(1)], "cursor": "x"},
        a_list(pages={"next": "cursr", "param": "c"}, since={"next": True}),
    )
    assert await made.visit() is False
    assert "pages.next" in made.error()


# -- 2 to 5 ----------------------------------------------------------------------------------------------------------


async def test_ids_of_several_parts_never_meet(world: Any) -> None:
    rows = [{"a": "x:y", "b": "z"}, {"a": "x", "b": "y:z"}, {"a": 1, "b": 2}]
    made = world(lambda q: rows, a_list(rows={"id": ["a", "b"]}))
    await made.visit()
    assert made.keys() == ["x%3Ay:z", "x:y:z", "1:2"]


async def test_new_rows_that_fill_pages_while_the_daemon_is_away_are_read_down_to_the_known_ones(
    world: Any, time: Time
) -> None:
    vendor = GitHub(time.utc, GitHubQuirks(cap=10))
    made = world(vendor, worked("github"))
    for _ in range(20):
        vendor.add()
        time.advance(1)
    await made.visit()
    for _ in range(45):
        vendor.add()
        time.advance(1)
    made.asked()
    await made.visit()
    assert set(made.keys()) == vendor.expected()
    assert len(made.asked()) == 6, "five pages, and one that is wholly known"


async def test_a_walk_that_went_on_later_does_not_stop_at_rows_that_it_reported_itself(
    world: Any, time: Time
) -> None:
    """The first page was reported, then more rows came and moved it to where the reading goes on."""
    vendor = GitHub(time.utc, GitHubQuirks(cap=10))
    made = world(vendor, worked("github"))
    for _ in range(10):
        vendor.add()
        time.advance(1)
    await made.visit()
    for _ in range(40):
        vendor.add()
        time.advance(1)
    await broken_after(1, made, vendor)
    for _ in range(10):
        vendor.add()
        time.advance(1)
    await made.visit(300)  # no full read is due
    assert set(made.keys()) == vendor.expected()


async def test_an_etag_of_the_first_page_spares_the_others(world: Any, time: Time) -> None:
    vendor = GitHub(time.utc, GitHubQuirks(cap=10))
    made = world(vendor, worked("github"))
    for _ in range(30):
        vendor.add()
    await made.visits(2)
    made.transport.requests.clear()
    await made.visits(5)
    sent = [request.headers.get("if-none-match") for request in made.transport.requests]
    assert len(sent) == 5
    assert all(sent)


async def test_a_304_on_page_one_does_not_hide_a_change_of_page_two_for_long(world: Any, time: Time) -> None:
    vendor = GitHub(time.utc, GitHubQuirks(cap=5, stale_tag=True))
    made = world(vendor, worked("github"))
    for _ in range(20):
        vendor.add()
        time.advance(60)
    await made.visit()
    vendor.add(at=time.utc() - 12 * MINUTE, shown=time.utc())
    await made.visits(5)
    assert len(made.keys()) == 20, "page one is unchanged"
    await made.visits(25)
    assert set(made.keys()) == vendor.expected()


async def test_the_etag_of_one_page_of_several_proves_nothing(world: Any) -> None:
    """A list with the oldest row first grows on its last page."""
    rows = [row(n) for n in range(15)]

    def answers(query: Mapping[str, str]) -> Reply:
        at = int(query.get("skip", 0))
        body = json.dumps(rows[at : at + 10]).encode()
        return Reply(200, {"ETag": f'"{hash(body)}"'}, body)

    made = world(answers, a_list(pages={"next": "rows", "param": "skip"}))
    await made.visit()
    rows.append(row(15))
    await made.visits(2)
    assert len(made.keys()) == 16


async def test_windows_move_on_when_they_are_empty(world: Any, time: Time) -> None:
    vendor = Nvd(time.utc, NvdQuirks(limit=None))
    made = world(vendor, worked("nvd", start="2025-01-01T00:00:00Z"))
    vendor.add(at=time.utc() - HOUR)
    await made.visit()
    assert set(made.keys()) == vendor.expected()
    ends = [query["lastModEndDate"] for query in made.asked()]
    assert len(ends) == 5, "485 days in windows of 119"
    time.advance(400 * 86400)
    await made.visit()
    key = vendor.add()
    await made.visits(2)
    assert made.keys()[-1].startswith(key)


async def test_a_window_follows_the_vendors_clock_and_not_ours(world: Any, time: Time) -> None:
    vendor = Nvd(lambda: time.utc() - 300 * DAY, NvdQuirks(limit=None))
    made = world(vendor, worked("nvd", start="2025-06-01T00:00:00Z"))
    await made.visits(2)
    vendor.add()
    await made.visits(2)
    assert set(made.keys()) == vendor.expected()


# -- 6: what finds nothing is loud -----------------------------------------------------------------------------------


async def test_a_row_without_its_id_is_kept_as_unread_and_the_others_are_reported(world: Any) -> None:
    rows: list[Any] = [row(1), {"at": "2026-05-01T05:00:00Z", "name": "x"}, row(2)]
    made = world(lambda q: rows, a_list())
    with capture_logs() as logs:
        await made.visits(3)
    assert made.keys() == ["1", "2"]
    assert len(await made.store.unread("list")) == 1
    surprises = [line for line in logs if line["event"] == "vendor.surprise"]
    assert len(surprises) == 1
    assert "id" in surprises[0]["what"]


@pytest.mark.parametrize(
    ("options", "answer", "named"),
    [
        ({"rows": {"id": "key"}}, [row(1), row(2)], "key"),
        ({"rows": {"id": "id", "at": "data.rows"}}, {"data": {"items": [row(1)]}}, "data.rows"),
        ({"rows": {"id": "id", "at": "data[].rows[]"}}, {"data": None}, "data[].rows[]"),
        ({"since": {"param": "from", "row": "changed"}, **TIMED}, [row(1)], "changed"),
        (
            {"pages": {"next": "next"}},
            {"rows": [row(1)], "next": "abc"},
            "pages.param",
        ),
        ({"pages": {"next": "next", "more": "more"}}, {"rows": [row(1)], "more": True}, "pages.next"),
    ],
)
async def test_a_path_that_finds_nothing_fails_the_visit_by_name(
    options: Any, answer: Any, named: str, world: Any
) -> None:
    made = world(lambda q: answer, a_list(**options))
    assert await made.visit() is False
    assert named in made.error()


@pytest.mark.parametrize("form", ["iso", "number"])
async def test_a_value_that_cannot_be_compared_is_no_silent_standstill(form: str, world: Any) -> None:
    since = {"param": "from", "row": "at", "format": form}
    made = world(lambda _: [row(1, "the first of May"), row(2, "the second of May")], a_list(since=since))
    assert not await made.visit()
    assert "at of a page" in made.error()
    assert "since.format" in made.error()


async def test_a_null_list_is_an_empty_one(world: Any) -> None:
    made = world(lambda q: {"data": {"rows": None}}, a_list(rows={"id": "id", "at": "data.rows"}))
    assert await made.visit() is True


@pytest.mark.parametrize(
    "options",
    [
        {"rows": {"at": "data", "id": "id"}},
        {"rows": {"at": "data[].item", "id": "id"}},
        {"pages": {"next": "next", "param": "c", "more": "!end"}},
        {"pages": {"next": "rows", "param": "skip", "total": "length(data)"}},
    ],
)
async def test_an_answer_without_content_is_an_empty_list(options: dict[str, Any], world: Any) -> None:
    made = world(lambda _: Reply(204, {}, b""), a_list(**options))
    assert await made.visit()


async def test_a_condition_that_compares_a_text_with_a_number_stops_no_list(world: Any) -> None:
    rows = [row(1, used="x", limit=5), row(2, used=7, limit=5), row(3, used=None, limit=5)]
    made = world(lambda _: rows, a_list(rows={"id": "id", "failed": "used > limit"}))
    assert await made.visit()
    assert [each.get("outcome") for each in made.told()] == [None, "failed", None]


async def test_two_rows_with_one_id_are_said(world: Any) -> None:
    made = world(lambda q: [row("push", n=1), row("push", n=2)], a_list())
    with capture_logs() as logs:
        await made.visits(2)
    [said] = [line["what"] for line in logs if line["event"] == "vendor.surprise"]
    assert "same id" in said


# -- 7: overlap ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inclusive", [True, False])
async def test_rows_that_share_the_stamp_of_the_cursor_are_reported(
    inclusive: bool, world: Any, time: Time
) -> None:
    parakey = Parakey(time.utc, ParakeyQuirks(inclusive=inclusive))
    made = world(parakey, doors(since={"param": "startDate", "row": "createdAt", "overlap": 0}))
    at = time.utc()
    for number in range(25):
        parakey.add(created=at + timedelta(seconds=number // 5), timestamp=at, log_id=f"a{number}")
    await made.visits(2)
    parakey.add(created=at + timedelta(seconds=4), timestamp=at, log_id="late")
    await made.visits(2)
    assert set(made.keys()) == {log.id for log in parakey.logs}


async def test_more_rows_with_one_stamp_than_a_page_holds_fail_loudly(world: Any, time: Time) -> None:
    parakey = Parakey(time.utc)
    made = world(parakey, doors())
    for number in range(25):
        parakey.add(created=time.utc(), timestamp=time.utc(), log_id=f"a{number}")
    assert await made.visit() is False
    assert "ask for more rows per page" in made.error()


@pytest.mark.parametrize("form", ["iso", "unix", "unix_ms", "date", "number"])
async def test_a_question_has_the_form_that_the_api_takes(form: str, world: Any, time: Time) -> None:
    moments = {n: time.utc() + n * MINUTE for n in range(6)}
    values: dict[str, Callable[[int], Any]] = {
        "iso": lambda n: moments[n].isoformat(),
        "date": lambda n: moments[n].isoformat(),
        "unix": lambda n: int(moments[n].timestamp()),
        "unix_ms": lambda n: int(moments[n].timestamp() * 1000),
        "number": lambda n: n + 7,
    }
    rows = [row(n, value=values[form](n)) for n in range(3)]
    made = world(
        lambda q: rows, a_list(since={"param": "from", "row": "value", "format": form}, rows={"id": "id"})
    )
    await made.visit()
    made.asked()
    await made.visit()
    asked = made.asked()[0]["from"]
    cursor = moments[2] - 10 * MINUTE
    wanted = {
        "iso": cursor.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "date": cursor.date().isoformat(),
        "unix": str(int(cursor.timestamp())),
        "unix_ms": str(int(cursor.timestamp() * 1000)),
        "number": "8",
    }
    assert asked == wanted[form]
    rows.append(row(3, value=values[form](3)))
    await made.visits(2)
    assert made.keys() == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    "value",
    [
        "2026-05-01 05:00:00 UTC",
        "2026-05-01T07:00:00+02:00",
        "2026-05-01T05:00:00.000000000Z",
        "20260501T050000Z",
        "Fri, 01 May 2026 05:00:00 GMT",
        "1777611600",
        1777611600000,
    ],
)
async def test_a_cursor_is_read_in_each_form_that_vendors_write(value: Any, world: Any) -> None:
    made = world(lambda _: [row(1, value)], a_list(since={"param": "from", "row": "at"}))
    assert await made.visits(2) == [True, True]
    assert made.asked()[-1]["from"] == "2026-05-01T04:50:00Z"


async def test_a_time_that_is_none_stops_no_list(world: Any) -> None:
    strange = [row(1, "2026-05-01" + " UTC" * 9000), row(2, "9" * 9000), row(3, "")]
    made = world(lambda _: [row(0), *strange], a_list(since={"param": "from", "row": "at"}))
    assert await made.visits(2) == [True, True]
    assert made.keys() == ["0", "1", "2", "3"]


@pytest.mark.parametrize("far", ["9999-12-31T23:59:59Z", "2027-01-01T00:00:00Z"])
async def test_a_row_from_the_future_is_reported_and_hides_no_later_one(
    far: str, world: Any, time: Time
) -> None:
    rows = [row(1, time.utc().isoformat()), row(2, far)]

    def answers(query: Mapping[str, str]) -> Any:
        return [each for each in rows if each["at"] >= query.get("from", "")]

    made = world(answers, a_list(rows={"id": "id", "time": "at"}, since={"param": "from", "row": "at"}))
    await made.visits(2)
    rows.append(row(3, time.utc().isoformat()))
    await made.visits(2)
    assert made.keys() == ["1", "2", "3"]


async def test_a_wrong_date_of_the_vendor_stops_no_list(world: Any, time: Time) -> None:
    rows = [row(n, (time.utc() + n * MINUTE).isoformat()) for n in range(25)]

    def answers(query: Mapping[str, str]) -> Any:
        found = [each for each in rows if each["at"] >= query.get("from", "")][:10]
        date = format_datetime(time.utc() - 3 * DAY, usegmt=True)
        return Reply(200, {"Date": date}, wire.encode(found))

    since = {"param": "from", "row": "at"}
    made = world(answers, a_list(pages={"next": "since"}, since=since))
    assert await made.visits(2) == [True, True]
    assert made.keys() == [str(n) for n in range(25)]


async def test_a_date_ahead_hides_no_row_of_a_window(world: Any, time: Time) -> None:
    rows: list[Any] = []

    def answers(query: Mapping[str, str]) -> Any:
        found = [each for each in rows if query["from"] <= each["at"] <= query["to"]]
        date = format_datetime(time.utc() + 400 * DAY, usegmt=True)
        return Reply(200, {"Date": date}, wire.encode(found))

    since = {"param": "from", "row": "at", "until": "to", "window": "7d"}
    made = world(answers, a_list(start="2026-04-01T00:00:00Z", since=since))
    await made.visits(2)
    rows.append(row(1, time.utc().isoformat()))
    await made.visits(2)
    assert made.keys() == ["1"]


@pytest.mark.parametrize("pages", [{"next": "rows", "total": "total"}, {"next": "next"}])
@pytest.mark.parametrize("window", [{}, {"until": "to", "window": "1h"}])
async def test_a_row_that_changes_while_a_long_walk_is_under_way_is_reported(
    pages: dict[str, str], window: dict[str, str], world: Any, time: Time
) -> None:
    """The list is not in the order of `since.row`: what changes on a page that was read is behind the walk."""
    begin = time.utc() - 20 * MINUTE
    rows = [row(n, (begin + timedelta(seconds=n)).isoformat()) for n in range(40)]
    rests = [True]

    def answers(query: Mapping[str, str]) -> Any:
        skip = int(query.get("skip", 0))
        found = [each for each in rows if query.get("from", "") <= each["at"] <= query.get("to", "9")]
        more = skip + 10 if skip + 10 < len(found) else None
        page = {"total": len(found), "rows": found[skip : skip + 10], "next": more}
        limit = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "3600"} if rests[0] else {}
        return Reply(200, limit, wire.encode(page))

    source = a_list(
        start=begin,
        rows={"at": "rows", "id": ["id", "at"], "time": "at"},
        pages={"param": "skip", **pages},
        since={"param": "from", "row": "at", **window},
    )
    made = world(answers, source)
    await made.visit()
    time.advance(1800)
    rows[0]["at"] = time.utc().isoformat()
    time.advance(7200)
    rests[0] = False
    rows[35]["at"] = time.utc().isoformat()
    await made.visits(3)
    assert {each["data"]["raw"]["at"] for each in made.told()} >= {each["at"] for each in rows}


@pytest.mark.parametrize("is_empty", [False, True])
async def test_a_date_without_a_time_of_day_is_reported_on_the_first_day(
    is_empty: bool, world: Any, time: Time
) -> None:
    rows = [] if is_empty else [row(1, "2026-04-30"), row(2, "2026-05-01")]

    def answers(query: Mapping[str, str]) -> Any:
        return [each for each in rows if each["at"] >= query["from"]]

    since = {"param": "from", "row": "at", "format": "date"}
    made = world(answers, a_list(start="now", rows={"id": "id", "time": "at"}, since=since))
    await made.visits(2)
    assert made.keys() == []
    rows.append(row(3, "2026-05-01"))
    await made.visits(2)
    time.advance(86400)
    rows += [row(4, "2026-05-01"), row(5, "2026-05-02")]
    await made.visits(2)
    assert made.keys() == ["3", "4", "5"]


@pytest.mark.parametrize("forms", [("number", "unix"), ("unix", "number")])
async def test_another_format_of_times_goes_on_and_reports_nothing_twice(
    forms: tuple[str, str], world: Any, time: Time
) -> None:
    rows = [row(n, value=int(time.now()) + n) for n in range(3)]

    def answers(query: Mapping[str, str]) -> Any:
        return [each for each in rows if each["value"] >= int(query.get("from", 0))]

    sources = [a_list(since={"param": "from", "row": "value", "format": form}) for form in forms]
    made = world(answers, sources[0])
    await made.visits(2)
    made.source = sources[1]
    made.reboot()
    rows.append(row(3, value=int(time.now()) + 200))
    assert await made.visits(2) == [True, True]
    assert made.keys() == ["0", "1", "2", "3"]


# -- 8: credentials --------------------------------------------------------------------------------------------------


async def test_credentials_never_follow_a_next_to_another_host(world: Any, time: Time) -> None:
    vendor = GitHub(time.utc, GitHubQuirks(cap=5, next_elsewhere=True))
    made = world(vendor, worked("github"))
    for _ in range(12):
        vendor.add()
    assert await made.visit() is False
    assert {request.url.host for request in made.transport.requests} == {"127.0.0.1"}
    assert "elsewhere.invalid" in made.error()
    vendor.quirks.next_elsewhere = False
    await made.visits(2, after=4000)
    assert set(made.keys()) == vendor.expected()


@pytest.mark.parametrize(
    "link", ["https://127.0.0.1:1/x", "http://127.0.0.1:2/x", "//evil.example/x", "http://u:p@127.0.0.1:1/x"]
)
async def test_another_scheme_port_or_user_is_another_host(link: str, world: Any) -> None:
    made = world(lambda q: {"rows": [row(1)], "next": link}, a_list(pages={"next": "next"}))
    assert await made.visit() is False
    assert len(made.transport.requests) == 1


async def test_a_server_behind_a_proxy_may_write_http(world: Any, time: Time) -> None:
    seen = []

    def answers(query: Mapping[str, str]) -> Any:
        seen.append(dict(query))
        return {"rows": [row(len(seen))], "next": None if "p" in query else "http://api.example/list?p=2"}

    made = world(answers, a_list(base_url="https://api.example", path="/list", pages={"next": "next"}))
    assert await made.visit()
    assert [str(request.url) for request in made.transport.requests][1] == "https://api.example/list?p=2"


async def test_a_key_in_the_query_is_sent_and_kept_nowhere(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUERY_KEY", "s3cret-query-key")
    seen: list[str | None] = []

    def answers(query: Mapping[str, str]) -> Any:
        seen.append(query.get("key"))
        here = "/list?page=2&key=s3cret-query-key"
        return {"rows": [row(query.get("page", "1"))], "next": None if "page" in query else here}

    source = a_list(
        path="/list",
        query={"key": {"env": "QUERY_KEY"}, "n": 5},
        headers={"x-key": {"env": "QUERY_KEY"}, "x-plain": "yes"},
        pages={"next": "next"},
    )
    served = Served(Time(), answers)
    made = world(served, source)
    with capture_logs() as logs:
        await broken_after(1, made, served)
        await made.visit(4000)
    assert seen[:2] == ["s3cret-query-key"] * 2
    assert all(headers["x-key"] == "s3cret-query-key" for _, _, headers, _ in served.asked_for)
    assert "s3cret" not in json.dumps(made.state)
    assert "s3cret" not in str(logs)
    assert "s3cret" not in repr(source)
    assert "s3cret" not in source.fingerprint(source.identity())
    assert len(made.keys()) == 2


async def test_a_next_url_is_asked_for_as_the_vendor_wrote_it(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUERY_KEY", "s3cret-query-key")
    opaque = "/list?after=a+b%2Bc%3D|^&&y=%7e%2f:;@&key=s3cret-query-key"

    def answers(query: Mapping[str, str]) -> Any:
        return {"rows": [row(query.get("after", "1"))], "next": None if "after" in query else opaque}

    source = a_list(path="/list", query={"key": {"env": "QUERY_KEY"}}, pages={"next": "next"})
    made = world(answers, source)
    await made.visit()
    asked = made.transport.requests[1].url.query.decode()
    assert asked == "after=a+b%2Bc%3D|^&y=%7e%2f:;@&key=s3cret-query-key"


async def test_a_state_that_cannot_be_read_begins_the_list_anew(world: Any, time: Time) -> None:
    vendor = GitHub(time.utc)
    made = world(vendor, worked("github"))
    vendor.add()
    await made.visit()
    await made.store.rewind("github", {**made.state, "list": {"walk": 7, "mark": "x"}})
    vendor.add()
    assert await made.visits(2) == [True, True]
    assert len(made.keys()) == 2


@pytest.mark.parametrize(
    "link", ["page2?x=1", "./page2?x=1", "../v1/page2?x=1", "HTTP://127.0.0.1:1/v1/page2?x=1"]
)
async def test_a_relative_next_is_resolved_as_the_standard_says(link: str, world: Any) -> None:
    def answers(query: Mapping[str, str]) -> Any:
        return {"rows": [row(2)]} if query else {"rows": [row(1)], "next": link}

    made = world(answers, a_list(path="/v1/list", pages={"next": "next"}))
    assert await made.visit()
    assert [each[0] for each in made.vendor.asked_for] == ["/v1/list", "/v1/page2"]
    assert made.keys() == ["1", "2"]


async def test_a_relative_link_is_resolved_as_the_standard_says(world: Any) -> None:
    vendor: Any = None

    def answers(_: Mapping[str, str]) -> Any:
        first = len(vendor.asked_for) == 1
        return Reply(200, {"link": '<page2>; rel="next"'} if first else {}, json.dumps([row(first)]).encode())

    made = world(answers, a_list(path="/v1/list", rows={"id": "to_string(id)"}, pages={"next": "link"}))
    vendor = made.vendor
    assert await made.visit()
    assert [each[0] for each in vendor.asked_for] == ["/v1/list", "/v1/page2"]


async def test_a_token_without_its_parameter_is_said_and_asked_for_nowhere(world: Any) -> None:
    made = world(lambda _: {"rows": [row(1)], "next": "bmV4dA=="}, a_list(pages={"next": "next"}))
    assert not await made.visit()
    assert "pages.param" in made.error()
    assert made.vendor.asked == 1


async def test_a_link_header_without_an_end_does_not_stop_the_daemon(world: Any) -> None:
    answer = Reply(200, {"link": "<" * 60_000}, b'[{"id":1}]')
    made = world(lambda _: answer, a_list(pages={"next": "link"}))
    begin = process_time()
    assert await made.visit()
    assert process_time() - begin < 5
    assert made.keys() == ["1"]


@pytest.mark.parametrize("since", [None, {"next": True}])
async def test_a_token_that_no_url_can_carry_stops_no_list_for_ever(since: Any, world: Any) -> None:
    token = ["x" * 100_000]

    def answers(query: Mapping[str, str]) -> Any:
        return {"rows": [] if query else [row(1)], "next": token[0]}

    made = world(answers, a_list(pages={"next": "next", "param": "after"}, since=since))
    assert not await made.visit()
    assert "too long for a URL" in made.error()
    token[0] = "y"
    assert await made.visit(600)
    assert made.keys() == ["1"]


@pytest.mark.parametrize("name", ["key", "Key", "access_token"])
async def test_a_secret_that_a_next_url_repeats_by_another_name_is_kept_nowhere(
    name: str, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUERY_KEY", "s3cret-query-key")

    def answers(query: Mapping[str, str]) -> Any:
        if "after" in query:
            return {"rows": [row(2)]}
        return Reply(
            200,
            {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "90"},
            wire.encode({"rows": [row(1)], "next": f"/list?after=1&{name}=s3cret-query-key"}),
        )

    source = a_list(path="/list", query={"key": {"env": "QUERY_KEY"}}, pages={"next": "next"})
    made = world(answers, source)
    await made.visit()
    assert made.state["list"]["walk"]["at"] == "http://127.0.0.1:1/list?after=1"
    await made.visit(120)
    assert made.keys() == ["1", "2"]
    assert {"after": "1", "key": "s3cret-query-key"} in [each[1] for each in made.vendor.asked_for]


def test_another_key_in_the_query_is_another_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ETag that one key got is not sent with another."""
    monkeypatch.setenv("KEY_A", "0123456789a")
    monkeypatch.setenv("KEY_B", "0123456789b")
    one, two = (a_list(query={"key": {"env": name}}) for name in ("KEY_A", "KEY_B"))
    assert one.identity() != two.identity()


# -- 9 to 13 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["okta", "nvd", "zendesk"])
async def test_a_rate_limit_ends_the_visit_and_the_next_one_goes_on(
    name: str, world: Any, time: Time
) -> None:
    quirks = {
        "okta": OktaQuirks(limit=4, cap=5),
        "nvd": NvdQuirks(limit=3, cap=15),
        "zendesk": ZendeskQuirks(limit=3, cap=5),
    }
    classes = {"okta": Okta, "nvd": Nvd, "zendesk": Zendesk}
    vendor: Any = classes[name](time.utc, quirks[name])
    made = world(vendor, MAKERS[name][1]())
    for _ in range(40):
        vendor.add()
        time.advance(1)
    time.advance(60)
    await made.visits(30)
    assert set(made.keys()) == vendor.expected()


async def test_the_vendors_poll_interval_is_heeded(world: Any, time: Time) -> None:
    vendor = GitHub(time.utc, GitHubQuirks(poll_interval=300))
    made = world(vendor, worked("github"))
    vendor.add()
    await made.visit()
    made.asked()
    await made.visits(4)
    assert len(made.asked()) == 0
    await made.visit()
    assert len(made.asked()) == 1


async def test_two_requests_of_a_visit_are_a_pace_apart(world: Any, time: Time) -> None:
    at: list[float] = []

    def answers(query: Mapping[str, str]) -> Any:
        at.append(time.now())
        start = int(query.get("skip", 0))
        return {"total": 30, "rows": [row(n) for n in range(start, min(30, start + 10))]}

    made = world(
        answers,
        a_list(
            base_url="https://api.example",
            pace="6s",
            pages={"next": "rows", "param": "skip", "total": "total", "overlap": 0},
        ),
    )
    await made.visit()
    assert [b - a for a, b in pairwise(at)] == [6, 6]
    assert len(made.keys()) == 30


async def test_a_total_spares_the_last_empty_question(world: Any) -> None:
    rows = [row(n) for n in range(25)]

    def answers(query: Mapping[str, str]) -> Any:
        at = int(query.get("skip", 0))
        return {"total": 25, "rows": rows[at : at + 10]}

    made = world(answers, a_list(pages={"next": "rows", "param": "skip", "total": "total", "overlap": 0}))
    await made.visit()
    assert [query.get("skip") for query in made.asked()] == [None, "10", "20"]


@pytest.mark.parametrize("total", [{}, {"total": None}, {"total": "25"}])
async def test_a_missing_total_costs_one_more_question_and_no_row(total: Any, world: Any) -> None:
    rows = [row(n) for n in range(25)]

    def answers(query: Mapping[str, str]) -> Any:
        at = int(query.get("skip", 0))
        return {**total, "rows": rows[at : at + 5]}

    made = world(
        answers, a_list(query={"limit": 5}, pages={"next": "rows", "param": "skip", "total": "total"})
    )
    await made.visits(2)
    assert made.keys() == [str(n) for n in range(25)]


async def test_a_total_that_counts_the_page_only_hides_nothing(world: Any) -> None:
    rows = [row(n) for n in range(25)]

    def answers(query: Mapping[str, str]) -> Any:
        at = int(query.get("skip", 0))
        found = rows[at : at + 10]
        return {"total": len(found) if not at else len(rows), "rows": found}

    made = world(answers, a_list(pages={"next": "rows", "param": "skip", "total": "total"}))
    await made.visit()
    assert len(made.keys()) == 25


async def test_rows_that_are_removed_while_a_list_is_read_hide_no_other(world: Any) -> None:
    rows = [row(n) for n in range(60)]

    def answers(query: Mapping[str, str]) -> Any:
        at = int(query.get("skip", 0))
        found = rows[at : at + 20]
        if len(rows) == 60:
            del rows[:15]
        return {"rows": found}

    made = world(answers, a_list(pages={"next": "rows", "param": "skip", "overlap": 5}))
    await made.visit()
    assert set(made.keys()) == {str(n) for n in range(60)}


@pytest.mark.parametrize("end", ["empty", "404", "short"])
async def test_numbered_pages_are_read_to_their_end(end: str, world: Any) -> None:
    rows = [row(n) for n in range(40 if end != "short" else 35)]

    def answers(query: Mapping[str, str]) -> Any:
        page = int(query.get("page", 1))
        found = rows[(page - 1) * 10 : page * 10]
        return document(404, {"detail": "Invalid page."}) if not found and end == "404" else found

    made = world(answers, a_list(pages={"next": "page", "param": "page"}))
    assert await made.visits(2) == [True, True]
    assert len(made.keys()) == len(rows)


@pytest.mark.parametrize(
    ("pages", "rests"), [({"total": "total"}, False), ({"more": "more"}, False), ({}, True)]
)
@pytest.mark.parametrize("how", ["rows", "page"])
async def test_a_404_in_the_middle_of_a_list_hides_no_row_behind_it(
    how: str, pages: dict[str, Any], rests: bool, world: Any, time: Time
) -> None:
    """It is the end only behind a page of the same visit that may be the last."""
    rows = [row(n, (time.utc() - n * HOUR).isoformat()) for n in range(40)]
    first = [True]

    def answers(query: Mapping[str, str]) -> Any:
        at = int(query.get("p", 0)) * (10 if how == "page" else 1)
        if at and first[0]:
            first[0] = False
            return Reply(404, {}, b"")
        found = [each for each in rows if each["at"] >= query.get("from", "")]
        page = {"total": len(found), "more": at + 10 < len(found), "rows": found[at : at + 10]}
        limit = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "90"} if rests and first[0] else {}
        return Reply(200, limit, wire.encode(page))

    pages = {"next": how, "param": "p", "first": 0, **pages}
    since = {"param": "from", "row": "at"}
    made = world(answers, a_list(rows={"at": "rows", "id": "id"}, pages=pages, since=since))
    await made.visits(4, 600)
    assert len(made.keys()) == 40


async def test_a_list_of_windows_is_not_rewound_to_a_beginning_that_it_has_not(
    world: Any, time: Time
) -> None:
    since = {"param": "from", "row": "at", "until": "to", "window": "7d"}
    source = a_list(start="2026-04-01T00:00:00Z", since=since)
    made = world(lambda query: [row(1)] if "from" in query else Reply(400, {}, b""), source)
    await made.visit()
    with pytest.raises(ValueError, match="needs a time"):
        source.rewound(made.state, None)
    await made.store.rewind("list", source.rewound(made.state, time.utc() - DAY))
    assert await made.visit()


async def test_a_parameter_that_is_ignored_is_no_endless_list(world: Any) -> None:
    made = world(lambda q: [row(n) for n in range(20)], a_list(pages={"next": "page", "param": "pgae"}))
    assert await made.visit() is False
    assert "pgae" in made.error()


@pytest.mark.parametrize("more", [None, "absent"])
async def test_a_more_that_finds_nothing_leaves_it_to_the_next(more: Any, world: Any) -> None:
    def answers(query: Mapping[str, str]) -> Any:
        at = int(query.get("token", 0))
        said = {} if more == "absent" else {"more": None}
        return {"rows": [row(at)], "next": str(at + 1) if at < 3 else None, **said}

    made = world(answers, a_list(pages={"next": "next", "param": "token", "more": "more"}))
    await made.visit()
    assert made.keys() == ["0", "1", "2", "3"]


async def test_a_vendor_cannot_write_a_notice_of_the_daemon(world: Any) -> None:
    made = world(
        lambda q: [row(1, kind="oundsman.source.gap")],
        a_list(event={"type": "r{kind}"}),
    )
    await made.visit()
    assert [each["type"] for each in made.told()] == ["http.json.roundsman.source.gap"]


@pytest.mark.parametrize("next_", ["link", "path"])
async def test_a_page_that_names_itself_as_next_is_the_last(next_: str, world: Any, time: Time) -> None:
    if next_ == "link":
        vendor: Any = GitHub(time.utc, GitHubQuirks(cap=5, loops=True))
        for _ in range(4):
            vendor.add()
        made = world(vendor, worked("github"))
    else:
        made = world(
            lambda q: {"rows": [row(1)], "next": "t"}, a_list(pages={"next": "next", "param": "token"})
        )
    with capture_logs() as logs:
        assert await made.visits(2) == [True, True]
    assert len(made.transport.requests) < 8
    assert any("names itself" in line.get("what", "") for line in logs)


async def test_pages_that_go_round_in_a_circle_are_a_gap(world: Any) -> None:
    following = {"": "b", "b": "c", "c": "a", "a": "b"}

    def answers(query: Mapping[str, str]) -> Any:
        at = query.get("token", "")
        return {"rows": [row(f"r{at}")], "next": following[at]}

    made = world(answers, a_list(pages={"next": "next", "param": "token"}))
    await made.visit()
    assert len(made.asked()) < 8
    [gap] = made.told_notices(GAP)
    assert "circle" in gap["data"]["message"]
    assert (await made.status()).source.gap(made.state) is not None


async def test_a_page_limit_that_is_reached_is_a_gap_and_said_once(world: Any) -> None:
    made = world(
        lambda q: {"rows": [row(q.get("token", "0"))], "next": str(int(q.get("token", "0")) + 1)},
        a_list(pages={"next": "next", "param": "token", "limit": 5}),
    )
    await made.visits(3)
    assert made.keys() == ["0", "1", "2", "3", "4"]
    [gap] = made.told_notices(GAP)
    assert "pages.limit = 5" in gap["data"]["message"]


async def test_a_gap_ends_when_a_later_reading_shows_the_list_to_its_end(world: Any) -> None:
    """The log has a line for its beginning, however often the list is cut, and one for its end."""
    most = [9]

    def answers(query: Mapping[str, str]) -> Any:
        at = int(query.get("token", "0"))
        return {"rows": [row(at)], "next": str(at + 1) if at < most[0] else None}

    made = world(answers, a_list(pages={"next": "next", "param": "token", "limit": 5}, start="beginning"))
    with capture_logs() as logs:
        await made.visits(3)
        assert (await made.status()).source.gap(made.state) == "beginning"
        [gap] = made.told_notices(GAP)
        assert "Rows of any age may be missing" in gap["data"]["message"]
        most[0] = 3
        await made.visits(2)
    assert (await made.status()).source.gap(made.state) is None
    lines = [line for line in logs if line["event"] in {"source.notice", "source.gap_closed"}]
    assert [line["event"] for line in lines] == ["source.notice", "source.gap_closed"]
    assert lines[1]["since"] == "beginning"


async def test_a_gap_in_a_list_with_the_newest_row_first_ends_when_rows_before_it_are_read(
    world: Any, time: Time
) -> None:
    rows = [row(n, rfc3339(time.utc() - n * HOUR)) for n in range(5)]

    def answers(query: Mapping[str, str]) -> Any:
        at = int(query.get("token", "0"))
        newest = sorted(rows, key=lambda each: str(each["at"]), reverse=True)
        return {"rows": newest[at : at + 5], "next": str(at + 5) if at + 5 < len(newest) else None}

    options = {"rows": {"id": "id", "time": "at", "newest_first": True}, "start": "beginning"}
    made = world(answers, a_list(pages={"next": "next", "param": "token", "limit": 2}, **options))
    await made.visit()
    bound = rows[0]["at"]
    time.advance(HOUR.total_seconds())
    rows += [row(f"new{n}", rfc3339(time.utc() - n * MINUTE)) for n in range(20)]
    await made.visit()
    source = (await made.status()).source
    assert source.gap(made.state) == bound
    [gap] = made.told_notices(GAP)
    assert (gap["data"]["since"], gap["data"]["details"]["since"]) == (bound, bound)
    await made.visit(600)
    assert source.gap(made.state) == bound, "a visit that stops at known rows does not reach it"
    made.source = a_list(pages={"next": "next", "param": "token"}, **options)
    made.reboot()
    await made.visit(86400)
    assert source.gap(made.state) is None
    assert set(made.keys()) == {str(each["id"]) for each in rows}


async def test_a_gap_stays_while_only_rows_after_it_are_asked_for(world: Any, time: Time) -> None:
    """`since.param` begins behind it: a rewind alone reads its rows."""
    rows = [row(n, rfc3339(time.utc() + n * HOUR)) for n in range(12)]
    since = {"param": "from", "row": "at", "overlap": "1m"}

    def answers(query: Mapping[str, str]) -> Any:
        at, begin = int(query.get("token", "0")), query.get("from", "")
        found = [each for each in rows if str(each["at"]) >= begin]
        return {"rows": found[at : at + 2], "next": str(at + 2) if at + 2 < len(found) else None}

    made = world(
        answers,
        a_list(pages={"next": "next", "param": "token", "limit": 2}, since=since, start=START_OF_MAY),
    )
    time.advance(86400)
    await made.visits(4)
    source = (await made.status()).source
    assert source.gap(made.state) == START_OF_MAY
    await made.store.rewind(made.source.name, made.source.rewound(made.state, parse_time(START_OF_MAY)))
    assert source.gap(made.state) is None


async def test_a_walk_is_begun_anew_if_its_table_was_changed(world: Any, time: Time) -> None:
    vendor = GitHub(time.utc, GitHubQuirks(cap=5))
    made = world(vendor, worked("github"))
    for _ in range(30):
        vendor.add()
    await broken_after(2, made, vendor)
    assert made.state["list"]["walk"]["at"]
    made.source = worked("github", query={"per_page": 4})
    made.reboot()
    made.asked()
    await made.visit(4000)
    assert "page" not in made.asked()[0]
    assert set(made.keys()) == vendor.expected()


async def test_errors_in_a_200_are_no_rows(pair: tuple[Any, World], time: Time) -> None:
    vendor, world = pair
    for _ in range(5):
        vendor.add()
    vendor.quirks.errors_in_200 = 1
    assert await world.visit() is False
    assert "Something went wrong" in world.error()
    await world.visits(2, after=4000)
    assert set(world.keys()) == vendor.expected()


async def test_rows_beside_errors_are_not_all(world: Any) -> None:
    answer: dict[str, Any] = {"rows": [row(1)], "errors": [{"message": "shard 2 is down"}]}
    made = world(lambda q: answer, a_list(since={"next": True}, pages={"next": "n", "param": "n"}))
    assert await made.visit() is False
    assert made.keys() == []
    answer["errors"] = []
    answer["n"] = "x"
    await made.visit(4000)
    assert made.keys() == ["1"]


async def test_a_next_url_of_a_search_keeps_its_own_query(world: Any) -> None:
    def answers(query: Mapping[str, str]) -> Any:
        at = int(query.get("page", 0))
        return {"rows": [row(at)], "next": f"/?kind=a&page={at + 1}" if at < 3 else None}

    made = world(
        answers,
        a_list(method="POST", query={"kind": "a"}, rows={"id": "id", "at": "rows"}, pages={"next": "next"}),
    )
    await made.visit()
    assert made.keys() == ["0", "1", "2", "3"]


@pytest.mark.parametrize("start", ["now", "beginning"])
async def test_a_cursor_of_many_digits_loses_no_row(start: str, world: Any) -> None:
    first = 2**60 + 129  # its nearest float is greater
    rows = [row(n, value=first + n) for n in range(3)]
    made = world(
        lambda q: [each for each in rows if each["value"] > int(q.get("from", 0))],
        a_list(start=start, since={"param": "from", "row": "value", "format": "number"}),
    )
    await made.visits(2)
    rows += [row(n, value=first + n) for n in range(3, 6)]
    await made.visits(2)
    assert made.keys()[-3:] == ["3", "4", "5"]


@pytest.mark.parametrize("value", ["nan", "inf", True, [], {}])
async def test_a_strange_number_does_not_move_the_cursor(value: Any, world: Any) -> None:
    rows = [row(1, value=5), row(2, value=value)]
    made = world(lambda q: rows, a_list(since={"param": "from", "row": "value", "format": "number"}))
    await made.visits(2)
    rows.append(row(3, value=7))
    await made.visits(2, after=4000)
    assert set(made.keys()) >= {"1", "3"}


@pytest.mark.parametrize(
    "link",
    [
        '</?p=1>; rel="next last"',
        '</?p=1>; rel="Next"',
        "</?p=1>; REL=next",
        "</?p=1;a,b>; rel=next",
        '</?p=0>; title="a, <b>; rel=next"; rel="prev", </?p=1>; rel="next"',
    ],
)
async def test_a_link_is_found_in_each_form_that_the_standard_has(link: str, world: Any) -> None:
    def answers(query: Mapping[str, str]) -> Any:
        return [row(2)] if "p" in query else Reply(200, {"Link": link}, json.dumps([row(1)]).encode())

    made = world(answers, a_list(pages={"next": "link"}))
    await made.visit()
    assert made.keys() == ["1", "2"]


@pytest.mark.parametrize("total", [0, 5])
@pytest.mark.parametrize("next_", ["rows", "page"])
async def test_a_total_below_the_rows_that_were_read_hides_nothing(
    total: int, next_: str, world: Any
) -> None:
    def answers(query: Mapping[str, str]) -> Any:
        at = int(query.get("at", 0)) if next_ == "rows" else int(query.get("at", 1)) * 10 - 10
        return {"rows": [row(n) for n in range(25)][at : at + 10], "total": total}

    made = world(
        answers,
        a_list(rows={"id": "id", "at": "rows"}, pages={"next": next_, "param": "at", "total": "total"}),
    )
    await made.visit()
    assert len(made.keys()) == 25


# -- a list without times --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("newest_first", [True, False])
async def test_a_list_without_times_begins_now_with_what_is_not_there_yet(
    newest_first: bool, world: Any
) -> None:
    rows = [row(n) for n in range(35)]

    def answers(query: Mapping[str, str]) -> Any:
        at = int(query.get("skip", 0))
        listed = rows[::-1] if newest_first else rows
        return listed[at : at + 10]

    made = world(
        answers,
        a_list(
            start="now",
            rows={"id": "id", "newest_first": newest_first},
            pages={"next": "rows", "param": "skip"},
        ),
    )
    await made.visits(2)
    assert made.keys() == []
    rows += [row(n) for n in range(35, 60)]
    await made.visits(2)
    assert sorted(made.keys(), key=int) == [str(n) for n in range(35, 60)]


async def test_a_number_as_cursor_begins_now_behind_the_last_one(world: Any) -> None:
    rows = [row(n, value=n) for n in range(5)]
    made = world(
        lambda q: [each for each in rows if each["value"] >= int(q.get("from", 0))],
        a_list(start="now", since={"param": "from", "row": "value", "format": "number"}),
    )
    await made.visits(2)
    assert made.keys() == []
    rows.append(row(5, value=5))
    await made.visits(2)
    assert made.keys() == ["5"]


async def test_a_rewind_reads_again_what_was_not_reported(world: Any, time: Time) -> None:
    vendor = Nvd(time.utc, NvdQuirks(limit=None))
    for minutes in (300, 200, 100):
        vendor.add(at=time.utc() - minutes * MINUTE)
    made = world(vendor, worked("nvd", start="now"))
    await made.visit()
    assert made.keys() == []
    await made.store.rewind("nvd", made.source.rewound(made.state, time.utc() - 250 * MINUTE))
    await made.visits(2)
    assert len(made.keys()) == 2


# -- POST ------------------------------------------------------------------------------------------------------------


async def test_a_search_has_its_page_and_its_time_in_the_body(world: Any, time: Time) -> None:
    bodies: list[Any] = []
    served: Any = None

    def answers(query: Mapping[str, str]) -> Any:
        bodies.append(json.loads(served.body))
        first = len(bodies) == 1
        return {"hits": [row(len(bodies), value=1777000000 + len(bodies))], "after": "x" if first else None}

    source = a_list(
        method="POST",
        path="/search",
        body={"size": 2, "range": {"field": "value"}},
        rows={"id": "id", "at": "hits"},
        pages={"next": "after", "param": "page.after"},
        since={"param": "range.from", "row": "value", "format": "unix"},
    )
    served = Served(time, answers)
    made = world(served, source)
    assert await made.visits(2) == [True, True]
    assert bodies[0] == {"size": 2, "range": {"field": "value"}}
    assert bodies[1] == {"size": 2, "range": {"field": "value"}, "page": {"after": "x"}}
    assert bodies[2]["range"]["from"] == 1777000002 - 600
    assert source.body == {"size": 2, "range": {"field": "value"}}


# -- equivalence -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cap", [10, 1000])
@pytest.mark.parametrize("envelope", [None, "data"])
@pytest.mark.parametrize("inclusive", [True, False])
async def test_parakey_by_a_table_has_the_very_ids_of_the_parakey_source(
    cap: int, envelope: str | None, inclusive: bool, tmp_path: Path, time: Time
) -> None:
    parakey = Parakey(time.utc, ParakeyQuirks(cap=cap, envelope=envelope, inclusive=inclusive))
    worlds = []
    for name, source in (("a", doors()), ("b", event_logs(paging={"limit": 10}))):
        (tmp_path / name).mkdir()
        worlds.append(World(tmp_path / name, parakey, time, source))
    for step in range(30):
        for number in range(step % 7):
            parakey.add(log_id=f"s{step}n{number}", visible=time.utc() + (number % 3) * MINUTE)
        for made in worlds:
            await made.visit(31)
    for made in worlds:
        await made.visits(4)
    one, two = (set(made.keys()) for made in worlds)
    assert one == two == {log.id for log in parakey.logs}
    for made in worlds:
        await made.store.close()


# -- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_are_tables_of_toml(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("GITHUB_TOKEN", "OKTA_SSWS", "ZENDESK_TOKEN"):
        monkeypatch.setenv(variable, "x" * 20)
    made = a_list(**example(name))
    assert made.type == "http.json"
    assert made.warnings() == []


@pytest.mark.parametrize(
    ("options", "place", "words"),
    [
        ("rows = {}", "rows.id", "is missing"),
        ('rows = { id = "a-b" }', "rows.id", "no JMESPath"),
        ('rows = { id = "id", failed = "status ==" }', "rows.failed", "no JMESPath"),
        ("rows = { id = [] }", "rows.id", ""),
        ('pages = { next = "rows" }', "pages", "param"),
        ('pages = { next = "page" }', "pages", "param"),
        ('pages = { next = "link", param = "x" }', "pages", "no param"),
        ('pages = { next = "since" }', "", "since.param"),
        ('pages = { next = "a b" }', "pages.next", "no JMESPath"),
        ('since = { param = "x" }', "since", "row"),
        ("since = { next = true }", "", "pages.next"),
        ('since = { param = "x", row = "y", window = "1d" }', "since", "until"),
        ('since = { param = "x", row = "y", until = "z", window = "5m" }', "since", "overlap"),
        ("since = {}", "since", "next = true"),
        ('event = { type = "com.x.{a b}" }', "event.type", "no JMESPath"),
        ('event = { type = "com.x.{a" }', "event.type", "brace"),
        ('event = { type = "{kind}" }', "event.type", "name of your own"),
        ('event = { type = "roundsman.x" }', "event.type", "name of your own"),
        (
            'method = "POST"\nbody = { page = 5 }\npages = { next = "n", param = "page.after" }',
            "",
            "no table in body",
        ),
        ('path = "list"', "path", "slash"),
        ('path = "/list?x=1"', "path", "query"),
        ("body = { a = 1 }", "", "POST"),
        ("auth = {}", "auth", "one of"),
        ('auth = { user = "x" }', "auth", "belong together"),
        ('auth = { bearer = "0123456789ab", user = "x", password = "y" }', "auth", "one of"),
        ("query = { a = [1] }", "query.a", "not a text"),
        ('base_url = "https://api.example/?a=1"', "base_url", "query"),
        ('rows = { id = "id", failed = "a && nofunc(b)" }', "rows.failed", "no function nofunc"),
        ('rows = { at = "[?abs()].x", id = "id" }', "rows.at", "takes 1 argument, not 0"),
        ('headers = { x = "a\\nb" }', "headers.x", "is not printable ASCII"),
        ('headers = { x = "é" }', "headers.x", "is not printable ASCII"),
        ('auth = { beare = "0123456789ab" }', "auth.beare", "did you mean bearer"),
        ("auth = { oauth = 5 }", "auth.oauth", "is not a table"),
        ('since = { param = "a", row = "x", until = "a" }', "", 'since.param and since.until are both "a"'),
        (
            'pages = { next = "page", param = "a" }\nsince = { param = "a", row = "x" }',
            "",
            'pages.param and since.param are both "a"',
        ),
        (
            'method = "POST"\npages = { next = "n", param = "a.b" }\nsince = { param = "a", row = "x" }',
            "",
            "replace one another",
        ),
        ('method = "POST"\npages = { next = "n", param = "a..b" }', "", "no name"),
    ],
)
def test_a_mistake_is_a_sentence_with_its_place(options: str, place: str, words: str, tmp_path: Path) -> None:
    given: dict[str, Any] = {"base_url": "https://api.example", "rows": {"id": "id"}}
    given |= tomllib.loads(options)
    table = "\n".join(f"{name} = {_toml(value)}" for name, value in given.items())
    path = tmp_path / "c.toml"
    path.write_text(f'[sources.x]\ntype = "http.json"\n{table}\n[sinks.out]\ntype = "stdout"\n')
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    [problem] = caught.value.problems
    assert f"sources.x{'.' if place else ''}{place}" in problem
    assert words in problem
    assert "\n" not in problem


def test_a_token_may_be_another_value_of_the_parameter_that_begins_a_list() -> None:
    a_list(pages={"next": "last", "param": "from"}, since={"param": "from", "row": "at"})


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {_toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


def test_a_secret_in_a_table_is_never_shown() -> None:
    with pytest.raises(ValidationError) as caught:
        a_list(auth={"bearer": "s3cret-token-1", "value": "s3cret-token-2"})
    assert "s3cret" not in str(caught.value)
