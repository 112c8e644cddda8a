"""`roundsman.testing`: what it offers, that good plugins keep its contract, and that it names each promise that is broken."""

import asyncio
import copy
import json
import re
import sys
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from pydantic import PrivateAttr

import test_contract as kinds
from roundsman import (
    Auth,
    Backoff,
    Damage,
    Deliver,
    Event,
    Http,
    Poll,
    Receipt,
    Reject,
    RequestFailed,
    Secret,
    Sink,
    Source,
    State,
    Unread,
    Visit,
    bearer,
    parse_time,
    rfc3339,
)
from roundsman.sinks.file import FileSink
from roundsman.sinks.http import HttpSink
from roundsman.testing import Reply, Request, Web, contract, deliver, in_turn, sink_contract, visit, visits
from worlds import Time, an_event

SECRET = "s3cret-token"
ROWS = [{"id": f"o{n}", "created_at": f"2026-04-0{n}T00:00:00Z"} for n in range(1, 6)]
NEWS = {"id": "o9", "created_at": "2026-05-02T00:00:00Z"}


def shop(*rows: dict[str, Any], page: int = 2) -> Web:
    """Orders from `since` on, oldest first, in pages."""

    def orders(request: Request) -> Any:
        if request.path != "/orders":
            return {}
        found = [row for row in rows if row["created_at"] >= request.params.get("since", "")]
        at = int(request.params.get("offset", 0))
        return found[at : at + page]

    return Web(orders)


def has_id(row: Any) -> bool:
    return isinstance(row.get("id"), str) and row["id"] != ""


class Orders(Source):
    """A source that is right. Those below differ in one thing."""

    type: Literal["acme.orders"] = "acme.orders"
    base_url: str = "http://127.0.0.1:1"
    token: Secret

    def auth(self) -> Auth:
        return bearer(self.token)

    async def poll(self, visit: Visit, state: State) -> Any:
        answer = await self.ask(visit, state)
        if answer.unchanged:
            return Poll(state)
        memory: dict[str, Any] = {**state, "tag": answer.tag}
        damaged: list[Damage] = []
        rows = [row for row, _ in answer.items(damaged=damaged) if has_id(row)]
        self.go_on(memory, rows, visit)
        unread = Unread(memory)
        unread.add(damaged)
        more = len(rows) > 0
        return Poll(memory, [self.event(row, visit) for row in rows], more=more, unread=unread.found)

    def ask(self, visit: Visit, state: State) -> Any:
        params = {key: state[key] for key in ("since", "offset") if key in state}
        return visit.http.get(f"{self.base_url}/orders", params, tag=state.get("tag"))

    def go_on(self, memory: dict[str, Any], rows: list[Any], visit: Visit) -> None:
        memory["offset"] = memory.get("offset", 0) + len(rows)

    def event(self, row: Any, visit: Visit) -> Event:
        return self.made(row)

    def made(self, row: Any, **other: Any) -> Event:
        created = parse_time(row.get("created_at"))
        given: dict[str, Any] = {
            "vendor": "acme",
            "source": self.name,
            "type": "com.acme.order.created",
            "id": row["id"],
            "time": rfc3339(created) if created else None,
            "data": {"raw": row},
        }
        return Event.of(**given | other)


# -- what it offers ----------------------------------------------------------------------------------------------------


def test_a_visit_shows_what_the_daemon_would_commit() -> None:
    web, known = shop(*ROWS), set[str]()
    source = Orders(token=SECRET).named("shop")
    first = visit(source, web, known=known)
    assert [event.id for event in first.events] == ["o1", "o2", "o3", "o4", "o5"]
    assert [len(poll.events) for poll in first.polls] == [2, 2, 1, 0]
    assert known == {"o1", "o2", "o3", "o4", "o5"}
    assert first.requests[0].headers["authorization"] == f"Bearer {SECRET}"
    second = visit(source, web, first.state, known=known)
    assert (second.events, second.state) == ([], first.state)
    assert len(second.requests) == 1
    assert second.requests[0].headers["if-none-match"]


