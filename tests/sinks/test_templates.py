"""`content = "template"`: the body is the user's, its fields are the event's, and no value can break it."""

import gzip
import json
from base64 import b64encode
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl
from xml.etree import ElementTree as ET

import httpx
import pytest
from standardwebhooks import Webhook

from roundsman import Event, config
from roundsman.config.advice import warnings
from roundsman.errors import ConfigError
from roundsman.events import notice
from roundsman.http.client import Http
from roundsman.http.transport import Clients
from roundsman.masking import mask
from roundsman.options.template import Fields, Template
from roundsman.options.values import Options
from roundsman.sinks.fields import FIELDS
from roundsman.sinks.http import HttpSink
from roundsman.testing import Request, Web, deliver

HOSTILE = "\"'\\\n\r\t\0\x1b[31m</b>&<{}]é𐐷$id${id}\u2028\u202e"
URL = "https://chat.example/hook"


def failure(**data: Any) -> Event:
    """An event about an operation that failed."""
    shape: dict[str, Any] = {
        "batch_id": "b1",
        "item_id": "i1",
        "index": 0,
        "code": None,
        "message": None,
        "fields": [],
        "person": None,
        "about": None,
        "raw": {},
    }
    return Event.of(
        vendor="parakey",
        source="keys",
        type="co.parakey.batch.item_failed",
        id="b1:i1:failed",
        data=shape | data,
        subject="b1",
        time="2026-05-01T06:00:00Z",
        outcome="failed",
    )


def sent(body: str, event: Event, **options: Any) -> Request:
    """The request about an event."""
    sink = HttpSink(type="http", url=URL, content="template", body=body, **options).named("chat")
    found = deliver(sink, [event], Web(lambda _: 204))
    assert found.error is None
    [request] = found.requests
    return request


def mistake(tmp_path: Path, options: str) -> str:
    """The one mistake in a sink with these options."""
    path = tmp_path / "roundsman.toml"
    path.write_text(
        '[sources.doors]\ntype = "parakey.event_logs"\naccess_token = "0123456789abcdef"\n'
        f'[sinks.chat]\ntype = "http"\nurl = "{URL}"\n{options}\n'
    )
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    [problem] = caught.value.problems
    return problem


def test_the_fields_are_those_of_the_event() -> None:
    person = {"id": "p1", "name": "Dana", "email": "dana@harbour.example"}
    event = failure(message="no access", code="ACCESS_NOT_SHARED", person=person)
    body = json.dumps({name: f"${name}" for name in FIELDS if name != "event"})
    found = sent(body, event).json()
    assert found == {
        "summary": event.summary,
        "id": "b1:i1:failed",
        "source": "keys",
        "type": "co.parakey.batch.item_failed",
        "subject": "b1",
        "time": "2026-05-01T06:00:00Z",
        "outcome": "failed",
        "message": "no access",
        "person": "Dana (dana@harbour.example)",
        "code": "ACCESS_NOT_SHARED",
    }
    assert "Dana" in found["summary"]


@pytest.mark.parametrize(
    ("person", "shown"),
    [
        ({"id": "p1", "name": "Dana", "email": None}, "Dana"),
        ({"id": "p1", "name": None, "email": "d@h.example"}, "d@h.example"),
        ({"id": "p1", "name": None, "email": None}, "p1"),
        (None, ""),
    ],
)
def test_a_person_is_one_text(person: Any, shown: str) -> None:
    assert sent('["$person"]', failure(person=person)).json() == [shown]


def test_the_person_who_tried_a_door_is_the_person() -> None:
    data = {"user": {"id": "1", "name": "Greta", "email": None}, "door": None, "raw": {}}
    event = Event.of(vendor="parakey", source="doors", type="co.parakey.event_log.created", id="1", data=data)
    assert sent('["$person"]', event).json() == ["Greta"]


