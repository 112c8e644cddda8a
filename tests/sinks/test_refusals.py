"""What a receiver says about a refusal: its words are in the reason, in one line, without a secret, and they cost no time."""

import asyncio
import gzip
import os
import sys
import time as real
from itertools import chain, repeat
from pathlib import Path

import pytest

from doors import until
from inside import publish, put, seen
from processes import Daemon, configure
from raw import answer, raw_server
from rounds import running
from roundsman.engine.engine import Engine
from roundsman.errors import Backoff, Reject, RequestFailed
from roundsman.http.client import Http
from roundsman.http.transport import Clients, HttpOptions
from roundsman.http.words import refusal
from roundsman.masking import mask
from roundsman.sandbox import TOKEN, Sandbox
from roundsman.sinks.http import HttpSink
from roundsman.store.sqlite.store import SqliteStore
from worlds import RECORDS, ByHand, Recorder, Time, an_event

TEXT = {"Content_Type": "text/plain; charset=utf-8"}
JSON = {"Content_Type": "application/json"}
PAGE = {"Content_Type": "text/html"}


async def reason_for(reply: bytes, *endless: bytes) -> str:
    """Why a delivery that is answered like this fails, without the host; `endless` is repeated after it."""
    pieces = chain([reply], repeat(*endless) if endless else repeat(reply))
    async with raw_server(lambda _: next(pieces), again=bool(endless)) as server:
        web = Clients(HttpOptions(timeout=60))
        try:
            async with HttpSink(type="http", url=f"{server.url}/e?key=1").open(Http(web), None) as deliver:
                with pytest.raises((Reject, RequestFailed, Backoff)) as caught:
                    await deliver([an_event(1)])
        finally:
            await web.aclose()
        where, _, said = str(caught.value).partition(" answered ")
        assert where == server.url.removeprefix("http://")
        return said


WORDS = {
    "plain text": (answer(b"invalid_payload", 400, **TEXT), "400: invalid_payload"),
    "a 403": (answer(b"action_prohibited", 403, **TEXT), "403: action_prohibited"),
    "a 500": (answer(b"rollup_error", 500, **TEXT), "500: rollup_error"),
    "no words": (answer(b"", 400), "400"),
    "blanks": (answer(b" \r\n ", 400), "400"),
    "several lines": (answer(b"no\r\n\tsuch   door\n", 400, **TEXT), "400: no such door"),
    "a message": (answer(b'{"message": "Invalid Form Body", "code": 50035}', 400), "400: Invalid Form Body"),
    "an error in an error": (
        answer(b'{"error": {"code": "BadRequest", "message": "no trigger"}}', 400, **JSON),
        "400: no trigger",
    ),
    "a list of errors": (answer(b'{"errors": ["a is missing", "b, too"]}', 422), "422: a is missing; b, too"),
    "a text in JSON": (answer(b'"no\\nsuch door"', 422, **JSON), "422: no such door"),
    "JSON without an error text": (answer(b'{"ok": false, "n": 3}', 422, **JSON), '422: {"ok":false,"n":3}'),
    "JSON that is cut": (answer(b'{"ok": false, "mess', 422, **JSON), "422"),
    "a page with a title": (
        answer(b"<!DOCTYPE html><head><title>Not &amp; Found</title></head><p>long</p>", 404, **PAGE),
        "404: Not & Found",
    ),
    "a page without a title": (
        answer(b"<html><script>var a = '<b>';</script><style>p {}</style><p>Go</p><b>away</b>", 403, **PAGE),
        "403: Go away",
    ),
    "XML": (answer(b"<Error><Code>No</Code><Message>Big</Message></Error>", 400), "400: No Big"),
    "Latin-1 that says so": (
        answer("Tür unbekannt".encode("latin-1"), 422, Content_Type="text/plain; charset=iso-8859-1"),
        "422: Tür unbekannt",
    ),
    "Latin-1 that says nothing": (answer("Tür unbekannt".encode("latin-1"), 422), "422: Tür unbekannt"),
    "UTF-16": (
        answer("Tür".encode("utf-16"), 422, Content_Type="text/plain; charset=utf-16"),
        "422: Tür",
    ),
    "gzip": (answer(gzip.compress(b"no"), 400, Content_Encoding="gzip"), "400: no"),
    "a label of gzip on plain text": (answer(b"no", 400, Content_Encoding="gzip"), "400"),
    "an unknown coding": (answer(b"no", 400, Content_Encoding="rot13"), "400"),
    "colours": (answer(b"\x1b[1;31mno\x1b[0m \x1b]0;title\x07door\x9b2J", 400, **TEXT), "400: no door"),
    "a link of a terminal": (answer(b"\x1b]8;;http://a.b\x1b\\no\x1b]8;;\x1b\\", 400, **TEXT), "400: no"),
    "codes in a page": (answer(b"<html><title>\x1b[31mno&#7;&#x202e;</title>", 400, **PAGE), "400: no"),
    "codes in JSON": (
        answer(b'{"message": "\\u001b[31mno\\u0000 \\u202edoor"}', 400, **JSON),
        "400: no door",
    ),
    "a redirect": (
        answer(b"<title>moved</title>", 302, Location="/login"),
        "302: it redirects to /login, which is not followed: check url",
    ),
}


