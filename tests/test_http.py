"""Speaking HTTP: what is honoured, what survives, what is never sent."""

import asyncio
import gzip
import os
import shutil
import ssl
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx
from aiohttp import web
from structlog.testing import capture_logs

import roundsman
from conftest import need
from raw import answer, raw_server
from roundsman.engine.meter import Meter
from roundsman.errors import Backoff, Denied, NoToken, RequestFailed, TooLarge, Unreadable, reason
from roundsman.http.auth import ClientToken, HeaderToken, Hidden, basic, bearer
from roundsman.http.client import FULL_EVERY, Http
from roundsman.http.headers import Headers
from roundsman.http.ratelimits import CAP, retry_after
from roundsman.http.request import Request, target_of
from roundsman.http.transport import Clients, HttpOptions
from roundsman.http.urls import base, endpoint
from roundsman.options.secrets import Secret
from roundsman.sandbox import Fault, Parakey, Sandbox
from worlds import START, Time

URL = "https://vendor.example/list"


@pytest.fixture
def router() -> respx.MockRouter:
    return respx.MockRouter(assert_all_called=False)


@pytest.fixture
def http_for(router: respx.MockRouter, time: Time) -> Callable[..., Http]:
    def make(auth: httpx.Auth | None = None, identity: str = "me", **options: Any) -> Http:
        web = Clients(
            HttpOptions(**options),
            version=roundsman.__version__,
            now=time.now,
            sleep=time.sleep,
            transport=lambda url: httpx.MockTransport(router.async_handler),
        )
        return Http(web, auth, identity)

    return make


async def test_a_tag_is_sent_back_byte_for_byte(router: respx.MockRouter, http_for: Any) -> None:
    route = router.get(URL).mock(return_value=httpx.Response(200, json=[], headers={"ETag": 'W/"a b"'}))
    http = http_for()
    first = await http.get(URL)
    assert not first.unchanged
    route.mock(return_value=httpx.Response(304))
    second = await http.get(URL, tag=first.tag)
    assert second.unchanged
    assert second.tag == first.tag
    assert route.calls.last.request.headers["if-none-match"] == 'W/"a b"'


@pytest.mark.parametrize("change", ["url", "params", "identity", "header"])
async def test_a_tag_belongs_to_one_question(change: str, router: respx.MockRouter, http_for: Any) -> None:
    router.get(url__startswith="https://vendor.example").mock(
        return_value=httpx.Response(200, json=[], headers={"ETag": '"a"'})
    )
    tag = (await http_for().get(URL, {"limit": 1})).tag
    http = http_for(identity="another" if change == "identity" else "me")
    url = URL + "2" if change == "url" else URL
    params = {"limit": 2 if change == "params" else 1}
    headers = {"x-version": "2"} if change == "header" else None
    await http.get(url, params, headers, tag=tag)
    assert "if-none-match" not in router.calls.last.request.headers


async def test_a_tag_is_taken_from_a_200_only(router: respx.MockRouter, http_for: Any) -> None:
    router.get(URL).mock(return_value=httpx.Response(404, headers={"ETag": '"a"'}))
    with pytest.raises(RequestFailed, match=r"GET https://vendor.example/list answered 404: check base_url"):
        await http_for().get(URL)


@pytest.mark.parametrize(
    "fault", [httpx.Response(502), httpx.Response(500), httpx.ConnectError("x"), httpx.ReadTimeout("x")]
)
async def test_passing_faults_are_tried_again(
    fault: Any, router: respx.MockRouter, http_for: Any, time: Time
) -> None:
    router.get(URL).mock(side_effect=[fault, fault, httpx.Response(200, json=[1])])
    assert (await http_for().get(URL)).json() == [1]
    assert 0.2 < time.ticks < 12, "with pauses between"


@pytest.mark.parametrize("status", [400, 401, 404, 422, 429])
async def test_what_does_not_pass_is_not_tried_again(
    status: int, router: respx.MockRouter, http_for: Any
) -> None:
    route = router.get(URL).mock(return_value=httpx.Response(status))
    with pytest.raises((RequestFailed, Denied, Backoff)):
        await http_for().get(URL)
    assert route.call_count == 1


async def test_the_tries_are_counted(router: respx.MockRouter, http_for: Any) -> None:
    route = router.get(URL).mock(return_value=httpx.Response(503))
    with pytest.raises(RequestFailed, match="answered 503"):
        await http_for(attempts=3).get(URL)
    assert route.call_count == 3


async def test_each_retry_stands_in_the_log_and_is_counted(router: respx.MockRouter, http_for: Any) -> None:
    """By status or by the fault in words; nothing of a library's own words, and no URL."""
    answers = [httpx.Response(502), httpx.ConnectError(f"no way to {URL}?key=s3cret"), httpx.Response(200)]
    router.get(URL).mock(side_effect=answers)
    http = http_for(attempts=3)
    meter = http.clients.observer = Meter()
    with capture_logs() as logs:
        await http.get(URL, {"key": "s3cret"})
    host = httpx.URL(URL).host
    logs = [each for each in logs if each["event"] == "http.retry"]
    facts = [(each["event"], each["host"], each["attempt"], each["error"]) for each in logs]
    what = "cannot be reached (SideEffectError)"  # the class that respx raises an error from
    assert facts == [("http.retry", host, 1, "502"), ("http.retry", host, 2, what)]
    assert all(each["wait"] > 0 for each in logs)
    assert "s3cret" not in str(logs)
    assert dict(meter.retries) == {host: 2}
    assert sum(meter.requests[host].counts) == 3


