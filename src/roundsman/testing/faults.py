"""Faults between a plugin and a server, one request at a time."""

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from roundsman.testing.clock import Time
from roundsman.testing.web import Reply, Request, Web

Spoil = Callable[[Request, Reply], Any]
"""From a request and its right answer to the wrong one."""


class Fault(NamedTuple):
    """One way in which an answer is wrong."""

    what: str
    """`after WHAT`."""
    spoil: Spoil


def cut(_: Request, reply: Reply) -> Reply:
    """The first half of the answer, as if it were all."""
    return Reply(reply.content[: len(reply.content) // 2], reply.status, reply.headers)


def echo(request: Request, _: Reply) -> Reply:
    """A refusal that repeats the request, as of some servers."""
    return Reply({"message": f"not accepted: {dict(request.headers)} {request.url}"}, 400)


NO_ANSWERS = (
    Fault("a 500", lambda *_: Reply({"message": "out of order"}, 500)),
    Fault("a 429", lambda *_: Reply(status=429, headers={"Retry-After": "120"})),
    Fault("a page of HTML", lambda *_: Reply("<!doctype html><title>Maintenance</title>")),
    Fault("an empty answer", lambda *_: Reply(b"")),
    Fault("an answer that was cut in the middle", cut),
    Fault("a broken connection", lambda *_: ConnectionError()),
    Fault("a request without an answer", lambda *_: TimeoutError()),
    Fault("a refusal that repeats the request", echo),
    Fault("a 401", lambda *_: Reply({"message": "unauthorized"}, 401)),
)
"""No answer: a visit must fail, or continue without it; it is requested again."""
FOREVER = range(1_000_000)
"""All requests."""
HUGE = 10**400
DAMAGED = "no object but a text"
STRANGE = (
    *(
        Fault(f"the answer {body[:20]}", lambda *_, body=body: Reply(body.encode()))
        for body in ("[]", "{}", "null", "7", '"text"', "true", f"[{HUGE}]", "[" * 500 + "]" * 500)
    ),
    Fault("a 404", lambda *_: Reply({"message": "not found"}, 404)),
    Fault("a 403", lambda *_: Reply({"message": "forbidden"}, 403)),
    Fault("a 302", lambda *_: Reply(status=302, headers={"Location": "http://elsewhere.example/"})),
    Fault("a 204", lambda *_: Reply(status=204)),
)
"""Answers without sense: the source decides what they mean, and continues afterwards."""


def rows_instead(rows: Callable[[list[Any]], list[Any]]) -> Spoil:
    """The answer with other rows: those of a bare array, or of the only list in an envelope."""

    def spoil(_: Request, reply: Reply) -> Reply:
        try:
            document = json.loads(reply.content)
        except ValueError:
            return reply
        if _are_rows(document):
            return Reply(rows(document), reply.status, _untagged(reply))
        lists = (
            [key for key, value in document.items() if isinstance(value, list)]
            if isinstance(document, dict)
            else []
        )
        if len(lists) == 1 and _are_rows(document[lists[0]]):
            changed = document | {lists[0]: rows(document[lists[0]])}
            return Reply(changed, reply.status, _untagged(reply))
        return reply

    return spoil


def _are_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _untagged(reply: Reply) -> dict[str, str]:
    """The headers without the ETag: the source reads the answer in full each time."""
    return {name: value for name, value in reply.headers.items() if name.lower() != "etag"}


def strangers(rows: list[Any]) -> list[Any]:
    """Unknown objects, and numbers that no program reads."""
    values: tuple[Any, ...] = (None, HUGE, -1, [], {}, "")
    return [{"made": 1}, {"made": 2}, *(dict.fromkeys(rows[0], value) for value in values)]


def with_damage(rows: list[Any]) -> list[Any]:
    """The rows, and one that is no object."""
    return [*rows, DAMAGED]


def faulty(web: Web, time: Time, wrong: Sequence[int], spoil: Spoil) -> Web:
    """The web with wrong answers to these requests, counted from 0."""
    right = web.again(time)

    async def answer(request: Request) -> Any:
        reply = await right.reply(request)
        if len(faults.requests) - 1 not in wrong or not isinstance(reply, Reply):
            return reply
        return spoil(request, reply)

    faults = Web(answer, time=time, etags=False)
    return faults


def hanging(web: Web, time: Time, at: int) -> tuple[Web, asyncio.Event, asyncio.Event]:
    """The web, which never answers request `at` and later ones: the events are set by the wait, and end it."""
    right, reached, freed = web.again(time), asyncio.Event(), asyncio.Event()

    async def answer(request: Request) -> Any:
        if len(hangs.requests) - 1 < at:
            return await right.reply(request)
        reached.set()
        await freed.wait()
        return ConnectionError()

    hangs = Web(answer, time=time, etags=False)
    return hangs, reached, freed