def test_a_set_of_known_ids_keeps_events_from_being_new() -> None:
    found = visit(Orders(token=SECRET).named("shop"), shop(*ROWS), known={"o1", "o4"})
    assert [event.id for event in found.events] == ["o2", "o3", "o5"]


def test_what_a_source_raises_is_raised() -> None:
    with pytest.raises(Backoff) as caught:
        visit(Orders(token=SECRET), Web({"/orders": Reply(status=429, headers={"Retry-After": "120"})}))
    assert caught.value.after == 120


def test_the_real_client_retries_and_the_clock_moves() -> None:
    web = Web({"/orders": in_turn(503, TimeoutError(), ROWS[:1], [])})
    began = web.time.now()
    found = visit(Orders(token=SECRET), web)
    assert [event.id for event in found.events] == ["o1"]
    assert len(found.requests) == 4
    assert web.time.now() > began


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"/orders": 500}, "answered 500"),
        ({"/orders": "<html>"}, "."),
        ({"/orders": ConnectionError()}, "closed the connection|cannot be reached"),
        ({"/orders": TimeoutError()}, "did not answer within the timeout"),
        ({"POST /orders": []}, "answered 404"),
        (lambda request: Reply(b"{", 200), "."),
    ],
)
def test_a_web_can_be_wrong_in_each_way(answers: Any, expected: str) -> None:
    with pytest.raises(Exception, match=expected) as caught:
        visit(Orders(token=SECRET), Web(answers))
    assert type(caught.value).__module__.startswith("roundsman.")


class Rings(Orders):
    async def poll(self, visit: Visit, state: State) -> Any:
        return Poll({**state, "for": visit.trigger}, remarks=["odd"])

    @classmethod
    def follow(cls, state: State, ids: Sequence[str]) -> State:
        return {**state, "ids": [*ids]}


def test_a_visit_can_be_a_webhooks_and_has_the_ids_that_it_named() -> None:
    found = visit(Rings(token=SECRET), Web({}), trigger="webhook", ids=["a", "b"])
    assert found.state == {"for": "webhook", "ids": ["a", "b"]}
    assert found.remarks == ["odd"]


# -- sources that keep the contract ------------------------------------------------------------------------------------


def test_a_right_source_keeps_the_contract() -> None:
    contract(Orders(token=SECRET).named("shop"), shop(*ROWS), news=shop(*ROWS, NEWS))


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_our_own_sources_keep_the_contract(kind: str) -> None:
    vendor = kinds.KINDS[kind].vendor(Time())
    later = copy.deepcopy(vendor)
    tracked = ["b0", "b1", "b2"] if kind == "parakey.batches" else []
    if not tracked:
        kinds.KINDS[kind].add(later)

    def web(vendor: Any) -> Web:
        def answer(request: Request) -> Reply:
            reply = vendor.answer(request.method, request.path, dict(request.params), dict(request.headers))
            return Reply(reply.body, reply.status, reply.headers)

        return Web(answer, etags=False)

    source = kinds.KINDS[kind].make("it")
    contract(source, web(vendor), news=None if tracked else web(later), ids=tracked)


# -- sources that break it, one promise each ---------------------------------------------------------------------------


class LeavesItAlone(Orders):
    """Asks to be called again after longer than a tag is used."""

    async def poll(self, visit: Visit, state: State) -> Any:
        visit.defer(3600)
        return await super().poll(visit, state)


def test_a_tag_that_is_renewed_is_no_change() -> None:
    contract(LeavesItAlone(token=SECRET), shop(*ROWS), news=shop(*ROWS, NEWS))


class TagBeforeRows(Orders):
    """Its tag is committed before the rows that it announces."""

    async def poll(self, visit: Visit, state: State) -> AsyncIterator[Poll]:  # type: ignore[override]
        answer = await visit.http.get(f"{self.base_url}/orders", tag=state.get("tag"))
        if answer.unchanged:
            return
        yield Poll({"tag": answer.tag})
        yield Poll({"tag": answer.tag}, [self.made(row) for row, _ in answer.items()])