async def test_each_request_is_a_line_at_debug_without_its_query(
    router: respx.MockRouter, http_for: Any
) -> None:
    router.get(URL).mock(
        side_effect=[httpx.Response(200, text="[]", headers={"ETag": '"1"'}), httpx.Response(304)]
    )
    http = http_for()
    with capture_logs() as logs:
        first = await http.get(URL, {"key": "s3cret"})
        await http.get(URL, {"key": "s3cret"}, tag=first.tag)
    lines = [each for each in logs if each["event"] == "http.request"]
    assert [(each["status"], each.get("sent_tag"), each.get("tag"), each["bytes"]) for each in lines] == [
        (200, None, '"1"', 2),
        (304, '"1"', None, 0),
    ]
    assert {each["log_level"] for each in lines} == {"debug"}
    assert "s3cret" not in str(logs)


async def test_a_post_is_never_repeated_by_itself(router: respx.MockRouter, http_for: Any) -> None:
    route = router.post(URL).mock(return_value=httpx.Response(503))
    assert (await http_for().send("POST", URL, content=b"x")).status == 503
    assert route.call_count == 1


async def test_a_cancellation_is_never_tried_again(router: respx.MockRouter, http_for: Any) -> None:
    calls = 0

    async def hang(request: httpx.Request) -> httpx.Response:
        nonlocal calls
        calls += 1
        await asyncio.Event().wait()
        raise AssertionError

    router.get(URL).mock(side_effect=hang)
    task = asyncio.create_task(http_for().get(URL))
    while not calls:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert calls == 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "120"}, 120),
        ({"Retry-After": "0"}, 1),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "1e9"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": ""}, None),
        ({"Retry-After": "99999999"}, CAP),
        ({"Retry-After": "Fri, 01 May 2026 06:02:00 GMT", "Date": "Fri, 01 May 2026 06:01:00 GMT"}, 60),
        ({"Retry-After": "Fri, 01 May 2026 06:02:00 GMT"}, 120),
        ({"Retry-After": "Fri, 01 May 2020 06:02:00 GMT"}, 1),
        ({"Retry-After": "Fri, 99 May 2026 06:02:00 GMT"}, None),
        ({"X-RateLimit-Reset": "30"}, 30),
        ({"X-RateLimit-Reset": str(int(START) + 40)}, 40),
        ({"X-RateLimit-Reset": str(int(START) - 40)}, 1),
        ({"X-RateLimit-Reset": "junk"}, None),
        ({}, None),
    ],
)
def test_how_long_to_stay_away(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(429, httpx.Headers(headers), START) == seconds


def test_limits_that_are_not_reached_ask_for_nothing() -> None:
    assert (
        retry_after(200, httpx.Headers({"X-RateLimit-Remaining": "5", "X-RateLimit-Reset": "30"}), START)
        is None
    )
    assert (
        retry_after(200, httpx.Headers({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "30"}), START)
        == 30
    )
    assert retry_after(200, httpx.Headers({"Retry-After": "30"}), START) is None


@pytest.mark.parametrize(
    ("status", "headers", "after"),
    [(429, {}, 60), (429, {"Retry-After": "7"}, 7), (503, {"Retry-After": "90"}, 90)],
)
async def test_the_engine_backs_off(
    status: int, headers: dict[str, str], after: float, router: respx.MockRouter, http_for: Any
) -> None:
    route = router.get(URL).mock(return_value=httpx.Response(status, headers=headers))
    with pytest.raises(Backoff) as caught:
        await http_for().get(URL)
    assert caught.value.after == after
    assert route.call_count == 1


async def test_a_poll_interval_is_remembered_for_the_engine(router: respx.MockRouter, http_for: Any) -> None:
    router.get(URL).mock(return_value=httpx.Response(200, json=[], headers={"X-Poll-Interval": "300"}))
    http = http_for()
    await http.get(URL)
    assert (http.account.interval, http.account.wait) == (300, 0)


async def test_no_cookie_goes_from_one_source_to_another(router: respx.MockRouter, http_for: Any) -> None:
    router.get(URL).mock(return_value=httpx.Response(200, json=[], headers={"Set-Cookie": "session=mine"}))
    http = http_for()
    await http.get(URL)
    await http.get(URL)
    assert "cookie" not in router.calls.last.request.headers


async def test_redirects_are_not_followed_with_our_credentials(
    router: respx.MockRouter, http_for: Any
) -> None:
    router.get(URL).mock(
        return_value=httpx.Response(302, headers={"Location": "https://u:p@evil.example/x?token=1"})
    )
    with pytest.raises(RequestFailed, match=r"redirects to https://evil.example/x, which is not followed"):
        await http_for(HeaderToken("x-token", "s3cret")).get(URL)
    assert router.calls.call_count == 1


async def test_it_says_who_asks(router: respx.MockRouter, http_for: Any) -> None:
    router.get(URL).mock(return_value=httpx.Response(200, json=[]))
    await http_for(HeaderToken("access-token", "s3cret")).get(URL)
    headers = router.calls.last.request.headers
    assert headers["user-agent"] == f"roundsman/{roundsman.__version__}"
    assert headers["access-token"] == "s3cret"


async def test_a_bomb_is_stopped_while_it_unpacks(router: respx.MockRouter, http_for: Any) -> None:
    bomb = gzip.compress(b" " * 50_000_000, mtime=0)
    router.get(URL).mock(return_value=httpx.Response(200, content=bomb, headers={"Content-Encoding": "gzip"}))
    with pytest.raises(TooLarge, match="more than 1000000 bytes"):
        await http_for(max_body=1_000_000).get(URL)


async def test_a_body_that_does_not_decompress_is_a_trouble(router: respx.MockRouter, http_for: Any) -> None:
    class Stream(httpx.AsyncByteStream):
        async def __aiter__(self) -> Any:
            yield b"not gzip"

    router.get(URL).mock(
        return_value=httpx.Response(200, stream=Stream(), headers={"Content-Encoding": "gzip"})
    )
    with pytest.raises(RequestFailed, match="does not decompress"):
        await http_for().get(URL)


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><p>", "HTML"),
        (b'[{"a":', "broken after 6 bytes"),
        (b"<x/>", "XML"),
        (b"hello", "text"),
        (b"[" * 100_000, "broken"),
    ],
)
async def test_what_is_no_json_is_named(
    body: bytes, what: str, router: respx.MockRouter, http_for: Any
) -> None:
    router.get(URL).mock(return_value=httpx.Response(200, content=body))
    with pytest.raises(Unreadable, match=f"the answer is {what}"):
        (await http_for().get(URL)).items()


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"{}", r"an object without a list \(keys: none\)"),
        (b'{"error": "x"}', "has a status of success and states an error"),
        (b'{"a": [], "b": []}', "several lists: a, b"),
        (b"[1]", "item 0 of the list is a number, not an object"),
        (b"null", "null, not a list"),
        (b'"x"', "a string, not a list"),
    ],
)
async def test_json_of_another_shape_is_named(
    body: bytes, what: str, router: respx.MockRouter, http_for: Any
) -> None:
    router.get(URL).mock(return_value=httpx.Response(200, content=body))
    with pytest.raises(Unreadable, match=what):
        (await http_for().get(URL)).items()


