"""Mailchimp's batches: each pitfall of its API, and each kind of bad input, as a promise."""

import asyncio
import gzip
import io
import json
import tarfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from inside import put
from raw import answer, raw_server
from rounds import Rounds, opened
from roundsman.cli import registrations
from roundsman.engine.reading import polls, visit_to
from roundsman.http.client import Http
from roundsman.http.transport import Clients, HttpOptions
from roundsman.sandbox import Fault, Sandbox, Subscription
from roundsman.sandbox.mailchimp import API_KEY, Mailchimp, Operation, Quirks, bad_address, pack, partly
from roundsman.sandbox.vendor import Reply
from roundsman.sources.mailchimp import Batches
from worlds import Straight, Time, mailchimp_batches, web_of

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
COMPLETED, FAILED = "com.mailchimp.batch.completed", "com.mailchimp.batch.operation_failed"
GAP = "roundsman.source.gap"


class Killed(BaseException):
    """`kill -9`, as far as a test can raise it."""


@pytest.fixture
def account(time: Time) -> Mailchimp:
    return Mailchimp(now=time.utc)


@pytest.fixture
def rounds(tmp_path: Path, account: Mailchimp, time: Time) -> Iterator[Any]:
    yield from opened(lambda **options: Rounds(tmp_path, account, time, mailchimp_batches(**options)))


def paths(world: Rounds) -> list[str]:
    """The paths asked for since the last call."""
    found = [request.url.path for request in world.transport.requests]
    world.transport.requests.clear()
    return found


async def test_finished_is_not_success(rounds: Any, account: Mailchimp) -> None:
    """Pitfall 1."""
    for name, operations in {
        "good": [Operation()] * 3,
        "mixed": [Operation(), bad_address("a@b.example")],
        "bad": [bad_address("a@b.example")] * 2,
        "none": [],
    }.items():
        account.add(operations, batch_id=name)
    world = rounds()
    await world.visit()
    told = {e["data"]["batch_id"]: e for e in world.told(COMPLETED)}
    assert {name: e["outcome"] for name, e in told.items()} == {
        "good": "succeeded",
        "mixed": "partial",
        "bad": "failed",
        "none": "empty",
    }
    assert (told["mixed"]["data"]["total"], told["mixed"]["data"]["failed"]) == (2, 1)
    assert [f["message"] for f in told["mixed"]["data"]["failures"]] == [
        "a@b.example looks fake or invalid, please enter a real email address."
    ]


async def test_a_batch_is_reported_once_however_often_it_is_read(rounds: Any, account: Mailchimp) -> None:
    """Pitfall 2: the link is signed anew in each answer, and is no change."""
    account.add([Operation(), bad_address("a@b.example", "op-1")], batch_id="b1")
    world = rounds()
    for _ in range(5):
        await world.visit()
    assert sorted(event.type for event in world.events()) == [COMPLETED, FAILED]
    assert account.downloads == 1


async def test_the_list_is_asked_for_with_nothing_the_api_does_not_have(
    rounds: Any, account: Mailchimp
) -> None:
    world = rounds()
    await world.visit()
    [query] = world.asked()
    assert query == {
        "count": "1000",
        "offset": "0",
        "exclude_fields": "_links,batches._links,batches.response_body_url",
    }


async def test_all_done_is_not_finished_and_a_stall_is_reported_once(
    rounds: Any, account: Mailchimp, time: Time
) -> None:
    """Pitfall 3."""
    account.add([Operation()], batch_id="b1", stuck="finalizing")
    world = rounds()
    for _ in range(12):
        await world.visit(after=3600)
    assert world.told(COMPLETED) == []
    [stalled] = world.told("roundsman.batch.stalled")
    assert "b1" in stalled["data"]["message"]
    account.batches["b1"].stuck = None
    await world.visit()
    assert len(world.told(COMPLETED)) == 1


async def test_results_come_through_a_link_made_for_the_download(
    rounds: Any, account: Mailchimp, time: Time
) -> None:
    """Pitfall 4: a link from the visit before would have expired."""
    account.quirks.link_life = timedelta(seconds=30)
    account.add([bad_address("a@b.example")], batch_id="b1")
    world = rounds()
    await world.visit()
    assert paths(world) == ["/3.0/batches", "/3.0/batches/b1", "/rsg-api-batches-prod/b1-response.tar.gz"]
    assert len(world.told(FAILED)) == 1


@pytest.mark.parametrize("status", [400, 403])
async def test_a_link_that_has_expired_is_made_anew_once(
    status: int, rounds: Any, account: Mailchimp
) -> None:
    account.add([bad_address("a@b.example")], batch_id="b1")
    account.faults.append(Fault(status, path="/rsg-api", body=b"<Error/>"))
    world = rounds()
    await world.visit()
    assert len(world.told(FAILED)) == 1
    assert paths(world).count("/3.0/batches/b1") == 2


async def test_signed_links_are_in_no_event_no_log_and_no_file(
    rounds: Any, account: Mailchimp, tmp_path: Path
) -> None:
    inner = {
        "id": "b0",
        "response_body_url": "https://storage.googleapis.com/x?Signature=deadbeef",
        "_links": [],
    }
    account.add([Operation(500, inner), bad_address("a@b.example")], batch_id="b1")
    account.add([bad_address("a@b.example")], batch_id="b2")
    account.faults.extend(
        [Fault(403, path="/rsg-api-batches-prod/b2"), Fault(403, path="/rsg-api-batches-prod/b2")]
    )
    account.faults.append(Fault(kind="drop", path="/rsg-api-batches-prod/b1"))
    world = rounds()
    with capture_logs() as logs:
        for _ in range(4):
            await world.visit(after=200)
    assert len(world.told(FAILED)) == 3
    written = (
        b"".join(path.read_bytes() for path in tmp_path.iterdir()) + json.dumps(logs, default=str).encode()
    )
    assert b"Signature" not in written
    assert b"deadbeef" not in written
    assert b"GoogleAccessId" not in written


@pytest.mark.parametrize(
    ("key", "sent"),
    [(API_KEY, "Basic "), ("0123456789abcdef", "Bearer 0123456789abcdef")],
    ids=["key", "token"],
)
async def test_a_key_is_a_password_and_an_oauth_token_a_bearer_token(
    rounds: Any, account: Mailchimp, key: str, sent: str
) -> None:
    """As documented. A key ends in its data centre, a token does not."""
    account.key = key
    world = rounds(api_key=key)
    assert await world.visit()
    assert [request.headers["authorization"].startswith(sent) for request in world.transport.requests] == [
        True
    ]


async def test_downloads_carry_no_credentials(rounds: Any, account: Mailchimp) -> None:
    account.add([bad_address("a@b.example")], batch_id="b1")
    world = rounds()
    await world.visit()
    for request in world.transport.requests:
        assert ("authorization" in request.headers) == request.url.path.startswith("/3.0/")


