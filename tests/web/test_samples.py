"""`roundsman hooks test`: a sample passes only with the secrets, leaves nothing behind, and says where it went wrong."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from doors import HEADER, MAILCHIMP, PARAKEY, RAILZ, SECRET, TOKEN, VALUE, Door, open_door
from inside import Fault, faulty
from ports import free_port
from roundsman.plugin import Source
from roundsman.sandbox import Sandbox, Subscription
from roundsman.sandbox.mailchimp import API_KEY, Mailchimp
from roundsman.webhook import Hook, Sample, sample
from typed import Program, Result
from worlds import event_logs, mailchimp_batches, parakey_batches, railz_pushes

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        event_logs(webhook=PARAKEY),
        parakey_batches(webhook=PARAKEY),
        mailchimp_batches(webhook=MAILCHIMP),
        railz_pushes(webhook=RAILZ),
        event_logs("tokened", webhook={"token": TOKEN}),
    )
}


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    async with open_door(tmp_path, *SOURCES.values(), rounds=False) as door:
        yield door


def made(name: str) -> tuple[Hook, Sample]:
    hook = SOURCES[name].webhook
    assert hook is not None
    return hook, sample(hook, name)


async def send(door: Door, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, str]:
    answer = await door.client.post(door.url + path, content=body, headers=headers)
    return answer.status_code, answer.text.strip()


async def nothing_is_left_of_it(door: Door) -> None:
    """No event, no unread body, no id to track, no ring, and no webhook in the counts."""
    assert door.ids() == []
    for entry in await door.store.sources():
        assert (entry.webhooks, entry.record.last_webhook) == (0, None)
        assert await door.store.unread(entry.name) == []
        assert (await door.store.memory(entry.name)).ids == []
        assert (await door.status(entry.name)).ring_at is None
        silence = door.engine.roster[entry.name].silence
        assert silence is not None
        assert silence.last_webhook is None
    assert not any(result in {"taken", "ignored", "unread"} for _, result in door.engine.meter.webhooks)


@pytest.mark.parametrize("name", SOURCES)
async def test_a_sample_with_the_secrets_is_answered_with_the_proof_and_leaves_nothing(
    door: Door, name: str
) -> None:
    hook, it = made(name)
    headers = hook.dressed(it.body, door.engine.reception.now())
    assert await send(door, hook.path(name), it.body, headers) == (200, it.answer)
    await nothing_is_left_of_it(door)


@pytest.mark.parametrize("name", SOURCES)
async def test_a_sample_without_the_secrets_is_refused_as_any_call(door: Door, name: str) -> None:
    hook, it = made(name)
    path = hook.path(name, "another-token-of-24-letters")
    status, text = await send(door, path, it.body, {})
    assert (status, text) == (401, "not authentic")
    wrong = {key: f"{value}x" for key, value in hook.dressed(it.body, door.engine.reception.now()).items()}
    status, text = await send(door, path, it.body, wrong)
    assert (status, text) == (401, "not authentic")


@pytest.mark.parametrize("name", ["news", "ledger"])
async def test_a_sample_needs_a_signature_of_its_own_body_and_a_fresh_one(door: Door, name: str) -> None:
    hook, it = made(name)
    other = sample(hook, name)
    now, path = door.engine.reception.now(), hook.path(name)
    assert (await send(door, path, it.body, {}))[0] == 401, "no signature"
    assert (await send(door, path, it.body, hook.dressed(other.body, now)))[0] == 401, "of another body"
    assert (await send(door, path, it.body, hook.dressed(it.body, now - 301)))[0] == 401, "an old one"
    assert (await send(door, path, it.body, hook.dressed(it.body, now)))[0] == 200


async def test_a_sample_with_a_signature_and_no_proof_is_a_webhook_and_gets_no_proof(door: Door) -> None:
    """Only the vendor's signing secret is not enough: the proof also needs the token."""
    hook, _ = made("news")
    without = SOURCES["news"].webhook.model_copy(update={"token": None})  # type: ignore[union-attr]
    forged = sample(without, "news")
    status, text = await send(
        door, hook.path("news"), forged.body, hook.dressed(forged.body, door.engine.reception.now())
    )
    assert (status, text) == (200, "")
    assert len(await door.store.unread("news")) == 1, "what is not understood is kept"


async def test_a_sample_of_one_source_is_none_at_another(door: Door) -> None:
    _, it = made("doors")
    status, text = await send(door, "/hooks/keys", it.body, {HEADER: VALUE})
    assert (status, text) == (200, "")
    assert len(await door.store.unread("keys")) == 1


