"""Logins without state: a cookie that is signed, and a token for forms that belongs to it.

The key is derived from the password, so that a login survives a restart and ends with a new password.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
import unicodedata

from roundsman.options.page import LONGEST, PageOptions

COOKIE = "roundsman_"
"""The begin of the cookie's name. The rest is the daemon's own: a browser sends the cookies of a host to all of its ports,
so that the login at one daemon of a machine, or of a tunnel, would end that at another.
"""
LASTS = 7 * 86400
"""Seconds that a login in a browser lasts."""


def digest(text: str) -> bytes:
    """What is compared in place of a text, so that its length does not show in the time either."""
    return hashlib.sha256(unicodedata.normalize("NFC", text).encode("utf-8", "replace")).digest()


class Sessions:
    """What proves a login."""

    def __init__(self, options: PageOptions, place: str = "") -> None:
        """`place`: the difference between this daemon and another one with the same login; it stays the same over a restart."""
        self._place = place
        self.user = options.user or ""
        """The person who logs in; empty for a token."""
        self.by_token = options.token is not None
        self._user, self._secret = digest(self.user), digest(options.secret.reveal())
        self._reveal = options.secret.reveal
        self._key: bytes | None = None

    def is_right(self, user: str, secret: str) -> bool:
        """Whether this is the login. The time that it takes says nothing about how much of it is right."""
        if max(len(user), len(secret)) > 4 * LONGEST:  # to normalise a long text takes seconds
            return False
        one = hmac.compare_digest(digest(user), self._user)
        other = hmac.compare_digest(digest(secret), self._secret)
        return one & other

    def derive(self) -> None:
        """Make the key. It takes some 50 ms: one who has a cookie must not find a weak password by trying many."""
        if self._key is None:
            salt = b"roundsman page\0" + self.user.encode()
            self._key = hashlib.scrypt(self._reveal().encode(), salt=salt, n=2**14, r=8, p=1, dklen=32)

    @property
    def derived(self) -> bool:
        return self._key is not None

    @property
    def name(self) -> str:
        """The name of the cookie. Of the key, because a tunnel or a proxy may change the address."""
        return COOKIE + self._signature("name", self._place)[:12]

    def cookie(self, now: float) -> str:
        """The value of a cookie that logs in from now on."""
        head = f"{int(now) + LASTS}.{secrets.token_urlsafe(12)}"
        return f"{head}.{self._signature('session', head)}"

    def session(self, cookie: str, now: float) -> str | None:
        """The name of the session that a cookie is; None if it is forged or has ended."""
        head, _, signature = cookie.rpartition(".")
        if not hmac.compare_digest(self._signature("session", head).encode(), signature.encode()):
            return None
        return head if now < int(head.partition(".")[0]) else None

    def form(self, session: str) -> str:
        """The token that a form of this session carries."""
        return self._signature("form", session)

    def _signature(self, purpose: str, text: str) -> str:
        assert self._key is not None
        made = hmac.digest(self._key, f"{purpose}\0{text}".encode("utf-8", "replace"), "sha256")
        return base64.urlsafe_b64encode(made).decode().rstrip("=")


def basic(header: str) -> tuple[str, str] | None:
    """User and password of `Authorization: Basic`, RFC 7617; None if there are none."""
    scheme, _, coded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        text = base64.b64decode(coded.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    user, colon, password = text.partition(":")
    return (user, password) if colon else None


def bearer(header: str) -> str | None:
    """The token of `Authorization: Bearer`; None if there is none."""
    scheme, _, token = header.partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None
