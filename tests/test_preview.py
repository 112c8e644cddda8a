"""`poll --since` and `-n`: real events of a source before anything is kept of it."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

import pytest

from inside import commit, done, seen
from roundsman.config import registry
from roundsman.plugin import Poll, Source, State, Visit
from roundsman.sandbox import TOKEN, Parakey, Sandbox
from roundsman.sandbox.mailchimp import API_KEY, Mailchimp, Operation
from roundsman.sandbox.okta import API_TOKEN, Okta, Quirks
from roundsman.sandbox.vendor import Vendor
from roundsman.store.sqlite.store import SqliteStore
from typed import typed
from worlds import an_event

TABLES = {
    "doors": f'type = "parakey.event_logs"\naccess_token = "{TOKEN}"',
    "keys": f'type = "parakey.batches"\naccess_token = "{TOKEN}"',
    "news": f'type = "mailchimp.batches"\napi_key = "{API_KEY}"',
    "okta": (
        f'type = "http.json"\npath = "/api/v1/logs"\nauth = {{ value = "SSWS {API_TOKEN}" }}\n'
        'rows = { id = "uuid", time = "published" }\npages = { next = "link" }\nsince = { next = true }'
    ),
}


class Done(NamedTuple):
    code: int
    ids: list[str]
    said: list[str]


@contextmanager
def served(vendor: Vendor) -> Iterator[str]:
    """The address of this vendor, on a socket of another thread."""
    ready: SimpleQueue[str] = SimpleQueue()
    ended = Event()

    async def serve() -> None:
        async with Sandbox(vendor) as box:
            ready.put(box.url)
            await asyncio.to_thread(ended.wait)

    thread = Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    yield ready.get(timeout=20)
    ended.set()
    thread.join()


@pytest.fixture
def poll(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> Callable[..., Done]:
    """`roundsman poll NAME --json`, with this vendor on a socket."""
    monkeypatch.setenv("HOME", str(tmp_path))
    roundsman = typed(tmp_path, monkeypatch, capfd)

    def run(vendor: Vendor, name: str, *options: str) -> Done:
        with served(vendor) as url:
            base = f"{url}/3.0" if name == "news" else url
            (tmp_path / "roundsman.toml").write_text(
                f'[daemon]\nstore = "roundsman.db"\n[sources.{name}]\nbase_url = "{base}"\n{TABLES[name]}\n'
            )
            code, out, err = roundsman("poll", name, "--json", *options)
        return Done(code, [json.loads(line)["id"] for line in out.splitlines()], err.splitlines())

    return run


def ago(**span: float) -> datetime:
    return datetime.now(UTC) - timedelta(**span)


def a_feed() -> tuple[Vendor, list[str]]:
    vendor = Parakey()
    vendor.add(created=ago(hours=3))
    return vendor, [vendor.add(created=ago(minutes=each)).id for each in (40, 30, 20)]


def jobs() -> tuple[Vendor, list[str]]:
    vendor = Mailchimp()
    vendor.add([Operation()], submitted=ago(hours=3))
    made = [vendor.add([Operation()], submitted=ago(minutes=each)) for each in (40, 30, 20)]
    return vendor, [f"{each.id}:completed" for each in made]


def a_table() -> tuple[Vendor, list[str]]:
    vendor = Okta()
    vendor.add(at=ago(hours=3))
    return vendor, [vendor.add(at=ago(minutes=each)) for each in (40, 30, 20)]


@pytest.mark.parametrize(("name", "made"), [("doors", a_feed), ("news", jobs), ("okta", a_table)])
def test_a_source_of_each_kind_shows_what_happened_since_a_time(
    name: str, made: Callable[[], tuple[Vendor, list[str]]], poll: Any, tmp_path: Path
) -> None:
    vendor, recent = made()
    found = poll(vendor, name, "--since", "1h")
    assert (found.code, sorted(found.ids)) == (0, sorted(recent))
    assert found.said[-1].startswith(f"{name}: 3 events, ")
    assert found.said[-1].endswith("; nothing is kept")
    assert not (tmp_path / "roundsman.db").exists()
    assert len(poll(vendor, name, "--since", "beginning").ids) == 4


def test_no_page_is_requested_after_the_last_event_that_is_shown(poll: Any) -> None:
    vendor = Okta(quirks=Quirks(cap=5))
    keys = [vendor.add() for _ in range(30)]
    found = poll(vendor, "okta", "--since", "1h", "-n", "7")
    assert (found.ids, found.said) == (keys[:7], ["okta: 7 events, 2 requests; nothing is kept"])


def test_what_is_shown_since_a_time_includes_what_the_log_has_and_the_store_stays_as_it_is(
    poll: Any, tmp_path: Path
) -> None:
    vendor = Parakey()
    known = an_event(1)
    key = vendor.add(created=ago(minutes=5), log_id=known.id).id

    store = SqliteStore.open(tmp_path / "roundsman.db")  # as a daemon that runs
    done(store.register({"doors": "parakey.event_logs"}, {}))
    commit(store, "doors", {"cursor": "x"}, [known])
    found = poll(vendor, "doors", "--since", "1h")
    assert (found.code, found.ids) == (0, [key])
    assert (seen(store.memory("doors")).state, seen(store.head())) == ({"cursor": "x"}, 1)
    done(store.close())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--since", "yesterday"), 'yesterday: is neither a date-time such as "2026-05-01T00:00:00Z" nor'),
        (("--since", "2999-01-01"), "--since: is in the future; name a time that has passed"),
    ],
)
def test_a_time_that_cannot_be_is_refused_before_any_request(
    options: tuple[str, ...], said: str, poll: Any
) -> None:
    found = poll(Parakey(), "doors", *options)
    assert (found.code, found.ids) == (2, [])
    assert found.said[0].startswith(said)


def test_a_visit_that_fails_says_how_many_requests_it_made(poll: Any) -> None:
    vendor = Parakey()
    vendor.token = "another"
    found = poll(vendor, "doors", "-n", "1")
    assert found.code == 1
    assert found.said[-1] == "doors: 1 request"


def test_a_source_without_a_list_says_why_it_shows_nothing(poll: Any) -> None:
    vendor = Parakey()
    vendor.batch([])
    assert poll(vendor, "keys", "--since", "1h").said == [
        "keys: nothing new since then; without ids from `roundsman track` or a webhook, there was nothing to ask for",
        "keys: 0 events, 0 requests; nothing is kept",
    ]


class Simple(Source):
    """Has neither `start` nor `rewound`."""

    type: Literal["simple"] = "simple"

    async def poll(self, visit: Visit, state: State) -> Poll:
        return Poll(state, [an_event(number) for number in range(3)])


def test_a_plugin_that_begins_at_no_time_is_refused_and_its_events_are_limited(
    poll: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = SimpleNamespace(name="simple", group="roundsman.sources", load=lambda: Simple)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if "sources" in group else [])
    monkeypatch.setitem(TABLES, "doors", 'type = "simple"')
    found = poll(Parakey(), "doors", "--since", "1h")
    said = "doors: a simple source cannot be read from a time on; leave --since out"
    assert (found.code, found.said) == (2, [said])
    assert poll(Parakey(), "doors", "-n", "2").ids == ["id00000", "id00001"]
