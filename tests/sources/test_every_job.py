"""What every source of jobs keeps: one promise a test, each tried with every vendor."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from inside import done
from rounds import Rounds
from roundsman.plugin import Source
from roundsman.sandbox import Parakey, Vendor
from roundsman.sandbox.mailchimp import Mailchimp, Operation
from roundsman.sandbox.railz import Railz
from roundsman.sandbox.vendor import Reply
from worlds import Time, mailchimp_batches, parakey_batches, railz_pushes

GONE, STALLED = "roundsman.batch.gone", "roundsman.batch.stalled"
HOUR = timedelta(hours=1)


@dataclass
class Jobs:
    """A vendor, and what a test does to it."""

    vendor: Any
    source: Callable[..., Source]
    run: Callable[[str], Any]
    """Start a job that does not end."""
    end: Callable[[str], Any]
    """Let it end now."""
    hide: Callable[[str], Any]
    """Delete it at the vendor."""
    puzzle: Callable[[str], Any]
    """Give it an unknown state."""
    is_about: Callable[[str, Mapping[str, str], str], bool]
    """Whether a request, by path and query, asks about this job alone."""
    spec: str = "{}"
    """How `roundsman track` names it."""
    word: str = "completed"
    """How the id of its end ends."""
    needs_track: bool = False
    """No list shows it."""
    broken: set[str] = field(default_factory=set)
    """Jobs that the vendor cannot show."""

    def reply(self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Reply:
        if any(self.is_about(path, query, key) for key in self.broken):
            return Reply(500, {}, b"")
        found: Reply = type(self.vendor).reply(self.vendor, method, path, query, headers)
        return found


def _parakey(time: Time) -> Jobs:
    vendor = Parakey(time.utc)

    def end(key: str) -> None:
        vendor.batches[key].completed = time.utc()

    def puzzle(key: str) -> None:
        end(key)
        vendor.batches[key].status = "confused"

    return Jobs(
        vendor,
        parakey_batches,
        lambda key: vendor.batch([{}], batch_id=key, took=None),
        end,
        lambda key: setattr(vendor.batches[key], "hidden", True),
        puzzle,
        lambda path, query, key: path.endswith(f"/batches/{key}"),
        needs_track=True,
    )


def _mailchimp(time: Time) -> Jobs:
    vendor = Mailchimp(time.utc)

    def end(key: str) -> None:
        batch = vendor.batches[key]
        batch.stuck, batch.took = None, time.utc() - batch.submitted

    return Jobs(
        vendor,
        mailchimp_batches,
        lambda key: vendor.add([Operation()], batch_id=key, took=HOUR * 1000, stuck="started"),
        end,
        lambda key: setattr(vendor.batches[key], "deleted", True),
        lambda key: (end(key), setattr(vendor.batches[key], "stuck", "confused")),
        lambda path, query, key: path.endswith(f"/batches/{key}"),
    )


def _railz(time: Time) -> Jobs:
    vendor = Railz(time.utc)
    vendor.connect("CON-1")

    def push(key: str) -> Any:
        return next(push for push in vendor.pushes["CON-1"] if push.id == key)

    def puzzle(key: str) -> None:
        push(key).completed, push(key).status = time.utc(), "confused"

    return Jobs(
        vendor,
        railz_pushes,
        lambda key: vendor.push("CON-1", push_id=key, took=None),
        lambda key: setattr(push(key), "completed", time.utc()),
        lambda key: setattr(push(key), "hidden", True),
        puzzle,
        lambda path, query, key: query.get("pushCommunicationId") == key,
        spec="CON-1/{}",
        word="success",
    )


VENDORS = {"parakey": _parakey, "mailchimp": _mailchimp, "railz": _railz}


class World(Rounds):
    """Visits to one vendor's jobs."""

    jobs: Jobs

    def start(self, *keys: str) -> None:
        for key in keys:
            self.jobs.run(key)
        if self.jobs.needs_track:
            self.track(*keys)

    def track(self, *keys: str) -> None:
        done(self.store.follow(self.source.name, [self.jobs.spec.format(key) for key in keys]))

    def ends(self) -> list[str]:
        """The jobs whose end was reported, in order."""
        word = f":{self.jobs.word}"
        return [event.id.removesuffix(word) for event in self.events() if event.id.endswith(word)]

    async def visits(self, count: int, after: float = 61.0) -> None:
        for _ in range(count):
            await self.visit(after)


@pytest.fixture(params=VENDORS)
def world(request: pytest.FixtureRequest, tmp_path: Path, time: Time) -> Iterator[Callable[..., World]]:
    made: list[World] = []

    def make(**options: Any) -> World:
        jobs = VENDORS[request.param](time)
        found = World(tmp_path, Proxy(jobs, time), time, jobs.source(**options))
        found.jobs = jobs
        made.append(found)
        return found

    yield make
    for each in made:
        done(each.store.close())