@pytest.mark.parametrize(
    "body",
    [b'\xef\xbb\xbf[{"a": 1}]', b'[{"a": "\\ud800"}]', b'[{"a": "caf\xe9"}]', b'{"x": [{"a": 1}], "n": 3}'],
)
async def test_odd_json_is_read_all_the_same(body: bytes, router: respx.MockRouter, http_for: Any) -> None:
    router.get(URL).mock(return_value=httpx.Response(200, content=body))
    [(row, raw)] = (await http_for().get(URL)).items()
    assert "a" in row
    assert b"\n" not in bytes(raw)


# -- on real sockets ---------------------------------------------------------------------------------------------------


async def test_a_server_that_hangs_is_left_in_time(sandbox: Sandbox) -> None:
    sandbox.vendor.faults.append(Fault(kind="hang"))
    web = Clients(HttpOptions(timeout=0.05, attempts=1))
    with pytest.raises(RequestFailed, match="did not answer within the timeout"):
        await Http(web).get(f"{sandbox.url}/eventLogs")
    await web.aclose()


async def test_a_body_without_end_is_left(sandbox: Sandbox) -> None:
    sandbox.vendor.faults.append(Fault(kind="endless"))
    web = Clients(HttpOptions(max_body=200_000, attempts=1))
    with pytest.raises(TooLarge):
        await Http(web).get(f"{sandbox.url}/eventLogs")
    await web.aclose()


async def test_a_connection_that_drops_is_tried_again(sandbox: Sandbox) -> None:
    sandbox.vendor.faults.append(Fault(kind="drop"))
    web = Clients(HttpOptions(attempts=2), sleep=Time().sleep)
    answer = await Http(web, HeaderToken("access-token", sandbox.vendor.token)).get(
        f"{sandbox.url}/eventLogs"
    )
    assert answer.status == 200
    assert answer.tag
    await web.aclose()


async def test_a_dead_server_is_named_without_the_query() -> None:
    web = Clients(HttpOptions(attempts=1))
    with pytest.raises(
        RequestFailed, match=r"^http://127.0.0.1:1 cannot be reached: the connection was refused$"
    ):
        await Http(web).get("http://127.0.0.1:1/x?token=s3cret")
    await web.aclose()


async def test_requests_to_one_host_are_limited(sandbox: Sandbox) -> None:
    sandbox.vendor.faults.extend([Fault(kind="hang")] * 5)
    web = Clients(HttpOptions(concurrency=2, timeout=5))
    tasks = [asyncio.create_task(Http(web).get(f"{sandbox.url}/eventLogs")) for _ in range(5)]
    while sandbox.vendor.asked < 2:
        await asyncio.sleep(0.001)
    for _ in range(50):
        await asyncio.sleep(0)
    assert sandbox.vendor.asked == 2
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await web.aclose()


async def test_no_connection_keeps_cookies() -> None:
    """The pool of connections has a jar of its own, which must stay empty. A name, as no jar keeps an address's cookies."""
    cookies: list[str | None] = []

    def answer(request: web.BaseRequest) -> web.Response:
        cookies.append(request.headers.get("cookie"))
        return web.Response(body=b"[]", headers={"Set-Cookie": "session=mine; Path=/"})

    async with served(None, answer) as place:
        clients = Clients()
        for _ in range(2):
            await Http(clients).get(place.replace("127.0.0.1", "localhost"))
        await clients.aclose()
    assert cookies == [None, None]


