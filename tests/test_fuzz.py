"""With any webhook, no exception leaves a `receive`, no answer is a 5xx, and what is logged keeps the contract.

`make fuzz` sends the same functions what a fuzzer that watches the code comes up with.
"""

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from budgets import SIMULATIONS
from doors import HEADER, PARAKEY, SECRET, TOKEN, VALUE
from inside import done, left_in, set_visited
from roundsman.engine.engine import Engine
from roundsman.engine.reception import Reception
from roundsman.plugin import Source
from roundsman.sandbox import Parakey
from roundsman.store import Intake
from roundsman.store.sqlite.store import SqliteStore
from roundsman.web.app import app
from roundsman.webhook import Call
from worlds import (
    START,
    ByHand,
    Straight,
    Time,
    event_logs,
    keeps_the_contract,
    mailchimp_batches,
    parakey_batches,
    railz_pushes,
    web_of,
)

SOURCES: dict[str, Source] = {
    "doors": event_logs(webhook=PARAKEY, domain_id="d1"),
    "places": event_logs("places", dedupe="place", webhook=PARAKEY),
    "keys": parakey_batches(webhook=PARAKEY),
    "news": mailchimp_batches(webhook={"token": TOKEN}),
    "ledger": railz_pushes(webhook=PARAKEY),
    "some": railz_pushes("some", connections=["CON-1"], messages=False, deletes=True, webhook=PARAKEY),
    "v1": railz_pushes("v1", connections=["Harbour"], api_version="v1", webhook=PARAKEY),
}
NAMES = st.sampled_from(
    [
        "id",
        "createdAt",
        "timestamp",
        "domain",
        "domainId",
        "device",
        "access",
        "user",
        "success",
        "status",
        "state",
        "items",
        "results",
        "error",
        "errors",
        "code",
        "message",
        "completedAt",
        "data",
        "event",
        "push",
        "connectionId",
        "connectionUuid",
        "connectionUUid",
        "businessName",
        "pushCommunicationId",
        "batchId",
        "batch",
        "deleteCommunicationId",
        "responseCode",
        "completedOn",
        "requestedOn",
        "validation",
        "sourceObjectIds",
        "dataType",
        "serviceName",
        "field",
        "name",
        "email",
        "type",
        "requestId",
    ]
)
WORDS = st.sampled_from(
    [
        "push",
        "batchPush",
        "delete",
        "login",
        "success",
        "failed",
        "pending",
        "completed",
        "running",
        "2026-05-01T06:00:00Z",
        "CON-1",
        "Harbour",
        "d1",
        "x",
        "y1",
        "�",
        "0000-00-00T00:00:00Z",
        "9999-12-31T23:59:59.999999999Z",
    ]
)
LEAVES = st.one_of(
    WORDS,
    st.text(max_size=20),
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.just(10**400),
    st.just("x" * 70),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=8),
    max_leaves=30,
)
DOCUMENTS = st.dictionaries(NAMES, VALUES, max_size=10)
PUSHES = st.fixed_dictionaries(
    {"event": st.sampled_from(["push", "batchPush", "delete"])},
    optional={
        "connectionId": LEAVES,
        "pushCommunicationId": LEAVES,
        "deleteCommunicationId": LEAVES,
        "batchId": VALUES,
        "status": st.sampled_from(["success", "failed", "pending", 3]),
        "responseCode": LEAVES,
        "completedOn": LEAVES,
        "validation": VALUES,
        "batch": st.lists(st.dictionaries(NAMES, VALUES, max_size=6), max_size=4) | VALUES,
    },
)
FORMS = st.dictionaries(st.sampled_from(["type", "data[id]", "fired_at", "x"]), WORDS | st.text(), max_size=5)


def encoded(document: Any) -> bytes:
    return json.dumps(document).encode("utf-8", "surrogatepass")


BODIES = st.one_of(
    st.binary(max_size=200),
    VALUES.map(encoded),
    DOCUMENTS.map(encoded),
    st.lists(DOCUMENTS, max_size=3).map(encoded),
    st.fixed_dictionaries({"data": PUSHES | DOCUMENTS}).map(encoded),
    FORMS.map(lambda form: urlencode(form, errors="replace").encode()),
)


