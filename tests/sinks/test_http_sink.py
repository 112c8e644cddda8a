"""The HTTP sink: three content modes, a signature that the official library accepts, and what each answer means."""

import base64
import gzip
import json
from typing import Any

import httpx
import pytest
import respx
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from cloudevents.core.formats.json import JSONFormat
from standardwebhooks import Webhook

from raw import answer, raw_server
from roundsman.errors import Backoff, Reject, RequestFailed
from roundsman.http.client import Http
from roundsman.http.transport import Clients, HttpOptions
from roundsman.sinks.http import HttpSink
from worlds import an_event

URL = "https://crm.example/events"


@pytest.fixture
def router() -> respx.MockRouter:
    return respx.MockRouter(assert_all_called=False)


async def send(
    router: respx.MockRouter, *numbers: int, status: int = 200, headers: Any = None, **options: Any
) -> Any:
    route = router.post(URL).mock(return_value=httpx.Response(status, headers=headers))
    web = Clients(transport=lambda url: httpx.MockTransport(router.async_handler))
    sink = HttpSink(type="http", url=URL, **options)
    async with sink.open(Http(web), None) as deliver:
        await deliver([an_event(n, note="é" * 10) for n in numbers or (1,)])
    return [call.request for call in route.calls]


async def test_structured_mode_is_read_by_the_official_sdk(router: respx.MockRouter) -> None:
    [request] = await send(router)
    event = from_http_event(HTTPMessage(dict(request.headers), request.content), JSONFormat())
    assert (event.get_id(), event.get_extension("outcome")) == ("id00001", "granted")
    assert event.get_data()["raw"]["number"] == 1
    assert request.headers["content-type"].startswith("application/cloudevents+json")


async def test_binary_mode_is_read_by_the_official_sdk(router: respx.MockRouter) -> None:
    [request] = await send(router, content="binary")
    event = from_http_event(HTTPMessage(dict(request.headers), request.content), JSONFormat())
    assert event.get_type() == "co.parakey.event_log.created"
    assert event.get_extension("outcome") == "granted"
    assert event.get_data()["raw"] == {"number": 1, "note": "é" * 10}


async def test_batch_mode_is_one_request(router: respx.MockRouter) -> None:
    [request] = await send(router, 1, 2, 3, content="batch", batch=100)
    assert request.headers["content-type"].startswith("application/cloudevents-batch+json")
    assert [event["id"] for event in json.loads(request.content)] == ["id00001", "id00002", "id00003"]


async def test_it_is_signed_as_standard_webhooks_are(router: respx.MockRouter) -> None:
    secret = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
    for content in ("structured", "batch", "binary"):
        [request] = await send(router, signing_secret=secret, content=content, compress=True)
        body = request.content
        body = gzip.decompress(body) if request.headers.get("content-encoding") == "gzip" else body
        assert Webhook(secret).verify(body.decode(), dict(request.headers))
        router.reset()
    assert request.headers["webhook-id"] == "doors.id00001", "a repeat has the same id"


async def test_it_compresses_and_authenticates(router: respx.MockRouter) -> None:
    auth = {"header": "X-Key", "value": "s3cret"}
    [request] = await send(router, *range(30), content="batch", batch=100, compress=True, auth=auth)
    assert request.headers["content-encoding"] == "gzip"
    assert len(json.loads(gzip.decompress(request.content))) == 30
    assert request.headers["x-key"] == "s3cret"


@pytest.mark.parametrize("status", [200, 201, 202, 204])
async def test_any_2xx_is_the_ack(status: int, router: respx.MockRouter) -> None:
    await send(router, status=status)


@pytest.mark.parametrize("status", [400, 410, 413, 415, 422])
async def test_what_no_repetition_mends_is_rejected(status: int, router: respx.MockRouter) -> None:
    with pytest.raises(Reject, match=f"answered {status}"):
        await send(router, status=status)