async def test_a_plugins_own_flow_may_fetch_a_token_for_a_delivery(
    router: respx.MockRouter, http_for: Any
) -> None:
    """Of a delivery only the status is read; of the flow's own request the body is."""

    class Fetched(httpx.Auth):
        requires_response_body = True

        def auth_flow(self, request: httpx.Request) -> Any:
            response = yield httpx.Request("POST", "https://issuer.example/token", data={"for": "me"})
            yield from bearer(Secret(response.json()["token"])).auth_flow(request)

    tokens = router.post("https://issuer.example/token", content=b"for=me")
    tokens.mock(return_value=httpx.Response(200, json={"token": "t0"}))
    delivery = router.post(URL, headers={"authorization": "Bearer t0"}, content=b"event")
    delivery.mock(return_value=httpx.Response(204))
    await http_for(Fetched()).post(URL, content=b"event")
    assert (tokens.call_count, delivery.call_count) == (1, 1)


async def test_a_plugins_own_flow_gets_each_header_of_an_answer_apart(
    router: respx.MockRouter, http_for: Any
) -> None:
    """A digest is computed from one of two challenges, the cookies are returned, and any byte is read."""
    refusal = [
        ("WWW-Authenticate", b"Basic realm=r"),
        ("WWW-Authenticate", b'Digest realm="r", nonce="n"'),
        ("Set-Cookie", b"a=b"),
        ("Set-Cookie", b"c=d"),
        ("X-Place", b"K\xf6ln"),
    ]
    router.get(URL, headers={"cookie": "a=b; c=d"}).mock(return_value=httpx.Response(200, json=[1]))
    router.get(URL).mock(return_value=httpx.Response(401, headers=refusal))
    assert (await http_for(httpx.DigestAuth("user", "password")).get(URL)).json() == [1]
    assert router.calls.last.request.headers["authorization"].startswith("Digest ")


async def test_long_parameters_of_many_pages_are_not_kept(router: respx.MockRouter, http_for: Any) -> None:
    router.get(url__startswith=URL).mock(return_value=httpx.Response(200, json=[]))
    http = http_for()
    await http.get(URL, {"cursor": "0" * 20_000})
    router.reset()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for page in range(100):
            await http.get(URL, {"cursor": f"{page:020000}"})
            await http.get(f"{URL}?cursor={page:020000}")
            router.reset()
        assert tracemalloc.get_traced_memory()[0] - before < 2_000_000
    finally:
        tracemalloc.stop()


async def test_a_flow_around_one_of_ours_sends_nothing_without_credentials(
    router: respx.MockRouter, http_for: Any
) -> None:
    class Around(httpx.Auth):
        def auth_flow(self, request: httpx.Request) -> Any:
            yield from ClientToken("https://issuer.example/token", "me", "secret", {}).auth_flow(request)

    router.get(URL).mock(return_value=httpx.Response(200, json=[]))
    with pytest.raises(TypeError, match="a flow around it defines async_auth_flow"):
        await http_for(Around()).get(URL)
    assert not router.calls


