"""Mailchimp's webhooks about batches: what authenticates them, and the vendor's API for them."""

from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote

from roundsman import wire
from roundsman.errors import Unreadable
from roundsman.http.answers import Answer, error_for
from roundsman.kit import fields
from roundsman.options.secrets import Secret
from roundsman.webhook import Registration, Scheme, SignedHook, Strong

if TYPE_CHECKING:
    from roundsman.http.client import Http

SIGNATURE = Scheme("x-mailchimp-signature", "v1", per_second=1)


class Webhook(SignedHook):
    """`webhook`: what a caller must present to be accepted as the vendor. All that is set must be correct."""

    signing_secret: Strong | None = None
    """The signing secret that `roundsman hooks create` prints once. With it, each webhook needs a valid signature."""

    answers_get: ClassVar[bool] = True

    scheme: ClassVar[Scheme] = SIGNATURE

    def signing(self) -> list[Secret]:
        return [self.signing_secret] if self.signing_secret is not None else []

    @classmethod
    def ways(cls) -> str:
        return "token, signing_secret or both"


class BatchHooks:
    """The vendor's API for batch webhooks: https://mailchimp.com/developer/marketing/api/batch-webhooks/."""

    most = 20

    def __init__(self, url: str, http: "Http") -> None:
        self._url, self._http = url, http

    async def list(self) -> list[Registration]:
        answer = await self._http.get(self._url, {"count": 1000})
        return [_registration(row) for row, _ in answer.items("webhooks")]

    async def create(self, url: str) -> Registration:
        content = wire.encode({"url": url, "enabled": True})
        answer = await self._send("POST", self._url, content)
        made = answer.json()
        if not isinstance(made, dict) or not fields.text(made.get("id")):
            raise Unreadable("the answer is not the webhook that was created")
        return _registration(made)

    async def delete(self, key: str) -> None:
        await self._send("DELETE", f"{self._url}/{quote(key, safe='')}")

    async def _send(self, method: str, url: str, content: bytes | None = None) -> Answer:
        headers = {"content-type": "application/json"} if content else None
        # For a deletion, only the status counts.
        answer = await self._http.send(
            method, url, headers=headers, content=content, read=content is not None
        )
        if not 200 <= answer.status < 300:
            raise error_for(method, url, answer, self._http.now().timestamp())
        return answer


def _registration(row: dict[str, Any]) -> Registration:
    secret = fields.text(row.get("signing_secret"))
    key, url = fields.text(row.get("id")), fields.text(row.get("url"))
    signed = row.get("signing_enabled")
    return Registration(
        key or "",
        url or "",
        row.get("enabled") is not False,
        secret,
        signed if isinstance(signed, bool) else None,
    )
