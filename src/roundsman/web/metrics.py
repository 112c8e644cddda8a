"""The metrics for Prometheus: each with its type, labels and meaning. `exposition.py` writes their values.

Names and labels are a contract; the documentation is made of `METRICS`.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Described(NamedTuple):
    """A metric: its name, kind, help text and labels, each with its meaning."""

    name: str
    """Its name in the exposition. Those of a histogram's series have `_bucket`, `_sum` or `_count` at the end."""
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: Mapping[str, str] = {}


SOURCE, SINK = {"source": "The name of the source."}, {"sink": "The name of the sink."}
HOST = {"host": "The host."}

POLLS = Described(
    "roundsman_polls_total",
    "counter",
    "Visits that have ended.",
    {**SOURCE, "result": "`new`, `unchanged` or `failed`."},
)
EVENTS = Described(
    "roundsman_events_total",
    "counter",
    "New events, by what reported them first.",
    {
        **SOURCE,
        "via": "`poll` (a scheduled visit), `ring` (a visit that a webhook started) or `push` (the webhook itself).",
    },
)
ROWS_UNREAD = Described(
    "roundsman_rows_unread_total",
    "counter",
    "Rows that could not be read. They are stored as they came.",
    SOURCE,
)
ANSWERED_AGE = Described(
    "roundsman_source_answered_age_seconds",
    "gauge",
    "Time since the last good answer. Without a value if there was none.",
    SOURCE,
)
SOURCE_FAILING = Described(
    "roundsman_source_failing",
    "gauge",
    "1 while the failure of a source is reported and the source is not paused, else 0.",
    SOURCE,
)
UNANSWERED = Described(
    "roundsman_source_unanswered_seconds",
    "gauge",
    "Time since the first request without a good answer. 0 if the last visit succeeded.",
    SOURCE,
)
INTERVAL = Described(
    "roundsman_source_interval_seconds", "gauge", "The `interval` of a source, for alert rules.", SOURCE
)
SOURCE_GAP = Described(
    "roundsman_source_gap",
    "gauge",
    "1 while rows of a source may be missing, else 0. Without a value before the first good visit since the start.",
    SOURCE,
)
SOURCE_PAUSED = Described(
    "roundsman_source_paused", "gauge", "1 while a person has paused the source, else 0.", SOURCE
)
SINK_PAUSED = Described(
    "roundsman_sink_paused", "gauge", "1 while a person has paused the sink, else 0.", SINK
)
SINK_HELD = Described(
    "roundsman_sink_held_events",
    "gauge",
    "Events that a sink has acknowledged and sends later on purpose, such as the digest of `notify`.",
    SINK,
)
BACKLOG = Described(
    "roundsman_source_backlog",
    "gauge",
    "1 while a source reads a backlog in several polls, else 0.",
    SOURCE,
)
BACKLOG_ROWS = Described(
    "roundsman_source_backlog_rows",
    "gauge",
    "Rows that were read of the backlog so far, known ones too. Without a value if no backlog is read.",
    SOURCE,
)
OPEN_FAILURES = Described(
    "roundsman_source_open_failures",
    "gauge",
    "Failures that the vendor reported and that are not marked as done, as `roundsman failures` lists them.",
    SOURCE,
)
UNREAD = Described(
    "roundsman_source_unread",
    "gauge",
    "Webhooks and rows that could not be read, and that are still kept for `roundsman unread`.",
    SOURCE,
)
OLDEST_AGE = Described(
    "roundsman_sink_oldest_age_seconds",
    "gauge",
    "Age of the oldest event that a sink has not acknowledged. 0 if it has all.",
    SINK,
)
WAITING = Described(
    "roundsman_sink_waiting_events",
    "gauge",
    "Events that a sink has not acknowledged, and that its filter lets through. Without a value until they are counted: "
    "with very many, that takes several scrapes after a start.",
    SINK,
)
SINK_FAILING = Described(
    "roundsman_sink_failing",
    "gauge",
    "1 while deliveries fail and are retried, else 0.",
    SINK,
)
DEAD_LETTERS = Described(
    "roundsman_sink_dead_letters",
    "gauge",
    "Events that a sink refused for good, and that were neither delivered nor dropped since.",
    SINK,
)
SINK_FAILURES = Described("roundsman_sink_failures_total", "counter", "Deliveries that failed.", SINK)
LATENESS = Described(
    "roundsman_due_lateness_seconds", "histogram", "How long after its due time a visit began."
)
REQUESTS = Described(
    "roundsman_http_request_duration_seconds",
    "histogram",
    "How long requests to vendors and receivers took. Downloads are not counted.",
    HOST,
)
EXCHANGES = Described(
    "roundsman_http_requests_total",
    "counter",
    "Requests to vendors and receivers, retries and downloads too.",
    {
        **HOST,
        "status": "The status of the answer, such as `200` or `304`; `4xx`, for example, for a number that HTTP does not "
        "define; `error` if there was no answer that could be read.",
    },
)
RETRIES = Described(
    "roundsman_http_retries_total",
    "counter",
    "Requests that were sent again after a transient fault.",
    HOST,
)
WEBHOOKS = Described(
    "roundsman_webhooks_total",
    "counter",
    "Webhooks that came.",
    {
        "source": "The name of the source. Empty if no source has this path.",
        "result": "Stored: `taken` (understood), `ignored` (about something else) or `unread` (not understood). Not stored: "
        "`not stored` (the store cannot be written), or the reason of a refusal: `unknown source`, `wrong method`, `too large`, "
        "`cut off`, `busy`, `wrong token`, `no header`, `wrong header`, `no signature`, `unreadable signature`, "
        "`wrong signature` or `stale signature`.",
    },
)
WEBHOOK_DURATION = Described(
    "roundsman_webhook_duration_seconds",
    "histogram",
    "Time from the head of a webhook to its answer.",
)
STORE_FAILING = Described(
    "roundsman_store_failing",
    "gauge",
    "1 if the store is damaged, or could not be read or written within the last 30 seconds, else 0.",
)
STORE_BYTES = Described(
    "roundsman_store_bytes",
    "gauge",
    "Size of the store.",
    {"file": "`store`, or `wal`: the file beside it with the latest changes."},
)
DISK_FREE = Described(
    "roundsman_disk_free_bytes",
    "gauge",
    "Space on the disk of the store that the daemon can use. Without a value if the disk does not answer.",
)
DISK_TOTAL = Described(
    "roundsman_disk_total_bytes", "gauge", "Size of the disk of the store. Without a value likewise."
)
WORKERS = Described(
    "roundsman_workers",
    "gauge",
    "Workers that share the store, at the last beat of this one. Without a value for a store in a file.",
)
HELD = Described(
    "roundsman_worker_held",
    "gauge",
    "What this worker holds of all that is configured. Without a value for a store in a file.",
    {"kind": "`source` or `sink`."},
)
BUILD_INFO = Described("roundsman_build_info", "gauge", "Always 1.", {"version": "The version of Roundsman."})
METRICS = (
    *(POLLS, EVENTS, ROWS_UNREAD, ANSWERED_AGE, UNANSWERED, INTERVAL),
    *(SOURCE_FAILING, SOURCE_GAP, SOURCE_PAUSED, BACKLOG, BACKLOG_ROWS, OPEN_FAILURES, UNREAD),
    *(OLDEST_AGE, WAITING, DEAD_LETTERS, SINK_FAILING, SINK_FAILURES, SINK_PAUSED, SINK_HELD),
    *(LATENESS, REQUESTS, EXCHANGES, RETRIES, WEBHOOKS, WEBHOOK_DURATION),
    *(STORE_FAILING, STORE_BYTES, DISK_FREE, DISK_TOTAL, WORKERS, HELD, BUILD_INFO),
)
"""All metrics, in the order of the documentation."""