@pytest.mark.parametrize(
    "change", [(b'"}', b'","id":"log1"}'), (b"{", b" {"), (b"}", b"}\n"), (b"roundsman", b"Roundsman")]
)
async def test_a_webhook_that_resembles_a_sample_is_a_webhook(
    door: Door, change: tuple[bytes, bytes]
) -> None:
    _, it = made("doors")
    status, text = await send(door, "/hooks/doors", it.body.replace(*change), {HEADER: VALUE})
    assert (status, text) == (200, "")
    assert len(await door.store.unread("doors")) == 1


async def test_the_answer_is_not_in_the_sample_and_no_two_are_equal() -> None:
    hook, it = made("doors")
    assert it.answer.encode() not in it.body
    assert len({sample(hook, "doors") for _ in range(20)}) == 20
    for secret in (VALUE, SECRET, TOKEN):
        assert secret.encode() not in made("news")[1].body + it.body


async def test_a_store_that_cannot_take_a_webhook_cannot_take_a_sample(door: Door) -> None:
    _, it = made("doors")
    with faulty(door.store, lambda sql, rows: Fault("SQLITE_IOERR") if sql.startswith("UPDATE") else None):
        status, _ = await send(door, "/hooks/doors", it.body, {HEADER: VALUE})
    assert status == 503


# -- the command -------------------------------------------------------------------------------------------------------

CONFIG = f"""
[daemon]
store = "door.db"
[listen]
[sources.doors]
type = "parakey.event_logs"
access_token = "s3cret-of-the-api"
webhook = {{ header = "{HEADER}", value = "{VALUE}" }}
[sources.news]
type = "mailchimp.batches"
api_key = "{API_KEY}"
base_url = "URL/3.0"
webhook = {{ token = "{TOKEN}", signing_secret = "{SECRET}" }}
[sources.bare]
type = "parakey.event_logs"
access_token = "s3cret-of-the-api"
[sinks.archive]
type = "file"
path = "events.jsonl"
"""