class ErrorIsNothing(Orders):
    """Leaves out what it cannot get, and never comes back to it."""

    async def poll(self, visit: Visit, state: State) -> Any:
        poll = await super().poll(visit, state)
        events = []
        for event in poll.events:
            with suppress(RequestFailed):
                await visit.http.get(f"{self.base_url}/orders/{event.id}")
                events.append(event)
        return Poll(poll.state, events, more=poll.more)


class RandomIds(Orders):
    def event(self, row: Any, visit: Visit) -> Event:
        return self.made(row, id=str(uuid.uuid4()))


class DatedIds(Orders):
    def event(self, row: Any, visit: Visit) -> Event:
        return self.made(row, id=f"{row['id']}-{visit.now:%Y-%m-%d}")


class OurClock(Orders):
    """Asks from its own last visit on."""

    async def poll(self, visit: Visit, state: State) -> Any:
        params = {"since": state["since"]} if "since" in state else {}
        answer = await visit.http.get(f"{self.base_url}/orders", {**params, "offset": 0})
        damaged: list[Damage] = []
        events = [self.made(row) for row, _ in answer.items(damaged=damaged) if has_id(row)]
        day = f"{visit.now - timedelta(days=2):%Y-%m-%d}"
        unread = Unread(memory := {**state, "since": max(day, state.get("since", ""))})
        unread.add(damaged)
        return Poll(memory, events, unread=unread.found)


class ChangesItsState(Orders):
    async def poll(self, visit: Visit, state: State) -> Any:
        state["visited"] = True  # type: ignore[index]
        return await super().poll(visit, state)


class YieldsOneState(Orders):
    async def poll(self, visit: Visit, state: State) -> AsyncIterator[Poll]:  # type: ignore[override]
        memory = dict(state)
        while True:
            answer = await visit.http.get(f"{self.base_url}/orders", {"offset": memory.get("offset", 0)})
            rows = [row for row, _ in answer.items()]
            if not rows:
                return
            self.go_on(memory, rows, visit)
            yield Poll(memory, [self.made(row) for row in rows])


class TupleInState(Orders):
    def go_on(self, memory: dict[str, Any], rows: list[Any], visit: Visit) -> None:
        super().go_on(memory, rows, visit)
        memory["seen"] = ("a", "b")


class TimeInState(Orders):
    def go_on(self, memory: dict[str, Any], rows: list[Any], visit: Visit) -> None:
        super().go_on(memory, rows, visit)
        memory["at"] = visit.now


class OneIdForAll(Orders):
    def event(self, row: Any, visit: Visit) -> Event:
        return self.made(row, id="order")


class SourceIsType(Orders):
    def event(self, row: Any, visit: Visit) -> Event:
        return self.made(row, source=self.type)


class TimeAsItCame(Orders):
    def event(self, row: Any, visit: Visit) -> Event:
        return self.made(row, time="1 May 2026")


class ShortType(Orders):
    def event(self, row: Any, visit: Visit) -> Event:
        return self.made(row, type="order")


class OwnOutcome(Orders):
    def event(self, row: Any, visit: Visit) -> Event:
        return self.made(row, outcome="ok")


class DataIsAList(Orders):
    def event(self, row: Any, visit: Visit) -> Event:
        return self.made(row, data=_Rows())


class _Rows(list[Any]):
    """A list with `get`, which is all that `Event.of` needs."""

    def get(self, _: str) -> None:
        return None


class NoneAsId(Orders):
    async def poll(self, visit: Visit, state: State) -> Any:
        answer = await visit.http.get(f"{self.base_url}/orders", {"offset": 0}, tag=state.get("tag"))
        if answer.unchanged:
            return Poll(state)
        events = [self.made({**row, "id": str(row.get("id"))}) for row, _ in answer.items(damaged=[])]
        return Poll({"tag": answer.tag}, events)


class RemembersInItself(Orders):
    _seen: set[str] = PrivateAttr(default_factory=set)

    def made(self, row: Any, **other: Any) -> Event:
        self._seen.add(row["id"])
        return super().made(row, **other)

    def go_on(self, memory: dict[str, Any], rows: list[Any], visit: Visit) -> None:
        super().go_on(memory, rows, visit)
        rows[:] = [row for row in rows if row["id"] not in self._seen]


