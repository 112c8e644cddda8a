"""The sockets: where it listens, which connections are cut, and that idle callers do not keep out active ones."""

import asyncio
import contextlib
import json
import os
import socket
import ssl
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog

from conftest import need
from doors import HEADER, PARAKEY, RECENT, VALUE, Door, open_door, until
from inside import being_taken
from roundsman.options.listen import Address, ListenOptions
from roundsman.web import ListenError, listener
from roundsman.web.protocol import Limits
from worlds import event_logs

KEY = {HEADER: VALUE}
LOG = {"id": "log1", "createdAt": RECENT, "timestamp": RECENT}
HEAD = b"POST /hooks/doors HTTP/1.1\r\nHost: x\r\nAuthorization: " + VALUE.encode() + b"\r\n"


@pytest.fixture
def limits() -> Limits:
    return Limits()


@pytest.fixture
async def door(tmp_path: Path, limits: Limits) -> AsyncIterator[Door]:
    async with open_door(tmp_path, event_logs(webhook=PARAKEY), rounds=False, limits=limits) as door:
        yield door


def port(door: Door) -> int:
    return int(door.url.rpartition(":")[2])


def door_connections(door: Door) -> list[Any]:
    return list(door.listener._state.connections)


async def raw(door: Door, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port(door))
    OPEN.append(writer)
    writer.write(data)
    await writer.drain()
    return reader, writer


OPEN: list[asyncio.StreamWriter] = []


@pytest.fixture(autouse=True)
async def nothing_stays_open() -> AsyncIterator[None]:
    yield
    for writer in OPEN:
        writer.transport.abort()
    OPEN.clear()
    await asyncio.sleep(0)


async def test_it_listens_on_a_unix_socket_that_only_its_group_may_use(tmp_path: Path) -> None:
    path = tmp_path / "roundsman.sock"
    options = ListenOptions(address=Address("", 0, path))
    async with open_door(tmp_path, event_logs(webhook=PARAKEY), rounds=False, options=options) as door:
        assert door.url == f"unix:{path}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(path))) as client:
            assert (await client.post("http://x/hooks/doors", json=LOG, headers=KEY)).status_code == 200
    assert not path.exists()


async def test_a_socket_file_left_behind_is_replaced_and_one_in_use_is_not(tmp_path: Path) -> None:
    path = tmp_path / "roundsman.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    options = ListenOptions(address=Address("", 0, path))
    async with open_door(tmp_path, event_logs(), rounds=False, options=options) as door:
        with pytest.raises(ListenError, match="Address already in use"):
            await listener.Listener(door.engine, options).start()
        assert path.exists()
        plain = tmp_path / "a-file"
        plain.write_text("not ours")
        with pytest.raises(ListenError):
            await listener.Listener(door.engine, ListenOptions(address=Address("", 0, plain))).start()
        assert plain.read_text() == "not ours"


async def test_an_address_in_use_is_a_sentence(door: Door) -> None:
    options = ListenOptions(address=f"127.0.0.1:{port(door)}")
    with pytest.raises(
        ListenError, match=rf"^listen.address: 127.0.0.1:{port(door)} cannot be used: Address already"
    ):
        await listener.Listener(door.engine, options).start()


@pytest.mark.parametrize(
    ("address", "unused"),
    [("127.0.0.1:8377", True), ("unix:/run/x.sock", True), ("here", False), (None, False)],
)
async def test_an_address_that_systemds_socket_is_not_at_is_said(
    address: str | None, unused: bool, tmp_path: Path
) -> None:
    """A reload may change it, and changes nothing."""
    async with open_door(tmp_path, event_logs(), rounds=False) as door:
        with socket.socket() as systemds:
            systemds.bind(("127.0.0.1", 0))
            place = f"127.0.0.1:{systemds.getsockname()[1]}"
            options = ListenOptions(
                **({"address": place if address == "here" else address} if address else {})
            )
            with structlog.testing.capture_logs() as logs:
                held = listener.Listener(door.engine, options)
                await held.start(1, systemds.fileno())
            await held.close()
    assert [line["address"] for line in logs if line["event"] == "listen.started"] == [[f"http://{place}"]]
    assert [line["address"] for line in logs if line["event"] == "listen.unused"] == [address] * unused


