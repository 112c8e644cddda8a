"""What every source and every sink must keep, tested once over all of them."""

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from cloudevents.core.formats.json import JSONFormat
from hypothesis import given, settings, strategies as st
from pydantic import BaseModel, ValidationError

from budgets import SIMULATIONS
from inside import commit
from lists import worked
from roundsman import config, kinds
from roundsman.config.schema import descriptions
from roundsman.engine.engine import Engine
from roundsman.engine.reading import polls, visit_to
from roundsman.http.client import Http
from roundsman.http.transport import Clients, HttpOptions
from roundsman.options.secrets import Secret
from roundsman.plugin import Sink, Source, secrets
from roundsman.sandbox import TOKEN, Building, Fault, Parakey, Vendor
from roundsman.sandbox.github import GitHub, Quirks as GitHubQuirks
from roundsman.sandbox.mailchimp import API_KEY, Mailchimp, Operation, bad_address
from roundsman.sandbox.railz import SECRET_KEY, Railz
from roundsman.sinks import SINKS
from roundsman.sources import SOURCES
from roundsman.store import Filter
from roundsman.store.sqlite.store import SqliteStore
from worlds import (
    ByHand,
    Straight,
    Time,
    an_event,
    event_logs,
    keeps_the_contract,
    mailchimp_batches,
    parakey_batches,
    railz_pushes,
    web_of,
)


@dataclass(frozen=True)
class Kind:
    """One kind of source, with a world for it."""

    make: Callable[..., Source]
    vendor: Callable[[Time], Vendor]
    """With a history."""
    add: Callable[[Any], str]
    """Something new; the id of an event to come of it."""
    begin: Callable[[Source], Any] = lambda _: {}
    """The state of a first visit."""
    track: tuple[str, ...] = ()
    """What has to be followed to find what was added."""


def a_building(time: Time) -> Parakey:
    parakey = Parakey(now=time.utc)
    Building(parakey).fill(30, time.utc())
    for number in range(3):
        parakey.batch([{"user": {"email": "a@b.example"}, "error": {"message": "no"}}], batch_id=f"b{number}")
    parakey.batch([{}], batch_id="running", took=None)
    time.advance(600)
    return parakey


def an_account(time: Time) -> Mailchimp:
    mailchimp = Mailchimp(now=time.utc)
    for number in range(5):
        mailchimp.add([Operation(), bad_address("a@b.example")], batch_id=f"b{number}")
    time.advance(600)
    return mailchimp


def a_ledger(time: Time) -> Railz:
    railz = Railz(now=time.utc)
    railz.connect("CON-1")
    for number in range(5):
        status: Any = {"status": "failed", "errors": [{"message": "no"}]} if number == 2 else {}
        railz.push("CON-1", push_id=f"p{number}", batch="batch" if number < 3 else None, **status)
    time.advance(600)
    return railz


def add_log(parakey: Parakey) -> str:
    return parakey.add(log_id="after").id


def add_keys(parakey: Parakey) -> str:
    return parakey.batch([{"user": {"email": "ada@harbour.example"}}], batch_id="after").id + ":completed"


def add_batch(mailchimp: Mailchimp) -> str:
    return mailchimp.add(batch_id="after").id + ":completed"


def add_push(railz: Railz) -> str:
    return railz.push("CON-1", push_id="after").id + ":success"


def a_row(name: str, **options: Any) -> Source:
    return worked("github", event={}, **options).named(name)


def a_timeline(time: Time) -> GitHub:
    github = GitHub(time.utc, GitHubQuirks(limit=None, cap=7))
    for number in range(20):
        github.add(f"e{number}", at=time.utc() + timedelta(seconds=number))
    time.advance(600)
    return github