class RemembersInItsClass(RemembersInItself):
    shared: ClassVar[set[str]] = set()

    def go_on(self, memory: dict[str, Any], rows: list[Any], visit: Visit) -> None:
        Orders.go_on(self, memory, rows, visit)
        rows[:] = [row for row in rows if row["id"] not in self.shared]
        self.shared.update(row["id"] for row in rows)


class ReadsAsDocumented(Orders):
    def ask(self, visit: Visit, state: State) -> Any:
        return self.asked(visit, state)

    async def asked(self, visit: Visit, state: State) -> Any:
        answer = await super().ask(visit, state)
        if not answer.unchanged:
            json.loads(answer.body)  # ValueError
        return answer


class SecretInARemark(Orders):
    async def poll(self, visit: Visit, state: State) -> Any:
        poll = await super().poll(visit, state)
        return Poll(poll.state, poll.events, more=poll.more, remarks=[f"asked with {self.token.reveal()}"])


class SecretInAnEvent(Orders):
    def event(self, row: Any, visit: Visit) -> Event:
        return self.made(row, data={"asked_with": self.token.reveal()})


class SecretInItsState(Orders):
    def go_on(self, memory: dict[str, Any], rows: list[Any], visit: Visit) -> None:
        super().go_on(memory, rows, visit)
        memory["key"] = self.token.reveal()


class SecretInAnError(Orders):
    def ask(self, visit: Visit, state: State) -> Any:
        return self.asked(visit, state)

    async def asked(self, visit: Visit, state: State) -> Any:
        try:
            return await super().ask(visit, state)
        except RequestFailed as exc:
            raise RequestFailed(f"asked with {self.token.reveal()}: {exc}") from None


class SecretInItsOrigin(Orders):
    def origin(self) -> str:
        return f"{self.base_url}?key={self.token.reveal()}"


class AllRowsOrNone(Orders):
    async def poll(self, visit: Visit, state: State) -> Any:
        answer = await self.ask(visit, state)
        rows = [] if answer.unchanged else [row for row, _ in answer.items()]
        memory = {**state, "tag": answer.tag}
        self.go_on(memory, rows, visit)
        return Poll(memory, [self.made(row) for row in rows if has_id(row)], more=bool(rows))


class DropsDamage(Orders):
    async def poll(self, visit: Visit, state: State) -> Any:
        poll = await super().poll(visit, state)
        return Poll(poll.state, poll.events, more=poll.more)


class KeepsDamageAgain(Orders):
    async def poll(self, visit: Visit, state: State) -> Any:
        answer = await visit.http.get(f"{self.base_url}/orders", {"offset": 0}, tag=state.get("tag"))
        if answer.unchanged:
            return Poll(state)
        damaged: list[Damage] = []
        events = [self.made(row) for row, _ in answer.items(damaged=damaged) if has_id(row)]
        return Poll({"tag": answer.tag}, events, unread=damaged)


class CannotBeCancelled(Orders):
    def ask(self, visit: Visit, state: State) -> Any:
        return self.asked(visit, state)

    async def asked(self, visit: Visit, state: State) -> Any:
        while True:
            with suppress(asyncio.CancelledError):
                return await super().ask(visit, state)


class CountsVisits(Orders):
    async def poll(self, visit: Visit, state: State) -> Any:
        poll = await super().poll(visit, state)
        return Poll({**poll.state, "visits": state.get("visits", 0) + 1}, poll.events, more=poll.more)


class NeverEnds(Orders):
    async def poll(self, visit: Visit, state: State) -> Any:
        return Poll({"n": state.get("n", 0) + 1}, more=True)


class AsksNobody(Orders):
    async def poll(self, visit: Visit, state: State) -> Any:
        return Poll(state, [self.made(row) for row in ROWS])


class FindsNothing(Orders):
    async def poll(self, visit: Visit, state: State) -> Any:
        await self.ask(visit, state)
        return Poll(state)