class Signed(httpx.Auth):
    """A plugin's flow around one of ours, as httpx documents it."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    async def async_auth_flow(self, request: httpx.Request) -> Any:
        request.headers["x-signed"] = "yes"
        flow = self.inner.async_auth_flow(request)
        try:
            asked = await anext(flow)
            while True:
                try:
                    asked = await flow.asend((yield asked))
                except StopAsyncIteration:
                    return
        finally:
            await flow.aclose()


async def test_a_flow_around_one_of_ours_shares_and_renews_its_token(
    router: respx.MockRouter, http_for: Any
) -> None:
    """Two requests at a time wait for one token; a 401 renews it once, for both."""
    fresh = iter(f"t{n}" for n in range(9))
    issuer = router.post("https://issuer.example/token")

    async def token(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        return httpx.Response(200, json={"access_token": next(fresh)})

    def list_(request: httpx.Request) -> httpx.Response:
        good = request.headers["authorization"] == "Bearer t1"
        return httpx.Response(200, json=[1]) if good else httpx.Response(401)

    issuer.mock(side_effect=token)
    asked = router.get(URL, params={"key": "k3y"}, headers={"x-signed": "yes"}).mock(side_effect=list_)
    ours = Hidden(ClientToken("https://issuer.example/token", "me", "secret", {}), {"key": "k3y"}, {})
    http = http_for(Signed(ours))
    answers = await asyncio.gather(http.get(URL), http.get(URL))
    assert [answer.json() for answer in answers] == [[1], [1]]
    assert (issuer.call_count, asked.call_count) == (2, 4)


async def test_a_refused_token_ends_a_flow_around_one_of_ours(
    router: respx.MockRouter, http_for: Any
) -> None:
    router.post("https://issuer.example/token").mock(return_value=httpx.Response(500))
    with pytest.raises(NoToken, match="issuer.example"):
        await http_for(Signed(ClientToken("https://issuer.example/token", "me", "secret", {}))).get(URL)


async def test_an_answer_that_is_not_json_names_its_request_without_the_query(
    router: respx.MockRouter, http_for: Any
) -> None:
    router.get(url__startswith=URL).mock(return_value=httpx.Response(200, text="<html>Log in</html>"))
    answer = await http_for().get(URL, {"token": "s3cret"})
    for read in (answer.json, answer.items):
        with pytest.raises(Unreadable) as caught:
            read()
        assert str(caught.value) == f"GET {URL}: the answer is HTML, not JSON"
    router.post(URL).mock(return_value=httpx.Response(200, text="[1"))
    with pytest.raises(Unreadable, match=f"^POST {URL}: the answer is broken after 2 bytes"):
        (await http_for().search(URL, b"{}")).json()


async def test_a_user_and_a_password_in_a_url_are_sent_as_credentials() -> None:
    asked: list[str | None] = []

    def answer(request: web.BaseRequest) -> web.Response:
        asked.append(request.headers.get("authorization"))
        return web.Response(body=b"[]")

    async with served(None, answer) as place:
        clients = Clients(HttpOptions(attempts=1))
        await Http(clients).get(place.replace("//", "//me:s3cret@"))
        await Http(clients, basic("me", Secret("s3cret"))).get(place)
        await clients.aclose()
    assert asked == ["Basic bWU6czNjcmV0"] * 2


def test_a_request_in_a_message_shows_no_credentials() -> None:
    request = Request("GET", target_of(URL, {"key": "s3cret"}), {"authorization": "Bearer s3cret"})
    assert "s3cret" not in f"{request!r} {[request]}"


@pytest.mark.parametrize("header", [{"x-schlüssel": "1"}, {"x-key": "s\u00e9cret"}])
async def test_a_header_that_http_does_not_have_is_not_sent(header: dict[str, str]) -> None:
    async with raw_server(lambda _: answer(b"[]")) as server:
        clients = Clients(HttpOptions(attempts=1))
        with pytest.raises(RequestFailed, match=r"cannot be reached \(ValueError\)") as caught:
            await Http(clients).get(server.url, None, header)
        await clients.aclose()
    assert "cret" not in str(caught.value)
    assert server.asked == []


@pytest.mark.parametrize("url", [URL, f"{URL}/%7Ea?y=1 z", "https://V.example:443/\u00e9", f"{URL}?a=b#c"])
@pytest.mark.parametrize(
    "params", [{"a": "b c:\u00e9+&~*", "n": 2}, {"n": True}, {"n": ["a", "b"]}, {"n": None}, {}]
)
def test_parameters_are_written_as_httpx_writes_them(url: str, params: Any) -> None:
    """The tags that states hold belong to URLs that it wrote."""
    assert target_of(url, params).url == str(httpx.URL(url, params=params) if params else httpx.URL(url))


async def test_parameters_that_no_url_can_have_are_named(http_for: Any) -> None:
    with pytest.raises(RequestFailed, match="no URL can have these parameters"):
        await http_for().get(URL, {"ids": "x" * 70_000})


@pytest.mark.parametrize("name", ["ETag", "etag", "ETAG"])
def test_names_of_headers_are_found_in_any_case(name: str) -> None:
    headers = Headers([(b"eTag", b"1"), (b"Link", b"a"), (b"link", b"b"), (b"x-name", b"caf\xe9")])
    assert (headers[name], headers.get(name), name in headers) == ("1", "1", True)
    assert (headers["Link"], headers["x-name"]) == ("a, b", "caf\u00e9")
    assert "x-none" not in headers
    assert headers.get("x-none") is None


async def test_a_plugins_own_flow_may_ask_for_more_than_one_request(
    router: respx.MockRouter, http_for: Any
) -> None:
    class Digest(httpx.Auth):
        """Signs with what the server asks for in its refusal."""

        requires_response_body = True

        def auth_flow(self, request: httpx.Request) -> Any:
            assert request.headers["user-agent"].startswith("roundsman/")
            response = yield request
            if response.status_code == 401:
                request.headers["x-signed"] = (
                    f"{response.headers['x-nonce']} {response.json()} {request.url.path}"
                )
                yield request

    router.get(URL, headers={"x-signed": "n1 once /list"}).mock(return_value=httpx.Response(200, json=[1]))
    router.get(URL).mock(return_value=httpx.Response(401, json="once", headers={"X-Nonce": "n1"}))
    http = http_for(Digest())
    assert (await http.get(URL)).json() == [1]
    assert http.account.asked == 1
    assert http.clients.seen == 2


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A key and a self-signed certificate for 127.0.0.1."""
    need(shutil.which("openssl") is not None, "needs openssl: apt-get install openssl")
    pem, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "1",
    ]
    names = ["-subj", "/CN=vendor", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, *names, "-out", str(pem), "-keyout", str(key)], check=True, capture_output=True)
    return pem