def test_a_field_that_the_event_does_not_have_is_empty() -> None:
    event = notice("roundsman.source.failing", "keys", "x", "it is down")
    body = '["$outcome", "$person", "$code", "$time", "$message"]'
    assert sent(body, event).json() == ["", "", "", "", "it is down"]
    event = Event.of(
        vendor="acme", source="s", type="t", id="1", data={"message": {"a": 1}, "code": 404, "person": "x"}
    )
    assert sent('["$message", "$code", "$person"]', event).json() == ["", "404", ""]


def test_the_whole_event_is_inserted_as_it_is() -> None:
    event = failure(message=HOSTILE)
    assert sent('{"event": $event, "n": 1}', event).json() == {"event": json.loads(event.body), "n": 1}


def test_a_value_is_escaped_in_json() -> None:
    request = sent(
        '{"text": "<$message>", "code": "$$5 ${code}s", "b": "$person"}',
        failure(message=HOSTILE, code=HOSTILE, person={"id": HOSTILE, "name": None, "email": None}),
    )
    assert request.headers["content-type"] == "application/json"
    assert request.json() == {"text": f"<{HOSTILE}>", "code": f"$5 {HOSTILE}s", "b": HOSTILE}


def test_a_lone_surrogate_does_not_break_the_body() -> None:
    event = failure(message="a\ud800b")
    assert sent('["$message"]', event).json() == ["a\\ud800b"]


@pytest.mark.parametrize("name", ["content-type", "Content-Type", "CONTENT-TYPE"])
def test_in_plain_text_a_value_has_no_control_characters(name: str) -> None:
    event = failure(message=HOSTILE, code="👩‍🚒")
    request = sent("$message\n$code", event, headers={name: "text/plain; charset=utf-8"})
    assert request.headers["content-type"] == "text/plain; charset=utf-8"
    assert request.body.decode() == "\"'\\ [31m</b>&<{}]é𐐷$id${id} \n👩‍🚒"


def test_a_form_gets_no_field_from_a_value() -> None:
    event = failure(message=HOSTILE + "&admin=1")
    kind = {"content-type": "application/x-www-form-urlencoded"}
    request = sent("text=$message&payload=$event&n=1", event, headers=kind)
    assert dict(parse_qsl(request.body.decode(), strict_parsing=True)) == {
        "text": HOSTILE + "&admin=1",
        "payload": event.body.decode(),
        "n": "1",
    }


@pytest.mark.parametrize("kind", ["application/xml", "text/xml; charset=utf-8", "application/soap+xml"])
def test_markup_gets_no_element_from_a_value(kind: str) -> None:
    event = failure(message=HOSTILE)
    request = sent("<a b='$message'>$message</a>", event, headers={"content-type": kind})
    element = ET.fromstring(request.body.decode())
    shown = "\"'\\ [31m</b>&<{}]é𐐷$id${id} "
    assert (element.text, element.attrib) == (shown, {"b": shown})


@pytest.mark.parametrize(
    "kind", ["application/vnd.acme+json", "application/json; charset=utf-8", "text/json"]
)
def test_every_type_of_json_is_json(kind: str) -> None:
    request = sent('["$message"]', failure(message=HOSTILE), headers={"content-type": kind})
    assert (request.json(), request.headers["content-type"]) == ([HOSTILE], kind)


def test_a_long_value_is_cut_and_the_event_is_not() -> None:
    event = failure(message="x" * 5000)
    text, whole = sent('["$message", $event]', event).json()
    assert text == "x" * 997 + "..."
    assert whole["data"]["message"] == "x" * 5000


def test_each_event_is_a_request_of_its_own() -> None:
    sink = HttpSink(type="http", url=URL, content="template", body='["$code"]').named("chat")
    events = [
        Event.of(vendor="acme", source="s", type="t", id=str(n), data={"code": str(n), "raw": {}})
        for n in range(3)
    ]
    assert [request.json() for request in deliver(sink, events, Web(lambda _: 204)).requests] == [
        ["0"],
        ["1"],
        ["2"],
    ]