KINDS = {
    "http.json": Kind(a_row, a_timeline, lambda github: github.add("after")),
    "parakey.event_logs": Kind(event_logs, a_building, add_log),
    "parakey.batches": Kind(
        parakey_batches,
        a_building,
        add_keys,
        lambda source: source.follow({}, ["b0", "b1", "b2", "running"]),
        ("after",),
    ),
    "mailchimp.batches": Kind(mailchimp_batches, an_account, add_batch),
    "railz.pushes": Kind(railz_pushes, a_ledger, add_push),
}
KEYS = (
    *("id", "createdAt", "timestamp", "user", "device", "data", "x", "status", "items", "error"),
    *("batches", "total_items", "submitted_at", "errored_operations", "response_body_url"),
    *("connectionUuid", "pushCommunicationId", "batchId", "pagination", "count", "validation"),
)
SECRETS = (TOKEN, API_KEY, SECRET_KEY)
SINK_OPTIONS: dict[str, dict[str, Any]] = {
    "stdout": {},
    "file": {"path": "events.jsonl"},
    "http": {"url": "http://127.0.0.1:1/events", "auth": {"value": "s3cret"}},
    "notify": {"urls": [Secret("json://user:s3cret@127.0.0.1:1/")]},
    "exec": {"command": ["cat"], "environment": {"TOKEN": Secret("s3cret")}},
    "postgres": {"url": "postgresql://rm:s3cret@127.0.0.1:1/rm", "table": "events"},
}


def make_source(kind: str) -> Source:
    return KINDS[kind].make("it")


def make_sink(kind: str, folder: Path) -> Sink:
    options = dict(SINK_OPTIONS[kind])
    if "path" in options:
        options["path"] = folder / options["path"]
    return config.sinks_registry()[kind].load()(type=kind, **options).named("it")


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest) -> Source:
    return make_source(request.param)


@pytest.fixture(params=SINKS)
def sink(request: pytest.FixtureRequest, tmp_path: Path) -> Sink:
    return make_sink(request.param, tmp_path)


@pytest.fixture
def world(source: Source, time: Time) -> Vendor:
    return KINDS[source.type].vendor(time)


def first(source: Source) -> Any:
    return KINDS[source.type].begin(source)


async def visit(source: Source, vendor: Vendor, time: Time, state: Any) -> Any:
    """One visit, with a log that has only what this visit reported."""
    found: dict[str, Any] = {}

    async def log(ids: Sequence[str]) -> set[str]:
        return found.keys() & set(ids)

    visit = visit_to(source, web_of(Straight(vendor), time), log=log)
    more = True
    while more:
        async for poll in polls(source, visit, state):
            found |= {event.id: event for event in poll.events}
            state, more = poll.state, poll.more
    return list(found.values()), state


def test_every_plugin_is_covered_here() -> None:
    assert set(KINDS) == set(SOURCES)
    assert set(SINK_OPTIONS) == set(SINKS)


# -- sources -----------------------------------------------------------------------------------------------------------


async def test_a_poll_is_a_value(source: Source, world: Vendor, time: Time) -> None:
    """The same state and the same world give the same events; what came in is not changed."""
    found, state = await visit(source, world, time, first(source))
    again, _ = await visit(source, world, time, first(source))
    assert [e.id for e in found] == [e.id for e in again]
    assert found
    before = json.dumps(state)
    await visit(source, world, time, state)
    assert json.dumps(state) == before, "the state is small JSON, and left alone"


async def test_nothing_new_is_no_event_and_the_same_state(source: Source, world: Vendor, time: Time) -> None:
    _, state = await visit(source, world, time, first(source))
    time.advance(61)
    _, state = await visit(source, world, time, state)  # some things want to be seen twice
    fresh, after = await visit(source, world, time, state)
    assert fresh == []
    assert after == state


async def test_ids_are_the_vendors_and_do_not_change(source: Source, world: Vendor, time: Time) -> None:
    found, state = await visit(source, world, time, first(source))
    time.advance(86400)  # a sweep reads everything again
    more, state = await visit(source, world, time, state)
    again, _ = await visit(source, world, time, first(source))
    assert {e.id for e in again} <= {e.id for e in [*found, *more]}