@pytest.mark.parametrize(
    "link",
    [
        "http://storage.googleapis.com/x",
        "https://evil.example/x",
        "https://storage.googleapis.com.evil.example/x",
        "https://user:pass@storage.googleapis.com/x",
        "ftp://storage.googleapis.com/x",
        "file:///etc/passwd",
        "//storage.googleapis.com/x",
        "gibberish",
        "https://169.254.169.254/latest",
    ],
)
async def test_links_are_only_followed_to_result_hosts(link: str, rounds: Any, account: Mailchimp) -> None:
    """Pitfall 13."""
    account.add([bad_address("a@b.example")], batch_id="b1")
    row = account._row
    account._row = lambda *args: {**row(*args), "response_body_url": link}  # type: ignore[method-assign]
    world = rounds()
    with capture_logs() as logs:
        await world.visit()
    assert all(request.url.host == "127.0.0.1" for request in world.transport.requests)
    [completed] = world.told(COMPLETED)
    assert completed["data"]["failures"] is None, "the batch is reported all the same"
    assert any(entry["event"] == "vendor.surprise" for entry in logs)


async def test_a_link_to_this_machine_is_not_followed_for_a_real_account(time: Time) -> None:
    from roundsman.errors import RequestFailed
    from roundsman.http.client import Http
    from worlds import Straight, web_of

    http = Http(web_of(Straight(Mailchimp(time.utc)), time))
    for link in ("http://127.0.0.1:6379/", "https://localhost/x", "https://[::1]/x"):
        with pytest.raises(RequestFailed, match="not followed"):
            async with http.download(link, ["storage.googleapis.com"]):
                pass


async def test_a_redirect_of_a_link_is_not_followed(rounds: Any, account: Mailchimp) -> None:
    account.add([bad_address("a@b.example")], batch_id="b1")
    account.faults.extend([Fault(302, headers={"Location": "https://evil.example/"}, path="/rsg-api")] * 4)
    world = rounds()
    await world.visit()
    assert all(request.url.host == "127.0.0.1" for request in world.transport.requests)
    assert len(world.told(COMPLETED)) == 1


async def test_being_away_for_more_than_seven_days_is_said(
    rounds: Any, account: Mailchimp, time: Time
) -> None:
    """Pitfall 5."""
    world = rounds()
    await world.visit()
    await world.visit(after=6.9 * 86400)
    assert world.told(GAP) == []
    account.add(batch_id="missed")
    world.reboot()
    await world.visit(after=8 * 86400)
    [gap] = world.told(GAP)
    assert "the batches of the last 7d." in gap["data"]["message"]
    await world.visit()
    assert len(world.told(GAP)) == 1


async def test_a_clock_of_ours_that_jumps_changes_nothing_about_the_vendor(
    tmp_path: Path, time: Time
) -> None:
    """Neither that there was no visit for days, nor that a batch has stalled."""
    theirs = Time()
    account = Mailchimp(now=theirs.utc)
    account.add([Operation()], batch_id="b1", took=timedelta(days=2))
    world = Rounds(tmp_path, account, time, mailchimp_batches())
    for step in (0, 8 * 86400, 0, -8 * 86400, 0):
        time.set_wall(step)
        await world.engine.beat()
        theirs.advance(61)
        assert await world.visit()
    assert [event.type for event in world.events("roundsman.*")] == ["roundsman.clock.jumped"] * 2
    await world.store.close()


@pytest.mark.parametrize("order", ["newest", "oldest", "shuffled"])
async def test_pages_that_shift_while_being_read_lose_nothing(
    order: Any, rounds: Any, account: Mailchimp
) -> None:
    """Pitfall 6."""
    account.quirks.order = order
    for number in range(130):
        account.add(batch_id=f"b{number}")
    world = rounds(page_size=50)
    answer = account.answer

    def busy(*args: Any) -> Any:
        account.add(batch_id=f"new{len(account.batches)}")
        return answer(*args)

    account.answer = busy  # type: ignore[method-assign]
    await world.visit()
    account.answer = answer  # type: ignore[method-assign]
    await world.visit()
    assert {e["data"]["batch_id"] for e in world.told(COMPLETED)} == set(account.batches)


async def test_an_offset_that_is_ignored_makes_no_loop(rounds: Any, account: Mailchimp) -> None:
    for number in range(130):
        account.add(batch_id=f"b{number}")
    answer = account.answer
    account.answer = lambda m, p, q, h: answer(m, p, {**q, "offset": "0"} if "offset" in q else q, h)  # type: ignore[method-assign]
    world = rounds(page_size=50)
    await world.visit()
    assert len(paths(world)) <= 6
    await world.visit()
    [gap] = world.told(GAP)
    assert "130 batches and shows" in gap["data"]["message"]


async def test_an_unfinished_batch_costs_no_request_of_its_own(rounds: Any, account: Mailchimp) -> None:
    """Pitfall 7: the list shows up to a thousand of them."""
    for number in range(20):
        account.add([Operation()], batch_id=f"b{number}", took=HOUR)
    world = rounds()
    await world.visit()
    paths(world)
    await world.visit()
    assert paths(world) == ["/3.0/batches"]


async def test_of_the_ten_slots_two_are_used(account: Mailchimp) -> None:
    """Pitfall 8: also by several sources with the same key."""
    account.slots = 2
    for number in range(30):
        account.add([bad_address("a@b.example")], batch_id=f"b{number}")
    web = Clients(HttpOptions(attempts=1))
    async with Sandbox(account, latency=0.01) as box:
        sources = [mailchimp_batches(base_url=f"{box.url}/3.0") for _ in range(3)]

        async def visit(source: Batches) -> int:
            found = 0
            async for poll in polls(source, visit_to(source, web), {}):
                found += len(poll.events)
            return found

        assert await asyncio.gather(*map(visit, sources)) == [60] * 3
    await web.aclose()


async def test_a_403_without_a_reason_is_throttling(rounds: Any, account: Mailchimp, time: Time) -> None:
    """Pitfall 9."""
    world = rounds()
    await world.visit()
    account.faults.append(Fault(403, body=b"<html>Forbidden</html>"))
    await world.visit()
    assert world.told("roundsman.source.failing") == []
    assert (await world.status("news")).due - time.now() >= 300


async def test_a_403_with_a_reason_is_a_refusal(rounds: Any, account: Mailchimp, time: Time) -> None:
    world = rounds()
    problem = json.dumps({"title": "Forbidden", "detail": "This account has been deactivated."}).encode()
    account.faults.append(Fault(403, body=problem))
    await world.visit()
    [failing] = world.told("roundsman.source.failing")
    assert "deactivated" in failing["data"]["message"]


async def test_a_wrong_key_is_loud_and_not_repeated(rounds: Any, account: Mailchimp) -> None:
    account.key = "another"
    world = rounds()
    await world.visit()
    [failing] = world.told("roundsman.source.failing")
    assert "API key may be invalid" in failing["data"]["message"]
    assert API_KEY not in failing["data"]["message"]


async def test_what_is_empty_is_null(rounds: Any, account: Mailchimp) -> None:
    """Pitfalls 10 and 11: `completed_at` of "", and counts of 0 that grow."""
    account.add([Operation()] * 4, batch_id="b1", took=10 * MINUTE)
    account.add(batch_id="odd", counts={"completed_at": ""})  # type: ignore[dict-item]
    world = rounds()
    await world.visit()
    [odd] = world.told(COMPLETED)
    assert odd["data"]["completed_at"] is None
    assert world.state["open"]["b1"]["seen"][-1] is None
    for _ in range(10):
        await world.visit()
    assert [e["data"]["total"] for e in world.told(COMPLETED)] == [0, 4]