@pytest.mark.parametrize("status", [301, 401, 403, 404, 405, 408, 425, 500, 502, 503])
async def test_the_rest_is_tried_again(status: int, router: respx.MockRouter) -> None:
    with pytest.raises(RequestFailed, match=f"answered {status}"):
        await send(router, status=status)


async def test_a_receiver_that_asks_for_time_gets_it(router: respx.MockRouter) -> None:
    with pytest.raises(Backoff) as caught:
        await send(router, status=429, headers={"Retry-After": "77"})
    assert caught.value.after == 77


ODD = {
    "a label of gzip on plain text": answer(b"ok", Content_Encoding="gzip", Connection="close"),
    "a length that is too long": answer(b"ok", Content_Length="10"),
    "a body that is cut off": b"HTTP/1.1 202 X\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "no body under a label": answer(status=204, Content_Encoding="gzip", Connection="close"),
    "an unknown coding": answer(b"ok", Content_Encoding="rot13", Connection="close"),
    "a body that is too large": answer(b"x" * 5_000_000),
}


@pytest.mark.parametrize("reply", ODD.values(), ids=ODD.keys())
async def test_only_the_status_is_the_ack(reply: bytes) -> None:
    """A body that is broken, mislabelled or too large belongs to an event that was taken all the same."""
    async with raw_server(lambda _: reply, close=True) as server:
        web = Clients(HttpOptions(timeout=5, max_body=1000))
        async with HttpSink(type="http", url=f"{server.url}/e").open(Http(web), None) as deliver:
            await deliver([an_event(1)])
            await deliver([an_event(2)])
        await web.aclose()
    assert len(server.asked) == 2, "each once"


async def test_a_body_without_end_is_left_after_the_ack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roundsman.http.transport.DRAIN", 0.05)
    endless = b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n:\n\r\n"
    async with raw_server(lambda _: endless) as server:  # and then it says nothing more
        web = Clients(HttpOptions(deadline=60))
        async with HttpSink(type="http", url=f"{server.url}/e").open(Http(web), None) as deliver:
            await deliver([an_event(1)])
        await web.aclose()
    assert len(server.asked) == 1


async def test_a_connection_is_used_again_after_an_ack() -> None:
    async with raw_server(lambda _: answer(b"thanks")) as server:
        web = Clients()
        async with HttpSink(type="http", url=f"{server.url}/e").open(Http(web), None) as deliver:
            for n in range(3):
                await deliver([an_event(n)])
        await web.aclose()
    assert (len(server.asked), server.connections) == (3, 1)


@pytest.mark.parametrize("path", ["/events/", "/hook?next=/inbox/", "/a//b", "/events"])
async def test_it_posts_to_the_url_as_it_is_written(path: str) -> None:
    async with raw_server(lambda _: answer()) as server:
        web = Clients()
        async with HttpSink(type="http", url=server.url + path).open(Http(web), None) as deliver:
            await deliver([an_event(1)])
        await web.aclose()
    assert server.asked == [f"POST {path} HTTP/1.1"]


async def test_a_redirect_says_where_to(router: respx.MockRouter) -> None:
    with pytest.raises(
        RequestFailed, match=r"redirects to https://crm.example/events/, which is not followed: check url"
    ):
        await send(router, status=301, headers={"Location": "https://crm.example/events/?key=1"})


@pytest.mark.parametrize(("status", "error"), [(500, RequestFailed), (422, Reject), (429, Backoff)])
async def test_a_sink_of_ones_own_cannot_ack_what_was_refused(
    status: int, error: type[Exception], router: respx.MockRouter
) -> None:
    router.post(URL).mock(
        return_value=httpx.Response(status, headers={"Retry-After": "9"} if status == 429 else {})
    )
    http = Http(Clients(transport=lambda url: httpx.MockTransport(router.async_handler)))
    with pytest.raises(error):
        await http.post(URL, content=b"x")
    assert (await http.send("POST", URL, content=b"x")).status == status, "send is raw"
