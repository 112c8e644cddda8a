"""Which requests come from the page itself: its own host (Host), its own origin (Origin), and from which address.

A foreign name in `Host` is a sign of DNS rebinding: a page of another site whose name leads to this machine.
"""

import ipaddress
import re
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.requests import Request

_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,253}))(?::([0-9]{1,5}))?")
PORTS = {"http": "80", "https": "443"}


def is_ours(request: Request, names: Collection[str]) -> bool:
    """Whether the request is for this page: for one of `names`, the address of the socket, or localhost on this machine.

    The port does not matter: a tunnel may have another one.
    """
    asked = _name(request.headers.get("host", ""))
    if asked is None:
        return False
    if asked in names:
        return True
    ours = _ip(str((request.scope.get("server") or ("",))[0]))
    if ours is None:  # a unix socket, which only a proxy or a program of this machine can reach
        return asked == "localhost"
    return asked == str(ours) or (asked == "localhost" and ours.is_loopback)


def is_same_origin(request: Request, names: Collection[str]) -> bool:
    """Whether a request comes from a page of ours, or from a program that is no browser.

    A browser states the origin of each POST, and newer ones in Sec-Fetch-Site how it relates to the target.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None and site != "same-origin":
        return False
    if origin is None:
        return True
    try:
        parts = urlsplit(origin)
        port = str(parts.port or PORTS.get(parts.scheme, ""))
    except ValueError:
        return False
    from_name, asked = _name(parts.netloc), request.headers.get("host", "")
    if parts.scheme not in PORTS or from_name is None or from_name != _name(asked):
        return False
    # A proxy may take the port and the scheme out of what it passes on.
    match = _HOST.fullmatch(asked)
    return from_name in names or port in {match[3] if match else None, *_default(request, asked)}


def _default(request: Request, asked: str) -> Collection[str]:
    """The port that is meant if none is named."""
    match = _HOST.fullmatch(asked)
    return () if match is None or match[3] else (PORTS.get(request.url.scheme, ""),)


def address_of(request: Request) -> str:
    """The address of the caller, for limits: of IPv6 the network, as a caller has a whole one.

    A proxy on this machine names its caller at the end of X-Forwarded-For.
    """
    peer = _ip(request.client.host) if request.client is not None else None
    if peer is None or peer.is_loopback:
        named = ",".join(request.headers.getlist("x-forwarded-for")).rpartition(",")[2].strip()
        peer = _ip(named) or peer
    if peer is None:
        return "local"
    if peer.version == 6:
        return str(ipaddress.ip_network((peer, 64), strict=False))
    return str(peer)


def is_secure(request: Request) -> bool:
    """Whether the browser uses TLS, to us or to the proxy. Only for the attribute `Secure` of a cookie of its own."""
    return (
        request.url.scheme == "https"
        or request.headers.get("origin", "").startswith("https://")
        or request.headers.get("x-forwarded-proto") == "https"
    )


def _name(host: str) -> str | None:
    """The host of a `Host` header without the port, as options have it; None if it is no such header."""
    match = _HOST.fullmatch(host)
    if match is None:
        return None
    ip = _ip(match[1] or match[2])
    return str(ip) if ip is not None else None if match[1] else match[2].lower().removesuffix(".")


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        ip = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return ip.ipv4_mapped or ip if isinstance(ip, ipaddress.IPv6Address) else ip
