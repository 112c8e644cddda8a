"""`[heartbeat]`: the URL that a daemon without trouble requests again and again."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator

from roundsman.http.urls import http_url, is_loopback, keys
from roundsman.masking import mask
from roundsman.options.secrets import Secret
from roundsman.options.values import Duration, Options
from roundsman.times import spell

MOST_OFTEN = 60.0
"""The minimum of `every` for a URL of another machine, in seconds."""


class HeartbeatOptions(Options):
    """`[heartbeat]`: request a URL regularly while every source answers and every sink takes its events."""

    url: Secret
    """The URL of a check at healthchecks.io or a service like it, with its key. A GET to it reports success. A POST to it
    with `/fail` at the end of its path reports failures, one a line.
    """
    every: Annotated[Duration, Field(gt=0)] = 300.0
    """Time between two requests: at least 60s, unless `url` is a loopback address."""

    @field_validator("url")
    @classmethod
    def _usable(cls, url: Secret) -> Secret:
        mask.add(keys(http_url(url.reveal())))
        return url

    @field_validator("every")
    @classmethod
    def _seldom(cls, every: float, info: ValidationInfo) -> float:
        url = info.data.get("url")
        if every < MOST_OFTEN and url is not None and not is_loopback(url.reveal()):
            raise ValueError(f"{spell(every)} is under the {MOST_OFTEN:.0f}s minimum")
        return every

    def warnings(self) -> list[str]:
        """Warnings about options that are valid but unwise, a sentence each."""
        url = self.url.reveal()
        if url.lower().startswith("https:") or is_loopback(url):
            return []
        return [f"url: {urlsplit(url).hostname} gets the key without TLS; write https://"]