async def test_a_socket_that_nothing_can_be_accepted_from_stops_no_other_task(door: Door) -> None:
    with socket.socket() as systemds:
        systemds.bind(("127.0.0.1", 0))
        held = listener.Listener(door.engine, ListenOptions())
        await held.start(1, systemds.fileno())
        systemds.shutdown(socket.SHUT_RDWR)  # from now on, accept() fails at once
        for _ in range(5):
            assert await door.post("/hooks/doors", LOG, KEY) == 200
        await held.close()


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, *files]
    made = subprocess.run(command, capture_output=True, check=False)
    need(made.returncode == 0, "needs openssl: apt install openssl")
    return folder


async def test_it_speaks_tls_and_cuts_callers_that_do_not(pem: Path, tmp_path: Path) -> None:
    options = ListenOptions(
        address="127.0.0.1:0", tls_certificate=str(pem / "cert.pem"), tls_key=str(pem / "key.pem")
    )
    async with open_door(
        tmp_path, event_logs(webhook=PARAKEY), rounds=False, options=options, limits=Limits(whole=2.0)
    ) as door:
        assert door.url.startswith("https://127.0.0.1:")
        trust = ssl.create_default_context(cafile=str(pem / "cert.pem"))
        reader, _ = await raw(door, b"")  # a handshake that never begins
        async with httpx.AsyncClient(verify=trust, trust_env=False, timeout=60) as client:
            assert (await client.post(f"{door.url}/hooks/doors", json=LOG, headers=KEY)).status_code == 200
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 30) == b""


async def test_a_connection_that_is_cut_as_its_handshake_succeeds_leaves_nothing(
    pem: Path, tmp_path: Path
) -> None:
    """Its descriptor is soon another connection's, which nothing of it may still use."""
    options = ListenOptions(
        address="127.0.0.1:0", tls_certificate=str(pem / "cert.pem"), tls_key=str(pem / "key.pem")
    )
    async with open_door(
        tmp_path, event_logs(webhook=PARAKEY), rounds=False, options=options, limits=Limits(young=0.0)
    ) as door:
        trust = ssl.create_default_context(cafile=str(pem / "cert.pem"))
        calling = asyncio.create_task(asyncio.open_connection("127.0.0.1", port(door), ssl=trust))
        while not door_connections(door):
            await asyncio.sleep(0)
        assert door.listener._opening, "the handshake is under way"
        door.listener._cut_one()
        await until(lambda: not door.listener._opening)
        await until(lambda: not door_connections(door), seconds=5)
        with contextlib.suppress(OSError):
            _, writer = await calling
            OPEN.append(writer)


async def test_handshakes_that_never_begin_keep_no_caller_out(pem: Path, tmp_path: Path) -> None:
    options = ListenOptions(
        address="127.0.0.1:0", tls_certificate=str(pem / "cert.pem"), tls_key=str(pem / "key.pem")
    )
    async with open_door(
        tmp_path,
        event_logs(webhook=PARAKEY),
        rounds=False,
        options=options,
        limits=Limits(most=20, young=0.05),
    ) as door:
        trust = ssl.create_default_context(cafile=str(pem / "cert.pem"))
        crowd = [await raw(door, b"") for _ in range(60)]
        async with httpx.AsyncClient(verify=trust, trust_env=False, timeout=60) as client:
            for _ in range(3):
                assert (
                    await client.post(f"{door.url}/hooks/doors", json=LOG, headers=KEY)
                ).status_code == 200
        assert len(crowd) == 60


