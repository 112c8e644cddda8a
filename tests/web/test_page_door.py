"""Who gets to the page: only the person with the login, from the page's own host and origin; and what guesses cost."""

import base64
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from pydantic import ValidationError
from starlette.requests import Request

from doors import HEADER, PARAKEY, VALUE, Door, open_door
from ports import free_port
from processes import Daemon
from roundsman.masking import mask
from roundsman.options.listen import ListenOptions
from roundsman.web.page.attempts import BURST, FREE, MOST, Attempts
from roundsman.web.page.hosts import address_of
from roundsman.web.page.sessions import LASTS, Sessions
from worlds import event_logs

USER, PASSWORD = "Zoë", "pa:sswört, lang"
TOKEN = "a-token-of-24-letters-ok"
BROWSER = {"accept": "text/html"}


def basic(user: str = USER, password: str = PASSWORD) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def options(**page: Any) -> ListenOptions:
    table = page or {"user": USER, "password": PASSWORD, "host": "ops.example.org"}
    return ListenOptions(address="127.0.0.1:0", page=table)


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    async with open_door(tmp_path, event_logs(webhook=PARAKEY), rounds=False, options=options()) as door:
        yield door


async def get(door: Door, path: str = "/", headers: Mapping[str, str] | None = None) -> httpx.Response:
    return await door.client.get(door.url + path, headers=headers or {})


async def log_in(door: Door, password: str = PASSWORD, **more: str) -> httpx.Response:
    fields = {"user": USER, "secret": password, "next": "/", **more}
    return await door.client.post(door.url + "/login", data=fields, headers=BROWSER)


async def test_without_the_table_there_is_no_page(tmp_path: Path) -> None:
    async with open_door(tmp_path, event_logs(), rounds=False) as door:
        for path in ("/", "/login"):
            assert (await get(door, path, basic())).status_code == 404


def test_without_the_table_nothing_of_the_page_is_imported() -> None:
    code = "import sys, roundsman.web, roundsman.web.app; print(*[m for m in sys.modules if m.startswith('roundsman.web.page')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


async def test_it_is_at_a_unix_socket_for_a_proxy_and_for_localhost(tmp_path: Path) -> None:
    page = {"user": USER, "password": PASSWORD, "host": "ops.example.org"}
    at = ListenOptions(address=f"unix:{tmp_path}/x.sock", page=page)
    async with (
        open_door(tmp_path, event_logs(), rounds=False, options=at) as _,
        httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=f"{tmp_path}/x.sock")) as client,
    ):
        for host, status in (("ops.example.org", 200), ("localhost", 200), ("127.0.0.1", 421), ("x", 421)):
            found = await client.get("http://x/", headers={**basic(), "host": host})
            assert found.status_code == status, host
        for number in range(FREE + 1):
            wrong = {**basic(password="a wrong one"), "host": "localhost", "x-forwarded-for": "192.0.2.1"}
            assert (await client.get("http://x/", headers=wrong)).status_code == (
                401 if number < FREE else 429
            )
        other = {**basic(), "host": "localhost", "x-forwarded-for": "192.0.2.1, 192.0.2.2"}
        assert (await client.get("http://x/", headers=other)).status_code == 200, (
            "the last one is the proxy's"
        )


@pytest.mark.parametrize(
    ("named", "address"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8::1:2:3:4", "2001:db8::/64"),
        ("1.1.1.1, 203.0.113.7", "203.0.113.7"),
        ("no address", "127.0.0.1"),
        ("", "127.0.0.1"),
    ],
)
def test_a_caller_behind_a_proxy_of_this_machine_is_the_one_that_it_names(named: str, address: str) -> None:
    def asked(peer: str) -> str:
        headers = [(b"x-forwarded-for", named.encode())]
        return address_of(Request({"type": "http", "client": (peer, 1), "headers": headers}))

    assert asked("127.0.0.1") == address
    assert asked("198.51.100.1") == "198.51.100.1", "no other caller can name another one"