@pytest.mark.parametrize(("reply", "said"), WORDS.values(), ids=WORDS.keys())
async def test_the_receivers_words_stand_after_the_status(reply: bytes, said: str) -> None:
    assert await reason_for(reply) == said


async def test_at_most_200_letters_are_kept() -> None:
    said = await reason_for(answer(b"no door " * 100, 400, **TEXT))
    assert said == "400: " + ("no door " * 100)[:197] + "..."


@pytest.mark.parametrize(
    "body",
    [
        b"the key s3cret-of-mine is wrong",
        b"the key s3c\x00ret\x1b[0m-of-mine is wrong",
        b'{"error": "the key s3cret-of-mine is wrong"}',
        b"<p>the key <b>s3cret</b>-of-mine</p> s3cret&#45;of-mine is wrong",
    ],
)
async def test_a_secret_in_the_words_is_masked(body: bytes) -> None:
    mask.add(["s3cret-of-mine"])
    said = await reason_for(answer(body, 400))
    assert "is wrong" in said
    assert "s3cret-of-mine" not in said.replace("s3cret -of-mine", "")


async def test_the_begin_of_a_secret_at_which_a_receiver_stopped_is_masked() -> None:
    mask.add(["s3cret-of-mine"])
    assert await reason_for(answer(b"the key s3cret-of", 400, **TEXT)) == "400: the key ***"


async def test_what_looks_like_a_token_is_masked() -> None:
    assert (
        await reason_for(answer(b"bad token eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9", 400))
        == "400: bad token ***"
    )


def test_a_secret_that_the_limit_cuts_is_not_shown() -> None:
    secret = "correct horse battery staple " * 20
    mask.add([secret])
    body = (secret * 20).encode()[: 8 * 1024]
    assert "horse" not in refusal(body, "text/plain")


async def test_of_a_body_without_end_the_beginning_is_shown() -> None:
    head = b"HTTP/1.1 400 X\r\nTransfer-Encoding: chunked\r\n\r\n"
    began = real.monotonic()
    said = await reason_for(head, b"10\r\nno such door at \r\n")
    assert said.startswith("400: no such door at no such door at")
    assert len(said) == len("400: ") + 200
    assert real.monotonic() - began < 30


async def test_a_body_that_does_not_come_leaves_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roundsman.http.transport.DRAIN", 0.05)
    waits = b"HTTP/1.1 400 X\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    assert await reason_for(waits) == "400", "it may be half a secret"


async def test_a_body_that_drips_costs_a_second_at_most() -> None:
    drops = 0

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal drops
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 400 X\r\nContent-Length: 100000\r\n\r\n")
        try:
            while True:
                writer.write(b"x ")
                await writer.drain()
                drops += 1
                await asyncio.sleep(0.02)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    web = Clients(HttpOptions(timeout=60, deadline=60))
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with HttpSink(type="http", url=url).open(Http(web), None) as deliver:
            with pytest.raises(Reject, match="answered 400$"):
                await deliver([an_event(1)])
        await web.aclose()
    assert drops < 200, "at most 50 come in a second, fewer on a busy machine"


async def test_a_small_body_that_unpacks_to_gigabytes_is_left_alone() -> None:
    bomb = gzip.compress(gzip.compress(b"\0" * 2**26))
    began = real.process_time()
    assert await reason_for(answer(bomb, 400, Content_Encoding="gzip, gzip")) == "400"
    empty = gzip.compress(b"".join([gzip.compress(b"")] * 200_000))
    assert await reason_for(answer(empty, 400, Content_Encoding="gzip, gzip")) == "400"
    assert real.process_time() - began < 4


@pytest.mark.parametrize(
    "body", ["<" * 9000, "<script " * 1200, "<title " * 1200, "\x1b]" * 4500, "&#" * 4500]
)
def test_hostile_markup_takes_no_time(body: str) -> None:
    began = real.process_time()
    refusal(body.encode(), "text/html")
    refusal(("<" + body).encode(), "text/html")
    assert real.process_time() - began < 0.2


async def test_a_connection_is_used_again_after_a_refusal() -> None:
    async with raw_server(lambda _: answer(b"<p>no</p>" * 3000, 400)) as server:
        web = Clients()
        async with HttpSink(type="http", url=f"{server.url}/e").open(Http(web), None) as deliver:
            for n in range(3):
                with pytest.raises(Reject, match="no no no"):
                    await deliver([an_event(n)])
        await web.aclose()
    assert (len(server.asked), server.connections) == (3, 1)


