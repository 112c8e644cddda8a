"""The recipes of the page "Chat", against receivers of the documented form: what they show, and that a name notifies no one."""

import tomllib
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import pages
from chats import CHATS, Chat, Discord, Slack, served
from inside import put
from roundsman import Event, config
from roundsman.engine.engine import Engine
from roundsman.http.transport import Clients
from roundsman.masking import mask
from roundsman.sinks.http import HttpSink
from roundsman.store.sqlite.store import SqliteStore
from worlds import ByHand, Time

PAGE = "docs/guides/chat.md"
RECIPES: dict[str, dict[str, Any]] = {}
for block in pages.blocks(PAGE, "toml"):
    RECIPES |= tomllib.loads(block.text)["sinks"]
NAMES = {
    "everyone": "@everyone @here",
    "a mention of Discord": "<@123> <@&45> <#6>",
    "a mention of Slack": "<!channel> <!here|x> <@U12345678>",
    "an ampersand": "Tom & Jerry &amp; &lt;!channel&gt;",
    "HTML": "<b>Dana</b><script>alert(1)</script><at>Dana</at>",
    "a quote": 'Dana "The Door" O\'Neil',
    "a line break": "Dana\r\n## Heading\n> quote",
    "a backslash": "C:\\new\\table\\",
    "Markdown": "[reset](https://evil.example) **bold** *x* _i_ `code` ~s~",
    "a link of Slack": "<https://evil.example|reset>",
    "the end of the body": '"}],"allowed_mentions":{"parse":["everyone"]},"x":[{"',
    "other languages": "Ünal 李雷 👩‍🚒 عمر",
    "a field of a template": "$event ${id} $$",
    "control characters": "a\x00b\x1b[31mc\x7f",
}


def about(name: str, message: str = "no access") -> Event:
    person = {"id": None, "name": name, "email": None}
    data: dict[str, Any] = {
        "batch_id": "b1",
        "item_id": "i1",
        "index": 0,
        "code": "ACCESS_NOT_SHARED",
        "message": message,
        "fields": [],
        "person": person,
        "about": None,
        "raw": {},
    }
    return Event.of(
        vendor="parakey",
        source="keys",
        type="co.parakey.batch.item_failed",
        id=f"b1:{zlib.crc32(f'{name} {message}'.encode())}:failed",
        data=data,
        subject="b1",
        outcome="failed",
    )


@pytest.fixture
def receivers() -> Iterator[dict[str, Chat]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(served(kind())) for name, kind in CHATS.items()}


def sink(recipe: str, chat: Chat, **changes: Any) -> HttpSink:
    """The sink of the page, with the receiver in place of the vendor's host."""
    table = RECIPES[recipe] | changes
    url = urlsplit(table["url"])
    table["url"] = chat.url + url.path + (f"?{url.query}" if url.query else "")
    return HttpSink.model_validate(table).named(recipe)


async def delivered(store: SqliteStore, time: Time, sink: HttpSink, *events: Event) -> dict[int, str]:
    """What became of the events: number -> why it was refused."""
    engine = Engine(store, ByHand(), Clients(now=time.now), clock=time.clock())
    await engine.setup({}, {sink.name: sink})
    await put(store, *events)
    assert await engine.once()
    await engine.aclose()
    return {letter.seq: letter.reason for letter in await store.dead(sink.name)}


def test_the_page_has_a_recipe_for_each_receiver() -> None:
    assert RECIPES.keys() == CHATS.keys()


@pytest.mark.parametrize("recipe", CHATS)
async def test_a_recipe_posts_the_summary(
    recipe: str, receivers: dict[str, Chat], store: SqliteStore, time: Time
) -> None:
    event = about("Dana")
    assert await delivered(store, time, sink(recipe, receivers[recipe]), event) == {}
    assert receivers[recipe].shown == [event.summary]
    assert "Dana" in event.summary