async def test_rewinding_reads_again_what_was_not_reported(source: Source, time: Time) -> None:
    """A source that began now, rewound to the beginning, reports its history."""
    if source.type == "parakey.batches":
        source = parakey_batches("it", request={"list_path": "/batches"}, start="now")
    else:
        source = KINDS[source.type].make("it", start="now")
    vendor = KINDS[source.type].vendor(time)
    if isinstance(vendor, Parakey):
        vendor.quirks.batch_list = True
    found, state = await visit(source, vendor, time, {})
    assert found == []
    state = source.rewound(state, None)
    found, _ = await visit(source, vendor, time, state)
    assert found


async def test_every_event_keeps_the_event_contract(source: Source, world: Vendor, time: Time) -> None:
    found, _ = await visit(source, world, time, first(source))
    validator = jsonschema.Draft202012Validator(kinds.schemas())
    for event in found:
        assert b"\n" not in event.body
        document = json.loads(event.body)
        assert list(validator.iter_errors(document)) == []
        assert document["type"] in kinds.TYPES
        headers = {"content-type": "application/cloudevents+json"}
        parsed = from_http_event(HTTPMessage(headers, event.body), JSONFormat())
        assert parsed.get_id() == event.id
        assert parsed.get_source() == document["source"]
        assert document["source"].endswith("/it")


@pytest.mark.parametrize(
    "fault",
    [
        Fault(401),
        Fault(403),
        Fault(404),
        Fault(429),
        Fault(500),
        Fault(200, body=b"<html>"),
        Fault(200, body=b""),
        Fault(200, body=b"[1,"),
        Fault(200, body=b"7"),
        Fault(kind="hang"),
        Fault(kind="drop"),
        Fault(302),
    ],
)
async def test_trouble_is_raised_and_never_read_as_nothing_new(
    fault: Fault, source: Source, world: Vendor, time: Time
) -> None:
    if source.type == "parakey.batches" and fault.status in {403, 404}:
        return  # that is about the one batch
    _, state = await visit(source, world, time, first(source))
    time.advance(700)
    world.faults.extend([fault] * 40)
    with pytest.raises(Exception) as caught:
        await visit(source, world, time, state)
    assert not any(secret in str(caught.value) + repr(caught.value) for secret in SECRETS)
    assert str(caught.value)


async def test_a_cancelled_poll_leaves_nothing_behind(source: Source, world: Vendor, time: Time) -> None:
    class Hangs(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await asyncio.Event().wait()
            raise AssertionError

    visit = visit_to(source, Clients(HttpOptions(), transport=lambda url: Hangs()))
    task = asyncio.ensure_future(anext(polls(source, visit, first(source))))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@given(
    body=st.one_of(
        st.binary(max_size=300),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=4)
                | st.dictionaries(
                    st.sampled_from(KEYS),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=20,
        ).map(lambda v: json.dumps(v).encode()),
    )
)
@settings(max_examples=2 * SIMULATIONS, deadline=None)
@pytest.mark.parametrize("kind", SOURCES)
def test_the_daemon_continues_after_any_answer(kind: str, body: bytes) -> None:
    """Either it is read, or it is an error with a sentence; and the source goes on afterwards."""
    time, source = Time(), make_source(kind)
    vendor = KINDS[kind].vendor(time)
    answer = vendor.answer

    def garbage(method: str, path: str, query: Any, headers: Any) -> Any:
        reply = answer(method, path, query, headers)
        return reply if path == "/getAccess" else type(reply)(200, {"ETag": '"x"'}, body)

    vendor.answer = garbage  # type: ignore[method-assign]
    state = first(source)
    try:
        found, state = asyncio.run(visit(source, vendor, time, state))
    except Exception as exc:  # noqa: BLE001 - as the engine does
        assert type(exc).__module__.startswith("roundsman."), repr(exc)
    else:
        for event in found:
            keeps_the_contract(event)
    vendor.answer = answer  # type: ignore[method-assign]
    expected = KINDS[kind].add(vendor)
    if KINDS[kind].track:
        state = source.follow(state, KINDS[kind].track)
    time.advance(86400)
    found, _ = asyncio.run(visit(source, vendor, time, state))
    assert expected in {event.id for event in found}