async def test_an_answer_that_asks_for_time_has_its_words_too() -> None:
    reply = answer(b'{"message": "You are being rate limited.", "retry_after": 2}', 429, Retry_After="2")
    assert await reason_for(reply) == "429: You are being rate limited."


async def test_no_request_is_made_before_the_time_that_a_429_asked_for(
    store: SqliteStore, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """News and heartbeats make none, either. The time that passes is that of the event loop, by hand."""
    loop = asyncio.get_running_loop()
    passed, now = 0.0, loop.time
    monkeypatch.setattr(loop, "time", lambda: now() + passed)
    replies = [answer(b"slowly", 429, Retry_After="77")] + [answer()] * 2
    async with raw_server(lambda _: replies.pop(0)) as server:
        engine = Engine(store, ByHand(), Clients(now=time.now), clock=time.clock(), grace=0.2)
        await engine.setup({}, {"chat": HttpSink(type="http", url=f"{server.url}/").named("chat")})
        await put(store, an_event(1))
        async with running(engine):
            await until(lambda: seen(store.failure("chat"))[0] == 1)
            for step in (1, 60, 15.5):
                passed += step
                await put(store, an_event(100 + int(step)))
                publish(engine)
                await engine.beat()
                await asyncio.sleep(0.05)
            assert len(server.asked) == 1, "76.5 seconds have passed"
            passed += 0.5
            await until(lambda: len(server.asked) > 1)
        await engine.aclose()


async def test_a_receiver_that_hangs_holds_back_no_other_sink(store: SqliteStore, time: Time) -> None:
    async with raw_server(lambda _: b"") as silent, raw_server(lambda _: answer(b"no", 422)) as refusing:
        engine = Engine(store, ByHand(), Clients(now=time.now), clock=time.clock(), grace=0.2)
        await engine.setup(
            {},
            {
                "hangs": HttpSink(type="http", url=f"{silent.url}/").named("hangs"),
                "refuses": HttpSink(type="http", url=f"{refusing.url}/").named("refuses"),
                "takes": Recorder().named("takes"),
            },
        )
        await put(store, *(an_event(n) for n in range(20)))
        async with running(engine):
            await until(lambda: len(RECORDS.get("takes", [])) == 20)
            await until(lambda: len(seen(store.dead("refuses"))) == 20)
            assert len(silent.asked) == 1
        await engine.aclose()
    assert {letter.reason for letter in await store.dead("refuses")} == {
        f"{refusing.url.removeprefix('http://')} answered 422: no"
    }


async def test_the_words_are_in_the_log_and_in_the_lists_of_the_program(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    """The secrets of the configuration are not, although both receivers repeat them."""
    sandbox.vendor.add(log_id="a")
    sandbox.vendor.add(log_id="b")
    replies = {
        "refuses": answer(b"no seat for Key-of-mine-1\n", 422),
        "fails": answer(b"wrong: Key-of-mine-1", 403),
    }
    async with (
        raw_server(lambda _: replies["refuses"]) as refuses,
        raw_server(lambda _: replies["fails"]) as fails,
    ):
        sinks = "".join(
            f'[sinks.{name}]\ntype = "http"\nurl = "{server.url}/"\n'
            'content = "template"\nbody = \'{"text": "$summary"}\'\nauth = { bearer = { env = "CRM_KEY" } }\n'
            for name, server in (("refuses", refuses), ("fails", fails))
        )
        config = configure(tmp_path, sandbox.url, sinks)
        environ = {"PARAKEY_TOKEN": TOKEN, "CRM_KEY": "Key-of-mine-1"}
        async with Daemon(config, **environ) as daemon:
            await daemon.ready()
            await daemon.until(lambda: daemon.logged("event.buried") and daemon.logged("sink.failing"))
            shown = {}
            for command in ("status", "dead list refuses"):
                words = [sys.executable, "-m", "roundsman", *command.split(), "-c", str(config)]
                process = await asyncio.create_subprocess_exec(
                    *words, env={**os.environ, **environ}, stdout=asyncio.subprocess.PIPE
                )
                shown[command] = (await process.communicate())[0].decode()
            await daemon.stop()
    refused = f"{refuses.url.removeprefix('http://')} answered 422: no seat for ***"
    failed = f"{fails.url.removeprefix('http://')} answered 403: wrong: ***"
    assert {line["reason"] for line in daemon.logged("event.buried")} == {refused}
    assert {line["error"] for line in daemon.logged("sink.failing")} == {failed}
    assert refused in shown["dead list refuses"]
    assert failed in shown["status"]
    assert "Key-of-mine-1" not in daemon.stderr + "".join(shown.values())
