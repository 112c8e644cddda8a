"""The `auth` table: each way to authenticate, and tokens that are fetched, shared and renewed."""

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs

import pytest
from pydantic import ValidationError

from lists import a_list
from roundsman.engine.reading import visit_to
from roundsman.errors import Denied, NoToken
from roundsman.http.client import Http
from roundsman.http.credentials import Credentials, OAuth
from roundsman.masking import mask
from roundsman.sandbox import Vendor
from roundsman.sandbox.vendor import Reply, document
from worlds import Straight, Time, web_of

SECRET = "s3cret-of-the-client"
TOKEN_URL = "http://127.0.0.1:1/token"


class Issuer(Vendor):
    """An API and the server of its tokens."""

    def __init__(self, time: Time) -> None:
        super().__init__(time.utc)
        self.issued = 0
        self.good = ""
        self.life: float | None = 3600.0
        self.forms: list[dict[str, list[str]]] = []
        self.heads: list[Mapping[str, str]] = []
        self.answer_token: Callable[[], Reply] | None = None

    def reply(self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Reply:
        if path != "/token":
            fine = headers.get("authorization") == f"Bearer {self.good}"
            return document(200, [{"id": 1}]) if fine else document(401, {"message": "no"})
        assert method == "POST"
        self.forms.append(parse_qs(self.body.decode()))
        self.heads.append(headers)
        if self.answer_token is not None:
            return self.answer_token()
        self.issued += 1
        self.good = f"token-number-{self.issued}"
        life = {} if self.life is None else {"expires_in": self.life}
        return document(200, {"access_token": self.good, "token_type": "bearer", **life})


@pytest.fixture
def issuer(time: Time) -> Issuer:
    return Issuer(time)


@pytest.fixture
def client(issuer: Issuer, time: Time) -> Iterator[Callable[..., Http]]:
    def make(**options: Any) -> Http:
        given = {"token_url": TOKEN_URL, "client_id": "me:&", "client_secret": SECRET} | options
        return Http(web_of(Straight(issuer), time), Credentials(oauth=OAuth(**given)).flow())

    yield make
    mask.clear()


async def ask(http: Http) -> Any:
    return (await http.get("http://127.0.0.1:1/list")).json()


async def test_a_token_is_fetched_with_the_clients_own_credentials(issuer: Issuer, client: Any) -> None:
    assert await ask(client(scope="read write", form={"audience": "api"})) == [{"id": 1}]
    assert issuer.forms == [
        {"grant_type": ["client_credentials"], "scope": ["read write"], "audience": ["api"]}
    ]
    user = base64.b64decode(issuer.heads[0]["authorization"].removeprefix("Basic ")).decode()
    assert user == f"me%3A%26:{SECRET}", "form-encoded, as RFC 6749 section 2.3.1 says"


async def test_the_credentials_may_be_fields_of_the_form(issuer: Issuer, client: Any) -> None:
    await ask(client(in_body=True))
    assert issuer.forms[0]["client_secret"] == [SECRET]
    assert "authorization" not in issuer.heads[0]


async def test_a_token_is_renewed_before_it_ends(issuer: Issuer, client: Any, time: Time) -> None:
    http = client()
    await ask(http)
    time.advance(3500)
    await ask(http)
    assert issuer.issued == 1
    time.advance(50)  # 50 seconds before its end
    await ask(http)
    assert issuer.issued == 2


async def test_a_token_that_ended_early_is_renewed_once(issuer: Issuer, client: Any) -> None:
    http = client()
    await ask(http)
    issuer.good = "another"
    assert await ask(http) == [{"id": 1}]
    assert issuer.issued == 2


async def test_a_token_without_a_stated_life_is_good_for_a_day(
    issuer: Issuer, client: Any, time: Time
) -> None:
    issuer.life = None
    http = client()
    await ask(http)
    time.advance(80_000)
    await ask(http)
    assert issuer.issued == 1
    time.advance(10_000)
    await ask(http)
    assert issuer.issued == 2


@pytest.mark.parametrize("life", ["3600", "3600.5"])
async def test_a_life_that_is_a_text_is_heeded(life: Any, issuer: Issuer, client: Any, time: Time) -> None:
    issuer.life = life
    http = client()
    await ask(http)
    time.advance(3500)
    await ask(http)
    assert issuer.issued == 1
    time.advance(100)
    await ask(http)
    assert issuer.issued == 2


@pytest.mark.parametrize("life", [0, -1, "soon", True, 10**25, float("1e300"), [3600], None])
async def test_a_life_that_is_none_is_not_heeded(life: Any, issuer: Issuer, client: Any, time: Time) -> None:
    issuer.life = life
    http = client()
    await ask(http)
    time.advance(80_000)
    await ask(http)
    assert issuer.issued == 1


@pytest.mark.parametrize("digits", [30, 320])
@pytest.mark.parametrize("where", ["answer", "token"])
async def test_a_life_of_many_digits_stops_no_source(
    digits: int, where: str, issuer: Issuer, client: Any
) -> None:
    life = "9" * digits
    claims = base64.urlsafe_b64encode(b'{"exp":%s,"iat":1}' % life.encode()).decode().rstrip("=")
    issuer.good = f"head.{claims}.sign" if where == "token" else "token"
    stated = life if where == "answer" else "3600"
    body = b'{"access_token":"%s","expires_in":%s}' % (issuer.good.encode(), stated.encode())
    issuer.answer_token = lambda: Reply(200, {}, body)
    assert await ask(client()) == [{"id": 1}]


async def test_the_shorter_life_of_a_token_counts(issuer: Issuer, client: Any, time: Time) -> None:
    claims = base64.urlsafe_b64encode(b'{"exp":40000,"iat":1}').decode().rstrip("=")
    issuer.good = f"head.{claims}.sign"
    issuer.answer_token = lambda: document(200, {"access_token": issuer.good, "expires_in": 600})
    http = client()
    await ask(http)
    time.advance(600)
    await ask(http)
    assert len(issuer.forms) == 2


async def test_a_field_of_the_form_may_be_a_secret(
    issuer: Issuer, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCOUNT_KEY", "s3cret-of-the-account")
    table = {"token_url": TOKEN_URL, "client_id": "me", "client_secret": SECRET}
    source = a_list(auth={"oauth": table | {"form": {"key": {"env": "ACCOUNT_KEY"}, "version": 2}}})
    assert await ask(visit_to(source, web_of(Straight(issuer), time)).http) == [{"id": 1}]
    assert issuer.forms[0]["key"] == ["s3cret-of-the-account"]
    assert issuer.forms[0]["version"] == ["2"]
    assert mask("it is s3cret-of-the-account") == "it is ***"
    assert "s3cret-of-the-account" not in repr(source)
    monkeypatch.setenv("ACCOUNT_KEY", "another-of-the-account")
    other = a_list(auth={"oauth": table | {"form": {"key": {"env": "ACCOUNT_KEY"}, "version": 2}}})
    assert other.identity() != source.identity(), "an ETag from one account is not used with another"
    mask.clear()


@pytest.mark.parametrize("member", ["error", "error_description", "message"])
@pytest.mark.parametrize("status", [200, 400, 401, 403, 500])
async def test_a_secret_that_the_server_of_tokens_repeats_is_not_shown(
    status: int, member: str, issuer: Issuer, client: Any
) -> None:
    issuer.answer_token = lambda: document(status, {member: f"invalid_client: {SECRET}", "secret": SECRET})
    mask.add([SECRET])
    with pytest.raises((Denied, NoToken)) as caught:
        await ask(client())
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("status", [400, 401])
async def test_refused_credentials_are_denied_at_once(status: int, issuer: Issuer, client: Any) -> None:
    issuer.answer_token = lambda: document(
        status, {"error": "invalid_client", "error_description": f"unknown {SECRET}"}
    )
    with pytest.raises(Denied) as caught:
        await ask(client())
    assert SECRET not in mask(str(caught.value))


@pytest.mark.parametrize(
    "answer",
    [
        Reply(200, {}, b"<html>"),
        Reply(200, {}, b"{}"),
        Reply(200, {}, b"[]"),
        Reply(500, {}, b""),
        Reply(204, {}, b""),
    ],
)
async def test_without_a_token_no_request_is_made(answer: Reply, issuer: Issuer, client: Any) -> None:
    issuer.answer_token = lambda: answer
    with pytest.raises(NoToken):
        await ask(client())
    assert issuer.asked == len(issuer.forms), "only for tokens"


async def test_a_token_is_masked_as_long_as_it_lives(issuer: Issuer, client: Any) -> None:
    http = client()
    await ask(http)
    assert mask(f"it is {issuer.good}") == "it is ***"


async def test_a_list_with_oauth_and_a_hidden_key_has_both(issuer: Issuer, time: Time) -> None:
    source = a_list(
        auth={"oauth": {"token_url": TOKEN_URL, "client_id": "me", "client_secret": SECRET}},
        headers={"x-key": {"env": "HOME"}},
    )
    transport = Straight(issuer)
    visit = visit_to(source, web_of(transport, time))
    assert await ask(visit.http) == [{"id": 1}]
    assert await ask(visit.http) == [{"id": 1}]
    assert issuer.issued == 1
    assert "x-key" in transport.requests[-1].headers
    assert "x-key" not in issuer.heads[0], "it is the API's, and not of the server of tokens"


@pytest.mark.parametrize(
    ("options", "header", "value"),
    [
        ({"bearer": SECRET}, "authorization", f"Bearer {SECRET}"),
        ({"value": f"SSWS {SECRET}"}, "authorization", f"SSWS {SECRET}"),
        ({"header": "X-Key", "value": SECRET}, "x-key", SECRET),
        (
            {"user": "me", "password": SECRET},
            "authorization",
            "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode(),
        ),
    ],
)
async def test_each_way_has_its_header(
    options: dict[str, Any], header: str, value: str, issuer: Issuer, time: Time
) -> None:
    transport = Straight(issuer)
    http = Http(web_of(transport, time), Credentials(**options).flow())
    with pytest.raises(Denied):
        await ask(http)
    assert transport.requests[0].headers[header] == value


def test_two_ways_are_a_mistake_that_shows_no_secret() -> None:
    with pytest.raises(ValidationError) as caught:
        Credentials(bearer=SECRET, value=SECRET)  # type: ignore[arg-type] # as in a file
    assert SECRET not in json.dumps(caught.value.errors(include_input=False), default=str)