@pytest.mark.parametrize(("start", "told"), [("now", {"new"}), ("beginning", {"old", "new"})])
async def test_the_first_run_reports_the_past_only_if_asked(
    start: str, told: set[str], rounds: Any, account: Mailchimp, time: Time
) -> None:
    """Pitfall 12. What was unfinished at the first visit is reported in either case."""
    account.add(batch_id="old")
    time.advance(3600)
    account.add(batch_id="new", took=5 * MINUTE)
    world = rounds(start=start)
    for _ in range(8):
        await world.visit()
    assert {e["data"]["batch_id"] for e in world.told(COMPLETED)} == told


async def test_our_clock_decides_nothing(rounds: Any, account: Mailchimp, time: Time) -> None:
    """A first run with a clock that is an hour ahead must not skip what ends in the next hour."""
    vendor = Time(time.wall - 3600)
    account.now = vendor.utc
    account.add(batch_id="b1", took=5 * MINUTE)
    world = rounds(start="now")
    await world.visit()
    vendor.advance(20 * 60)
    account.add(batch_id="b2")
    await world.visit()
    assert {e["data"]["batch_id"] for e in world.told(COMPLETED)} == {"b1", "b2"}


async def test_a_code_other_than_200_of_the_right_kind_is_success(rounds: Any, account: Mailchimp) -> None:
    account.add([Operation(204, ""), Operation(201), bad_address("a@b.example")], batch_id="b1")
    world = rounds(results="all")
    await world.visit()
    kinds = [e["type"].rpartition(".")[2] for e in world.told("com.mailchimp.batch.operation_*")]
    assert sorted(kinds) == ["operation_failed", "operation_succeeded", "operation_succeeded"]


async def test_a_failure_names_the_person_and_what_was_wrong(rounds: Any, account: Mailchimp) -> None:
    errors = [{"field": "email_address", "message": "This value should not be blank."}]
    account.add(
        [
            bad_address("x.y+z@b.example", "row-7"),
            Operation(
                400, {"title": "Invalid Resource", "detail": "Schema", "errors": errors}, "who@c.example"
            ),
            Operation(404, "nothing there"),
            Operation(418, None),
        ],
        batch_id="b1",
    )
    world = rounds()
    await world.visit()
    data = [e["data"] for e in world.told(FAILED)]
    assert [d["person"] and d["person"]["email"] for d in data] == [
        "x.y+z@b.example",
        "who@c.example",
        None,
        None,
    ]
    assert [d["item_id"] for d in data] == ["row-7", "who@c.example", None, None]
    assert [d["code"] for d in data] == ["400", "400", "404", "418"]
    assert data[1]["fields"] == errors
    assert data[2]["message"] == "nothing there"
    assert data[0]["raw"]["status_code"] == 400
    assert len({event.id for event in world.events(FAILED)}) == 4
    assert all(event.id.startswith("b1:") for event in world.events(FAILED))


@pytest.mark.parametrize(
    "address", ["ada@@harbour.example", "ada@harbour", "ada at harbour.example", "a b@c"]
)
async def test_an_address_with_a_mistake_is_named_all_the_same(
    address: str, rounds: Any, account: Mailchimp
) -> None:
    account.add([bad_address(address), Operation(400, {"detail": f"{address} has bounced"})], batch_id="b1")
    world = rounds()
    await world.visit()
    told = [e["data"]["person"] for e in world.told(FAILED)]
    assert told[0]["email"] == address
    assert (told[1] is None) == ("@" not in address)


async def test_without_results_nothing_is_downloaded(rounds: Any, account: Mailchimp) -> None:
    account.add([bad_address("a@b.example")], batch_id="b1")
    world = rounds(results="off")
    await world.visit()
    assert paths(world) == ["/3.0/batches"]
    [event] = world.events()
    assert event.failure == 0 or event.document()["data"]["failures"] is None


async def test_results_that_cannot_be_read_delay_nothing_and_come_later(
    rounds: Any, account: Mailchimp, time: Time
) -> None:
    account.add([bad_address("a@b.example")], batch_id="b1")
    account.add([Operation()], batch_id="b2")
    account.faults.extend([Fault(503, path="/rsg-api")] * 2)
    world = rounds()
    await world.visit()
    assert {e["data"]["batch_id"] for e in world.told(COMPLETED)} == {"b1", "b2"}
    assert world.told(FAILED) == []
    await world.visit(after=61)
    await world.visit(after=130)
    assert len(world.told(FAILED)) == 1
    assert len(world.told(COMPLETED)) == 2
    assert "results_due" not in world.state


async def test_results_that_are_gone_are_given_up_with_a_notice(
    rounds: Any, account: Mailchimp, time: Time
) -> None:
    account.add([bad_address("a@b.example")], batch_id="b1")
    answer = account.answer

    def broken(method: str, path: str, query: Any, headers: Any) -> Any:
        reply = answer(method, path, query, headers)
        return type(reply)(500, {}, b"") if path.startswith("/rsg-api") else reply

    account.answer = broken  # type: ignore[method-assign]
    world = rounds()
    for _ in range(9):
        await world.visit(after=86400)
    [gap] = world.told(GAP)
    assert "results of batch b1" in gap["data"]["message"]
    assert "results_due" not in world.state


async def test_one_404_for_the_link_loses_nothing(rounds: Any, account: Mailchimp) -> None:
    account.add([bad_address("a@b.example")], batch_id="b1")
    account.faults.append(Fault(404, path="/3.0/batches/b1"))
    world = rounds()
    await world.visit()
    assert len(world.told(COMPLETED)) == 1
    await world.visit(after=100)
    assert len(world.told(FAILED)) == 1
    assert world.told(GAP) == []


async def test_results_that_are_complete_later_are_read_again(rounds: Any, account: Mailchimp) -> None:
    batch = account.add(
        [bad_address("a@b.example"), bad_address("c@b.example")], batch_id="b1", archive=packed()
    )
    world = rounds()
    await world.visit()
    assert world.told(FAILED) == []
    batch.archive = None
    for _ in range(3):
        await world.visit(after=100)
    assert len(world.told(FAILED)) == 2
    assert account.downloads == 2
    assert world.told(GAP) == []


async def test_a_download_that_breaks_off_loses_no_failure_and_reports_none_twice(
    rounds: Any, account: Mailchimp
) -> None:
    content = [failing(*(f"{n}-{k}" for k in range(400))) for n in range(3)]
    whole = packed(*((f"m{n}", each) for n, each in enumerate(content)), mode="w:")
    counts = {"errored_operations": 1200, "total_operations": 1200}
    batch = account.add(batch_id="b1", archive=gzip.compress(whole)[:-3000], counts=counts)
    world = rounds()
    await world.visit()
    assert 0 < len(world.told(FAILED)) < 1200
    assert [e["data"]["failures"] for e in world.told(COMPLETED)] == [None]
    batch.archive = gzip.compress(whole)
    for _ in range(3):
        await world.visit(after=100)
    told = [e["data"]["item_id"] for e in world.told(FAILED)]
    assert sorted(told) == sorted(f"{n}-{k}" for n in range(3) for k in range(400))
    assert len(world.told(COMPLETED)) == 1
    assert "results_due" not in world.state