@pytest.mark.parametrize("recipe", CHATS)
async def test_no_name_notifies_anyone_or_is_a_link(
    recipe: str, receivers: dict[str, Chat], store: SqliteStore, time: Time
) -> None:
    """Neither in the summary, which has no mentions, nor in the vendor's own words, which a changed recipe may use."""
    chat = receivers[recipe]
    events = [about(name, name) for name in NAMES.values()]
    assert await delivered(store, time, sink(recipe, chat), *events) == {}
    assert chat.shown == [event.summary for event in events]
    chat.shown.clear()
    raw = RECIPES[recipe]["body"].replace("$summary", "$person: $message")
    changed = sink(recipe, chat, body=raw).named("raw")
    assert await delivered(store, time, changed, *(about(name, name + "!") for name in NAMES.values())) == {}
    assert chat.shown == [f"{name}: {name}!" for name in NAMES.values()], "each as it is"
    assert (chat.notified, chat.formatted) == ([], [])


@pytest.mark.parametrize("recipe", CHATS)
async def test_no_text_is_too_long_for_a_recipe(
    recipe: str, receivers: dict[str, Chat], store: SqliteStore, time: Time
) -> None:
    """Longer messages would be refused, and the events be dead letters."""
    chat = receivers[recipe]
    raw = RECIPES[recipe]["body"].replace("$summary", "$message")
    events = [about("李" * 5000, "李" * 5000), about("x", "\x01" * 5000)]
    assert await delivered(store, time, sink(recipe, chat, body=raw), *events) == {}
    assert [len(text) for text in chat.shown] == [1000, 1000]


REFUSALS = {
    "slack": "400: invalid_payload",
    "teams": "400: type is not message",
    "discord": "400: Invalid Form Body: Cannot send an empty message",
    "ntfy": "400: invalid request: topic invalid",
}


@pytest.mark.parametrize(("recipe", "said"), REFUSALS.items())
async def test_a_refusal_is_shown_in_the_vendors_words(
    recipe: str, said: str, receivers: dict[str, Chat], store: SqliteStore, time: Time
) -> None:
    wrong = sink(recipe, receivers[recipe], body='{"x": "$summary"}')
    [reason] = (await delivered(store, time, wrong, about("Dana"))).values()
    assert reason.partition(" answered ")[2] == said


async def test_discord_without_wait_is_an_ack_too(store: SqliteStore, time: Time) -> None:
    with served(Discord()) as chat:
        plain = sink("discord", chat, url=RECIPES["discord"]["url"].partition("?")[0])
        assert await delivered(store, time, plain, about("Dana")) == {}
        assert len(chat.shown) == 1


@pytest.mark.parametrize(
    ("kind", "body"),
    [(Slack, '{"text": "$person"}'), (Discord, '{"content": "$person"}')],
)
async def test_the_receivers_notice_a_recipe_that_is_not_safe(
    kind: type[Chat], body: str, store: SqliteStore, time: Time
) -> None:
    with served(kind()) as chat:
        careless = sink(kind.__name__.lower(), chat, body=body)
        events = [about("@everyone <!channel> <@123>"), about("[a](https://b.c) <https://b.c|a>")]
        assert await delivered(store, time, careless, *events) == {}
    assert chat.notified
    assert chat.formatted


@pytest.mark.parametrize(
    ("recipe", "placeholder", "secret"),
    [
        ("slack", "XXXXXXXXXXXXXXXXXXXXXXXX", "Xa1" * 8),
        ("teams", "sig=0123456789abcdef", "sig=Sig9-8f7"),
        ("discord", "0123456789abcdefABCDEF", "Abc4" * 10),
    ],
)
def test_the_secret_in_an_address_is_masked(
    recipe: str, placeholder: str, secret: str, tmp_path: Path
) -> None:
    path = tmp_path / "roundsman.toml"
    text = next(block.text for block in pages.blocks(PAGE, "toml") if f"[sinks.{recipe}]" in block.text)
    source = '[sources.feed]\ntype = "http.json"\nbase_url = "http://127.0.0.1:1"\nrows.id = "id"\n'
    path.write_text(source + text.replace(placeholder, secret))
    url: str = config.load(path).sinks[recipe].url  # type: ignore[attr-defined] # of HttpSink
    assert secret in url
    assert secret not in mask(f"{url} answered 400")