@asynccontextmanager
async def served(
    certificate: Path | None, answer: Callable[[web.BaseRequest], web.Response]
) -> AsyncIterator[str]:
    """A server that answers with this certificate, or without TLS; its URL."""
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.with_name("key.pem"))

    async def serve(request: web.BaseRequest) -> web.Response:
        return answer(request)

    runner = web.ServerRunner(web.Server(serve), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    yield f"http{'s' if context else ''}://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_tls_is_checked_and_ca_file_adds_trust(certificate: Path) -> None:
    parakey = Parakey()

    def answer(request: web.BaseRequest) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        reply = parakey.answer(request.method, request.path, dict(request.query), headers)
        return web.Response(status=reply.status, headers=reply.headers, body=reply.body)

    async with served(certificate, answer) as place:
        url = f"{place}/eventLogs"
        auth = HeaderToken("access-token", parakey.token)
        strict, trusting = Clients(HttpOptions(attempts=1)), Clients(HttpOptions(ca_file=certificate))
        with pytest.raises(RequestFailed, match="its certificate is not trusted"):
            await Http(strict, auth).get(url)
        first = await Http(trusting, auth).get(url)
        assert (await Http(trusting, auth).get(url, tag=first.tag)).unchanged
        for each in (strict, trusting):
            await each.aclose()


ASK = """
import asyncio, sys
import roundsman.cli.slim_imports
import aiohttp
async def main():
    async with aiohttp.ClientSession() as session, session.get(sys.argv[1]) as answer:
        print(answer.status)
asyncio.run(main())
"""


@pytest.mark.parametrize("known", [True, False])
async def test_a_plugin_that_uses_aiohttp_itself_trusts_the_systems_authorities(
    known: bool, certificate: Path, tmp_path: Path
) -> None:
    """Though no certificates are read before the first request."""
    async with served(certificate, lambda _: web.Response()) as url:
        trusted = certificate if known else tmp_path / "none.pem"
        trusted.touch()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", ASK, url),
            env={**os.environ, "SSL_CERT_FILE": str(trusted), "SSL_CERT_DIR": str(tmp_path / "none")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        said, why = await process.communicate()
    assert said == (b"200\n" if known else b"")
    assert (b"CERTIFICATE_VERIFY_FAILED" in why) is not known


async def test_a_proxy_is_asked_instead(sandbox: Sandbox) -> None:
    seen = []

    async def proxy(request: web.BaseRequest) -> web.Response:
        seen.append((request.raw_path, request.headers.get("proxy-authorization")))
        return web.json_response([{"id": "by-proxy"}])

    runner = web.ServerRunner(web.Server(proxy), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    options = HttpOptions(proxy=f"http://me:pw@127.0.0.1:{runner.addresses[0][1]}")
    assert "pw" not in repr(options)
    through = Clients(options)
    answer = await Http(through).get("http://vendor.example/eventLogs", {"limit": 1})
    assert answer.json() == [{"id": "by-proxy"}]
    assert seen == [("http://vendor.example/eventLogs?limit=1", "Basic bWU6cHc=")]
    await through.aclose()
    await runner.cleanup()


# -- no answer is believed without proof ------------------------------------------------------------------------------


async def test_the_same_tag_with_another_body_is_news(router: respx.MockRouter, http_for: Any) -> None:
    route = router.get(URL).mock(return_value=httpx.Response(200, json=[1], headers={"ETag": 'W/"a"'}))
    first = await http_for().get(URL)
    assert (await http_for().get(URL, tag=first.tag)).unchanged
    route.mock(return_value=httpx.Response(200, json=[1, 2], headers={"ETag": 'W/"a"'}))
    second = await http_for().get(URL, tag=first.tag)
    assert not second.unchanged
    assert second.json() == [1, 2]


async def test_a_tag_is_not_believed_for_ever(router: respx.MockRouter, http_for: Any, time: Time) -> None:
    """A cache that always says 304: every conditional read has a full one now and then."""
    route = router.get(URL).mock(return_value=httpx.Response(200, json=[], headers={"ETag": '"a"'}))
    tag = (await http_for().get(URL)).tag
    for _ in range(2):
        route.mock(return_value=httpx.Response(304))
        assert (await http_for().get(URL, tag=tag)).unchanged
        time.advance(FULL_EVERY + 1)
        route.mock(return_value=httpx.Response(200, json=[1], headers={"ETag": '"a"'}))
        answer = await http_for().get(URL, tag=tag)
        assert not answer.unchanged
        assert "if-none-match" not in router.calls.last.request.headers
        tag = answer.tag
    time.wall -= 10 * FULL_EVERY
    await http_for().get(URL, tag=tag)
    assert "if-none-match" not in router.calls.last.request.headers, "nor after the clock was set back"


async def test_a_tag_of_an_earlier_version_is_asked_without(router: respx.MockRouter, http_for: Any) -> None:
    router.get(URL).mock(return_value=httpx.Response(200, json=[], headers={"ETag": '"a"'}))
    tag = (await http_for().get(URL)).tag
    await http_for().get(URL, tag={key: tag[key] for key in ("key", "etag")})
    assert "if-none-match" not in router.calls.last.request.headers


@pytest.mark.parametrize("status", [202, 203])
async def test_other_answers_of_success_are_read(
    status: int, router: respx.MockRouter, http_for: Any
) -> None:
    router.get(URL).mock(return_value=httpx.Response(status, json=[{"id": 1}]))
    assert len((await http_for().get(URL)).items()) == 1


@pytest.mark.parametrize("status", [204, 205])
async def test_no_content_is_an_empty_list(status: int, router: respx.MockRouter, http_for: Any) -> None:
    router.get(URL).mock(return_value=httpx.Response(status))
    assert (await http_for().get(URL)).items() == []


async def test_an_unasked_304_is_named_as_that(router: respx.MockRouter, http_for: Any) -> None:
    router.get(URL).mock(return_value=httpx.Response(304))
    with pytest.raises(RequestFailed, match="although the request had no condition"):
        await http_for().get(URL)


PAGE = b"<!DOCTYPE html><html><title>Attention Required!</title></html>"


@pytest.mark.parametrize("status", [408, 425, 520, 522, 524, 530, 403])
async def test_faults_of_what_is_in_between_are_asked_again(
    status: int, router: respx.MockRouter, http_for: Any
) -> None:
    router.get(URL).mock(side_effect=[httpx.Response(status, content=PAGE), httpx.Response(200, json=[])])
    assert (await http_for().get(URL)).status == 200


@pytest.mark.parametrize("body", [PAGE, b"", b"Forbidden"])
async def test_a_403_without_a_reason_is_no_refusal_of_our_credentials(
    body: bytes, router: respx.MockRouter, http_for: Any
) -> None:
    router.get(URL).mock(return_value=httpx.Response(403, content=body))
    with pytest.raises(RequestFailed, match="firewall") as caught:
        await http_for().get(URL)
    assert caught.value.passing


@pytest.mark.parametrize("body", [b'{"message": "no right"}', b"Invalid API key"])
async def test_a_403_with_a_reason_is(body: bytes, router: respx.MockRouter, http_for: Any) -> None:
    router.get(URL).mock(return_value=httpx.Response(403, content=body))
    with pytest.raises(Denied):
        await http_for().get(URL)


async def test_a_404_of_a_proxy_says_nothing_about_the_resource(
    router: respx.MockRouter, http_for: Any
) -> None:
    route = router.get(URL).mock(return_value=httpx.Response(404, content=PAGE))
    with pytest.raises(RequestFailed) as caught:
        await http_for().get(URL)
    assert caught.value.passing
    route.mock(return_value=httpx.Response(404, json={"message": "no such batch"}))
    with pytest.raises(RequestFailed) as caught:
        await http_for().get(URL)
    assert not caught.value.passing


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 5\r\nContent-Encoding: br\r\n\r\n\x0b\x02\x80[]",
        b"Content-Length: 500\r\n\r\ntoo many",
        b"Transfer-Encoding: chunked\r\n\r\nZZZ",
        b"Content-Length: 2\r\nContent-Type: text/plain; charset=klingon\r\n\r\n\xff\xff",
    ],
)
async def test_the_status_decides_what_an_error_means_with_any_body(rest: bytes) -> None:
    replies = [
        b"HTTP/1.1 429 X\r\nRetry-After: 900\r\nConnection: close\r\n" + rest,
        b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\nHTTP/1.1 401 X\r\nConnection: close\r\n" + rest,
    ]
    async with raw_server(lambda _: replies.pop(0), close=True) as server:
        web = Clients(HttpOptions(timeout=20))
        http = Http(web)
        with pytest.raises(Backoff) as caught:
            await http.get(server.url)
        assert (caught.value.after, http.account.wait) == (900, 900)
        with pytest.raises(Denied):
            await http.get(server.url)
        await web.aclose()
    assert not replies, "each was asked once"


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZZ",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\nZZZ",
        b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    ],
)
async def test_a_success_is_an_ack_however_broken_its_body_is(reply: bytes) -> None:
    async with raw_server(lambda _: reply, close=True) as server:
        web = Clients(HttpOptions(timeout=20))
        await Http(web).post(server.url, content=b"x")
        await web.aclose()