async def test_a_reload_turns_the_page_on_and_off_and_ends_logins_with_a_new_password(tmp_path: Path) -> None:
    port = free_port()

    def write(page: str) -> Path:
        config = tmp_path / "roundsman.toml"
        config.write_text(
            f'[daemon]\nstore = "x.db"\n[listen]\naddress = "127.0.0.1:{port}"\n{page}'
            '[sources.doors]\ntype = "parakey.event_logs"\naccess_token = "0123456789"\nbase_url = "http://127.0.0.1:1"\n'
            '[sinks.archive]\ntype = "file"\npath = "x.jsonl"\n'
        )
        return config

    def page(password: str) -> str:
        return f'[listen.page]\nuser = "ops"\npassword = "{password}"\n'

    async with Daemon(write("")) as daemon, httpx.AsyncClient(trust_env=False, timeout=60) as client:
        await daemon.ready()
        url = f"http://127.0.0.1:{port}/"
        assert (await client.get(url)).status_code == 404
        for password in ("the-first-password", "the-second-password"):
            write(page(password))
            await reloaded(daemon)
            assert (await client.get(url, headers=BROWSER)).status_code == 303, "no login, or an ended one"
            entered = await client.post(f"{url}login", data={"user": "ops", "secret": password})
            assert entered.status_code == 303
            assert (await client.get(url, headers=BROWSER)).status_code == 200
        write("")
        await reloaded(daemon)
        assert (await client.get(url)).status_code == 404
        assert "-password" not in json.dumps(daemon.logs)


async def reloaded(daemon: Daemon) -> None:
    before = len(daemon.logged("config.reloaded"))
    daemon.send(signal.SIGHUP)
    await daemon.until(lambda: len(daemon.logged("config.reloaded")) > before)


async def test_a_program_shows_user_and_password_with_each_request(door: Door) -> None:
    refused = await get(door)
    assert (refused.status_code, refused.headers["www-authenticate"]) == (
        401,
        'Basic realm="Roundsman", charset="UTF-8"',
    )
    assert (await get(door, headers=basic())).status_code == 200
    for wrong in (basic(password="x"), basic("zoe"), {"authorization": "Basic %%%"}, {"authorization": "x"}):
        assert (await get(door, headers=wrong)).status_code == 401


async def test_a_browser_logs_in_by_a_form_and_out_again(door: Door) -> None:
    led = await get(door, "/?q=1", BROWSER)
    assert (led.status_code, led.headers["location"]) == (303, "/login?next=/%3Fq%3D1")
    assert 'name="next" value="/?q=1"' in (await get(door, led.headers["location"], BROWSER)).text
    entered = await log_in(door, next="/?q=1")
    assert (entered.status_code, entered.headers["location"]) == (303, "/?q=1")
    cookie = entered.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "secure" not in cookie
    page = await get(door, headers=BROWSER)
    assert page.status_code == 200
    assert (await get(door, "/login", BROWSER)).status_code == 303
    token = re.findall('name="form_token" value="([^"]+)"', page.text)[0]
    left = await door.client.post(door.url + "/logout", data={"form_token": token})
    assert left.status_code == 303
    assert (await get(door, headers=BROWSER)).status_code == 303


def cookie_of(door: Door) -> tuple[str, str]:
    """The name of the cookie that the browser has, and its value."""
    [(name, value)] = door.client.cookies.items()
    return name, value


async def test_the_logins_at_two_daemons_of_one_machine_do_not_end_each_other(tmp_path: Path) -> None:
    """Cookies belong to a host, and not to a port."""
    for number, password in enumerate((PASSWORD, "another password")):
        one, two = tmp_path / f"{number}-one", tmp_path / f"{number}-two"
        one.mkdir()
        two.mkdir()
        page = options(user=USER, password=password)
        async with (
            open_door(one, event_logs(), rounds=False, options=options()) as first,
            open_door(two, event_logs(), rounds=False, options=page) as second,
        ):
            other = replace(second, client=first.client)
            await log_in(first)
            await log_in(other, password)
            for door in (first, other):
                assert (await get(door, headers=BROWSER)).status_code == 200


