"""What `roundsman doctor` says about hosts: certificates, connections, names and clocks, with real servers."""

import asyncio
import json
import ssl
import subprocess
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from conftest import need
from roundsman.doctor.hosts import ask
from test_doctor import doctor

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Authority:
    """Makes certificates, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = self._self_signed("authority")

    def signed(self, name: str, *, days: int = 90, host: str = "IP:127.0.0.1") -> Path:
        """A certificate of this authority, with its key."""
        pem, key, request = (self.folder / f"{name}.{end}" for end in ("pem", "key", "csr"))
        (self.folder / f"{name}.ext").write_text(
            f"subjectAltName={host}\nauthorityKeyIdentifier=keyid\n"  # Python 3.13 needs it
        )
        self._openssl("req", *KEY, "-subj", "/CN=test", "-keyout", str(key), "-out", str(request))
        by = ("-CA", str(self.file), "-CAkey", str(self.folder / "authority.key"), "-CAcreateserial")
        more = ("-days", str(days), "-extfile", str(self.folder / f"{name}.ext"))
        if days < 0 and "-not_after" in self._openssl("x509", "-help"):  # OpenSSL 3.6 refuses such days
            more = ("-not_before", "20200101000000Z", "-not_after", "20200102000000Z", *more[2:])
        self._openssl("x509", "-req", "-in", str(request), *by, *more, "-out", str(pem))
        return pem

    def _self_signed(self, name: str) -> Path:
        pem, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        host = ("-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1")
        host += ("-addext", "keyUsage=critical,keyCertSign,digitalSignature")
        self._openssl("req", "-x509", *KEY, *host, "-days", "90", "-keyout", str(key), "-out", str(pem))
        return pem

    def another(self) -> Path:
        return self._self_signed("self-signed")

    @staticmethod
    def _openssl(*arguments: str) -> str:
        done = subprocess.run(["openssl", *arguments], check=True, capture_output=True, text=True)
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    need(
        subprocess.run(["which", "openssl"], capture_output=True, check=False).returncode == 0,
        "needs openssl: apt-get install openssl",
    )
    return Authority(tmp_path_factory.mktemp("authority"))


async def serve(stack: AsyncExitStack, certificate: Path | None, answer: str = "") -> int:
    """The port of a server on loopback that answers every request, with TLS if there is a certificate."""

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read(1024)
            writer.write(answer.encode() or b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
            await writer.drain()
        except OSError:
            pass  # the caller does not trust this server
        finally:
            writer.close()

    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    server = await asyncio.start_server(answers, "127.0.0.1", 0, ssl=context)
    stack.callback(server.close)
    port: int = server.sockets[0].getsockname()[1]
    return port


async def test_each_fault_of_a_host_has_its_own_words_and_one_fault_hides_no_other(
    authority: Authority, tmp_path: Path
) -> None:
    behind = format_datetime(datetime.now(UTC) - timedelta(minutes=5), usegmt=True)
    async with AsyncExitStack() as stack:
        good = await serve(stack, authority.signed("good"))
        plain = await serve(stack, None)
        late = f"HTTP/1.1 200 OK\r\ndate: {behind}\r\ncontent-length: 0\r\n\r\n"
        urls = {
            "good": f"https://127.0.0.1:{good}",
            "soon": f"https://127.0.0.1:{await serve(stack, authority.signed('soon', days=5))}",
            "expired": f"https://127.0.0.1:{await serve(stack, authority.signed('expired', days=-1))}",
            "self-signed": f"https://127.0.0.1:{await serve(stack, authority.another())}",
            "wrong-name": f"https://127.0.0.1:{await serve(stack, authority.signed('other', host='DNS:other.example'))}",
            "no-tls": f"https://127.0.0.1:{plain}",
            "tls": f"http://127.0.0.1:{good}",
            "no-http": f"http://127.0.0.1:{await serve(stack, None, 'SSH-2.0-OpenSSH_9.2')}",
            "refused": "http://127.0.0.1:1",
            "no-host": "https://no-such-host.invalid",
            "no-name": "https://xn--a.example",
            "clock": f"http://127.0.0.1:{await serve(stack, None, late)}",
        }
        config = tmp_path / "roundsman.toml"
        sinks = "".join(f'[sinks.{name}]\ntype = "http"\nurl = "{url}/x"\n' for name, url in urls.items())
        config.write_text(
            f'[daemon]\nstore = "roundsman.db"\n[http]\nca_file = "{authority.file}"\n'
            f'[sources.doors]\ntype = "parakey.event_logs"\nbase_url = "{urls["refused"]}"\naccess_token = "x1-y2-z3"\n{sinks}'
        )
        said = await asyncio.to_thread(doctor, tmp_path, "--json", config=config)
    checks = {each["check"]: each for each in json.loads(said.stdout)["checks"]}
    found = {name: (checks[url]["state"], checks[url]["message"]) for name, url in urls.items()}
    expected = {
        "good": ("ok", "certificate ends in 90 days"),
        "soon": ("warning", "certificate ends in 5 days"),
        "expired": ("failure", "its certificate is not trusted: certificate has expired"),
        "self-signed": ("failure", "its certificate is not trusted: self-signed certificate"),
        "wrong-name": ("failure", "its certificate is not trusted: IP address mismatch"),
        "no-tls": ("failure", "the TLS handshake fails"),
        "tls": ("failure", "it does not answer in HTTP"),
        "no-http": ("failure", "it does not answer in HTTP"),
        "refused": ("failure", "the connection is refused"),
        "no-host": ("failure", "its name is not found"),
        "no-name": ("failure", "it is not the name of a host"),
        "clock": ("failure", "s ahead"),
    }
    assert {name: state for name, (state, _) in found.items()} == {
        name: state for name, (state, _) in expected.items()
    }, found
    assert {name: text for name, (_, text) in found.items() if expected[name][1] not in text} == {}
    assert said.stderr == ""


@pytest.mark.parametrize(
    ("status", "words"),
    [("407 No", "the proxy refuses the password"), ("403 No", "the proxy refuses"), ("", "is refused")],
)
async def test_a_proxy_that_refuses_is_named(status: str, words: str) -> None:
    async with AsyncExitStack() as stack:
        answer = f"HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n"
        proxy = f"http://127.0.0.1:{await serve(stack, None, answer) if status else 1}"
        [found] = await ask(["https://api.example.org"], proxy, None)
    assert (found.state, found.advice) == ("failure", "check [http] proxy")
    assert found.words.endswith(words)