@pytest.mark.parametrize(
    "reply", [b"HTTP/1.1 200 OK\r\nTransfer-Enc", b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\nZZ"]
)
async def test_half_a_head_and_an_error_are_no_ack(reply: bytes) -> None:
    async with raw_server(lambda _: reply, close=True) as server:
        web = Clients(HttpOptions(timeout=20))
        with pytest.raises(RequestFailed):
            await Http(web).post(server.url, content=b"x")
        await web.aclose()


async def test_a_gzip_file_of_empty_members_blocks_nothing() -> None:
    body = gzip.compress(gzip.compress(b"", mtime=0) * 400_000)
    async with raw_server(lambda _: answer(body, Content_Encoding="gzip, gzip")) as server:
        web = Clients(HttpOptions(attempts=1))
        with pytest.raises(RequestFailed, match="more than 10000 members"):
            await Http(web).get(server.url)
        await web.aclose()


async def test_a_wide_charset_on_what_is_plain_is_a_wrong_label() -> None:
    reply = answer(b'[{"id":1}]', Content_Type="application/json; charset=utf-16")
    async with raw_server(lambda _: reply) as server:
        web = Clients()
        assert (await Http(web).get(server.url)).json() == [{"id": 1}]
        await web.aclose()


@pytest.mark.parametrize("before", range(140, 200, 7))
async def test_a_secret_in_a_long_location_is_masked_before_it_is_cut(
    before: int, http_for: Any, router: respx.Router
) -> None:
    Secret.read("top-secret-token-of-ours")
    where = "https://x.example/" + "a" * before + "/top-secret-token-of-ours/b"
    router.get(URL).mock(return_value=httpx.Response(302, headers={"location": where}))
    with pytest.raises(RequestFailed) as caught:
        await http_for().get(URL)
    assert "top-s" not in str(caught.value)


@pytest.mark.parametrize("coding", ["none", "binary", "UTF-8"])
async def test_what_is_no_coding_is_none(coding: str) -> None:
    async with raw_server(lambda _: answer(b"[]", Content_Encoding=coding)) as server:
        web = Clients()
        assert (await Http(web).get(server.url)).json() == []
        await web.aclose()


async def test_headers_may_be_many() -> None:
    headers = {f"X-{n}": "y" * 30 for n in range(400)}
    async with raw_server(lambda _: answer(b"[]", **headers)) as server:
        web = Clients()
        assert (await Http(web).get(server.url)).json() == []
        await web.aclose()


@pytest.mark.parametrize("coding", ["br", "zstd"])
async def test_a_coding_that_was_not_asked_for_is_named(coding: str) -> None:
    async with raw_server(lambda _: answer(b"\x0b\x02\x80[]\x03", Content_Encoding=coding)) as server:
        web = Clients(HttpOptions(attempts=1))
        with pytest.raises(RequestFailed, match=f"compressed with {coding} although gzip was asked for"):
            await Http(web).get(server.url)
        await web.aclose()


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(b'[{"id"', mtime=0) + gzip.compress(b":1}]", mtime=0) + b"\0" * 9),
        ("x-gzip", gzip.compress(b'[{"id":1}]', mtime=0)),
        ("deflate", zlib.compress(b'[{"id":1}]')),
        ("deflate", zlib.compress(b'[{"id":1}]')[2:-4]),
        ("gzip, gzip", gzip.compress(gzip.compress(b'[{"id":1}]', mtime=0), mtime=0)),
        ("identity", b'[{"id":1}]'),
    ],
)
async def test_what_is_compressed_is_read(coding: str, body: bytes) -> None:
    async with raw_server(lambda _: answer(body, Content_Encoding=coding)) as server:
        web = Clients()
        assert (await Http(web).get(server.url)).json() == [{"id": 1}]
        await web.aclose()