@pytest.mark.parametrize("reported", [False, True])
@pytest.mark.parametrize(
    "damage",
    [
        lambda batch: {},
        lambda batch: {**batch, "failed": "two"},
        lambda batch: "batch",
        lambda batch: {name: batch[name] for name in batch.keys() - {"total"}},
    ],
    ids=["empty", "wrong", "text", "lacking"],
)
async def test_a_damaged_record_of_results_that_are_due_is_said_and_loses_nothing(
    damage: Any, reported: bool, rounds: Any, account: Mailchimp
) -> None:
    account.add([bad_address("a@b.example")], batch_id="b1")
    account.add([bad_address("c@b.example")], batch_id="b2")
    batch = {
        "batch_id": "b1", "outcome": "failed", "status": "finished", "total": 1, "failed": 1,
        "submitted_at": None, "completed_at": None, "failures": None, "failures_cap": 20, "raw": {},
    }  # fmt: skip
    due = {"b1": {"batch": damage(batch), "reported": reported}}
    world = rounds(start="beginning")
    await put(world.store, state={"v": 1, "results_due": due}, source="news")
    world.reboot()
    with capture_logs() as logs:
        for _ in range(3):
            await world.visit(after=100)
    assert sum("batch b1 is damaged" in str(line) for line in logs) == 1
    told = ["b2:completed"] if reported else ["b1:completed", "b2:completed"]
    assert sorted(e.id for e in world.events(COMPLETED)) == told
    assert len(world.told(FAILED)) == 2
    assert "results_due" not in world.state
    assert (await world.status()).failures == 0


async def test_results_that_come_in_another_order_are_reported_once_each(
    rounds: Any, account: Mailchimp
) -> None:
    first = packed(("r.json", failing("B")))
    batch = account.add(
        [], batch_id="b1", archive=first, counts={"errored_operations": 4, "total_operations": 4}
    )
    world = rounds()
    await world.visit()
    both = json.loads(failing("A")) + json.loads(first_of(first)) + json.loads(failing("C", "C"))
    batch.archive = packed(("s.json", json.dumps(both).encode()))
    for _ in range(3):
        await world.visit(after=100)
    assert sorted(e["data"]["item_id"] for e in world.told(FAILED)) == ["A", "B", "C", "C"]


def first_of(archive: bytes) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        content = tar.extractfile(tar.next())  # type: ignore[arg-type]
        assert content
        return content.read()


async def test_a_tracked_batch_is_not_forgotten_over_one_bad_answer(
    rounds: Any, account: Mailchimp, time: Time
) -> None:
    account.add([bad_address("a@b.example")], batch_id="old")
    time.advance(7200)
    world = rounds(start="now")
    await world.visit()
    await world.store.follow("news", ["old"])
    account.faults.extend([Fault(500, path="/3.0/batches/old")] * 3)
    await world.visit()
    assert world.told(COMPLETED) == []
    account.add(batch_id="another")
    for _ in range(2):
        await world.visit()
    assert len(world.told(FAILED)) == 1


async def test_throttling_over_one_batch_stops_no_other(rounds: Any, account: Mailchimp) -> None:
    """A 403 without a reason, always for the same id: the list is reported all the same, and the id is given up in the end."""
    world = rounds()
    answer = account.answer

    def reply(method: str, path: str, query: Any, headers: Any) -> Any:
        found = answer(method, path, query, headers)
        return type(found)(403, {}, b"<html>") if path.endswith(("/odd", "/aaa")) else found

    account.answer = reply  # type: ignore[method-assign]
    await world.store.follow("news", ["odd"])
    account.add([bad_address("a@b.example")], batch_id="aaa")
    account.add([bad_address("a@b.example")], batch_id="good")
    for _ in range(12):
        await world.visit(after=86400 / 8)
    assert {e["data"]["batch_id"] for e in world.told(COMPLETED)} == {"aaa", "good"}
    assert [e["data"]["batch_id"] for e in world.told(FAILED)] == ["good"]
    for _ in range(9):
        await world.visit(after=86400)
    assert len(world.told("roundsman.batch.gone")) == 1
    assert any("results of batch aaa" in e["data"]["message"] for e in world.told(GAP))


async def test_results_that_stay_incomplete_are_said_and_not_read_without_end(
    rounds: Any, account: Mailchimp
) -> None:
    archive = packed(("a", failing("1")))
    account.add([bad_address("a@b.example")] * 2, batch_id="b1", archive=archive)
    world = rounds()
    for _ in range(40):
        await world.visit(after=3700)
    assert account.downloads <= 6
    assert len(world.told(FAILED)) == 1
    [gap] = world.told(GAP)
    assert "show 1 of 2 failed operations" in gap["data"]["message"]


@pytest.mark.parametrize(
    "fault", [Fault(200, body=b"<html>"), Fault(403, body=b'{"detail": "no"}'), Fault(500)]
)
async def test_results_of_one_batch_do_not_block_the_others(
    fault: Fault, rounds: Any, account: Mailchimp
) -> None:
    account.add([bad_address("a@b.example")], batch_id="good")
    account.add([bad_address("a@b.example")], batch_id="bad")
    account.faults.extend([Fault(fault.status, body=fault.body, path="/3.0/batches/bad")] * 30)
    world = rounds()
    for _ in range(3):
        assert await world.visit()
    assert {e["data"]["batch_id"] for e in world.told(COMPLETED)} == {"good", "bad"}
    assert [e["data"]["batch_id"] for e in world.told(FAILED)] == ["good"]


@pytest.mark.parametrize("status", [400, 403, 410, 500])
async def test_a_tracked_id_that_cannot_be_requested_stops_no_other(
    status: int, rounds: Any, account: Mailchimp
) -> None:
    world = rounds()
    answer = account.answer

    def reply(method: str, path: str, query: Any, headers: Any) -> Any:
        found = answer(method, path, query, headers)
        return type(found)(status, {}, b'{"detail": "no"}') if path.endswith("/odd") else found

    account.answer = reply  # type: ignore[method-assign]
    await world.store.follow("news", ["odd"])
    await world.visit()
    account.add([bad_address("a@b.example")], batch_id="good")
    for _ in range(3):
        assert await world.visit()
    assert len(world.told(FAILED)) == 1
    for _ in range(9):
        await world.visit(after=86400)
    assert len(world.told("roundsman.batch.gone")) == 1


async def test_what_was_readable_of_an_archive_is_reported_and_larger_limits_help(
    rounds: Any, account: Mailchimp
) -> None:
    many = packed(*((f"m{n}", failing(str(n))) for n in range(200)))
    account.add(batch_id="b1", archive=many, counts={"errored_operations": 200, "total_operations": 200})
    world = rounds(limits={"members": 150})
    await world.visit()
    assert len(world.told(FAILED)) == 150
    assert "limits.members" in world.told(GAP)[0]["data"]["message"]
    world.source = mailchimp_batches()
    world.reboot()
    await world.store.follow("news", ["b1"])
    for _ in range(2):
        await world.visit()
    assert len(world.told(FAILED)) == 200
    assert len(world.told(COMPLETED)) == 1


async def test_a_signed_link_in_what_went_wrong_is_cut(rounds: Any, account: Mailchimp) -> None:
    link = "https://storage.googleapis.com/x.tar.gz?GoogleAccessId=a&Signature=SECRETSIG"
    account.add(
        [Operation(500, {"detail": f"could not read {link} twice"}), Operation(500, link)], batch_id="b1"
    )
    world = rounds()
    await world.visit()
    assert len(world.told(FAILED)) == 2
    assert b"SECRETSIG" not in b"".join(event.body for event in world.events())