@pytest.mark.parametrize("broken", ["missing", "swapped", "password", "text"])
async def test_a_certificate_that_cannot_be_used_is_a_sentence(
    pem: Path, tmp_path: Path, broken: str
) -> None:
    certificate, key = pem / "cert.pem", pem / "key.pem"
    match broken:
        case "missing":
            certificate = tmp_path / "none.pem"
        case "swapped":
            certificate, key = key, certificate
        case "password":
            locked = tmp_path / "locked.pem"
            lock = [
                "openssl",
                "rsa",
                "-aes256",
                "-passout",
                "pass:secret",
                "-in",
                str(key),
                "-out",
                str(locked),
            ]
            subprocess.run(lock, capture_output=True, check=True)
            key = locked
        case "text":
            key = tmp_path / "key.txt"
            key.write_text("not a key")
    with pytest.raises(
        ValueError, match=r", .*: cannot be used: (No such file|they are not a PEM|the key is)"
    ):
        ListenOptions(address="127.0.0.1:0", tls_certificate=str(certificate), tls_key=str(key))


async def test_a_certificate_that_is_renewed_half_breaks_nothing(pem: Path, tmp_path: Path) -> None:
    """A reload between the new certificate and its key."""
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_bytes((pem / name).read_bytes())
    options = ListenOptions(
        address="127.0.0.1:0", tls_certificate=str(tmp_path / "cert.pem"), tls_key=str(tmp_path / "key.pem")
    )
    async with open_door(tmp_path, event_logs(webhook=PARAKEY), rounds=False, options=options) as door:
        other = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=other",
            "-days",
            "2",
        ]
        files = ["-keyout", str(tmp_path / "other.pem"), "-out", str(tmp_path / "cert.pem")]
        subprocess.run([*other, *files], capture_output=True, check=True)
        with pytest.raises(ListenError, match="the key is another certificate's"):
            door.listener.renew()
        trust = ssl.create_default_context(cafile=str(pem / "cert.pem"))
        async with httpx.AsyncClient(verify=trust, trust_env=False, timeout=60) as client:
            assert (await client.get(f"{door.url}/healthz")).status_code == 200
        (tmp_path / "key.pem").write_bytes((tmp_path / "other.pem").read_bytes())
        door.listener.renew()
        async with httpx.AsyncClient(verify=trust, trust_env=False, timeout=60) as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(f"{door.url}/healthz")


@pytest.mark.parametrize("limits", [Limits(whole=0.2)])
async def test_slow_and_idle_connections_are_cut(door: Door) -> None:
    slow = [
        b"",
        b"POST",
        HEAD,
        HEAD + b"Content-Length: 100\r\n\r\n{",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n",
    ]
    for data in slow:
        reader, _ = await raw(door, data)
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 5) == b""
    assert door.engine.meter.webhooks["doors", "cut off"] == 2
    # And so is one that was quick the first time.
    body = json.dumps(LOG).encode()
    whole = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
    reader, _ = await raw(door, whole + b"POST /hooks")
    with contextlib.suppress(ConnectionResetError):
        answer = await asyncio.wait_for(reader.read(), 5)
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.count(b"HTTP/1.1") == 1


async def test_what_is_no_event_log_in_a_list_keeps_none_of_the_others_back(door: Door) -> None:
    assert await door.post("/hooks/doors", [LOG, 5, {}, {**LOG, "id": "log2"}], KEY) == 200
    assert sorted(door.ids()) == sorted([LOG["id"], "log2"])


async def test_five_hundred_idle_connections_and_a_slow_sender_delay_no_caller(door: Door) -> None:
    await asyncio.gather(*(raw(door, b"") for _ in range(500)))
    await raw(door, HEAD + b"Content-Length: 100\r\n\r\n{")
    for number in range(20):
        assert await door.post("/hooks/doors", {**LOG, "id": f"log{number}"}, KEY) == 200
    assert len(door.ids()) == 20


