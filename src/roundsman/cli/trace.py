"""`poll --trace`: each request and its answer, on standard error."""

import sys
from contextlib import suppress

from roundsman.http.exchange import Exchange
from roundsman.masking import mask, safe


class Trace:
    """Prints requests as they end. Secrets of the configuration are masked, and links shown by their host only."""

    def explain(self, text: str) -> None:
        """What the source found in the answer."""
        _print(f"  {text}")

    def exchanged(self, exchange: Exchange) -> None:
        _print(_request(exchange))
        _print(f"  {_answer(exchange)}")

    def retried(self, host: str) -> None:  # noqa: ARG002 - the next request says so
        _print("  retried")


def _print(line: str) -> None:
    with suppress(OSError):  # the end of the reader must not end the request
        print(safe(mask(line)), file=sys.stderr, flush=True)


def _request(exchange: Exchange) -> str:
    if exchange.is_link:
        return f"{exchange.method} a link to {exchange.place}"
    query = exchange.url.query.decode("ascii", "replace")
    return f"{exchange.method} {exchange.place}" + (f"?{query}" if query else "")


def _unanswered(error: str | None) -> str:
    return "given up" if error == "CancelledError" else f"no readable answer: {error}"


def _answer(exchange: Exchange) -> str:
    facts = [str(exchange.status) if exchange.status is not None else _unanswered(exchange.error)]
    if exchange.size is not None:
        facts.append(f"{exchange.size:,} bytes")
    facts.append(f"{exchange.seconds * 1000:,.0f} ms")
    if exchange.tag:
        facts.append(f"ETag {exchange.tag}")
    if exchange.sent_tag:
        facts.append(f"asked about ETag {exchange.sent_tag}")
    return ", ".join(facts)
