"""metrics.md, from the metrics' descriptions."""

from collections.abc import Iterator

from generated.markdown import code, codes, document, item, items, link, prose, table, wrapped
from roundsman.engine.meter import SECONDS
from roundsman.web.metrics import CONTENT_TYPE, METRICS, Described

INTRODUCTION = """
`GET /metrics` of the [listener](endpoints.md#metrics) answers them as Prometheus reads them. Counters and histograms
begin at 0 with each start of the process.
"""


def page() -> str:
    return document(
        "Metrics",
        prose(INTRODUCTION + f"\n\nAlert rules: {link('guides/monitoring.md')}."),
        "## All metrics",
        table(
            ("Metric", "Type", "Labels"),
            [(f"[{each.name}](#{each.name})", each.kind, ", ".join(each.labels)) for each in METRICS],
        ),
        *(part for each in METRICS for part in _metric(each)),
        "## Form",
        "\n".join(
            [
                item(f"`Content-Type`: {code(CONTENT_TYPE)}"),
                item(
                    f"Upper bounds of the buckets of histograms, in seconds: {codes(f'{each:g}' for each in SECONDS)}"
                ),
            ]
        ),
    )


def _metric(metric: Described) -> Iterator[str]:
    yield f"## {metric.name}"
    yield wrapped(f"{metric.kind.capitalize()}. {metric.help}")
    if metric.labels:
        yield items((code(label), meaning) for label, meaning in metric.labels.items())