@pytest.mark.parametrize("limits", [Limits(most=20, young=0.1)])
async def test_the_connection_that_has_waited_longest_makes_room(door: Door) -> None:
    first, _ = await raw(door, b"")
    for _ in range(40):
        await raw(door, b"")
    with contextlib.suppress(ConnectionResetError):
        assert await asyncio.wait_for(first.read(), 5) == b""
    assert await door.post("/hooks/doors", LOG, KEY) == 200


@pytest.mark.parametrize("limits", [Limits(most=20, young=0.1)])
async def test_strangers_who_asked_once_and_stay_make_room_for_webhooks(door: Door) -> None:
    for _ in range(20):
        reader, _ = await raw(door, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.wait_for(reader.read(10), 5)
    body = json.dumps(LOG).encode()
    for _ in range(10):
        reader, writer = await raw(door, HEAD)
        await asyncio.sleep(0.02)
        writer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert (await asyncio.wait_for(reader.read(100), 5)).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_burst_far_above_the_limit_is_served_and_leaves_nothing_behind(loop: str, tmp_path: Path) -> None:

    async def burst() -> None:
        async with open_door(
            tmp_path, event_logs(webhook=PARAKEY), rounds=False, limits=Limits(most=20, young=5.0)
        ) as door:
            for _ in range(100):  # who comes and goes without a word
                _, writer = await raw(door, b"")
                writer.transport.abort()

            async def one(number: int) -> bytes:
                body = json.dumps({**LOG, "id": f"log{number}"}).encode()
                head = HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
                reader, _ = await raw(door, head + body)
                return await asyncio.wait_for(reader.read(15), 60)

            answers = await asyncio.gather(*(one(number) for number in range(200)))
            assert set(answers) == {b"HTTP/1.1 200 OK"}
            for writer in OPEN:
                writer.transport.abort()
            async with asyncio.timeout(60):
                while door.listener._inside:
                    await asyncio.sleep(0.01)
            assert door_connections(door) == []
            assert len(door.ids()) == 200

    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop if loop == "uvloop" else None) as runner:
        runner.run(burst())
    OPEN.clear()


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /hooks/doors HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST /hooks/doors HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\n12345",
        b"POST /hooks/doors HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST /hooks/%00%ff%2e%2e HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"GET http://[::bad HTTP/1.1\r\nHost: x\r\n\r\n",
        b"A" * 200_000,
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    ],
)
async def test_it_continues_after_any_bytes(door: Door, data: bytes) -> None:
    with contextlib.suppress(ConnectionError):
        reader, writer = await raw(door, data)
        writer.write_eof()
        answer = await asyncio.wait_for(reader.read(200), 5)
        assert not answer.startswith(b"HTTP/1.1 5"), answer
    assert await door.post("/hooks/doors", LOG, KEY) == 200


async def test_an_upgrade_is_passed_over_and_its_body_is_not(door: Door) -> None:
    """Some clients offer HTTP/2 with every request."""
    for number, offer in enumerate((b"h2c", b"websocket")):
        body = json.dumps({**LOG, "id": f"log{number}"}).encode()
        upgrade = (
            b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: %s\r\nHTTP2-Settings: AAMAAABk\r\n" % offer
        )
        reader, _ = await raw(door, HEAD + upgrade + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert (await asyncio.wait_for(reader.read(100), 5)).startswith(b"HTTP/1.1 200")
    assert door.ids() == ["log0", "log1"]


async def test_requests_behind_the_first_wait_outside(door: Door) -> None:
    """However many are sent at once: requests that are not yet read do not fill the memory."""
    _, writer = await asyncio.open_connection("127.0.0.1", port(door))
    OPEN.append(writer)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 500_000)
    await until(lambda: any(c.cycle is not None for c in door_connections(door)))
    await asyncio.sleep(0.2)
    [connection] = [c for c in door_connections(door) if c.cycle is not None]
    assert len(connection.conn.trailing_data[0]) < 2**20
    assert await door.post("/hooks/doors", LOG, KEY) == 200