async def test_a_link_of_another_site_leads_to_the_page_if_the_browser_has_logged_in(door: Door) -> None:
    """Its first request has no cookie: the cookie is SameSite=Strict."""
    await log_in(door)
    name, value = cookie_of(door)
    cookie = {"cookie": f"{name}={value}"}
    door.client.cookies.clear()
    link = {**BROWSER, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    [step] = re.findall(r'content="0;url=([^"]+)"', (await get(door, "/?a=1&b=2", link)).text)
    led = await get(door, step, {**BROWSER, "sec-fetch-site": "same-origin", **cookie})
    assert (led.status_code, led.headers["location"]) == (303, "/?a=1&b=2")
    assert (await get(door, step, BROWSER)).status_code == 200, "else it is the form"


async def test_a_script_of_the_page_is_led_to_the_form_and_asks_no_person(door: Door) -> None:
    for headers in ({"sec-fetch-mode": "cors"}, BROWSER):
        found = await get(door, "/?a=1", headers)
        assert (found.status_code, "www-authenticate" in found.headers) == (303, False)
    found = await door.client.post(door.url + "/logout", data={"a": "b"}, headers=BROWSER)
    assert (found.status_code, found.headers["location"]) == (303, "/login?next=/")


async def test_every_answer_forbids_a_browser_all_but_the_pages_own(door: Door) -> None:
    for found in (await get(door, headers=basic()), await get(door), await get(door, "/login")):
        policy = found.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert found.headers["cache-control"] == "no-store"
        assert found.headers["x-content-type-options"] == "nosniff"


async def test_a_request_for_another_host_is_refused(door: Door) -> None:
    port = door.url.rpartition(":")[2]
    for host in (f"127.0.0.1:{port}", "127.0.0.1:9", "localhost", "LOCALHOST:9000", "ops.example.org"):
        assert (await get(door, headers={**basic(), "host": host})).status_code == 200, host
    for host in ("evil.example", "127.0.0.1.evil.example", "127.0.0.2", "[::1]", "x@127.0.0.1", "", "a b"):
        assert (await get(door, headers={**basic(), "host": host})).status_code == 421, host


async def test_a_post_of_another_origin_is_refused(door: Door) -> None:
    for ours in ({"origin": door.url}, {"sec-fetch-site": "same-origin"}, {}):
        assert (await log_in_with(door, ours)) == 303, ours
    foreign = [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"origin": door.url, "sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "none"},
        {"origin": "http://[::1"},
    ]
    for headers in foreign:
        assert (await log_in_with(door, headers)) == 403, headers
    proxied = {"host": "ops.example.org", "origin": "https://ops.example.org:8443"}
    assert (await log_in_with(door, proxied)) == 303


async def log_in_with(door: Door, headers: Mapping[str, str]) -> int:
    fields = {"user": USER, "secret": PASSWORD}
    return (await door.client.post(door.url + "/login", data=fields, headers=headers)).status_code


async def test_the_cookie_is_for_tls_only_if_the_browser_uses_it(door: Door) -> None:
    proxied = {"host": "ops.example.org", "origin": "https://ops.example.org"}
    found = await door.client.post(
        door.url + "/login", data={"user": USER, "secret": PASSWORD}, headers=proxied
    )
    assert "secure" in found.headers["set-cookie"].lower()


async def test_an_act_needs_the_token_of_the_form(door: Door) -> None:
    await log_in(door)
    for fields in ({}, {"form_token": ""}, {"form_token": "x" * 43}, {"form_token": "ö"}):
        found = await door.client.post(door.url + "/logout", data=fields or {"a": "b"})
        assert found.status_code == 403, fields
    kinds = {"content-type": "text/plain"}
    assert (await door.client.post(door.url + "/logout", content=b"x", headers=kinds)).status_code == 415
    form = {"content-type": "application/x-www-form-urlencoded"}
    large = b"a=" + b"x" * 70_000
    assert (await door.client.post(door.url + "/logout", content=large, headers=form)).status_code == 413
    many = b"&".join([b"a=1"] * 2000)
    assert (await door.client.post(door.url + "/logout", content=many, headers=form)).status_code == 400


async def test_a_forged_cookie_is_none(door: Door) -> None:
    await log_in(door)
    name, cookie = cookie_of(door)
    head, _, signature = cookie.rpartition(".")
    expiry, _, nonce = head.partition(".")
    later = f"{int(expiry) + 1}.{nonce}.{signature}"
    for forged in (later, f"{head}.", f".{signature}", "a.b.c", "x", f"{head}.{signature[:-1]}", "é.é.é"):
        door.client.cookies.clear()
        found = await get(door, headers={**BROWSER, "cookie": f"{name}={forged}".encode("latin-1")})
        assert found.status_code == 303, forged
    found = await get(door, headers={"cookie": f"{name}={cookie}"})
    assert found.status_code == 200


def test_a_login_ends_after_a_week() -> None:
    page = options().page
    assert page is not None
    sessions = Sessions(page)
    sessions.derive()
    cookie = sessions.cookie(1000.0)
    assert sessions.session(cookie, 1000.0 + LASTS - 1)
    assert sessions.session(cookie, 1000.0 + LASTS) is None


async def test_a_login_survives_a_restart_and_ends_with_a_new_password(tmp_path: Path) -> None:
    cookies = {}
    for password, status in (("the-first-one", 303), ("the-first-one", 200), ("another-one", 303)):
        page = options(user="ops", password=password)
        async with open_door(tmp_path, event_logs(), rounds=False, options=page) as door:
            found = await get(door, headers={**BROWSER, **cookies})
            assert found.status_code == status
            if not cookies:
                entered = await door.client.post(
                    door.url + "/login", data={"user": "ops", "secret": password}
                )
                cookies = {"cookie": entered.headers["set-cookie"].partition(";")[0]}


async def test_a_token_is_a_login_too(tmp_path: Path) -> None:
    async with open_door(tmp_path, event_logs(), rounds=False, options=options(token=TOKEN)) as door:
        assert (await get(door)).headers["www-authenticate"] == 'Bearer realm="Roundsman"'
        for wrong in (f"Bearer {TOKEN}x", "Bearer", f"Basic {TOKEN}", TOKEN):
            assert (await get(door, headers={"authorization": wrong})).status_code == 401
        assert (await get(door, headers={"authorization": f"bearer {TOKEN}"})).status_code == 200
        entered = await door.client.post(door.url + "/login", data={"secret": TOKEN})
        assert entered.status_code == 303
        assert (await get(door, headers=BROWSER)).status_code == 200
        wrong = await door.client.post(door.url + "/login", data={"user": "", "secret": "wrong"})
        assert (wrong.status_code, "The token is wrong." in wrong.text) == (401, True)


async def test_a_login_of_many_accents_costs_no_more_than_another(door: Door) -> None:
    """To put all of them in order would take seconds, in the event loop."""

    async def cost(count: int) -> float:
        body = f"user=ops&secret={chr(0x345) * count}{chr(0x334) * count}".encode()
        kind = {"content-type": "application/x-www-form-urlencoded"}
        began = time.process_time()
        assert (await door.client.post(door.url + "/login", content=body, headers=kind)).status_code == 401
        return time.process_time() - began

    short = await cost(50)
    assert await cost(16_000) < 40 * short


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("//evil.example", "/"),
        ("https://evil.example/", "/"),
        ("/\\evil.example", "/"),
        ("/a\tb", "/"),
        ("/login", "/"),
        ("//[", "/"),
        ("/[::1", "/[::1"),
        ("/a?b=c", "/a?b=c"),
    ],
)
async def test_a_login_leads_only_into_the_page(target: str, location: str, door: Door) -> None:
    assert (await log_in(door, next=target)).headers["location"] == location


