"""`poll --trace`: each request and its answer, on standard error."""

from roundsman.cli.app import complain
from roundsman.http.exchange import Exchange


class Trace:
    """Prints requests as they end. Secrets of the configuration are masked, and links shown by their host only."""

    def exchanged(self, exchange: Exchange) -> None:
        complain(_request(exchange), f"  {_answer(exchange)}")

    def retried(self, host: str) -> None:  # noqa: ARG002 - the next request says so
        complain("  it is tried again")


def _request(exchange: Exchange) -> str:
    if exchange.is_link:
        return f"{exchange.method} a link to {exchange.place}"
    query = exchange.url.query.decode("ascii", "replace")
    return f"{exchange.method} {exchange.place}" + (f"?{query}" if query else "")


def _answer(exchange: Exchange) -> str:
    facts = [str(exchange.status) if exchange.status is not None else f"no answer: {exchange.error}"]
    if exchange.size is not None:
        facts.append(f"{exchange.size:,} bytes")
    facts.append(f"{exchange.seconds * 1000:,.0f} ms")
    if exchange.tag:
        facts.append(f"ETag {exchange.tag}")
    if exchange.sent_tag:
        facts.append(f"asked about ETag {exchange.sent_tag}")
    return ", ".join(facts)
