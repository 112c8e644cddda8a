"""What every source keeps when its vendor's answers are not what they should be; one shared promise, every vendor."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from inside import done
from lists import doors, worked
from rounds import Rounds
from roundsman.plugin import Source
from roundsman.sandbox import Fault, Parakey, Quirks, Vendor
from roundsman.sandbox.github import GitHub, Quirks as GitHubQuirks
from roundsman.sandbox.mailchimp import Mailchimp, Operation
from roundsman.sandbox.okta import Okta, Quirks as OktaQuirks
from roundsman.sandbox.railz import Railz
from roundsman.sandbox.vendor import Reply
from worlds import Time, event_logs, mailchimp_batches, parakey_batches, railz_pushes


class Mangling(Vendor):
    """A vendor behind something that changes its lists."""

    def __init__(self, inner: Vendor, path: str, time: Time) -> None:
        super().__init__(time.utc)
        self.inner, self.path = inner, path
        self.mangle: Callable[[bytes], bytes] = lambda body: body

    def reply(self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Reply:
        found = self.inner.answer(method, path, query, headers)
        if path.endswith(self.path) and found.status == 200:
            kept = {name: value for name, value in found.headers.items() if name == "Link"}
            return Reply(200, kept, self.mangle(found.body))
        return found


@dataclass(frozen=True)
class Kind:
    source: Callable[[], Source]
    vendor: Callable[[Time], Vendor]
    happen: Callable[[Any, str], Any]
    """Make an event there that is reported under an id with this prefix."""
    path: str
    """How the path of its list ends."""


def _parakey(time: Time) -> Parakey:
    return Parakey(time.utc, Quirks(batch_list=True))


def _railz(time: Time) -> Railz:
    made = Railz(time.utc)
    made.connect("CON-1")
    return made


KINDS = {
    "parakey.event_logs": Kind(event_logs, _parakey, lambda v, k: v.add(log_id=k), "/eventLogs"),
    "parakey.batches": Kind(
        lambda: parakey_batches(request={"list_path": "/batches"}),
        _parakey,
        lambda v, k: v.batch([{"id": "i1"}], batch_id=k),
        "/batches",
    ),
    "mailchimp.batches": Kind(
        mailchimp_batches,
        lambda time: Mailchimp(time.utc),
        lambda v, k: v.add([Operation()], batch_id=k),
        "/batches",
    ),
    "http.json, newest first": Kind(
        lambda: worked("github"),
        lambda time: GitHub(time.utc, GitHubQuirks(limit=None)),
        lambda v, k: v.add(k),
        "/events",
    ),
    "http.json, a next that is kept": Kind(
        lambda: worked("okta"),
        lambda time: Okta(time.utc, OktaQuirks(limit=None)),
        lambda v, k: v.add(k),
        "/logs",
    ),
    "http.json, by times": Kind(doors, _parakey, lambda v, k: v.add(log_id=k), "/eventLogs"),
    "railz.pushes": Kind(railz_pushes, _railz, lambda v, k: v.push("CON-1", push_id=k), "/pushStatus"),
}


class World(Rounds):
    def __init__(self, kind: Kind, folder: Path, time: Time) -> None:
        self.kind = kind
        self.inner = kind.vendor(time)
        self.mangling = Mangling(self.inner, kind.path, time)
        super().__init__(folder, self.mangling, time, kind.source())

    def happen(self, key: str) -> None:
        self.kind.happen(self.inner, key)

    def told(self, kind: str = "*") -> set[str]:
        """What was reported, by the prefixes of ids."""
        return {
            event.id.partition(":")[0]
            for event in self.events(kind)
            if not event.type.startswith("roundsman.")
        }


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest, tmp_path: Path, time: Time) -> Iterator[World]:
    made = World(KINDS[request.param], tmp_path, time)
    yield made
    done(made.store.close())


async def rounds(world: World, count: int = 4) -> list[bool]:
    return [await world.visit() for _ in range(count)]


def among(row: bytes) -> Callable[[bytes], bytes]:
    """With this row first in the list."""

    def mangle(body: bytes) -> bytes:
        at = body.index(b"[") + 1
        rest = body[at:]
        return body[:at] + row + (b"" if rest.lstrip().startswith(b"]") else b",") + rest

    return mangle


@pytest.mark.parametrize(
    "row",
    [
        b"null",
        b'"text"',
        b"17",
        b'{"x": NaN}',
        b'{"x": nonsense}',
        b'{"x":' + b"[" * 3000 + b"]" * 3000 + b"}",
    ],
    ids=["null", "text", "number", "NaN", "nonsense", "deep"],
)
async def test_a_row_that_cannot_be_read_silences_no_other(row: bytes, world: World) -> None:
    world.happen("good1")
    world.mangling.mangle = among(row)
    with capture_logs() as logs:
        assert await rounds(world) == [True] * 4
        world.happen("good2")
        await rounds(world)
    assert world.told() == {"good1", "good2"}
    kept = await world.store.unread(world.source.name)
    assert [each.body for each in kept] == [row], "it is kept, once"
    assert len([line for line in logs if line["event"] == "poll.unread"]) == 1
    assert not [line for line in logs if line["event"] == "poll.failed"]


@pytest.mark.parametrize(
    "body",
    [
        b'{"status": "error", "message": "try again"}',
        b'{"success": false, "data": [], "batches": []}',
        b'{"errors": [{"message": "upstream"}]}',
        b'{"data": [{"message": "upstream"}], "batches": [{"message": "upstream"}]}',
        b"[1, 2]",
        b"",
        b"<html>busy</html>",
    ],
)
async def test_an_error_that_came_as_a_success_is_trouble_and_tried_again(body: bytes, world: World) -> None:
    world.happen("good1")
    await rounds(world)
    told = world.told()
    world.mangling.mangle = lambda _: body
    with capture_logs() as logs:
        await rounds(world, 2)
    said = [line for line in logs if line["event"] in {"poll.failed", "vendor.surprise", "poll.unread"}]
    assert said, "it is said"
    assert world.told() == told, "and no event"
    world.mangling.mangle = lambda body: body
    world.happen("good2")
    await world.visit(after=7200)
    await rounds(world)
    assert world.told() == {"good1", "good2"}


async def test_an_empty_answer_of_no_content_is_an_empty_list(world: World) -> None:
    answered = world.mangling.reply

    def empty(method: str, path: str, query: Any, headers: Any) -> Reply:
        return (
            Reply(204, {}, b"") if path.endswith(world.kind.path) else answered(method, path, query, headers)
        )

    world.mangling.reply = empty  # type: ignore[method-assign]
    assert await rounds(world, 2) == [True, True]
    world.mangling.reply = answered  # type: ignore[method-assign]
    world.happen("first")
    await rounds(world)
    assert world.told() == {"first"}


@pytest.mark.parametrize("body", [b"<!DOCTYPE html><title>Attention Required!</title>", b""])
async def test_a_firewalls_403_is_not_cried_out_at_once(body: bytes, world: World) -> None:
    world.happen("good1")
    await rounds(world)
    world.mangling.faults.extend([Fault(403, {"Content-Type": "text/html"}, body)] * 3)
    await world.visit()
    assert not world.events("roundsman.source.failing")
    await world.visit(after=1000)
    await world.visit(after=1000)
    world.happen("good2")
    await world.visit(after=4000)
    await rounds(world)
    assert world.told() == {"good1", "good2"}


async def test_an_unchanging_tag_hides_nothing_for_long(world: World) -> None:
    """A cache in front says 304 for ever, or 200 with the same tag: a full read comes now and then."""
    answered = world.mangling.reply

    def cached(method: str, path: str, query: Any, headers: Any) -> Reply:
        if not path.endswith(world.kind.path):
            return answered(method, path, query, headers)
        tag = {"ETag": '"same"'}
        if headers.get("if-none-match"):
            return Reply(304, tag, b"")
        found = answered(method, path, query, headers)
        return Reply(found.status, {**found.headers, **tag}, found.body)

    world.mangling.reply = cached  # type: ignore[method-assign]
    world.happen("good1")
    await rounds(world)
    world.happen("good2")
    for _ in range(3):
        await world.visit(after=1900)
    await rounds(world)
    assert world.told() == {"good1", "good2"}


async def test_the_same_tag_with_other_content_is_news_at_once(world: World) -> None:
    answered = world.mangling.reply

    def tagged(method: str, path: str, query: Any, headers: Any) -> Reply:
        found = answered(method, path, query, headers)
        return Reply(found.status, {**found.headers, "ETag": '"same"'}, found.body)

    world.mangling.reply = tagged  # type: ignore[method-assign]
    world.happen("good1")
    await rounds(world)
    world.happen("good2")
    await rounds(world)
    assert world.told() == {"good1", "good2"}


# -- what is asked for by its id --------------------------------------------------------------------------------------

SINGLY = {
    "parakey.batches": (
        parakey_batches,
        _parakey,
        lambda v, k: v.batch([{"id": "i1", "error": "X"}], batch_id=k),
        "/",
    ),
    "mailchimp.batches": (
        mailchimp_batches,
        lambda time: Mailchimp(time.utc),
        lambda v, k: v.add([Operation()], batch_id=k),
        "/3.0/batches/",
    ),
}


@pytest.mark.parametrize("kind", SINGLY)
@pytest.mark.parametrize(
    "body",
    [
        {"status": "error", "message": "Internal error"},
        {"success": False, "state": "failed", "message": "session expired"},
        {"id": "another", "status": "finished", "items": [], "total_operations": 0},
        {"status": "completed"},
        {"status": "error", "createdAt": "2026-05-01T06:00:00Z", "message": "session expired"},
        {"status": "failed", "completedAt": "2026-05-01T06:00:00Z", "error": "upstream"},
        {"status": "error", "results": [{"error": "timeout", "service": "gateway"}]},
        {"ok": False, "completedAt": "2026-05-01T06:00:00Z", "items": []},
        {},
    ],
)
async def test_an_answer_that_is_not_about_a_thing_ends_nothing(
    kind: str, body: Any, tmp_path: Path, time: Time
) -> None:
    make, vendor_of, happen, path = SINGLY[kind]
    vendor = vendor_of(time)
    happen(vendor, "b1")
    if isinstance(vendor, Mailchimp):
        vendor._list = lambda query, headers: Reply(200, {}, b'{"batches": [], "total_items": 0}')  # type: ignore[method-assign]
    world = Rounds(tmp_path, vendor, time, make())
    await world.store.follow(world.source.name, ["b1"])
    vendor.faults.extend(
        [Fault(200, {}, json.dumps(body).encode(), path=f"{path}batches/b1" if path == "/" else f"{path}b1")]
        * 2
    )
    for _ in range(2):
        await world.visit()
        assert world.events("*completed") == []
        assert world.events("roundsman.batch.gone") == []
    for _ in range(4):
        await world.visit(after=300)
    assert [event.id for event in world.events("*.batch.completed")] == ["b1:completed"]
    await world.store.close()