# -- sinks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(set(SINKS) - {"stdout"}))  # standard output is always there
async def test_a_place_that_is_not_there_is_an_error_and_not_an_ack(kind: str, tmp_path: Path) -> None:
    sink = make_sink(kind, tmp_path)
    if kind == "file":
        (tmp_path / "file").write_text("")
        sink = sink.model_copy(update={"path": tmp_path / "file" / "x.jsonl"})
    if kind == "exec":
        sink = sink.model_copy(update={"command": (str(tmp_path / "missing"),)})
    web = Clients(HttpOptions(attempts=1))
    with pytest.raises(Exception, match=r".+"):
        async with sink.open(Http(web), None) as deliver:
            await deliver([an_event(1)])
    await web.aclose()


async def test_opening_twice_in_a_row_is_fine(sink: Sink, time: Time) -> None:
    if sink.type == "postgres":
        pytest.skip("it connects when it is opened: tests/sinks/test_postgres_sink.py has a server")
    for _ in range(2):
        async with sink.open(Http(Clients()), None):
            pass


async def test_the_filters_work(sink: Sink, tmp_path: Path, store: SqliteStore, time: Time) -> None:
    engine = Engine(store, ByHand(), web_of(Straight(Parakey()), time), clock=time.clock())
    picky = sink.model_copy(update={"outcomes": ("denied",)}).named("it")
    await engine.setup({}, {"it": picky})
    await store.register({"doors": "parakey.event_logs"}, {})
    commit(store, "doors", {}, [an_event(1), an_event(2, outcome="denied")], now=0, due=0)
    wanted = Filter(picky.types, picky.sources, picky.outcomes)
    assert [e.id for e, _ in await store.events(0, 9, 9, wanted)] == ["id00002"]


# -- both --------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=[*SOURCES, *SINKS])
def plugin(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    kind = request.param
    yield make_source(kind) if kind in SOURCES else make_sink(kind, tmp_path)


def test_a_plugin_is_frozen_and_refuses_unknown_options(plugin: Any) -> None:
    with pytest.raises(ValidationError):
        plugin.type = "other"
    with pytest.raises(ValidationError):
        type(plugin).model_validate({"type": plugin.type, "frobnicate": 1})


def test_every_option_has_a_description(plugin: Any) -> None:
    def check(model: type[BaseModel]) -> None:
        texts = descriptions(model)
        for name, info in model.model_fields.items():
            inner = [
                a for a in (info.annotation, *getattr(info.annotation, "__args__", ())) if isinstance(a, type)
            ]
            nested = [a for a in inner if issubclass(a, BaseModel)]
            for each in nested:
                check(each)
            assert (
                texts.get(name)
                or nested
                or name == "type"
                or name.endswith(("_param", "header", "value", "version"))
                or model.__name__.endswith("Fields")
            ), f"{model.__name__}.{name}"

    check(type(plugin))


def test_secrets_are_shown_by_nothing(plugin: Any) -> None:
    for secret in secrets(plugin):
        assert isinstance(secret, Secret)
        value = secret.reveal()
        assert value not in repr(plugin) + str(plugin) + plugin.model_dump_json() + repr(plugin.model_dump())


def test_another_key_is_another_identity(plugin: Any) -> None:
    if secrets(plugin) and isinstance(plugin, Source):
        names = [n for n in type(plugin).model_fields if isinstance(getattr(plugin, n), Secret)]
        others: dict[str, Any] = dict.fromkeys(names, "other") or {"auth": {"bearer": "other"}}
        other = KINDS[plugin.type].make("it", **others)
        assert other.identity() != plugin.identity()
