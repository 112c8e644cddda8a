"""The public names: what a plugin's author imports."""

import base64

import httpx
import pytest

import roundsman
from roundsman import Auth, Secret, basic, bearer, header
from roundsman.http.client import Http
from worlds import Time, web_of


@pytest.mark.parametrize("name", roundsman.__all__)
def test_each_public_name_can_be_imported(name: str) -> None:
    assert getattr(roundsman, name) is not None


@pytest.mark.parametrize(
    ("auth", "name", "value"),
    [
        (bearer(Secret("s3cret")), "authorization", "Bearer s3cret"),
        (header("X-Api-Key", Secret("s3cret")), "x-api-key", "s3cret"),
        (header("Authorization", Secret("s3cret"), prefix="Token "), "authorization", "Token s3cret"),
        (
            basic("ada", Secret("s3cret")),
            "authorization",
            "Basic " + base64.b64encode(b"ada:s3cret").decode(),
        ),
    ],
)
async def test_a_secret_is_sent_as_the_vendor_expects_it(
    auth: Auth, name: str, value: str, time: Time
) -> None:
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, json=[])

    await Http(web_of(httpx.MockTransport(answer), time), auth).get("http://127.0.0.1:1/")
    assert sent[0].headers[name] == value