@pytest.mark.parametrize("limits", [Limits(whole=0.2)])
async def test_a_caller_that_reads_no_answer_is_cut(door: Door) -> None:
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    deaf.connect(("127.0.0.1", port(door)))
    deaf.setblocking(False)
    with contextlib.suppress(BlockingIOError, ConnectionError):
        while True:
            deaf.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 1000)
            await asyncio.sleep(0)
    async with asyncio.timeout(20):
        while door_connections(door):
            await asyncio.sleep(0.05)
            with contextlib.suppress(BlockingIOError, ConnectionError):
                deaf.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
    deaf.close()


async def test_heads_have_a_limit(door: Door) -> None:
    reader, writer = await raw(door, b"GET / HTTP/1.1\r\nX: ")
    with contextlib.suppress(ConnectionError):
        for _ in range(50):
            writer.write(b"y" * 65536)
            await writer.drain()
        assert (await asyncio.wait_for(reader.read(100), 5)).startswith(b"HTTP/1.1 400")
    assert sum(len(c.conn.trailing_data[0]) for c in door_connections(door)) < 2**18


async def test_pipelined_webhooks_are_answered_in_order(door: Door) -> None:
    bodies = [json.dumps({**LOG, "id": f"log{n}"}).encode() for n in range(5)]
    requests = [HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body for body in bodies]
    reader, _ = await raw(door, b"".join(requests))
    answers = b""
    while answers.count(b"HTTP/1.1 200") < 5:
        answers += await asyncio.wait_for(reader.read(1000), 5)
    assert door.ids() == [f"log{n}" for n in range(5)]


async def test_what_is_under_way_when_it_closes_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roundsman.web.listener.GRACE", 20.0)
    async with open_door(tmp_path, event_logs(webhook=PARAKEY), rounds=False) as door:
        posted = [
            asyncio.create_task(door.post("/hooks/doors", {**LOG, "id": f"log{n}"}, KEY)) for n in range(20)
        ]
        while not being_taken(door.engine):
            await asyncio.sleep(0)
    statuses = await asyncio.gather(*posted, return_exceptions=True)
    with sqlite(tmp_path / "door.db") as rows:
        assert rows >= statuses.count(200) > 0


@contextlib.contextmanager
def sqlite(path: Path):
    import sqlite3

    connection = sqlite3.connect(path)
    yield connection.execute("SELECT count(*) FROM events").fetchone()[0]
    connection.close()


def test_without_listen_nothing_of_it_is_imported() -> None:
    code = (
        "import sys, roundsman.service, roundsman.cli; "
        "bad = {'uvicorn', 'starlette', 'prometheus_client'} & set(sys.modules); sys.exit(repr(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ})


async def test_who_was_taken_is_answered_though_it_closes(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request was on its way while the daemon was stopped: no other process would ever read it."""
    monkeypatch.setattr("roundsman.web.protocol.FIRST_WORD", 10.0)
    monkeypatch.setattr("roundsman.web.listener.FIRST_WORD", 10.0)
    reader, writer = await raw(door, b"")
    await until(lambda: door_connections(door))
    closing = asyncio.create_task(door.listener.close())
    await asyncio.sleep(0)
    body = json.dumps(LOG).encode()
    writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    answer = await asyncio.wait_for(reader.read(), 30)
    assert answer.startswith(b"HTTP/1.1 200")
    await asyncio.wait_for(closing, 30)
    assert door.ids() == ["log1"]


async def test_who_says_nothing_does_not_keep_it(door: Door) -> None:
    reader, _ = await raw(door, b"")
    await until(lambda: door_connections(door))
    await asyncio.wait_for(door.listener.close(), 30)
    assert await reader.read() == b""