async def test_stacked_bombs_stop_at_the_limit_and_share_the_loop() -> None:
    bomb = gzip.compress(gzip.compress(b"[" + b" " * 200_000_000, mtime=0))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with raw_server(lambda _: answer(bomb, Content_Encoding="gzip, gzip")) as server:
        web = Clients(HttpOptions(attempts=1, max_body=32 * 2**20))
        tracemalloc.start()
        beside = asyncio.create_task(others())
        with pytest.raises(TooLarge):
            await Http(web).get(server.url)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        beside.cancel()
        await web.aclose()
    assert peak < 80 * 2**20
    assert turns > 20


@pytest.mark.parametrize("charset", ["iso-8859-1", "windows-1252", "utf-16", "utf-16le"])
async def test_another_charset_is_read_as_what_it_says(
    charset: str, router: respx.MockRouter, http_for: Any
) -> None:
    body = '[{"name":"Björn"}]'.encode(charset)
    router.get(URL).mock(
        return_value=httpx.Response(
            200, content=body, headers={"Content-Type": f"application/json; charset={charset}"}
        )
    )
    [(row, _)] = (await http_for().get(URL)).items()
    assert row == {"name": "Björn"}


async def test_json_is_utf_8_under_any_label_of_the_server(router: respx.MockRouter, http_for: Any) -> None:
    body = '[{"name":"Björn"}]'.encode()
    router.get(URL).mock(
        return_value=httpx.Response(
            200, content=body, headers={"Content-Type": "application/json; charset=iso-8859-1"}
        )
    )
    assert (await http_for().get(URL)).json() == [{"name": "Björn"}]


async def test_a_header_may_be_long() -> None:
    policy = "default-src " + "https://cdn.example " * 3000
    async with raw_server(lambda _: answer(b"[]", Content_Security_Policy=policy)) as server:
        web = Clients(HttpOptions(attempts=1))
        assert (await Http(web).get(server.url)).json() == []
        await web.aclose()


@pytest.mark.parametrize(
    "interim", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n"]
)
async def test_endless_interim_answers_are_cut(interim: bytes) -> None:
    async with raw_server(lambda _: interim * 500, again=True) as server:
        web = Clients(HttpOptions(attempts=1, deadline=20))
        with pytest.raises(RequestFailed, match="ended its answer too early"):
            await asyncio.wait_for(Http(web).get(server.url), 10)
        await web.aclose()


# -- no text of the other side in a message ---------------------------------------------------------------------------

TOKEN = "top-secret-token-of-ours"


@pytest.mark.parametrize(
    "reply",
    [
        answer(status=302, Location=f"http://x.example/{TOKEN}"),
        answer(status=302, Location=f"http://u:{TOKEN}@x.example/"),
        answer(status=302, Location=f"http://x.example/#a={TOKEN}"),
        f"HTTP/1.1 2x0 {TOKEN}\r\n\r\n".encode(),
        f"HTTP/1.1 200 OK\r\nBad Header {TOKEN}\r\n\r\n".encode(),
        f"HTTP/1.1 200 OK\r\nX: a\0{TOKEN}\r\n\r\n".encode(),
        answer(b"[]", X=TOKEN * 5000),
        f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ{TOKEN}\r\n".encode(),
        answer(b"[]", Content_Encoding=TOKEN),
        f"HTTP/1.1 200 OK\r\nContent-Length: {TOKEN}\r\n\r\n".encode(),
        answer(f'{{"{TOKEN}": 1}}'.encode()),
        answer(f'{{"message": "token {TOKEN}"}}'.encode(), 400),
        answer(f'{{"detail": "{TOKEN[:9]}\u00ad{TOKEN[9:]}"}}'.encode(), 403),
        answer(f'{{"title": "{TOKEN}"}}'.encode(), 401),
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ],
)
async def test_no_answer_brings_a_secret_into_a_message(reply: bytes) -> None:
    Secret.read(TOKEN)
    async with raw_server(lambda _: reply, close=True) as server:
        web = Clients(HttpOptions(attempts=1, timeout=20))
        with pytest.raises((RequestFailed, Denied, Backoff, Unreadable)) as caught:
            (
                await Http(web, HeaderToken("access-token", TOKEN)).get(f"{server.url}/list?key={TOKEN}")
            ).items()
        await web.aclose()
    assert TOKEN not in reason(caught.value)
    assert TOKEN not in reason(caught.value).replace("\u00ad", "")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://x.example ", "begins or ends with a blank"),
        ("https://x.example/#a", "has a fragment"),
        ("https://u:p@x.example", "has a user or a password"),
        ("ftp://x.example", "is not an http"),
    ],
)
def test_an_address_that_cannot_be_used_as_it_is_written_is_a_mistake(url: str, why: str) -> None:
    for check in (endpoint, base):
        with pytest.raises(ValueError, match=why):
            check(url)


def test_an_address_is_used_as_it_is_written() -> None:
    assert endpoint("https://x.example/a/?next=/b/") == "https://x.example/a/?next=/b/"
    assert base("https://x.example/v1/") == "https://x.example/v1"
    with pytest.raises(ValueError, match="has a query"):
        base("https://x.example/?v=2")


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service has none, and what a shell has must not change where credentials go."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with raw_server(lambda _: answer(b"[]")) as server:
        web = Clients(HttpOptions(attempts=1))
        assert (await Http(web).get(server.url)).json() == []
        await web.aclose()