async def command(folder: Path, *words: str, vendor: str = "http://127.0.0.1:1", text: str = CONFIG) -> Any:
    (folder / "roundsman.toml").write_text(text.replace("URL", vendor))
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "roundsman", "hooks", "test", *words, "-c", "roundsman.toml"],
        cwd=folder,
        env={**os.environ, "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    without_secrets(done.stdout + done.stderr)
    return done


def without_secrets(printed: str) -> None:
    for secret in (VALUE, TOKEN, SECRET, API_KEY, "s3cret-of-the-api"):
        assert secret not in printed


@pytest.fixture
def hooks_test(roundsman: Program, tmp_path: Path) -> Program:
    """The command in this process, for what is not about the process: `hooks_test("doors")`."""
    (tmp_path / "roundsman.toml").write_text(CONFIG.replace("URL", "http://127.0.0.1:1"))

    def run(*words: str) -> Result:
        done = roundsman("hooks", "test", *words, "-c", "roundsman.toml")
        without_secrets(done.out + done.err)
        return done

    return run


class Elsewhere(BaseHTTPRequestHandler):
    """Another server than the daemon."""

    status, fields, body = 200, dict[str, str](), b""

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["content-length"]))
        SEEN.append((dict(self.headers), sent))
        body = sent if self.body == b"the same" else self.body
        self.send_response(self.status)
        for key, value in self.fields.items():
            self.send_header(key, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


SEEN: list[tuple[dict[str, str], bytes]] = []


@contextmanager
def elsewhere(status: int, body: bytes = b"", **fields: str) -> Iterator[str]:
    handler = type("Handler", (Elsewhere,), {"status": status, "body": body, "fields": fields})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    SEEN.clear()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(("name", "path"), [("doors", "/hooks/doors"), ("news", "/hooks/news/***")])
async def test_the_command_says_that_the_daemon_received_it(
    door: Door, tmp_path: Path, name: str, path: str
) -> None:
    done = await command(tmp_path, name, "--url", door.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"sent to {door.url}{path}: answered 200 in ")
    assert done.stdout.endswith(" ms; the daemon with these secrets received it\n")
    await nothing_is_left_of_it(door)


async def test_without_a_url_it_is_sent_to_the_webhook_at_the_vendor(door: Door, tmp_path: Path) -> None:
    vendor = Mailchimp()
    async with Sandbox(vendor) as box:
        none = await command(tmp_path, "news", vendor=box.url)
        assert none.returncode == 1
        assert "no webhook leads here yet" in none.stderr
        vendor.webhooks["h1"] = Subscription(f"{door.url}/hooks/news/{TOKEN}", SECRET)
        done = await command(tmp_path, "news", vendor=box.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"sent to {door.url}/hooks/news/***: answered 200" in done.stdout


@pytest.mark.parametrize(
    ("status", "body", "fields", "words"),
    [
        (200, b"Welcome", {}, "without the proof of the daemon: another server answers"),
        (204, b"", {}, "without the proof of the daemon"),
        (200, b"the same", {}, "without the proof of the daemon"),
        (301, b"", {"location": "https://www.example.org/hooks/news/a-token?key=1"}, "redirects to https://www.example.org/hooks/news/***: vendors do not follow"),
        (401, b"login", {}, "a proxy asks for a login"),
        (401, b"not authentic\n", {}, "uses other secrets: compare the value in the configuration"),
        (403, b"", {}, "a firewall or a proxy refuses the request"),
        (404, b"nothing", {}, "the proxy does not pass on /hooks/"),
        (404, b"no such webhook\n", {}, "a daemon received it and has no such webhook"),
        (405, b"", {}, "POST is not passed on"),
        (413, b"", {}, "client_max_body_size 1m"),
        (429, b"", {}, "limits the number of requests"),
        (500, b"", {}, "it is not the daemon that answers"),
        (502, b"", {}, "the proxy does not reach the daemon"),
        (503, b"", {}, "maintenance page"),
        (503, b"cannot be stored now\n", {}, "cannot store webhooks now: roundsman status"),
    ],
)  # fmt: skip
def test_the_command_says_what_another_answer_means(
    hooks_test: Program, tmp_path: Path, status: int, body: bytes, fields: dict[str, str], words: str
) -> None:
    with elsewhere(status, body, **fields) as url:
        done = hooks_test("news", "--url", url)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"news: sent to {url}/hooks/news/***: answered {status} in ")
    assert words in done.err
    assert f"no daemon uses {tmp_path / 'door.db'} on this machine now" in done.err
    [(headers, _)] = SEEN
    assert API_KEY not in str(headers), "the credentials for the vendor's API go to the vendor only"


def test_the_command_says_that_nothing_listens(hooks_test: Program) -> None:
    port = free_port()
    done = hooks_test("doors", "--url", f"http://127.0.0.1:{port}")
    assert done.code == 1
    assert "cannot be reached: the connection was refused; vendors connect from outside" in done.err


def test_the_command_says_that_a_name_or_a_certificate_is_wrong(hooks_test: Program) -> None:
    done = hooks_test("doors", "--url", "https://hooks.invalid")
    assert done.code == 1
    assert "https://hooks.invalid cannot be reached: its name cannot be resolved" in done.err
    with elsewhere(200) as url:
        done = hooks_test("doors", "--url", url.replace("http:", "https:"))
    assert done.code == 1
    assert "cannot be reached: the TLS handshake failed" in done.err
    assert SEEN == []


async def test_a_daemon_with_another_secret_is_named_with_what_to_compare(door: Door, tmp_path: Path) -> None:
    text = CONFIG.replace(SECRET, "another-secret").replace('"another-secret"', '{ env = "NEWS_SECRET" }')
    os.environ["NEWS_SECRET"] = "another-secret"
    try:
        done = await command(tmp_path, "news", "--url", door.url, text=text)
    finally:
        del os.environ["NEWS_SECRET"]
    assert done.returncode == 1
    assert "answered 401" in done.stderr
    assert "the value of the variable NEWS_SECRET" in done.stderr
    assert "the clocks of both machines, which may differ by 5m" in done.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["doors"], "doors: this vendor has no API that lists webhooks; name the public address with --url"),
        (["bare", "--url", "https://hooks.example.org"], "bare: there is no [sources.bare.webhook] table"),
        (["attic"], "attic: no such source"),
    ],
)
def test_what_cannot_be_tested_is_wrong_usage(hooks_test: Program, words: list[str], sentence: str) -> None:
    done = hooks_test(*words)
    assert (done.code, done.out) == (2, "")
    assert sentence in done.err


def test_the_secrets_are_not_sent_over_plain_http(hooks_test: Program) -> None:
    done = hooks_test("doors", "--url", "http://hooks.example.org")
    assert done.code == 1
    assert "--url: is not an https URL" in done.err
