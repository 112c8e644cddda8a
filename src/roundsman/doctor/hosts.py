"""The hosts that the configuration names: name resolution, TLS, and the difference of the clocks.

One request without credentials goes to each origin: HEAD of its root, never a path or a query of the configuration, which
may hold a secret. Any answer is a success.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Iterable, Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from roundsman.doctor.finding import Finding

if TYPE_CHECKING:
    import httpx

SECONDS = 5.0
"""Maximum time of one host."""
SOON = 14 * 86400.0
"""Seconds: a certificate that ends earlier is a warning."""
OFF, FAR_OFF = 5.0, 60.0
"""Seconds between the clocks that are a warning, and a failure."""


def origins(urls: Iterable[str]) -> list[str]:
    """Scheme, host and port of each http URL, each once."""
    found = set()
    for url in urls:
        try:
            parts = urlsplit(url.strip())
            port = f":{parts.port}" if parts.port else ""
        except ValueError:
            continue
        if parts.scheme.lower() in {"http", "https"} and parts.hostname:
            host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
            found.add(f"{parts.scheme.lower()}://{host}{port}")
    return sorted(found)


async def ask(found: list[str], proxy: str | None, ca_file: Path | None) -> list[Finding]:
    """Ask all origins at the same time, through the proxy if there is one."""
    import httpx

    try:
        trust = httpx.create_ssl_context()
        if ca_file is not None:
            trust.load_verify_locations(ca_file)
        client = httpx.AsyncClient(verify=trust, proxy=proxy, trust_env=False, timeout=SECONDS)
    except (OSError, ValueError) as exc:
        return [
            Finding(
                "hosts",
                "failure",
                f"cannot be asked: {type(exc).__name__}",
                "check ca_file and proxy in [http]",
            )
        ]
    async with client:
        return list(
            await asyncio.gather(*(_one(client, origin, proxied=proxy is not None) for origin in found))
        )


async def _one(client: "httpx.AsyncClient", origin: str, *, proxied: bool) -> Finding:
    import httpx

    begin = time.monotonic()
    try:
        async with asyncio.timeout(SECONDS):
            request = client.build_request("HEAD", origin + "/", headers={"user-agent": "roundsman-doctor"})
            answer = await client.send(request, stream=True)
            try:
                stream: Any = answer.extensions.get("network_stream")
                tls = stream.get_extra_info("ssl_object") if stream is not None else None
                words, state, advice = _judged(answer, tls)
            finally:
                await answer.aclose()
    except (TimeoutError, httpx.TimeoutException):
        return Finding(
            origin,
            "failure",
            f"no answer within {SECONDS:.0f}s",
            "check the network, a firewall, [http] proxy",
        )
    except (httpx.InvalidURL, ValueError):  # idna refuses a name with a UnicodeError
        return Finding(origin, "failure", "it is not the name of a host", "check the spelling")
    except (httpx.HTTPError, OSError) as exc:
        return Finding(origin, "failure", *_why(exc, proxied=proxied))
    took = (time.monotonic() - begin) * 1000
    return Finding(origin, state, f"answers in {took:.0f} ms{words}", advice)  # type: ignore[arg-type]


def _judged(answer: "httpx.Response", tls: Any) -> tuple[str, str, str]:
    """What the answer proves: words, the state, and what to do."""
    words, state, advice = "", "ok", ""
    if answer.status_code == 407:
        return ", but the proxy refuses the password", "failure", "check [http] proxy"
    if tls is not None and (ends := (tls.getpeercert() or {}).get("notAfter")):
        left = ssl.cert_time_to_seconds(ends) - time.time()
        words = f", certificate ends in {left / 86400:.0f} days"
        if left < SOON:
            state, advice = "warning", "the certificate must be renewed by the host's operator"
    try:
        off = time.time() - parsedate_to_datetime(answer.headers["date"]).timestamp()
    except (KeyError, ValueError, TypeError):
        return words, state, advice
    if abs(off) >= OFF:
        state = "failure" if abs(off) >= FAR_OFF else "warning"
        words += f", this clock is {abs(off):.0f}s {'ahead' if off > 0 else 'behind'}"
        advice = "synchronise the clock: timedatectl set-ntp true"
    return words, state, advice


def _why(exc: BaseException, *, proxied: bool) -> tuple[str, str]:
    """Why a host does not answer, and what to do."""
    import httpx

    for each in _causes(exc):
        if isinstance(each, socket.gaierror):
            return "its name is not found", "check the spelling, and /etc/resolv.conf"
        if isinstance(each, ssl.SSLCertVerificationError):
            return (
                f"its certificate is not trusted: {each.verify_message}",
                "if it is your own authority's: ca_file in [http]",
            )
        if isinstance(each, ssl.SSLError):
            return "the TLS handshake fails", "check the port, and whether it speaks TLS"
        if isinstance(each, ConnectionRefusedError):
            return "the connection is refused", "check the port" if not proxied else "check [http] proxy"
    if isinstance(exc, httpx.ProxyError):  # it begins with the status of the proxy's answer
        refused = "the proxy refuses the password" if str(exc)[:3] == "407" else "the proxy refuses"
        return refused, "check [http] proxy"
    if isinstance(exc, httpx.RemoteProtocolError):
        return "it does not answer in HTTP", "check the port, and whether the URL must begin with https://"
    text = str(exc)
    if "Name or service" in text or "name resolution" in text or "nodename" in text:
        return "its name is not found", "check the spelling, and /etc/resolv.conf"
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return "its certificate is not trusted", "if it is your own authority's: ca_file in [http]"
    if "All connection attempts failed" in text:
        return "the connection is refused", "check the port, a firewall and [http] proxy"
    return f"cannot be reached: {type(exc).__name__}", "check the network and [http] proxy"


def _causes(exc: BaseException | None) -> Iterator[BaseException]:
    seen = 0
    while exc is not None and seen < 10:
        yield exc
        if isinstance(exc, BaseExceptionGroup):
            for each in exc.exceptions:
                yield from _causes(each)
        exc, seen = exc.__cause__ or exc.__context__, seen + 1
