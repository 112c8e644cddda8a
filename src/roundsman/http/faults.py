"""Translates errors of libraries: no text of a library reaches a message."""

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import httpx

from roundsman.errors import RequestFailed
from roundsman.http.bounded import HEAD
from roundsman.http.urls import host_of


@contextmanager
def translated(url: str | httpx.URL) -> Iterator[None]:
    """Turns the errors of the HTTP libraries into `RequestFailed`."""
    try:
        yield
    except (httpx.TransportError, httpx.InvalidURL, aiohttp.ClientError, ValueError) as exc:
        raise RequestFailed(f"{host_of(url)} {fault(exc)}", passing=True) from None


def fault(exc: Exception) -> str:
    """The fault as a message: a library's text may contain a URL, a header or a body."""
    chain: list[BaseException] = []
    at: BaseException | None = exc
    while at is not None and at not in chain:
        chain.append(at)
        at = at.__cause__ or at.__context__
    if isinstance(exc, TimeoutError) or timed_out(exc):
        return "did not answer within the timeout"
    for each in chain:
        for kinds, words in _FAULTS:
            if isinstance(each, kinds):
                return words
        if isinstance(each, OSError) and each.strerror:
            refused = "Connect call failed" in each.strerror
            return f"cannot be reached: {'the connection was refused' if refused else os.strerror(each.errno) if each.errno else 'the connection failed'}"
    return f"cannot be reached ({type(chain[-1]).__name__})"


_FAULTS: tuple[tuple[Any, str], ...] = (
    (
        (aiohttp.ClientConnectorCertificateError, ssl.SSLCertVerificationError),
        "cannot be reached: its certificate is not trusted",
    ),
    (aiohttp.ClientConnectorDNSError, "cannot be reached: its name cannot be resolved"),
    (aiohttp.ClientHttpProxyError, "cannot be reached: the proxy refused the connection"),
    (ssl.SSLError, "cannot be reached: the TLS handshake failed"),
    (
        (aiohttp.ServerDisconnectedError, aiohttp.ClientConnectionResetError),
        "closed the connection without an answer",
    ),
    (aiohttp.http_exceptions.LineTooLong, f"sent a header of more than {HEAD // 1024} KiB"),
    (
        (aiohttp.http_exceptions.TransferEncodingError, aiohttp.http_exceptions.ContentLengthError),
        "ended its answer too early",
    ),
    ((aiohttp.ClientPayloadError, aiohttp.EofStream), "ended its answer too early"),
    (
        (aiohttp.http_exceptions.HttpProcessingError, aiohttp.ClientResponseError),
        "sent an answer that is not HTTP",
    ),
)
"""The errors that libraries raise, the more specific ones first."""


def timed_out(exc: Exception) -> bool:
    """Whether it was a timeout. The aiohttp transport calls every failed connection one: see its cause."""
    if exc.__cause__ is not None:
        return isinstance(exc.__cause__, TimeoutError)
    return isinstance(exc, httpx.TimeoutException)
