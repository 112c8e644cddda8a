"""The pages of sinks: options, refused statuses, and the check of a signature, as the code has them."""

import gzip
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from roundsman import Event
from roundsman.http.answers import REJECTED
from roundsman.sinks.file import FileSink
from roundsman.sinks.http import HttpSink
from roundsman.sinks.stdout import StdoutSink
from roundsman.testing import Request, Web, deliver

FOLDER = Path(__file__).parents[2] / "docs" / "sinks"
SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
EVER = 10**9
"""Seconds: a signature of any time counts."""
Check = Callable[..., bool]


def page(name: str) -> str:
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "kind"), [("stdout", StdoutSink), ("file", FileSink), ("http", HttpSink)])
def test_the_table_of_options_has_each_option_and_its_default(name: str, kind: Any) -> None:
    table = page(name).split("\n## Options\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.+?`) \| (.*?) \|", table, re.MULTILINE)
    shown = {option: default for cell, default in rows for option in re.findall(r"`(\w+)`", cell)}
    assert set(shown) == set(kind.model_fields) - {"type"}
    for option, default in shown.items():
        if re.fullmatch(r"`\S+`", default):
            meant = default.strip('`"').replace("false", "False")
            assert str(kind.model_fields[option].default) == meant, option


def test_the_refused_statuses_are_those_of_the_code() -> None:
    [row] = re.findall(r"^\| (\d{3}, .*?) \| the receiver refuses this event", page("http"), re.MULTILINE)
    assert {int(status) for status in row.split(", ")} == REJECTED


@pytest.fixture
def is_authentic() -> Check:
    """The function that the page gives to receivers."""
    [code] = [
        block for block in re.findall(r"```python\n(.*?)```", page("http"), re.DOTALL) if "hmac" in block
    ]
    names: dict[str, Any] = {}
    exec(code, names)
    return names["is_authentic"]  # type: ignore[no-any-return] # what exec left there


@pytest.mark.parametrize("options", [{}, {"content": "binary"}, {"content": "batch"}, {"compress": True}])
def test_a_receiver_checks_a_signature_as_the_page_says(options: dict[str, Any], is_authentic: Check) -> None:
    requests: list[Request] = []

    def receiver(request: Request) -> int:
        requests.append(request)
        return 204

    data = {"raw": {"text": "x" * 2000}}
    events = [Event.of(vendor="acme", source="s", type="t", id=f"{n} ü", data=data) for n in range(3)]
    table = {"type": "http", "url": "http://127.0.0.1:1/", "signing_secret": SECRET, **options}
    deliver(HttpSink.model_validate(table).named("crm"), events, Web(receiver))
    assert requests
    for request in requests:
        packed = request.headers.get("content-encoding") == "gzip"
        assert packed == bool(options.get("compress"))
        body = gzip.decompress(request.body) if packed else request.body
        assert is_authentic(request.headers, body, SECRET, tolerance=EVER)
        assert not is_authentic(request.headers, body, SECRET), "it is not of now"
        assert not is_authentic(request.headers, body + b" ", SECRET, tolerance=EVER)
        assert not is_authentic({**request.headers, "webhook-id": "x"}, body, SECRET, tolerance=EVER)
        assert not is_authentic(request.headers, body, SECRET.replace("M", "N"), tolerance=EVER)