class FirstVisitOnly(Orders):
    async def poll(self, visit: Visit, state: State) -> Any:
        return Poll(state) if state.get("done") else await self.all(visit)

    async def all(self, visit: Visit) -> Any:
        answer = await visit.http.get(f"{self.base_url}/orders")
        return Poll({"done": True}, [self.made(row) for row, _ in answer.items()])


class RingsAreNothing(Orders):
    """A visit for a webhook marks as read what it does not report."""

    async def poll(self, visit: Visit, state: State) -> Any:
        poll = await super().poll(visit, state)
        return poll if visit.trigger != "webhook" else Poll(poll.state)


class FailsAlways(Orders):
    async def poll(self, visit: Visit, state: State) -> Any:
        raise KeyError("items")


class ReturnsAList(Orders):
    async def poll(self, visit: Visit, state: State) -> Any:
        return [self.made(row) for row in ROWS]


class PoisonedState(Orders):
    """Remembers what an answer was like, and fails by it for ever."""

    async def poll(self, visit: Visit, state: State) -> Any:
        if state.get("broken"):
            raise RequestFailed("the last answer was broken")
        try:
            return await super().poll(visit, state)
        except RequestFailed:
            return Poll({**state, "broken": True})


class RewindsInPlace(Orders):
    def rewound(self, state: State, to: Any) -> State:
        state.pop("offset", None)  # type: ignore[attr-defined]
        return state


class GapOfOneState(Orders):
    @classmethod
    def gap(cls, state: State) -> str | None:
        return str(state["gap"])


class KnowsNoWebhook(Orders):
    async def poll(self, visit: Visit, state: State) -> Any:
        if visit.trigger != "due":
            raise NotImplementedError(visit.trigger)
        return await super().poll(visit, state)


class Exits(Orders):
    async def poll(self, visit: Visit, state: State) -> Any:
        try:
            return await super().poll(visit, state)
        except RequestFailed as exc:
            sys.exit(str(exc))


class CancelsItself(Orders):
    async def poll(self, visit: Visit, state: State) -> Any:
        try:
            return await super().poll(visit, state)
        except RequestFailed:
            raise asyncio.CancelledError from None


class HugeState(Orders):
    def go_on(self, memory: dict[str, Any], rows: list[Any], visit: Visit) -> None:
        super().go_on(memory, rows, visit)
        memory["answers"] = "x" * 1_000_000


class EventsOnce(Orders):
    async def poll(self, visit: Visit, state: State) -> Any:
        poll = await super().poll(visit, state)
        return replace(poll, events=(event for event in poll.events))


class RemarkIsNoList(Orders):
    async def poll(self, visit: Visit, state: State) -> Any:
        return replace(await super().poll(visit, state), remarks="odd")


class GapIsANumber(Orders):
    @classmethod
    def gap(cls, state: State) -> Any:
        return 7


class SecretInItsGap(Orders):
    @classmethod
    def gap(cls, state: State) -> str:
        return SECRET


class SecretInUnread(Orders):
    async def poll(self, visit: Visit, state: State) -> Any:
        poll = await super().poll(visit, state)
        return replace(poll, unread=[Damage(each.raw, f"not for {SECRET}") for each in poll.unread])


class RewindsNothing(Orders):
    def rewound(self, state: State, to: Any) -> State:
        return dict(state)


class RewindsToTimesOnly(Orders):
    def rewound(self, state: State, to: Any) -> State:
        return {"since": to.isoformat()}


class RewindsToTheBeginningOnly(Orders):
    def rewound(self, state: State, to: Any) -> State:
        return {} if to is None else {"since": to}


class IsNotAsync(Orders):
    def poll(self, visit: Visit, state: State) -> Any:
        return Poll(state)