async def test_logins_are_logged_without_what_was_shown(door: Door) -> None:
    with structlog.testing.capture_logs() as logs:
        await get(door, headers=basic())
        await get(door, headers=basic())
        for _ in range(4 * FREE):
            await get(door, headers=basic(password="a wrong one"))
    assert [(each["event"], each["address"]) for each in logs] == [
        ("page.entered", "127.0.0.1"),
        ("page.refused", "127.0.0.1"),
        ("page.refused", "127.0.0.1"),
    ]
    assert [each.get("reason") for each in logs] == [None, "wrong login", "too often"]


async def test_the_password_is_masked_wherever_it_would_appear(door: Door) -> None:
    assert PASSWORD not in mask(f"a text with {PASSWORD} in it")


async def test_wrong_logins_of_one_address_make_it_wait_and_no_other(door: Door) -> None:
    a, b = ({"x-forwarded-for": f"203.0.113.{n}"} for n in (1, 2))
    for _ in range(FREE):
        assert (await get(door, headers={**basic(password="wrong-one"), **a})).status_code == 401
    waits = await get(door, headers={**basic(), **a})
    assert (waits.status_code, waits.headers["retry-after"]) == (429, "1")
    form = {"user": USER, "secret": PASSWORD}
    assert (await door.client.post(door.url + "/login", data=form, headers=a)).status_code == 429
    assert (await get(door, headers={**basic(), **b})).status_code == 200
    assert await door.post("/hooks/doors", b"[]", {HEADER: VALUE}) == 200


