"""An HTTP endpoint: CloudEvents 1.0 over HTTP, optionally signed.

Modes: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md
Signature: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import gzip
import hashlib
import hmac
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote

from pydantic import Field, ValidationInfo, field_validator, model_validator

from roundsman import wire
from roundsman.events import Event
from roundsman.http.client import Http
from roundsman.http.credentials import Credentials
from roundsman.http.urls import SecretEndpoint
from roundsman.options.secrets import Secret
from roundsman.options.template import Fields, Template
from roundsman.options.values import HeaderName, HeaderValue
from roundsman.plugin import Deliver, Receipt, Sink
from roundsman.sinks.fields import FIELDS
from roundsman.sinks.templated import body_of, content_type, prove

COMPRESS_FROM = 1024
"""Minimum bytes of a body to compress: for fewer it is not worth it."""


class HttpSink(Sink):
    """Posts events to a URL. Any answer 2xx acknowledges them."""

    type: Literal["http"]
    url: SecretEndpoint
    """The URL to post to, exactly as it is written. If there is a secret in it, write the place of the URL, such as
    `{ credential = "crm-url" }`.
    """
    content: Literal["structured", "binary", "batch", "template"] = "structured"
    """`structured`: the body is the event. `binary`: the body is its data, and the rest is in headers that begin with
    `ce-`. `batch`: the body is a list of events. `template`: the body is `body` with the fields of one event.
    """
    batch: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Maximum number of events in one request. With `content = "batch"` the default is 100; else only 1 is possible."""
    auth: Credentials | None = None
    """How to authenticate at the receiver. Without it, requests have no credentials."""
    signing_secret: Secret | None = None
    """Sign each request as Standard Webhooks does. The secret is `whsec_` and 24 to 64 bytes in base64. The signature
    is of the body before compression.
    """
    compress: bool = False
    """Compress bodies of 1 KiB or more with gzip."""
    headers: dict[HeaderName, HeaderValue] = {}
    """Additional headers of each request. With `content = "template"`, `content-type` is that of the body; the default is
    `application/json`.
    """
    body: Annotated[Template, Fields(FIELDS)] | None = None
    """The body of each request, for `content = "template"`, such as `'{"text": "$summary"}'`. Fields: `$summary`, `$id`,
    `$source`, `$type`, `$subject`, `$time`, `$outcome`, `$message`, `$person`, `$code`, and `$event` for the whole event.
    Values are escaped as the type of the body requires.
    """

    @model_validator(mode="before")
    @classmethod
    def _batches(cls, options: Any) -> Any:
        """Only a list may hold several events: else the refusal of one would send the others again."""
        if isinstance(options, dict) and options.get("content") == "batch":
            return {"batch": 100, **options}
        return options

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.batch > 1 and self.content != "batch":
            raise ValueError(f'batch = 1 is all that content = "{self.content}" can send')
        if self.content == "template" and self.body is None:
            raise ValueError('content = "template" needs a body, such as body = \'{"text": "$summary"}\'')
        return self

    @field_validator("body")
    @classmethod
    def _fits(cls, body: Template | None, info: ValidationInfo) -> Template | None:
        """Another option may have a mistake of its own: then it is not in `info.data`."""
        if body is None:
            return body
        if info.data.get("content", "template") != "template":
            raise ValueError('only content = "template" has a body')
        if "headers" in info.data:
            prove(body, content_type(info.data["headers"]))
        return body

    @field_validator("signing_secret")
    @classmethod
    def _key(cls, secret: Secret | None) -> Secret | None:
        if secret is not None:
            signing_key(secret)
        return secret

    @asynccontextmanager
    async def open(self, http: Http, receipt: Receipt | None) -> AsyncIterator[Deliver]:  # noqa: ARG002 - this sink keeps no receipt
        http = replace(http, auth=self.auth.flow()) if self.auth else http
        key = signing_key(self.signing_secret) if self.signing_secret else None

        async def deliver(events: Sequence[Event]) -> None:
            for group in [events] if self.content == "batch" else [[event] for event in events]:
                body, about = self._encode(group)
                if key:
                    # A single event keeps its id, so that a repeat is recognised; a batch is identified by a
                    # hash of its body.
                    message = group[0].id if len(group) == 1 else hashlib.sha256(body).hexdigest()[:32]
                    about |= signature(key, f"{group[0].source}.{message}", http.now(), body)
                if self.compress and len(body) >= COMPRESS_FROM:
                    body, about = gzip.compress(body, 6, mtime=0), {**about, "content-encoding": "gzip"}
                await http.post(self.url, headers={**self.headers, **about}, content=body)

        yield deliver

    def _encode(self, events: Sequence[Event]) -> tuple[bytes, dict[str, str]]:
        """Body and headers of one request."""
        if self.body is None:
            return encode(self.content, events)
        [event] = events
        kind = content_type(self.headers)
        return body_of(self.body, event, kind), {"content-type": kind}


def encode(content: str, events: Sequence[Event]) -> tuple[bytes, dict[str, str]]:
    """Body and headers of one request with CloudEvents."""
    if content == "batch":
        body = b"[" + b",".join([event.body for event in events]) + b"]"
        return body, {"content-type": "application/cloudevents-batch+json; charset=utf-8"}
    [event] = events
    if content == "structured":
        return event.body, {"content-type": "application/cloudevents+json; charset=utf-8"}
    document = event.document()
    data: Any = document.pop("data")
    document.pop("summary", None)  # a text for people; a header has room for ASCII only
    headers = {"content-type": document.pop("datacontenttype")}
    # The binding's percent-encoding: everything outside printable ASCII, and space, quote and percent.
    return wire.encode(data), headers | {
        f"ce-{k}": quote(v, safe="!#$&'()*+,/:;<=>?@[\\]^`{|}~") for k, v in document.items()
    }


def signing_key(secret: Secret) -> bytes:
    """The bytes of a `whsec_` secret, or ValueError."""
    try:
        key = base64.b64decode(secret.reveal().removeprefix("whsec_"), validate=True)
    except binascii.Error:
        raise ValueError('is not a signing secret; write "whsec_" and base64') from None
    if not 24 <= len(key) <= 64:
        raise ValueError("is not a signing secret of 24 to 64 bytes in base64")
    return key


def signature(key: bytes, message: str, now: datetime, body: bytes) -> dict[str, str]:
    """The three headers of a Standard Webhook."""
    message = quote(message, safe="!#$&'()*+,/:;=?@_~-")
    stamp = str(int(now.timestamp()))
    digest = hmac.digest(key, f"{message}.{stamp}.".encode() + body, "sha256")
    return {
        "webhook-id": message,
        "webhook-timestamp": stamp,
        "webhook-signature": "v1," + base64.b64encode(digest).decode(),
    }
