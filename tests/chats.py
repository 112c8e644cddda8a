"""Receivers of chat messages on loopback: what each vendor documents that it takes, refuses, shows and notifies."""

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, NamedTuple
from urllib.parse import parse_qs, urlsplit


class Answer(NamedTuple):
    status: int
    body: bytes = b""
    type: str = "text/plain"

    @classmethod
    def of(cls, status: int, document: Any) -> "Answer":
        return cls(status, json.dumps(document).encode(), "application/json")


class Refused(Exception):
    """The vendor refuses the message, with this answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer)
        self.answer = answer


class Chat:
    """A vendor: what it took, and what its users saw."""

    path: ClassVar = "/"
    accepted: ClassVar = Answer(204)

    def __init__(self) -> None:
        self.url = ""
        self.shown: list[str] = []
        """The text of each message, as a reader sees it."""
        self.notified: list[str] = []
        """The mentions that the vendor acted on."""
        self.formatted: list[str] = []
        """Links, tags and other markup that the vendor acted on."""

    def answer(self, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        url = urlsplit(target)
        try:
            self.need(headers.get("content-type", "").partition(";")[0] == "application/json", "not JSON")
            message = json.loads(body)
            return self.take(message, url.path, parse_qs(url.query), body) or self.accepted
        except Refused as refused:
            return refused.answer
        except ValueError:
            return self.refusal("not JSON")

    def take(self, message: Any, path: str, query: Mapping[str, list[str]], body: bytes) -> Answer | None:
        """Take a message: `Refused`, or its answer if it is not `accepted`."""
        raise NotImplementedError

    def refusal(self, why: str) -> Answer:
        return Answer(400, why.encode())

    def need(self, holds: object, why: str) -> None:
        if not holds:
            raise Refused(self.refusal(why))


class Slack(Chat):
    """Incoming webhooks, read on 2026-11-29:

    https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks/ (a JSON body with `text` or `blocks`,
    answered by 200 and `ok`); https://api.slack.com/changelog/2016-05-17-changes-to-errors-for-incoming-webhooks (400
    `invalid_payload`); https://docs.slack.dev/reference/block-kit/composition-objects/text-object (`plain_text` or
    `mrkdwn`, 1 to 3,000 characters); https://docs.slack.dev/messaging/formatting-message-text/ (`<!channel>`,
    `<@U123>`, `<https://a|b>` and `*bold*` in `text` and `mrkdwn`, with `&`, `<` and `>` as entities).
    """

    path = "/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX"
    accepted = Answer(200, b"ok")

    def refusal(self, why: str) -> Answer:
        return Answer(400, b"invalid_payload")

    def take(self, message: Any, path: str, query: Mapping[str, list[str]], body: bytes) -> None:
        self.need(path == self.path, "no service")
        self.need(isinstance(message, dict) and (message.get("text") or message.get("blocks")), "no text")
        shown = []
        for block in message.get("blocks", ()):
            self.need(block.get("type") == "section", "a block that is not known here")
            text = block["text"]
            self.need(text.get("type") in {"plain_text", "mrkdwn"}, "no type of a text object")
            self.need(1 <= len(text.get("text", "")) <= 3000, "the length of a text object")
            if text["type"] == "mrkdwn":
                self._act_on(text["text"])
            shown.append(text["text"])
        if message.get("text"):
            self._act_on(message["text"])
        self.shown.append("\n".join(shown) or message["text"])

    def _act_on(self, text: str) -> None:
        self.notified += re.findall(r"<(?:!(?:channel|here|everyone)|@[UW]\w+)[^<>]*>", text)
        self.formatted += re.findall(r"<https?:[^<>]*>|\*[^*\s]+\*|&(?!amp;|lt;|gt;)", text)


class Teams(Chat):
    """A workflow "Post to a channel when a webhook request is received", read on 2026-11-29:

    https://learn.microsoft.com/en-us/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using (the body:
    `type` is `message`, `attachments` with `contentType` and `content`; cards in the older form are not supported);
    https://learn.microsoft.com/en-us/connectors/teams/ (about 28 KB);
    https://learn.microsoft.com/en-us/adaptive-cards/schema-explorer/text-run (a `TextRun` has no Markdown, from version
    1.2 on); https://learn.microsoft.com/en-us/microsoftteams/platform/task-modules-and-cards/cards/cards-format
    (Markdown in a `TextBlock`; a mention is in `msteams.entities`). Workflows answer 202 without a body.
    """

    path = "/workflows/0123456789abcdef/triggers/manual/paths/invoke"
    accepted = Answer(202)

    def refusal(self, why: str) -> Answer:
        return Answer.of(400, {"error": {"code": "TriggerInputSchemaMismatch", "message": why}})

    def take(self, message: Any, path: str, query: Mapping[str, list[str]], body: bytes) -> None:
        self.need(path == self.path and query.get("sig"), "the URL is not signed")
        self.need(len(body) <= 28 * 1024, "Request Entity too large")
        self.need(isinstance(message, dict) and message.get("type") == "message", "type is not message")
        self.need(message.get("attachments"), "no attachments")
        for attachment in message["attachments"]:
            kind = attachment.get("contentType")
            self.need(kind == "application/vnd.microsoft.card.adaptive", "not an Adaptive Card")
            self._show(attachment["content"])

    def _show(self, card: dict[str, Any]) -> None:
        self.need(card.get("type") == "AdaptiveCard", "not an Adaptive Card")
        self.need(card.get("$schema") == "http://adaptivecards.io/schemas/adaptive-card.json", "no schema")
        self.notified += [entity["text"] for entity in card.get("msteams", {}).get("entities", ())]
        shown = []
        for element in card["body"]:
            if element["type"] == "TextBlock":
                self.formatted += re.findall(r"\[[^\]]*\]\([^)]*\)|\*\*[^*]+\*\*", element["text"])
                shown.append(element["text"])
            else:
                self.need(element["type"] == "RichTextBlock", "an element that is not known here")
                self.need(tuple(map(int, card["version"].split("."))) >= (1, 2), "the version")
                for run in element["inlines"]:
                    self.need(run["type"] == "TextRun" and run["text"], "an empty run")
                    shown.append(run["text"])
        self.shown.append("\n".join(shown))


class Discord(Chat):
    """Webhooks, read on 2026-11-29:

    https://docs.discord.com/developers/resources/webhook#execute-webhook (one of `content`, `embeds`; `content` has at
    most 2,000 characters; 204, or with `wait=true` 200 and the message); the objects "Allowed Mentions" and "Embed" of
    https://docs.discord.com/developers/resources/message (with an empty `parse`, no mention of `content` notifies; a
    footer has at most 2,048 characters, all texts of embeds 6,000). That a footer has no Markdown is what users of
    Discord see.
    """

    path = "/api/webhooks/1234567890/0123456789abcdefABCDEF"

    def refusal(self, why: str) -> Answer:
        return Answer.of(400, {"message": f"Invalid Form Body: {why}", "code": 50035})

    def take(self, message: Any, path: str, query: Mapping[str, list[str]], body: bytes) -> Answer | None:
        self.need(path == self.path, "Unknown Webhook")
        self.need(isinstance(message, dict), "not an object")
        content, embeds = message.get("content", ""), message.get("embeds", [])
        self.need(content or embeds, "Cannot send an empty message")
        self.need(len(content) <= 2000, "Must be 2000 or fewer in length.")
        texts = [embed["footer"]["text"] for embed in embeds]
        self.need(len(embeds) <= 10 and all(0 < len(text) <= 2048 for text in texts), "footer")
        self.need(sum(map(len, texts)) <= 6000, "embeds")
        allowed = message.get("allowed_mentions", {"parse": ["everyone", "users", "roles"]})
        if allowed["parse"]:
            self.notified += re.findall(r"@everyone|@here|<@[!&]?\d+>", content)
        self.formatted += re.findall(r"\[[^\]]*\]\(https?:[^)]*\)|\*\*[^*]+\*\*|^#+ ", content)
        self.shown.append("\n".join(texts) or content)
        return Answer.of(200, {"id": "1", "content": content}) if query.get("wait") == ["true"] else None


class Ntfy(Chat):
    """Publishing as JSON, read on 2026-11-29:

    https://docs.ntfy.sh/publish/#publish-as-json (a POST to the root, not to a topic; `topic` is required; `tags` is a
    list of texts; `priority` 1 to 5; Markdown only with `markdown`), and its limits: a message has at most 4,096 bytes,
    else it becomes an attachment. The errors are those of the server in its repository, such as 40024.
    """

    def refusal(self, why: str) -> Answer:
        return Answer.of(400, {"code": 40024, "http": 400, "error": f"invalid request: {why}"})

    def take(self, message: Any, path: str, query: Mapping[str, list[str]], body: bytes) -> Answer | None:
        self.need(path == "/", "the body would be shown as it is")
        self.need(isinstance(message, dict), "request body must be message JSON")
        self.need(re.fullmatch(r"[-_A-Za-z0-9]{1,64}", message.get("topic", "")), "topic invalid")
        self.need(all(isinstance(tag, str) for tag in message.get("tags", ())), "tags invalid")
        self.need(message.get("priority", 3) in range(1, 6), "priority invalid")
        self.need(0 < len(message["message"].encode()) <= 4096, "it would be an attachment")
        if message.get("markdown"):
            self.formatted += re.findall(r"\[[^\]]*\]\([^)]*\)|\*\*[^*]+\*\*", message["message"])
        self.shown.append(message["message"])
        return Answer.of(200, {"id": "sPs71M8A2T", "event": "message", "topic": message["topic"]})


CHATS: dict[str, type[Chat]] = {"slack": Slack, "teams": Teams, "discord": Discord, "ntfy": Ntfy}


@contextmanager
def served(chat: Chat) -> Iterator[Chat]:
    """The vendor on loopback."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = chat.answer(self.path, headers, body)
            self.send_response(answer.status)
            self.send_header("content-type", answer.type)
            self.send_header("content-length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    chat.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield chat
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