async def test_a_login_is_not_locked_out_for_long_by_the_guesses_of_others_at_its_address(door: Door) -> None:
    shared = {"x-forwarded-for": "203.0.113.1"}
    form = {"user": USER, "secret": PASSWORD}
    assert (await door.client.post(door.url + "/login", data=form, headers=shared)).status_code == 303
    cookies = dict([cookie_of(door)])
    door.client.cookies.clear()
    waits = set()
    for number in range(6 * FREE):
        guess = await get(door, headers={**basic(password=f"guess {number}"), **shared})
        waits.add(guess.headers.get("retry-after"))
    assert waits == {None, "1"}
    [(name, value)] = cookies.items()
    assert (await get(door, headers={**shared, "cookie": f"{name}={value}"})).status_code == 200


@pytest.mark.parametrize("address", ["192.0.2.1", "127.0.0.1", "::/64", "local"])
def test_an_address_that_others_may_share_waits_a_second_and_has_few_guesses(address: str) -> None:
    now = 0.0
    attempts = Attempts(lambda: now)
    attempts.knows("192.0.2.1")
    tried = 0
    for _ in range(36_000):
        now += 0.1
        assert attempts.wait(address) <= 1
        if attempts.wait(address) == 0:
            attempts.failed(address)
            tried += 1
    assert 3600 <= tried <= FREE + now
    assert attempts.wait("192.0.2.2") == 0, "others have their own"
    now += 1
    assert attempts.wait(address) == 0


def test_a_million_guesses_from_as_many_addresses_are_few_guesses_and_little_memory() -> None:
    now = 0.0
    attempts = Attempts(lambda: now)
    attempts.succeeded("192.0.2.1")
    tried = 0
    for number in range(1_000_000):
        now += 0.0001
        address = f"{number % 500_000}"
        if attempts.wait(address) == 0:
            attempts.failed(address)
            tried += 1
    assert tried <= BURST + now
    assert len(attempts._wrong) <= MOST
    assert attempts.wait("192.0.2.1") == 0
    assert 0 < attempts.wait("192.0.2.2") <= 1


def test_an_address_waits_longer_after_each_wrong_login_and_is_forgotten_after_an_hour() -> None:
    now = 0.0
    attempts = Attempts(lambda: now)
    waits = []
    for _ in range(FREE + 8):
        now += attempts.wait("a")
        attempts.failed("a")
        waits.append(attempts.wait("a"))
    assert waits == [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]
    now += 3700
    attempts.failed("a")
    assert attempts.wait("a") == 0


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
async def test_other_methods_are_not_for_the_page(method: str, door: Door) -> None:
    found = await door.client.request(method, door.url + "/", headers=basic())
    assert (found.status_code, found.headers["allow"]) == (405, "GET, HEAD")


async def test_head_is_answered_as_get_without_a_body(door: Door) -> None:
    found = await door.client.head(door.url + "/", headers=basic())
    assert (found.status_code, found.content) == (200, b"")
    assert (await door.client.head(door.url + "/")).status_code == 401


@pytest.mark.parametrize(
    ("table", "mistake"),
    [
        ({}, "has no login; set user and password, or token"),
        ({"user": "ops"}, "names only one of user and password"),
        ({"password": "long-enough"}, "names only one of user and password"),
        ({"user": "ops", "password": "long-enough", "token": TOKEN}, "keep one of them"),
        ({"user": "a:b", "password": "long-enough"}, "cannot have a colon"),
        ({"user": "", "password": "long-enough"}, "is not a name of 1 to 200"),
        ({"user": "ops", "password": "short"}, "is not a password of 8 to 200 characters"),
        ({"token": "too-short"}, "is not a token: 16 to 200"),
        ({"token": "with blanks in between"}, "is not a token: 16 to 200"),
        ({"token": TOKEN, "host": "https://a.example"}, "is not the name of a host"),
        ({"token": TOKEN, "host": "a.example:8080"}, "is not the name of a host"),
        ({"token": TOKEN, "host": []}, "is not a name"),
        ({"token": TOKEN, "host": 5}, "is not a name"),
        ({"token": TOKEN, "title": "x"}, "Extra inputs"),
    ],
)
def test_a_table_that_is_wrong_is_refused(table: Mapping[str, Any], mistake: str) -> None:
    with pytest.raises(ValidationError, match=mistake):
        ListenOptions(page=table)


def test_names_of_hosts_are_those_of_the_header() -> None:
    page = ListenOptions(
        page={"token": TOKEN, "host": ["Ops.Example.org.", "bücher.example", "[2001:DB8::1]"]}
    ).page
    assert page is not None
    assert page.host == ("ops.example.org", "xn--bcher-kva.example", "2001:db8::1")
