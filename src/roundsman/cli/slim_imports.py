"""Imports libraries without the parts that are never used. Commands that need them import this module first.

structlog and httpx import rich (and pygments) if it is installed, for tracebacks and for httpx's command
line: 4 MB of the daemon's memory, and a tenth of its start-up time. `roundsman help` imports rich when a page is
shown. aiohttp reads the system's certificates twice, for connections without a TLS context of their own, but
ours have one: 2 MB more, and nearly another tenth.
"""

import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

LEFT_OUT = ("rich", "pygments")


class Later(ssl.SSLContext):
    """What `ssl.create_default_context()` makes, but it reads CA certificates at the first connection.

    It is for plugins that use aiohttp directly.
    """

    _read = False

    def wrap_bio(self, *args: Any, **more: Any) -> ssl.SSLObject:
        if not self._read:
            self.load_default_certs()
            self._read = True
        return super().wrap_bio(*args, **more)


@contextmanager
def _without_rich() -> Iterator[None]:
    if set(LEFT_OUT) & set(sys.modules):  # imported already
        yield
        return
    for name in LEFT_OUT:
        sys.modules[name] = None  # type: ignore[assignment] # the import system then finds none
    try:
        yield
    finally:
        for name in LEFT_OUT:
            del sys.modules[name]


@contextmanager
def _without_certificates() -> Iterator[None]:
    usual = ssl.create_default_context

    def later() -> ssl.SSLContext:
        context = Later(ssl.PROTOCOL_TLS_CLIENT)
        if sys.version_info >= (3, 13):  # as ssl.create_default_context() does there
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT
        return context

    def no_paths(_: ssl.SSLContext) -> None:
        """Does nothing: aiohttp's context without verification needs no CA certificates."""

    ssl.create_default_context = later  # type: ignore[assignment]
    # Set on the subclass, which otherwise inherits it.
    ssl.SSLContext.set_default_verify_paths = no_paths  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        ssl.create_default_context = usual
        del ssl.SSLContext.set_default_verify_paths


with _without_rich():
    with _without_certificates():
        import aiohttp.connector
    import httpx
    import structlog

__all__ = ["aiohttp", "httpx", "structlog"]