async def test_a_signed_link_in_the_id_of_an_operation_or_in_a_field_is_cut(
    rounds: Any, account: Mailchimp
) -> None:
    link = "https://storage.googleapis.com/x.tar.gz?GoogleAccessId=a&Signature=SECRETSIG"
    errors = [{"field": "url", "message": f"{link} is refused"}]
    account.add(
        [
            Operation(400, {"title": "Bad", "status": 400, "errors": errors}, link),
            Operation(400, "no", "https://x/?a=1"),
        ],
        batch_id="b1",
    )
    world = rounds()
    await world.visit()
    assert b"SECRETSIG" not in b"".join(event.body for event in world.events())
    ids = {event["subject"] for event in world.told(FAILED)}
    assert ids == {"https://storage.googleapis.com/x.tar.gz?***", "https://x/?a=1"}
    assert {event["data"]["item_id"] for event in world.told(FAILED)} == ids


@pytest.mark.parametrize("status", [{"x": 1}, ["pending"], None, 7])
async def test_a_status_of_another_kind_is_no_end(status: Any, rounds: Any, account: Mailchimp) -> None:
    account.add([Operation()], batch_id="odd", counts={"status": status})
    account.add([Operation()], batch_id="good")
    world = rounds()
    assert await world.visit()
    assert [e["data"]["batch_id"] for e in world.told(COMPLETED)] == ["good"]


async def test_a_clock_that_is_days_ahead_gives_nothing_up(
    rounds: Any, account: Mailchimp, time: Time
) -> None:
    vendor = Time(time.wall)
    account.now = vendor.utc
    account.add([bad_address("a@b.example")], batch_id="b1")
    account.faults.extend([Fault(503, path="/rsg-api")] * 2)
    time.set_wall(8 * 86400)
    world = rounds()
    for _ in range(4):
        await world.visit(after=100)
    assert len(world.told(FAILED)) == 1


async def test_failures_that_the_batch_does_not_count_are_counted(rounds: Any, account: Mailchimp) -> None:
    account.add([bad_address("a@b.example"), Operation()], batch_id="b1", counts={"errored_operations": None})  # type: ignore[dict-item]
    world = rounds()
    await world.visit()
    [completed] = world.told(COMPLETED)
    assert (completed["outcome"], completed["data"]["failed"]) == ("partial", 1)


async def test_a_timeout_is_not_repeated_at_once(rounds: Any, account: Mailchimp) -> None:
    """What timed out here may still hold a slot there."""
    account.faults.append(Fault(kind="hang"))
    world = rounds()
    assert not await world.visit()
    assert len(world.transport.requests) == 1