async def test_it_is_signed_compressed_and_authenticated_as_the_others_are() -> None:
    secret = "whsec_" + b64encode(b"0123456789abcdef0123456789abcdef").decode()
    event = failure(message="é" * 900)
    requests: list[httpx.Request] = []

    def receiver(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(204)

    sink = HttpSink(
        type="http",
        url=URL,
        content="template",
        body='["$message", $event]',
        signing_secret=secret,
        compress=True,
        auth={"bearer": "s3cret-token"},
        headers={"X-Sent-By": "roundsman"},
    )
    http = Http(Clients(transport=lambda _: httpx.MockTransport(receiver)))
    async with sink.open(http, None) as send:
        await send([event])
    [request] = requests
    body = gzip.decompress(request.content)
    verified = Webhook(secret).verify(body.decode(), dict(request.headers))
    assert verified == ["é" * 900, json.loads(event.body)]
    assert request.headers["webhook-id"] == f"keys.{event.id}"
    assert request.headers["authorization"] == "Bearer s3cret-token"
    assert request.headers["x-sent-by"] == "roundsman"


TEMPLATE = 'content = "template"\nbody = '
NOT_JSON = "is not JSON after its fields are filled in: "
MISTAKES = {
    "an unknown field": (
        TEMPLATE + """'{"text": "$sumary"}'""",
        "sinks.chat.body: $sumary is no field; did you mean $summary?",
    ),
    "an unknown field in braces": (
        TEMPLATE + """'["${Summery}"]'""",
        "sinks.chat.body: $Summery is no field; did you mean $summary?",
    ),
    "a field that is like no other": (
        TEMPLATE + """'["$x"]'""",
        (
            "sinks.chat.body: $x is no field; known: $summary, $id, $source, $type, $subject, $time, $outcome, $message, "
            "$person, $code, $event"
        ),
    ),
    "a stray dollar": (
        TEMPLATE + """'{"text": "costs 5 $ $summary"}'""",
        'sinks.chat.body: the $ in "$ $summary"}" names no field; write $$ for a dollar sign',
    ),
    "a dollar at the end": (
        TEMPLATE + "'[1] $'",
        'sinks.chat.body: the $ in "$" names no field; write $$ for a dollar sign',
    ),
    "a path as a field": (
        TEMPLATE + """'["${data.raw}"]'""",
        'sinks.chat.body: the $ in "${data.raw}"" names no field; write $$ for a dollar sign',
    ),
    "an empty template": (TEMPLATE + '""', "sinks.chat.body: has no text"),
    "blanks": (TEMPLATE + '" \\n"', "sinks.chat.body: has no text"),
    "no text": (TEMPLATE + "5", "sinks.chat.body: 5 is not a text"),
    "a table": (TEMPLATE + '{ text = "$summary" }', "sinks.chat.body: a table is not a text"),
    "no JSON": (TEMPLATE + "'hello'", f"sinks.chat.body: hello {NOT_JSON}expecting value at its beginning; "),
    "a field without quotes": (
        TEMPLATE + """'{"text": $summary}'""",
        (
            f'sinks.chat.body: {{"text": $summary}} {NOT_JSON}expecting value at $summary; '
            'write fields inside quotes, such as "$summary", and $event without'
        ),
    ),
    "the event in quotes": (
        TEMPLATE + """'{"event": "$event"}'""",
        f"{NOT_JSON}expecting ',' delimiter at $event; ",
    ),
    "a comma too many": (TEMPLATE + """'{"text": "$summary",}'""", f"{NOT_JSON}"),
    "a comma too few": (
        TEMPLATE + """'{"a": "$summary" "b": 1}'""",
        f"{NOT_JSON}expecting ',' delimiter behind $summary; ",
    ),
    "a backslash before a field": (TEMPLATE + """'{"text": "\\$summary"}'""", f"{NOT_JSON}"),
    "a line break in a text": (
        TEMPLATE + """'''{"text": "$summary\n$id"}'''""",
        f"{NOT_JSON}invalid control character",
    ),
    "a number that is none": (TEMPLATE + """'{"n": NaN, "a": "$id"}'""", f"{NOT_JSON}NaN is no value"),
    "no body": (
        'content = "template"',
        'sinks.chat: content = "template" needs a body, such as body = \'{"text": "$summary"}\'',
    ),
    "a body of the default": (
        """body = '["$id"]'""",
        'sinks.chat.body: only content = "template" has a body',
    ),
    "a body of a batch": (
        """content = "batch"\nbody = '["$id"]'""",
        'sinks.chat.body: only content = "template" has a body',
    ),
    "several events a request": (
        TEMPLATE + """'["$id"]'\nbatch = 5""",
        'sinks.chat: batch = 1 is all that content = "template" can send',
    ),
    "another charset": (
        TEMPLATE + """'$id'\nheaders = { Content-Type = "text/plain; charset=iso-8859-1" }""",
        "sinks.chat.body: content-type names iso-8859-1, but the body is sent in UTF-8",
    ),
    "JSON by another name": (
        TEMPLATE + """'$id'\nheaders = { Content-Type = "application/vnd.acme+json" }""",
        f"{NOT_JSON}",
    ),
    "a wrong content": (
        'content = "templat"',
        "sinks.chat.content: templat is not one of structured, binary, batch or template; did you mean template?",
    ),
    "a wrong header": (
        TEMPLATE + """'["$id"]'\nheaders = { "a b" = "c" }""",
        "sinks.chat.headers",
    ),
}


@pytest.mark.parametrize(("options", "said"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_sentence_when_the_configuration_is_loaded(
    options: str, said: str, tmp_path: Path
) -> None:
    problem = mistake(tmp_path, options)
    assert said in problem
    assert "\n" not in problem


def test_a_template_that_is_right_gets_no_warning(tmp_path: Path) -> None:
    """A field looks like a placeholder for another program; and the type of a body is no secret."""
    path = tmp_path / "roundsman.toml"
    path.write_text(
        '[sources.doors]\ntype = "parakey.event_logs"\naccess_token = { env = "PATH" }\n'
        f'[sinks.chat]\ntype = "http"\nurl = "{URL}"\ncontent = "template"\n'
        """body = '{"text": "${summary}", "type": "${type}"}'\nheaders = { Content-Type = "application/json" }\n"""
    )
    loaded = config.load(path)
    assert [line for line in warnings(loaded) if "chat" in line] == []
    assert mask("expected application/json") == "expected application/json"


def test_a_changed_template_is_another_sink(tmp_path: Path) -> None:
    """A reload replaces the delivery of a sink whose options changed, and keeps that of the others."""
    one, same, other = (
        HttpSink(type="http", url=URL, content="template", body=body)
        for body in ('["$id"]', '["$id"]', '["$code"]')
    )
    assert one == same
    assert one != other
    assert one.fingerprint("") != other.fingerprint("")


def test_an_editor_knows_the_option() -> None:
    schema = config.json_schema()["$defs"]["sinks.http"]["properties"]["body"]
    assert (schema["type"], schema["minLength"]) == ("string", 1)
    assert "$summary" in schema["description"]


def test_a_default_is_shown_as_its_text() -> None:
    fields = Fields({"a": "A letter."})

    class Table(Options):
        title: Annotated[Template, fields] = fields.read("$a!")

    assert Table.model_json_schema()["properties"]["title"]["default"] == "$a!"
    assert Table().model_dump_json() == '{"title":"$a!"}'
    assert Table(title="$a").title.fill({"a": "x"}) == "x"  # type: ignore[arg-type] # as TOML has it