@settings(max_examples=5 * SIMULATIONS, deadline=None, suppress_health_check=list(HealthCheck))
@given(name=st.sampled_from(sorted(SOURCES)), body=BODIES)
def test_no_exception_leaves_a_receive_and_what_it_returns_keeps_the_contract(name: str, body: bytes) -> None:
    mail, _, _ = Reception._understand(AskedOnly(), SOURCES[name], Call(body, {}, START))  # type: ignore[arg-type]
    if mail.unread is not None:
        # Refused in words of ours: a bug would have another type, and say so with a traceback.
        assert mail.unread[1] == body
    for event in mail.events:
        keeps_the_contract(event)
    with STORE.open() as store:
        done(store.receive(mail, START))
        if mail.follow:
            SOURCES[name].follow({}, mail.follow)


class AskedOnly(Reception):
    """Only its judgement; an unexpected error is one of the test."""

    def __init__(self) -> None:
        pass

    def _keep(self, name: str, body: bytes, why: str, exc: Exception | None = None) -> Intake:
        if exc is not None:
            raise exc
        return Intake(name, unread=(why, body))


class Kept:
    """One store for all examples."""

    store: SqliteStore | None = None

    def open(self) -> "Kept":
        return self

    def __enter__(self) -> SqliteStore:
        if self.store is None:
            self.folder = tempfile.TemporaryDirectory()
            self.store = SqliteStore.open(Path(self.folder.name) / "fuzz.db")
            done(self.store.register({name: source.type for name, source in SOURCES.items()}, {}))
        return self.store

    def __exit__(self, *exc: object) -> None:
        pass


STORE = Kept()


@pytest.fixture(scope="module", autouse=True)
def tidy() -> Any:
    yield
    if STORE.store is not None:
        done(STORE.store.close())
        for event in left_in(Path(STORE.folder.name) / "fuzz.db"):
            keeps_the_contract(event)
        STORE.folder.cleanup()
        STORE.store = None


REQUEST = st.fixed_dictionaries(
    {
        "method": st.sampled_from(["POST", "POST", "POST", "GET", "HEAD", "PUT", "OPTIONS", "TRACE"]),
        "url": st.sampled_from(
            [f"/hooks/{name}" for name in SOURCES]
            + [
                f"/hooks/news/{TOKEN}",
                "/hooks/",
                "/hooks/a/b/c",
                "/healthz",
                "/readyz",
                "/metrics",
                "/hooks/%ff",
                "//",
            ]
        ),
        "content": BODIES,
        "headers": st.dictionaries(
            st.sampled_from(
                ["x-mailchimp-signature", "railz-signature", "content-type", "content-length", HEADER]
            ),
            st.sampled_from(
                [
                    VALUE,
                    "t=1,v1=00",
                    "t=" + "9" * 30,
                    ",,,=,",
                    "application/json",
                    "-1",
                    "0",
                    "x" * 5000,
                    SECRET,
                ]
            ),
        ),
    }
)


@settings(max_examples=3 * SIMULATIONS, deadline=None, suppress_health_check=list(HealthCheck))
@given(requests=st.lists(REQUEST, min_size=1, max_size=4))
def test_no_answer_is_a_5xx_nor_410(requests: list[dict[str, Any]]) -> None:
    async def ask() -> None:
        with STORE.open() as store:
            time = Time()
            engine = Engine(store, ByHand(), web_of(Straight(Parakey(time.utc)), time), clock=time.clock())
            await engine.setup(SOURCES, {})
            for name in SOURCES:
                await set_visited(engine, name, START)
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(app(engine)), base_url="http://daemon"
            ) as client:
                for request in requests:
                    answer = await client.request(**request)
                    # 400: less or more than its length says came, which no server would hand on.
                    assert answer.status_code in {200, 400, 401, 404, 405, 413}, (request, answer)

    asyncio.run(ask())