async def test_a_crash_in_the_middle_of_an_archive_reports_the_rest_and_nothing_twice(
    rounds: Any, account: Mailchimp, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.add([bad_address(f"a{n}@b.example") for n in range(4500)], batch_id="b1")
    world = rounds()
    commit = type(world.store).commit
    left = 3

    def mortal(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal left
        left -= 1
        if not left:
            raise Killed
        return commit(self, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(type(world.store), "commit", mortal)
        with pytest.raises(Killed):
            await world.visit()
    assert 0 < len(world.told(FAILED)) < 4500
    assert world.told(COMPLETED) == []
    world.reboot()
    await world.visit()
    assert len(world.told(FAILED)) == 4500
    assert len(world.told(COMPLETED)) == 1


# -- archives that are not what they should be ------------------------------------------------------------------------


def packed(*members: tuple[str, Any], mode: str = "w:gz") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in members:
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            body = content if isinstance(content, bytes) else b""
            info.name, info.size = name, len(body)
            tar.addfile(info, io.BytesIO(body))
    return out.getvalue()


def entry(kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, target
    return info


def failing(*ids: str) -> bytes:
    return json.dumps([bad_address("a@b.example", each).result() for each in ids]).encode()


@pytest.mark.parametrize(
    ("archive", "ids", "problem"),
    [
        (packed(("a.json", failing("1", "2")), ("b.json", failing("3"))), "123", ""),
        (packed(("../../etc/passwd", failing("1")), ("/abs", failing("2"))), "12", ""),
        (packed(("a", failing("1")), ("a", failing("2")), ("a", failing("3"))), "123", ""),
        (packed(("x" * 300, failing("1")), ("x" * 299 + "y", failing("2"))), "12", ""),
        (packed(("é\udcff", failing("1"))), "1", ""),
        (packed(("l", entry(tarfile.SYMTYPE, "/etc/passwd")), ("h", entry(tarfile.LNKTYPE, "l")), ("a", failing("1"))), "1", ""),
        (packed(("d", entry(tarfile.CHRTYPE)), ("p", entry(tarfile.FIFOTYPE)), ("f", entry(tarfile.DIRTYPE)), ("a", failing("1"))), "1", ""),
        (packed(("empty", b""), ("a", failing("1"))), "1", ""),
        (packed(("one", failing("1")[1:-1])), "1", ""),
        (packed(("a", failing("1")), mode="w"), "1", ""),
        (packed(("bad", b"<html>"), ("a", failing("1"))), "1", "'bad': the answer is HTML"),
        (packed(("n", b"[1, 2]"), ("a", failing("1"))), "1", "not an object"),
        (packed(("big", b" " * 3000), ("a", failing("1"))), "1", "larger than limits.member"),
        (packed(*((f"m{n}", b"[]") for n in range(30))), "", "more than limits.members"),
        (packed(("a", failing("1")), *((f"z{n}", b"0" * 1900) for n in range(9))), "", "unpacks to more"),
        (b"<Error>", "", "damaged"),
        (b"", "", "damaged"),
        (packed(("a", failing("1")), ("b", failing("2")))[:-40], "", "damaged"),
        (b"\x1f\x8b" + b"\0" * 200, "", "damaged"),
        (b"\0" * 100_000, "", ""),
    ],
    ids=[
        "fine", "escaping-names", "repeated-names", "long-names", "undecodable-name", "links", "devices",
        "empty-member", "bare-object", "not-zipped", "html-member", "list-of-numbers", "large-member",
        "many-members", "bomb", "xml", "nothing", "cut", "broken-gzip", "zeros",
    ],
)  # fmt: skip
async def test_an_archive_is_read_as_far_as_it_is_one(
    archive: bytes, ids: str, problem: str, rounds: Any, account: Mailchimp, tmp_path: Path
) -> None:
    """Pitfalls 15 and 16: with any archive, no file is written under its names, and the source goes on."""
    account.add(
        batch_id="b1", archive=archive, counts={"errored_operations": len(ids) or 1, "total_operations": 9}
    )
    limits = {"packed": 100_000, "unpacked": 20_000, "member": 2000, "members": 15}
    world = rounds(limits=limits)
    before = set(tmp_path.iterdir())
    with capture_logs() as logs:
        await world.visit()
    assert set(tmp_path.iterdir()) == before
    found = [e["data"]["item_id"] for e in world.told(FAILED)]
    assert found[: len(ids)] == list(ids)
    said = json.dumps(logs, default=str) + " ".join(e["data"]["message"] for e in world.told(GAP))
    assert problem in said
    assert len(world.told(COMPLETED)) == 1
    account.add(batch_id="after")
    await world.visit()
    assert {e["data"]["batch_id"] for e in world.told(COMPLETED)} == {"b1", "after"}


async def test_a_gzip_bomb_is_not_unpacked(rounds: Any, account: Mailchimp) -> None:
    zeros = packed(("a", failing("1")), ("zeros", b"\0" * 60_000_000))
    assert len(zeros) < 100_000
    account.add(batch_id="b1", archive=zeros, counts={"errored_operations": 1, "total_operations": 1})
    world = rounds(limits={"unpacked": "1MiB", "member": "1MiB"})
    await world.visit()
    [gap] = world.told(GAP)
    assert "limits.unpacked" in gap["data"]["message"]
    assert "results_due" not in world.state, "another try would bring the same"


async def test_a_download_without_end_is_cut(rounds: Any, account: Mailchimp) -> None:
    account.add(
        batch_id="b1",
        archive=b"\x1f\x8b" + b"x" * 300_000,
        counts={"errored_operations": 1, "total_operations": 1},
    )
    world = rounds(limits={"packed": "100KiB"})
    await world.visit()
    [gap] = world.told(GAP)
    assert "limits.packed" in gap["data"]["message"]


async def test_a_link_that_stays_empty_is_no_error_without_operations(
    rounds: Any, account: Mailchimp
) -> None:
    account.add([], batch_id="b1")
    world = rounds(results="all")
    await world.visit()
    [completed] = world.told(COMPLETED)
    assert completed["outcome"] == "empty"
    assert paths(world) == ["/3.0/batches"]


# -- rows that are not what they should be ----------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["..", "a/b", "a?b=c", "ä", "x" * 300, "a b", "%2e%2e"])
async def test_an_odd_batch_id_is_reported_and_never_becomes_a_path(
    key: str, rounds: Any, account: Mailchimp
) -> None:
    account.add([bad_address("a@b.example")], batch_id=key)
    account.add([Operation()], batch_id="b1")
    world = rounds()
    await world.visit()
    assert {e["data"]["batch_id"] for e in world.told(COMPLETED)} == {key, "b1"}
    assert all("b1" in path for path in set(paths(world)) - {"/3.0/batches"})


async def test_counts_that_shrink_and_unknown_statuses_are_said_once(rounds: Any, account: Mailchimp) -> None:
    account.add([Operation()] * 9, batch_id="b1", stuck="started", took=MINUTE)
    world = rounds()
    with capture_logs() as logs:
        await world.visit()
        account.batches["b1"].counts = {"total_operations": 3}
        for _ in range(3):
            await world.visit()
        account.batches["b1"].stuck = "paused"
        for _ in range(3):
            await world.visit()
    said = [entry["what"] for entry in logs if entry["event"] == "vendor.surprise"]
    assert len(said) == 2
    assert "shrank" in said[0]
    assert "'paused'" in said[1]
    assert world.told(COMPLETED) == []
    account.batches["b1"].stuck = None
    await world.visit()
    assert len(world.told(COMPLETED)) == 1


async def test_unchanged_costs_one_small_request_where_there_are_etags(
    rounds: Any, account: Mailchimp
) -> None:
    account.quirks = Quirks(etag=True)
    account.add(batch_id="b1")
    account.add([Operation()], batch_id="b2", stuck="started")
    world = rounds()
    await world.visit()
    await world.visit()
    paths(world)
    await world.visit()
    [request] = world.transport.requests
    assert "if-none-match" in request.headers
    account.batches["b2"].stuck = None
    await world.visit()
    assert len(world.told(COMPLETED)) == 2


async def test_a_tracked_batch_is_followed_although_the_list_does_not_show_it(
    rounds: Any, account: Mailchimp, time: Time
) -> None:
    account.quirks.order = "oldest"
    account.add([bad_address("a@b.example")], batch_id="b1", took=10 * MINUTE)
    listed = account._list
    account._list = lambda query, headers: httpx_list()  # type: ignore[method-assign]

    def httpx_list() -> Any:
        from roundsman.sandbox.vendor import document

        return document(200, {"batches": [], "total_items": 0})

    world = rounds(start="now")
    await world.visit()
    await world.store.follow("news", ["b1", "b1"])
    for _ in range(3):
        await world.visit()
    memory = await world.store.memory("news")
    assert (memory.ids, memory.taken) == ([], 0)
    world.reboot()
    account._list = listed  # type: ignore[method-assign]
    await world.visit(after=700)
    assert [e["type"] for e in world.told()] == [FAILED, COMPLETED]
    await world.store.follow("news", ["b1"])
    await world.visit()
    assert len(world.told(COMPLETED)) == 1, "what has ended is not reported again"


async def test_a_batch_is_not_given_up_for_one_answer_that_fails(rounds: Any, account: Mailchimp) -> None:
    """However long it has been under way: where the list does not show it any more, and it is asked for singly."""
    account.quirks.keep = timedelta(days=12)
    batch = account.add([bad_address("a@b.example")], batch_id="b1", stuck="pending")
    answer = account.answer

    def reply(method: str, path: str, query: Any, headers: Any) -> Any:
        found = answer(method, path, query, headers)
        empty = b'{"batches":[],"total_items":0}'
        return type(found)(200, {}, empty) if path == "/3.0/batches" else found

    account.answer = reply  # type: ignore[method-assign]
    world = rounds()
    await world.store.follow("news", ["b1"])
    for _ in range(8):
        assert await world.visit(after=86400)
    account.faults.extend([Fault(status=502, path="/3.0/batches/b1")] * 3)
    await world.visit()
    assert not account.faults
    batch.stuck = None
    await world.visit()
    assert world.told("roundsman.batch.gone") == []
    assert len(world.told(COMPLETED)) == 1


def test_the_address_is_made_from_the_keys_suffix() -> None:
    make = lambda **more: Batches(type="mailchimp.batches", **more)  # noqa: E731 - short
    assert make(api_key="0" * 32 + "-us19").base_url == "https://us19.api.mailchimp.com/3.0"
    assert make(api_key="oauth-token").base_url == "https://api.mailchimp.com/3.0"
    assert make(api_key="0-us19", base_url="https://x.example/3.0").base_url == "https://x.example/3.0"


async def test_two_accounts_do_not_share_what_they_know(
    rounds: Any, account: Mailchimp, tmp_path: Path, time: Time
) -> None:
    """Pitfall 22: batch ids are per account; the source's name is in every id's scope."""
    account.add(batch_id="b1")
    world = rounds(name="one")
    await world.visit()
    other = mailchimp_batches("two")
    await world.engine.setup({"one": world.source, "two": other}, {"recorder": world.sink})
    await world.visit()
    assert [(e.source, e.id) for e in world.events(COMPLETED)] == [
        ("one", "b1:completed"),
        ("two", "b1:completed"),
    ]


async def test_plain_http_is_refused_by_the_vendor_and_said(rounds: Any, account: Mailchimp) -> None:
    account.faults.append(Fault(426))
    world = rounds()
    with capture_logs() as logs:
        await world.visit()
    assert "426" in next(entry["error"] for entry in logs if entry["event"] == "poll.failed")


def test_httpx_logs_would_show_links_and_are_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    """httpx writes each URL at INFO; nothing of ours turns that on."""
    import logging

    from roundsman.system import logs

    logs.configure("debug", "json")
    assert logging.getLogger("httpx").getEffectiveLevel() > logging.INFO
    assert httpx.__name__ == "httpx"


# -- a success that holds failures ------------------------------------------------------------------------------------


@pytest.mark.parametrize("results", ["failures", "all"])
@pytest.mark.parametrize("together", [False, True])
async def test_people_that_an_operation_over_many_left_out_are_reported_one_by_one(
    results: str, together: bool, rounds: Any, account: Mailchimp
) -> None:
    """The vendor answers 200 and counts no error; only its body says who was not taken."""
    account.quirks.together = together
    refused = {
        '"old@harbour.example"': "is already a list member.",
        "bad@@harbour.example": "bad@@harbour.example looks fake or invalid.",
    }
    account.add(
        [partly(refused, "chunk-1", ["new@harbour.example"]), Operation(200, {"id": "x"}, "fine")],
        batch_id="b1",
    )
    world = rounds(results=results)
    await world.visit()
    failed = world.told(FAILED)
    assert [e["data"]["person"]["email"] for e in failed] == ["old@harbour.example", "bad@@harbour.example"]
    assert {e["data"]["code"] for e in failed} == {"ERROR_GENERIC"}
    assert {e["data"]["item_id"] for e in failed} == {"chunk-1"}
    assert len({e["id"] for e in failed}) == 2
    [completed] = world.told(COMPLETED)
    assert completed["outcome"] == "partial"
    assert [each["person"]["email"] for each in completed["data"]["failures"]] == [
        "old@harbour.example",
        "bad@@harbour.example",
    ]
    assert len(world.told("com.mailchimp.batch.operation_succeeded")) == (results == "all")
    await world.visit()
    assert len(world.told(FAILED)) == 2


async def test_a_count_of_people_who_were_left_out_is_a_failure_without_names(
    rounds: Any, account: Mailchimp
) -> None:
    account.add(
        [Operation(200, {"new_members": [], "errors": [], "error_count": 3}, "chunk-1")], batch_id="b1"
    )
    world = rounds()
    await world.visit()
    [failed] = world.told(FAILED)
    assert failed["data"]["message"].startswith("3 of the people")


@pytest.mark.parametrize(
    ("response", "messages"),
    [
        ({"errors": ["farid@x.example looks fake or invalid"]}, ["farid@x.example looks fake or invalid"]),
        (
            json.dumps(json.dumps({"errors": [], "error_count": 1})),
            ["1 of the people in this operation were not taken"],
        ),
        (
            {"errors": [{"email_address": "a@x.example", "error": "is fake"}], "error_count": 3},
            ["is fake", "2 more of the people in this operation were not taken"],
        ),
        (
            {"errors": [{"email_addresses": ["a@x.example", "b@x.example"], "error": "are fake"}]},
            ["are fake"] * 2,
        ),
        (
            {"status": 400, "title": "Invalid Resource", "detail": "a@x.example is fake"},
            ["a@x.example is fake"],
        ),
    ],
)
@pytest.mark.parametrize("results", ["failures", "all"])
async def test_a_success_that_left_people_out_is_reported_in_any_form(
    results: str, response: Any, messages: list[str], rounds: Any, account: Mailchimp
) -> None:
    account.add(
        [Operation(200, response, "chunk-1"), Operation(200, {"status": "subscribed"}, "x")], batch_id="b1"
    )
    world = rounds(results=results)
    await world.visit()
    assert [e["data"]["message"] for e in world.told(FAILED)] == messages
    [completed] = world.told(COMPLETED)
    assert (completed["outcome"], completed["data"]["failed"]) == ("partial", 1)


@pytest.mark.parametrize("code", ["200", None])
async def test_an_operation_whose_status_is_no_number_is_judged_by_its_answer(
    code: Any, rounds: Any, account: Mailchimp
) -> None:
    account.add(
        [Operation(code, {"id": "x"}, "fine"), Operation(code, {"status": 404, "title": "No"}, "y")],
        batch_id="b1",
    )
    world = rounds()
    await world.visit()
    assert [(e["data"]["item_id"], e["data"]["code"]) for e in world.told(FAILED)] == [("y", "404")]


@pytest.mark.parametrize("answer", [{"error": "boom"}, {"message": "Internal error"}, {"title": "No"}])
async def test_an_operation_without_a_status_that_speaks_of_an_error_failed(
    answer: Any, rounds: Any, account: Mailchimp
) -> None:
    account.add([Operation(None, answer, "x")], batch_id="b1")  # type: ignore[arg-type]
    world = rounds()
    await world.visit()
    assert [e["data"]["item_id"] for e in world.told(FAILED)] == ["x"]


@pytest.mark.parametrize(
    "answer",
    [
        {"new_members": [{"id": "a"}], "errors": [], "error_count": 0},
        {"id": "c1", "title": "Interests"},
        {"id": "m1", "message": "hello"},
        {"detail": "", "errors": []},
    ],
)
async def test_a_things_own_words_are_no_fault(answer: Any, rounds: Any, account: Mailchimp) -> None:
    account.add([Operation(None, answer, "x"), Operation(400, {"title": "No"}, "y")], batch_id="b1")  # type: ignore[arg-type]
    world = rounds()
    await world.visit()
    assert [e["data"]["item_id"] for e in world.told(FAILED)] == ["y"]


async def test_people_that_an_answer_without_a_status_leaves_out_are_reported_one_by_one(
    rounds: Any, account: Mailchimp
) -> None:
    errors = [{"email_address": f"{who}@x.example", "error": "is invalid"} for who in ("ada", "bob")]
    account.add(
        [Operation(None, {"new_members": [], "errors": errors, "error_count": 2}, "x")], batch_id="b1"
    )  # type: ignore[arg-type]
    world = rounds()
    await world.visit()
    people = [e["data"]["person"]["email"] for e in world.told(FAILED)]
    assert people == ["ada@x.example", "bob@x.example"]


async def test_reasons_and_persons_come_from_the_list_of_errors(rounds: Any, account: Mailchimp) -> None:
    problem = {
        "title": "Invalid Resource",
        "detail": "The resource submitted could not be validated. For field-specific details, see the 'errors' array.",
        "errors": [
            {"field": "email_address", "message": "ada@harbour.example was not valid."},
            {"field": "merge_fields.LTV", "message": "Please enter a number"},
        ],
    }
    account.add([Operation(400, problem, 7)], batch_id="b1")
    world = rounds()
    await world.visit()
    [failed] = world.told(FAILED)
    data = failed["data"]
    assert (
        data["message"]
        == "email_address: ada@harbour.example was not valid.; merge_fields.LTV: Please enter a number"
    )
    assert data["person"]["email"] == "ada@harbour.example"
    assert data["item_id"] == "7", "operations may be numbered"


async def test_what_is_not_200_is_no_failure_for_that(rounds: Any, account: Mailchimp) -> None:
    """`errored_operations` may count a 204: where the archive agrees, the archive is believed."""
    account.quirks.counts_204 = True
    account.add(
        [Operation(204, "", "gone-1"), Operation(204, "", "gone-2"), Operation(200, {}, "x")], batch_id="b1"
    )
    account.add([Operation(204, "", "gone"), bad_address("a@b", "bad")], batch_id="b2")
    world = rounds()
    await world.visit()
    outcomes = {e["data"]["batch_id"]: (e["outcome"], e["data"]["failed"]) for e in world.told(COMPLETED)}
    assert outcomes == {"b1": ("succeeded", 0), "b2": ("partial", 1)}
    assert world.told(GAP) == []


async def test_a_file_of_many_operations_is_read_operation_by_operation(
    rounds: Any, account: Mailchimp
) -> None:
    """10,000 results in one file: memory is bounded by one of them."""
    account.quirks.together = True
    operations = [Operation(400, {"detail": f"no. {n} " + "x" * 8000}, f"op{n}") for n in range(300)]
    account.add(operations, batch_id="b1")
    world = rounds(limits={"member": 20_000})  # of one operation: the file has a hundred times as much
    await world.visit()
    assert await world.store.open_failures() == 300
    assert world.told(GAP) == []


@pytest.mark.parametrize("said", [None, "12", "many"])
async def test_a_list_that_does_not_say_how_many_it_has_is_read_on(
    said: Any, rounds: Any, account: Mailchimp, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.quirks.cap = 20
    for n in range(70):
        account.add([], batch_id=f"b{n}")
    listed = account._list

    def without(query: Any, headers: Any) -> Any:
        reply = listed(query, headers)
        document = json.loads(reply.body)
        document.pop("total_items")
        if said == "12":
            document["total_items"] = "70"
        elif said:
            document["total_items"] = said
        return type(reply)(reply.status, reply.headers, json.dumps(document).encode())

    monkeypatch.setattr(account, "_list", without)
    world = rounds()
    await world.visit()
    assert len(world.told(COMPLETED)) == 70


async def test_deleting_a_webhook_needs_no_body_that_can_be_read(account: Mailchimp, time: Time) -> None:
    async with raw_server(lambda _: answer(b"ok", Content_Encoding="gzip", Connection="close")) as server:
        web = Clients()
        registrar = mailchimp_batches(base_url=f"{server.url}/3.0").registrar(Http(web))
        assert registrar is not None
        await registrar.delete("a/b")
        await web.aclose()
    assert server.asked == ["DELETE /3.0/batch-webhooks/a%2Fb HTTP/1.1"]


@pytest.mark.parametrize("signs", [True, False])
async def test_a_webhook_that_is_not_signed_is_said_where_only_signed_ones_are_taken(
    signs: bool, account: Mailchimp, time: Time
) -> None:
    account.quirks.signs = signs
    source = mailchimp_batches(webhook={"token": "t" * 20, "signing_secret": "s" * 20})
    account.subscribe(Subscription("https://hooks.example/hooks/news/" + "t" * 20))
    registrar = source.registrar(Http(web_of(Straight(account), time), source.auth()))
    assert registrar is not None
    wrong = registrations.troubles(source, await registrar.list())
    assert [each.partition(": ")[2].startswith("sends no signature") for each in wrong] == [True] * (
        not signs
    )


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("0123456789abcdef-us6", []),
        ("0123456789abcdef", ["ends in no data centre"]),
        ("0123456789abcdef-US6", ["ends in capitals"]),
    ],
)
def test_a_key_that_is_not_whole_is_said(key: str, said: list[str]) -> None:
    source = Batches(type="mailchimp.batches", api_key=key)
    assert [each in what for each, what in zip(said, source.warnings(), strict=True)] == [True] * len(said)
    assert source.base_url == (
        "https://us6.api.mailchimp.com/3.0" if "6" in key[-1] else "https://api.mailchimp.com/3.0"
    )


async def test_a_batch_that_moves_over_the_edge_of_a_page_is_seen_in_the_same_reading(
    rounds: Any, account: Mailchimp
) -> None:
    account.quirks.cap = 40
    for n in range(100):
        account.add([], batch_id=f"b{n}")
    listed, asked = account._list, 0

    def shifting(query: Any, headers: Any) -> Any:
        nonlocal asked
        asked += 1
        offset = int(query.get("offset", 0))
        return listed({**query, "offset": str(offset + 5 if offset else 0)}, headers)

    account._list = shifting  # type: ignore[method-assign]
    world = rounds()
    await world.visit()
    assert len(world.told(COMPLETED)) == 100
    assert asked <= 4, "in one reading"


@pytest.mark.parametrize("total", [0, 5, 30])
async def test_a_total_that_is_too_low_hides_no_batch(total: int, rounds: Any, account: Mailchimp) -> None:
    for number in range(90):
        account.add([Operation()], batch_id=f"b{number}")
    listed = account._list

    def low(query: Any, headers: Any) -> Any:
        reply = listed(query, headers)
        document = json.loads(reply.body)
        document["total_items"] = total
        return Reply(reply.status, {}, json.dumps(document).encode())

    account._list = low  # type: ignore[method-assign]
    world = rounds(page_size=20)
    for _ in range(6):
        await world.visit()
    assert len(world.events("com.mailchimp.batch.completed")) == 90


async def test_a_signed_link_is_cut_out_however_it_is_written(rounds: Any, account: Mailchimp) -> None:
    link = r"https://storage.example/x.csv?GoogleAccessId=a\u0026Expires=1\u0026Signature=SECRET%2BSIGNATURE"
    text = f'{{"title": "Bad", "status": 400, "detail": "see there", "download_url": "{link}"}}'
    account.add([Operation(400, text)], batch_id="x")
    account.add([Operation(400, text.replace("detail", "response_body_url"))], batch_id="y")
    world = rounds()
    for _ in range(2):
        await world.visit()
    told = world.events("com.mailchimp.batch.operation_failed")
    assert len(told) == 2
    assert [event.id for event in told if b"SECRET%2BSIGNATURE" in event.body] == []


async def test_a_large_file_that_breaks_off_is_a_damaged_archive(rounds: Any, account: Mailchimp) -> None:
    """It ended the visit with an error that no source raises, at each try."""
    many = [bad_address(f"a{n}@b.example", f"{n}") for n in range(6000)]
    whole = pack(many, together=True)
    account.add(many, batch_id="b1", archive=whole[: len(whole) * 9 // 10])
    world = rounds()
    with capture_logs() as logs:
        await world.visit()
    assert len(world.told(FAILED)) > 5000
    [told] = world.told(COMPLETED)
    assert told["data"]["failures"] is None
    assert "the archive is damaged: it ends in the middle; again in" in json.dumps(logs, default=str)


async def test_the_sandbox_registers_a_webhook_while_other_requests_come() -> None:
    """It tries the address before it answers; a request that comes meanwhile has a body of its own."""
    account = Mailchimp()
    key = {"Authorization": f"Bearer {API_KEY}"}
    async with Sandbox(account) as box, httpx.AsyncClient(headers=key) as client:

        async def tried(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            assert (await client.get(f"{box.url}/3.0/batches")).status_code == 200
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            writer.close()

        async with await asyncio.start_server(tried, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            wanted = {"url": f"http://127.0.0.1:{port}/hooks"}
            answer = await client.post(f"{box.url}/3.0/batch-webhooks", json=wanted)
    assert (answer.status_code, [made.url for made in account.webhooks.values()]) == (200, [wanted["url"]])
