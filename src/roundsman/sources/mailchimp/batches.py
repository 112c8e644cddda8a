"""Mailchimp's batches: one event per finished batch, and one per operation that failed.

Documented: the list shows the batches of the last seven days in pages of up to 1,000, in no stated order and
without a filter; `finished` means that results are ready, not that an operation succeeded; results are a
gzipped tar behind a signed link that works for ten minutes; a user may make ten requests at a time, over all
programs (https://mailchimp.com/developer/marketing/guides/run-async-requests-batch-endpoint/). So each visit
reads the whole list, and only batches that are not in it are asked for singly.
"""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self
from urllib.parse import parse_qs, quote

from pydantic import AfterValidator, Field, model_validator

from roundsman import wire
from roundsman.errors import Backoff, Denied, RequestFailed, Unreadable
from roundsman.events import Event, notice
from roundsman.http.answers import Answer
from roundsman.http.urls import Url
from roundsman.kit import fields
from roundsman.kit.archive import Limits
from roundsman.kit.asking import Ask, JobsState
from roundsman.kit.documents import renamed
from roundsman.kit.jobs import Jobs
from roundsman.kit.listing import Paging
from roundsman.kit.pages import At, Cut, Job, Look, Page
from roundsman.kit.questions import ID
from roundsman.kit.tracked import Tracked
from roundsman.options.secrets import Secret
from roundsman.options.values import Duration, Start
from roundsman.plugin import Poll, Received
from roundsman.sources.mailchimp.hooks import BatchHooks, Webhook
from roundsman.sources.mailchimp.results import Results, ResultsDue, batch_of, completed
from roundsman.times import parse_time, rfc3339, spell
from roundsman.webhook import Call, Registrar

if TYPE_CHECKING:
    from roundsman.http.auth import Auth
    from roundsman.http.client import Http

STATUSES = frozenset({"pending", "preprocessing", "started", "finalizing"})
"""A batch of one of these is under way; `finished` is the end."""
DATA_CENTRE = re.compile(r"-([A-Za-z]{1,4}\d{1,3})$")
GOOD_EVERY = 3600.0
"""Seconds between two updates of `last_good` in the state."""
FORBIDDEN_WAIT = 300.0
"""Seconds to wait after a 403 without a reason: that is throttling."""


def _host(value: str) -> str:
    """A plain host name, in lower case."""
    if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", value := value.lower()):
        raise ValueError("is not a plain host name such as storage.googleapis.com")
    return value


class BatchesState(JobsState):
    """What is remembered of the batches."""

    results_due: dict[str, ResultsDue] = {}
    """Finished batches whose results are still to be read."""
    results_given_up: list[str] = []
    """Batches whose results were given up: tracking one again retries its results."""
    last_good: str | None = None
    """When a visit last succeeded, by the vendor's clock; updated once an hour."""

    @classmethod
    def upgrade(cls, old: dict[str, Any]) -> dict[str, Any]:
        """Until 0.6, `owed` had the results that are due, `missed` those given up, and `list` was a digest."""
        names = {"owed": "results_due", "missed": "results_given_up", "good": "last_good"}
        new = renamed(super().upgrade(old), names)
        due = new.get("results_due", {}).items()
        new["results_due"] = {key: renamed(entry, {"told": "reported"}) for key, entry in due}
        new["list"] = {"tag": old.get("tag"), "cut": bool(old.get("short"))}
        return new | {"singles_rest": old.get("turn") == "results"}