class Proxy(Vendor):
    """The vendor, with the troubles of a test."""

    def __init__(self, jobs: Jobs, time: Time) -> None:
        super().__init__(time.utc)
        self.jobs = jobs

    def reply(self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Reply:
        return self.jobs.reply(method, path, query, headers)


def surprises(logs: Any) -> list[str]:
    return [line["what"] for line in logs if line["event"] == "vendor.surprise"]


async def test_an_end_is_reported_once_however_often_it_is_read(world: Any) -> None:
    made = world()
    made.start("a", "b")
    await made.visits(3)
    assert made.ends() == []
    made.jobs.end("a")
    await made.visits(4)
    made.reboot()
    await made.visits(2)
    assert made.ends() == ["a"]
    made.jobs.end("b")
    await made.visits(4)
    assert made.ends() == ["a", "b"]


async def test_what_was_tracked_again_after_its_end_is_reported_once(world: Any) -> None:
    made = world()
    made.start("a")
    await made.visit()
    made.jobs.end("a")
    await made.visits(3)
    made.track("a")
    await made.visits(4)
    assert made.ends() == ["a"]
    assert made.told(GONE) == []
    assert made.source.following(made.state) == []


async def test_a_job_that_vanished_is_gone_after_two_looks_and_said_once(world: Any) -> None:
    made = world()
    made.start("a", "b")
    await made.visit()
    made.jobs.hide("a")
    await made.visit()
    assert made.told(GONE) == [], "a single look may be a fault"
    await made.visits(4)
    [gone] = made.told(GONE)
    assert gone["data"]["details"]["id"] == "a"
    assert all("a" not in spec for spec in made.source.following(made.state))
    made.jobs.end("b")
    await made.visits(3)
    assert made.ends() == ["b"]


async def test_a_job_that_does_not_move_is_reported_once_and_again_when_it_ends(world: Any) -> None:
    made = world(stall_after=3600)
    made.start("a")
    await made.visits(8, after=1800)
    [stalled] = made.told(STALLED)
    assert stalled["data"]["details"]["id"] == "a"
    made.jobs.end("a")
    await made.visits(3)
    assert made.ends() == ["a"]


async def test_an_unknown_state_is_no_end_and_reported_once(world: Any) -> None:
    made = world()
    made.start("a", "b")
    await made.visit()
    made.jobs.puzzle("a")
    made.jobs.puzzle("b")
    with capture_logs() as logs:
        await made.visits(4)
        made.reboot()
        await made.visits(2)
    assert made.ends() == []
    assert len([what for what in surprises(logs) if "confused" in what]) == 1
    assert len(made.source.following(made.state)) == 2


async def test_what_had_ended_before_the_start_is_not_reported_and_what_runs_is(
    world: Any, time: Time
) -> None:
    made = world(start="now")
    made.jobs.run("old")
    made.jobs.end("old")
    made.jobs.run("runs")
    time.advance(7200)
    if made.jobs.needs_track:
        made.track("runs")
    await made.visits(2)
    made.jobs.end("runs")
    await made.visits(3)
    assert made.ends() == ["runs"]


async def test_a_job_that_cannot_be_shown_stops_no_other(world: Any) -> None:
    made = world()
    keys = ["a", "b", "c"]
    made.start(*keys)
    made.track(*keys)
    await made.visit()
    made.jobs.broken.add("b")
    for key in keys:
        made.jobs.end(key)
    await made.visits(5)
    assert {"a", "c"} <= set(made.ends())
    made.jobs.broken.clear()
    await made.visits(4, after=4000)
    assert sorted(made.ends()) == keys


async def test_very_many_jobs_are_all_followed(world: Any) -> None:
    made = world()
    keys = [f"k{number}" for number in range(75)]
    made.start(*keys)
    await made.visits(4)
    for key in keys:
        made.jobs.end(key)
    await made.visits(8)
    assert sorted(made.ends()) == sorted(keys)
    assert made.source.following(made.state) == []


async def test_a_kill_between_any_two_visits_changes_nothing(world: Any, time: Time) -> None:
    made = world()
    for number in range(6):
        made.start(f"k{number}")
        if number >= 2:
            made.jobs.end(f"k{number - 2}")
        await made.visit()
        made.reboot()
    for number in range(4, 6):
        made.jobs.end(f"k{number}")
    await made.visits(4)
    assert sorted(made.ends()) == [f"k{number}" for number in range(6)]


async def test_an_id_that_the_vendor_never_had_is_gone_and_not_followed_for_ever(world: Any) -> None:
    made = world()
    made.track("nosuch")
    await made.visits(6)
    assert len(made.told(GONE)) == 1
    assert made.source.following(made.state) == []