BROKEN: dict[type[Orders], str] = {
    GapOfOneState: "gap.. and following.. read every state that a poll returns, but gap.. raised KeyError",
    KnowsNoWebhook: "a visit to a vendor that answers succeeds, but this visit for a webhook failed with NotImpl",
    IsNotAsync: "a visit to a vendor that answers succeeds, .* poll.. must be `async def`; it returned a Poll",
    RewindsNothing: "rewound.. returns a state that reads again, but a visit after it reads no event",
    RewindsToTimesOnly: "rewound.. returns a state, .* but it raised AttributeError .* for the beginning .None.",
    RewindsToTheBeginningOnly: "a state is a small JSON object .* but this one cannot be written",
    HugeState: "a state is a small JSON object .* but this one has 1,000,... bytes",
    EventsOnce: "a poll has lists of events, remarks and unread rows, but events is a generator",
    RemarkIsNoList: "a poll has lists of events, remarks and unread rows, but remarks is a str",
    GapIsANumber: "gap.. returns a time or a word, or None, but it returned a int",
    SecretInItsGap: "no secret of the options leaves the plugin, but there is one in gap.. or following..",
    SecretInUnread: "no secret of the options leaves the plugin, but .* the reason of an unread row",
    Exits: "for each answer of a server, .* but it raised SystemExit .* after a 500",
    CancelsItself: "for each answer of a server, .* but it raised CancelledError .* after a 500",
    TagBeforeRows: "nothing is lost, but .* is never reported if the daemon is killed after poll 1",
    ErrorIsNothing: "nothing is lost, but .* is never reported after a",
    RandomIds: "an id is derived from the vendor's, but a second instance reports .* for the same things",
    DatedIds: "an id is derived from the vendor's, but .* a day later",
    OurClock: "a cursor comes from the vendor and not from this machine's clock, but o9",
    ChangesItsState: "a poll is a value, but the source changed the state that it was given",
    YieldsOneState: "a poll is a value, but the state of one was changed after it was yielded",
    TupleInState: "a state is a small JSON object .* but seen would come back as something else",
    TimeInState: "a state is a small JSON object .* but this one cannot be written",
    OneIdForAll: "two things have two ids, but .* the id order",
    SourceIsType: "an event is a CloudEvent of its source, but o1 has the source acme.orders",
    TimeAsItCame: "an event is a CloudEvent of its source, but the time of o1 is '1 May 2026'",
    ShortType: "an event is a CloudEvent of its source, but the type of o1 is 'order'",
    OwnOutcome: "an event is a CloudEvent of its source, but the outcome of o1 is 'ok'",
    DataIsAList: "an event is a CloudEvent of its source, but the data of o1 is not an object",
    NoneAsId: "an event is a CloudEvent of its source, but the id of one is 'None'",
    RemembersInItself: "a visit that was not committed did not happen, but the next one does not report",
    RemembersInItsClass: "a source keeps nothing but its state, but a second instance does not report",
    ReadsAsDocumented: "for each answer of a server, .* but it raised JSONDecodeError",
    SecretInARemark: "no secret of the options leaves the plugin, but there is one in a remark",
    SecretInAnEvent: "no secret of the options leaves the plugin, but there is one in the event o1",
    SecretInItsState: "no secret of the options leaves the plugin, but there is one in the state",
    SecretInAnError: "no secret of the options leaves the plugin, but .* the text of a RequestFailed",
    SecretInItsOrigin: "no secret of the options leaves the plugin, but there is one in its origin",
    AllRowsOrNone: "a row that cannot be read keeps no other from being reported, .* but it raised NoRows",
    DropsDamage: "a row that cannot be read .* is kept once, in unread, but it is in no poll",
    KeepsDamageAgain: "a row that cannot be read .* but each visit keeps it again",
    CannotBeCancelled: "a visit that is cancelled ends at once, but this one goes on at request 1",
    CountsVisits: "without news, a visit changes nothing, but the 6th one still does: visits",
    NeverEnds: "a visit comes to an end, but this one has 1000 polls",
    AsksNobody: "a source asks by visit.http, but this one made no request",
    FindsNothing: "a contract is kept over something, but there is no event in this web",
    FirstVisitOnly: "what is new is reported, but a visit after the news finds nothing",
    RingsAreNothing: "nothing is lost, but .* is never reported after a visit for a webhook",
    FailsAlways: "a visit to a vendor that answers succeeds, but this visit failed with KeyError: 'items'",
    ReturnsAList: "a visit to a vendor that answers succeeds, but .* must return or yield a Poll, not list",
    PoisonedState: "a visit to a vendor that answers succeeds, but this visit after a 500 to request 1 failed",
    RewindsInPlace: "rewound.. returns a new state, but it changed the one that it was given",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_the_promise_that_a_source_breaks_is_named_in_a_sentence(kind: type[Orders]) -> None:
    page = 100 if kind in (NoneAsId, FirstVisitOnly, TagBeforeRows, OurClock, KeepsDamageAgain) else 2
    with pytest.raises(AssertionError) as caught:
        contract(kind(token=SECRET).named("shop"), shop(*ROWS, page=page), news=shop(*ROWS, NEWS, page=page))
    said = str(caught.value)
    assert re.match(BROKEN[kind], said), said
    assert "\n" not in said
    assert SECRET not in said


class WaitsForEver(Orders):
    async def poll(self, visit: Visit, state: State) -> Any:
        await asyncio.Event().wait()


class PausesForEver(Orders):
    async def poll(self, visit: Visit, state: State) -> Any:
        while True:
            await visit.pause(60)


class AsksForEver(Orders):
    async def poll(self, visit: Visit, state: State) -> Any:
        while True:
            await self.ask(visit, {})


@pytest.mark.parametrize("kind", [WaitsForEver, PausesForEver, AsksForEver])
def test_a_contract_ends_although_the_source_does_not(
    kind: type[Orders], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visits, "LIMIT", 0.1)
    with pytest.raises(AssertionError, match=r"comes to an end, but this one has not after 0\.1 seconds"):
        contract(kind(token=SECRET), shop(*ROWS))


# -- sinks -------------------------------------------------------------------------------------------------------------

TAKEN: dict[str, list[str]] = {}
"""What each place has, by its URL."""


class Receiver:
    """Takes an event a request, and remembers its id."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def __call__(self, request: Request) -> int:
        document = request.json()
        self.ids += [each["id"] for each in (document if isinstance(document, list) else [document])]
        return 204


class Posts(Sink):
    """A sink that is right. Those below differ in one thing."""

    type: Literal["posts"] = "posts"
    url: str = "http://127.0.0.1:1/events"
    key: Secret

    @asynccontextmanager
    async def open(self, http: Http, receipt: Receipt | None) -> AsyncIterator[Deliver]:
        async def deliver(events: Sequence[Event]) -> Receipt | None:
            return await self.send(http, events)

        yield deliver

    async def send(self, http: Http, events: Sequence[Event]) -> Receipt | None:
        for event in events:
            await http.post(self.url, headers={"x-key": self.key.reveal()}, content=event.body)
        return {"last": events[-1].id}


def test_a_delivery_shows_what_was_acked_and_buried() -> None:
    receiver = Receiver()

    def picky(request: Request) -> int:
        return 422 if request.json()["id"] == "id00002" else receiver(request)

    found = deliver(Posts(key=SECRET), [an_event(n) for n in (1, 2, 3)], Web(picky))
    assert [event.id for event in found.acked] == ["id00001", "id00003"]
    assert found.buried == {"id00002": "127.0.0.1:1 answered 422"}
    assert (found.receipt, found.error) == ({"last": "id00003"}, None)
    down = deliver(Posts(key=SECRET), [an_event(1)], Web({}), receipt={"last": "id00000"})
    assert (down.acked, down.receipt) == ([], {"last": "id00000"})
    assert isinstance(down.error, RequestFailed)


def test_a_right_sink_keeps_the_contract() -> None:
    receiver = Receiver()
    sink_contract(Posts(key=SECRET), lambda: receiver.ids, Web(receiver))


@pytest.mark.parametrize("content", ["structured", "batch"])
def test_our_own_http_sink_keeps_the_contract(content: str) -> None:
    receiver = Receiver()
    sink = HttpSink(type="http", url="http://127.0.0.1:1/", auth={"value": SECRET}, content=content)  # type: ignore[arg-type]
    sink_contract(sink, lambda: receiver.ids, Web(receiver))


def test_our_own_file_sink_keeps_the_contract(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    sink = FileSink(type="file", path=path)
    sink_contract(sink, lambda: [json.loads(line)["id"] for line in path.read_text().splitlines()])


class AcksEarly(Posts):
    """Posts at the next delivery."""

    async def send(self, http: Http, events: Sequence[Event]) -> Receipt | None:
        return {"last": events[-1].id}


class IgnoresTheStatus(Posts):
    async def send(self, http: Http, events: Sequence[Event]) -> Receipt | None:
        for event in events:
            await http.send("POST", self.url, content=event.body)
        return None


class NewestFirst(Posts):
    async def send(self, http: Http, events: Sequence[Event]) -> Receipt | None:
        return await super().send(http, events[::-1])


class RejectsTheirFaults(Posts):
    async def send(self, http: Http, events: Sequence[Event]) -> Receipt | None:
        try:
            return await super().send(http, events)
        except RequestFailed as exc:
            raise Reject(str(exc)) from None


class RetriesForEver(Posts):
    async def send(self, http: Http, events: Sequence[Event]) -> Receipt | None:
        try:
            return await super().send(http, events)
        except Reject as exc:
            raise RequestFailed(str(exc)) from None


class SaysItsKey(Posts):
    async def send(self, http: Http, events: Sequence[Event]) -> Receipt | None:
        try:
            return await super().send(http, events)
        except RequestFailed as exc:
            raise RequestFailed(f"{exc} with {self.key.reveal()}") from None


class ReceiptIsATuple(Posts):
    async def send(self, http: Http, events: Sequence[Event]) -> Receipt | None:
        return {"last": (await super().send(http, events), 1)}


class OpensOnce(Posts):
    """Refuses what it knows already."""

    async def send(self, http: Http, events: Sequence[Event]) -> Receipt | None:
        if events[0].id in TAKEN.setdefault(self.url, []):
            raise ValueError("twice")
        TAKEN[self.url] += [event.id for event in events]
        return await super().send(http, events)


class ExitsItself(Posts):
    async def send(self, http: Http, events: Sequence[Event]) -> Receipt | None:
        sys.exit("no licence")


class CancelsIt(Posts):
    async def send(self, http: Http, events: Sequence[Event]) -> Receipt | None:
        raise asyncio.CancelledError


class SendsTwice(Posts):
    async def send(self, http: Http, events: Sequence[Event]) -> Receipt | None:
        return await super().send(http, [*events, *events])


class RejectsEach(Posts):
    async def send(self, http: Http, events: Sequence[Event]) -> Receipt | None:
        raise Reject("too old")


BROKEN_SINKS: dict[type[Posts], str] = {
    ExitsItself: "a sink raises Reject, Backoff or an error .* but it raised SystemExit .no licence.",
    CancelsIt: "a sink raises Reject, Backoff or an error .* but it raised CancelledError",
    SendsTwice: "what is acked is not delivered again, but testing-00000.* came twice although nothing is wrong",
    RejectsEach: "only what is refused for good is buried, but testing-00000.* is .too old.",
    AcksEarly: "what a sink acks has arrived, but testing-00000.* is not there when its delivery returns",
    IgnoresTheStatus: "what a sink acks has arrived, but .* is not there",
    NewestFirst: "events arrive in the order of the log",
    RejectsTheirFaults: "what a sink acks has arrived, but .* after a 500|only what is refused for good is buried",
    RetriesForEver: "an event that is refused for good is buried, .* but RequestFailed .* is raised",
    SaysItsKey: "no secret of the options leaves the plugin, but there is one in the text of a RequestFailed",
    ReceiptIsATuple: "a receipt is a small JSON object .* but last would come back as something else",
    OpensOnce: "a place takes its events, but ValueError .twice. is raised when it gets events that it has",
}


@pytest.mark.parametrize("kind", BROKEN_SINKS)
def test_the_promise_that_a_sink_breaks_is_named_in_a_sentence(kind: type[Posts]) -> None:
    receiver = Receiver()
    TAKEN.clear()
    with pytest.raises(AssertionError) as caught:
        sink_contract(kind(key=SECRET), lambda: receiver.ids, Web(receiver))
    said = str(caught.value)
    assert re.match(BROKEN_SINKS[kind], said), said
    assert "\n" not in said
    assert SECRET not in said