class Batches(Jobs):
    """Mailchimp's batches: one event per finished batch, and one per operation that failed."""

    type: Literal["mailchimp.batches"]
    base_url: Url = "https://api.mailchimp.com/3.0"
    """The URL of the vendor's API. Without this option, it is made from the suffix of `api_key`, such as `-us6`."""
    api_key: Secret
    """The API key, or an OAuth token, which is sent as a bearer token. A key ends in its data centre, such as `-us6`."""
    concurrency: Annotated[int, Field(ge=1, le=10)] = 2
    """Maximum concurrent requests with this key. The vendor allows a user ten, over all programs."""
    start: Start = "now"
    """Where to begin on the first run: `"now"`, `"beginning"` (the last seven days), or a date-time."""
    results: Literal["off", "failures", "all"] = "failures"
    """`failures`: download the results of each batch, and report each failed operation. `all`: report each successful
    operation, too. `off`: download nothing, and report the batch alone.
    """
    result_hosts: tuple[Annotated[str, AfterValidator(_host)], ...] = (
        "storage.googleapis.com",
        "mailchimp-api-batch.s3.amazonaws.com",
    )
    """The hosts that results may be downloaded from."""
    stall_after: Duration = 8 * 3600.0
    """Report a batch that has not changed for this long, with `roundsman.batch.stalled`."""
    retention: Annotated[Duration, Field(gt=0)] = 7 * 86400.0
    """How long the vendor keeps batches and results. Results that cannot be read are tried again for so long."""
    page_size: Annotated[int, Field(ge=20, le=1000)] = 1000
    """Batches to ask for in one request."""
    limits: Limits = Limits()
    webhook: Webhook | None = None
    """Receive the vendor's webhooks, too, at `/hooks/NAME`. Needs `[listen]`."""

    retry_timeouts: ClassVar = False  # a timed-out request may still hold one of the user's ten slots there
    document: ClassVar = BatchesState

    @model_validator(mode="after")
    def _address(self) -> Self:
        found = DATA_CENTRE.search(self.api_key.reveal())
        if found and "base_url" not in self.model_fields_set:
            self.__dict__["base_url"] = f"https://{found[1].lower()}.api.mailchimp.com/3.0"
        return self

    def warnings(self) -> list[str]:
        found = DATA_CENTRE.search(self.api_key.reveal())
        if not found and "base_url" not in self.model_fields_set:
            what = "ends in no data centre such as -us6, and there is no base_url"
            return [f"api_key: {what}: an OAuth token needs base_url, or the key is incomplete"]
        return (
            ["api_key: ends in capitals; the vendor's keys do not"]
            if found and not found[1].islower()
            else []
        )

    def reported_types(self) -> Sequence[str]:
        found = ["completed"]
        if self.results != "off":
            found.append("operation_failed")
        if self.results == "all":
            found.append("operation_succeeded")
        return [f"com.mailchimp.batch.{each}" for each in found]

    def requests_a_day(self) -> tuple[float, str]:
        each = f"1 request a visit for each {self.page_size:,} batches of the last 7 days"
        return 86400 / self.interval, each

    def auth(self) -> "Auth":
        from roundsman.http.auth import basic, bearer

        # An OAuth token names no data centre. Basic authentication is documented for keys only.
        is_key = DATA_CENTRE.search(self.api_key.reveal())
        return basic("roundsman", self.api_key) if is_key else bearer(self.api_key)

    def receive(self, call: Call) -> Received:
        """Reads a form about a finished batch: only the id is used, and the API has to confirm it."""
        try:
            form = parse_qs(call.body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=1000)
        except ValueError:
            raise Unreadable("more fields than a form of the vendor has") from None
        kinds, ids = form.get("type", []), form.get("data[id]", [])
        if kinds != ["batch_operation_completed"]:
            raise Unreadable(f"not a batch webhook: the type is {', '.join(kinds)[:80] or 'missing'}")
        if len(ids) != 1 or not ID.fullmatch(ids[0]):
            raise Unreadable("a batch webhook without the id of a batch")
        return Received(follow=ids, ring=True)

    def registrar(self, http: "Http") -> Registrar:
        return BatchHooks(f"{self.base_url}/batch-webhooks", http)

    @classmethod
    def following(cls, state: Mapping[str, Any]) -> Sequence[str]:
        return list(dict.fromkeys([*super().following(state), *cls.document.load(state).results_due]))

    # -- what the kit asks -----------------------------------------------------------------------------------

    @property
    def give_up_after(self) -> float:
        return self.retention

    def paging(self) -> Paging:
        return Paging(documented=True, pages=1000)

    async def get(self, ask: Ask, path: str, tag: Any = None, **query: str | int) -> Answer:
        try:
            return await ask.get(f"batches{path}", query, tag=tag)
        except (Denied, RequestFailed) as exc:
            # The vendor throttles with a 403 without a reason; a refusal has one.
            if exc.status == 403 and not getattr(exc, "body", b"").lstrip().startswith(b"{"):
                why = "403 without a reason: the account is being throttled"
                raise Backoff(FORBIDDEN_WAIT, why) from None
            raise

    async def whole(self, ask: Ask, key: str) -> dict[str, Any]:
        """One batch with a link to its results, which is made for this answer."""
        return about(key, await self.get(ask, f"/{quote(key, safe='')}", exclude_fields="_links"))

    async def listed(self, ask: Ask, part: str, at: At) -> Page:
        left_out = "_links,batches._links,batches.response_body_url"
        query: dict[str, str | int] = {
            "count": self.page_size,
            "offset": at.offset,
            "exclude_fields": left_out,
        }
        answer = await self.get(ask, "", at.tag, **query)

        def read(data: dict[str, Any], raw: Any) -> Job | None:
            key = data.get("id")
            if isinstance(key, str) and key:
                return _job(key, data, raw)
            ask.remark("a batch without an id is in the list")
            return None

        return ask.rows_of(answer, "batches", read, lambda found, _: fields.count(found.get("total_items")))

    async def one(self, ask: Ask, part: str, key: str, tag: Any) -> Look:
        answer = await self.get(ask, f"/{quote(key, safe='')}", exclude_fields="_links,response_body_url")
        return Look(_job(key, about(key, answer), answer.body))

    def ended(self, ask: Ask, part: str, job: Job) -> Sequence[Event]:
        """The completion of a batch is reported after its results were read."""
        due, given_up = ask.doc.results_due, ask.doc.results_given_up
        again = job.key in given_up  # its completion was reported, and its results were not
        ask.doc.results_given_up = [each for each in given_up if each != job.key]
        batch = batch_of(job)
        # Also if no operation is counted as failed: one over many people can succeed and leave some out.
        reads = self.results != "off" and batch["total"] != 0 and bool(ID.fullmatch(job.key))
        if job.key not in due and reads:
            due[job.key] = ResultsDue(batch=batch, reported=again)
        elif job.key not in due and not again:
            if not batch["failed"]:
                batch["failures"] = []
            return [completed(self.name, batch)]
        return []

    def is_wanted_again(self, ask: Ask, key: str) -> bool:
        return key in ask.doc.results_given_up

    def has_more(self, ask: Ask) -> bool:
        return bool(ask.doc.results_due)

    def after(self, ask: Ask) -> AsyncIterator[Poll]:
        return Results(self, ask).polls()

    def finished(self, ask: Ask) -> None:
        """Report that batches may have come and gone during an absence longer than `retention`."""
        now = ask.visit.vendor_now  # the vendor deletes them by its clock
        good = parse_time(ask.doc.last_good)
        away = (now - good).total_seconds() if good else 0.0
        if good and away > self.retention:
            missing = rfc3339(now - timedelta(seconds=self.retention))
            message = (
                f"There was no visit since {rfc3339(good)}, and the vendor shows only the batches of the last "
                f"{spell(self.retention)}. Batches that ended before {missing} are missing."
            )
            gap = notice("roundsman.source.gap", self.name, rfc3339(good), message, since=good, now=ask.now)
            ask.events.append(gap)
        if good is None or not 0 <= away < GOOD_EVERY:
            ask.doc.last_good = rfc3339(now)

    # -- words -----------------------------------------------------------------------------------------------

    def oddity(self, before: list[Any], job: Job) -> str:
        then, now = before[1:4], job.seen[1:4]
        pairs = zip(then, now, strict=False)  # a stored look may be damaged
        shrank = any(type(a) is int and type(b) is int and b < a for a, b in pairs)
        return f"the counts of batch {job.key} shrank from {then} to {now}" if shrank else ""

    def details(self, part: str, entry: Tracked) -> Mapping[str, Any]:
        return {"seen": entry.seen}

    def cut(self, ask: Ask, part: str, cut: Cut) -> Event | None:
        message = (
            f"The list has {cut.total} batches and shows {cut.shown}. Others may be missing; to follow one of "
            f"them, run `roundsman track {self.name} ID`."
        )
        if cut.total is None:
            return None
        return notice("roundsman.source.gap", self.name, "short list", message, now=ask.now)


def about(key: str, answer: Answer) -> dict[str, Any]:
    """The batch that was asked for. Raises `Unreadable` if the answer is about something else."""
    data = answer.json()
    if not isinstance(data, dict):
        raise Unreadable("the answer is not an object")
    if data.get("id") != key:
        wire.refuse_failure(data)
        raise Unreadable(f"the answer about batch {key} is not about it")
    return data


def _job(key: str, data: dict[str, Any], raw: Any) -> Job:
    """`seen` has the values whose change counts; not the link, which is signed again each time."""
    state = fields.text(data.get("status"))
    names = ("total_operations", "finished_operations", "errored_operations")
    counts = [fields.count(data.get(name)) for name in names]
    seen = [data.get("status"), *counts, data.get("completed_at") or None]
    begun, ended = parse_time(data.get("submitted_at")), parse_time(data.get("completed_at"))
    end: Any = "ended" if state == "finished" else "runs" if state in STATUSES else "unknown"
    return Job(key, state, end, seen, data, raw, begun, ended)
