"""The results of Mailchimp's batches: an archive behind a signed link that the vendor makes for each download.

A batch is reported once its results were read; or at once, if they cannot be read now. Then they are
retried with growing waits until the vendor has deleted them.
"""

from collections.abc import AsyncIterator
from typing import IO, Any, Protocol

from roundsman import wire
from roundsman.errors import Backoff, Denied, Oversized, RequestFailed, Unreadable, reason
from roundsman.events import Event, notice
from roundsman.http.urls import is_loopback
from roundsman.kit import archive, fields
from roundsman.kit.asking import Ask
from roundsman.kit.documents import Count
from roundsman.kit.pages import Job, is_about_all
from roundsman.kit.tracked import GONE_AFTER, Later
from roundsman.options.values import counted
from roundsman.plugin import Poll
from roundsman.shapes import FAILURES_CAP, Batch, batch_outcome
from roundsman.sources.mailchimp.operations import Operations
from roundsman.times import parse_time, rfc3339

LATE_READS = 5
"""Maximum reads of results that show fewer failures than the batch counts: they may come late."""
GIVEN_UP_KEPT = 200
"""Batches with given-up results that are remembered."""


class ResultsDue(Later, omit_defaults=True, kw_only=True):
    """Results that are still to be read."""

    batch: Batch | None = None
    """The batch, as its event reports it; None if the stored one was damaged."""
    reported: bool = False
    """Whether that event was made: results that come later are reported without it."""
    missing: Count = 0
    """Tries in a row at which the vendor did not know the batch."""
    late: Count = 0
    """Reads that showed fewer failures than the batch counts."""
    since: str | None = None
    """When they were first tried, for a batch without a time of its own."""


class Account(Protocol):
    """The source whose results they are."""

    @property
    def name(self) -> str: ...
    @property
    def base_url(self) -> str: ...
    @property
    def retention(self) -> float: ...
    @property
    def results(self) -> str: ...
    @property
    def result_hosts(self) -> tuple[str, ...]: ...
    @property
    def limits(self) -> archive.Limits: ...

    async def whole(self, ask: Ask, key: str) -> dict[str, Any]:
        """One batch with a link to its results, which is made for this answer."""


class Results:
    """The results that are due at one visit."""

    def __init__(self, source: Account, ask: Ask) -> None:
        self._source, self._ask = source, ask
        self._due: dict[str, ResultsDue] = ask.doc.results_due

    async def polls(self) -> AsyncIterator[Poll]:
        ask = self._ask
        for key, entry in sorted(self._due.items(), key=lambda item: item[1].tries):
            if ask.tired is not None or ask.visit.wait:
                return  # the vendor asks us to wait
            if entry.batch is None or entry.batch["batch_id"] != key:
                self._ask_again(key, entry)
                yield ask.poll()
            elif (ask.named is None or key in ask.named) and not entry.is_early(ask.now):
                async for poll in self._results(key, entry):
                    yield poll

    def _ask_again(self, key: str, entry: ResultsDue) -> None:
        """What is remembered of a batch is damaged: the next visit asks the vendor for all of it."""
        self._ask.remarks.append(f"the stored state of batch {key} is damaged: it is requested again")
        self._ask.doc.wanted[key] = 0
        if entry.reported:
            self._give_up(key)  # then only its results are read again
        else:
            del self._due[key]

    async def _results(self, key: str, entry: ResultsDue) -> AsyncIterator[Poll]:
        """Read the results of one batch, then report its completion; or at once, if they cannot be read."""
        try:
            packed = await self._fetch(key)
        except Oversized as exc:
            self._postpone(key, entry, str(exc), final=True)
        except (RequestFailed, Unreadable, Denied, Backoff, OSError) as exc:
            self._ask.tired = exc if isinstance(exc, Backoff) else None
            if is_about_all(exc):
                raise
            entry.missing = entry.missing + 1 if getattr(exc, "status", None) == 404 else 0
            self._postpone(key, entry, reason(exc), final=entry.missing >= GONE_AFTER)
        else:
            source = self._source
            reading = Operations(source.name, _batch(entry), source.limits, all_=source.results == "all")
            try:
                for events in reading.pages(packed):
                    yield self._ask.page(events)
            except (Oversized, Unreadable) as exc:
                self._postpone(key, entry, str(exc), final=isinstance(exc, Oversized))
            else:
                self._read(key, entry, reading)
            finally:
                packed.close()
        yield self._ask.poll()

    async def _fetch(self, key: str) -> IO[bytes]:
        """The archive, through a link made for this download; through a second one if that has expired."""
        source = self._source
        for attempt in (1, 2):
            link = (await source.whole(self._ask, key)).get("response_body_url")
            if not isinstance(link, str) or not link:
                raise RequestFailed(f"there is no link to the results of batch {key}")
            try:
                http, local = self._ask.visit.http, is_loopback(source.base_url)
                async with http.download(link, source.result_hosts, local=local) as pieces:
                    return await archive.fetch(pieces, source.limits)
            except RequestFailed as exc:
                if attempt == 2 or exc.status not in {400, 401, 403}:
                    # A 404 of the link is not a 404 of the batch, so the status is dropped.
                    raise RequestFailed(str(exc)) from None
        raise AssertionError

    def _postpone(self, key: str, entry: ResultsDue, why: str, *, final: bool) -> None:
        """Results cannot be read now: report the batch and retry later, or give up with a notice."""
        batch = _batch(entry)
        if not entry.reported:
            entry.reported = True
            self._ask.events.append(completed(self._source.name, batch))
        wait = entry.postpone(self._ask.now)
        entry.since = entry.since or rfc3339(self._ask.visit.vendor_now)
        since = parse_time(batch["submitted_at"] or batch["completed_at"] or entry.since)
        now = self._ask.visit.vendor_now  # by the vendor's clock, because the vendor deletes them
        over = since is not None and (now - since).total_seconds() > self._source.retention
        if final or over:
            self._give_up(key)
        else:
            self._ask.remarks.append(
                f"the results of batch {key} cannot be read: {why}; again in {wait:.0f}s"
            )
        if final or over or "result_hosts" in why:
            self._missing(batch, f"cannot be read: {why}")

    def _missing(self, batch: Batch, why: str) -> None:
        key = batch["batch_id"]
        name, now = self._source.name, self._ask.now
        message = (
            f"The results of batch {key} {why}. Its failed operations may not be reported. Remove the cause, then "
            f"run `roundsman track {name} {key}`: it reads the results again, until the vendor deletes them."
        )
        details = {"batch_id": key, "total": batch["total"], "failed": batch["failed"]}
        gap = notice("roundsman.source.gap", name, f"results:{key}", message, now=now, details=details)
        self._ask.events.append(gap)

    def _give_up(self, key: str) -> None:
        del self._due[key]
        given_up = self._ask.doc.results_given_up
        self._ask.doc.results_given_up = [*given_up, key][-GIVEN_UP_KEPT:]

    def _read(self, key: str, entry: ResultsDue, reading: Operations) -> None:
        batch = _counted(_batch(entry), reading)
        shown = reading.failed + reading.in_part
        short = not reading.bad and shown < (batch["failed"] or 0)
        why = f"show {shown} of {batch['failed']} failed operations"
        if short and entry.late < LATE_READS:
            entry.late += 1
            self._postpone(key, entry, f"they {why}", final=False)
            return
        if not entry.reported:
            self._ask.events.append(completed(self._source.name, {**batch, "failures": reading.failures}))
        if reading.problems:
            files = f"{counted(reading.bad, 'file')} of them"
            self._missing(batch, f"could not be read in full: {files}, such as {reading.problems[0]}")
        if short:
            self._missing(batch, why)
        if short or reading.problems:
            self._give_up(key)
        else:
            del self._due[key]


def _batch(entry: ResultsDue) -> Batch:
    assert entry.batch is not None  # others are asked for again
    return entry.batch


def _counted(batch: Batch, reading: Operations) -> Batch:
    """The batch with the counts that its results prove."""
    counted = reading.failed + reading.other
    # "Errored" is documented as "not 200": if the archive shows just that, its count is used.
    believed = batch["failed"] is None or (reading.other and counted == batch["failed"])
    # Or more were reported than the vendor counts.
    if believed or reading.failed > (batch["failed"] or 0):
        failed = reading.failed
        batch = {**batch, "failed": failed, "outcome": batch_outcome(batch["total"], failed)}
    if reading.in_part:
        failed = min((batch["failed"] or 0) + reading.in_part, batch["total"] or reading.in_part)
        batch = {**batch, "failed": failed, "outcome": "partial"}
    return batch


def completed(source: str, batch: Batch) -> Event:
    """The event of a batch that has ended."""
    at = batch["completed_at"] or batch["submitted_at"]
    return Event.of(
        vendor="mailchimp",
        source=source,
        type="com.mailchimp.batch.completed",
        id=f"{batch['batch_id']}:completed",
        data=batch,
        time=at,
        subject=batch["batch_id"],
        outcome=batch["outcome"],
        stamp=parse_time(at),
    )


def batch_of(job: Job) -> Batch:
    """The batch as its event reports it, without links."""
    data, raw = job.data, job.raw
    total, failed = fields.count(data.get("total_operations")), fields.count(data.get("errored_operations"))
    if data.get("response_body_url") or "_links" in data:
        raw = {k: v for k, v in data.items() if k not in {"response_body_url", "_links"}}
    return {
        "batch_id": job.key,
        "outcome": batch_outcome(total, failed),
        "status": fields.text(data.get("status")),
        "total": total,
        "failed": failed,
        "submitted_at": rfc3339(job.begun) if job.begun else None,
        "completed_at": rfc3339(job.ended) if job.ended else None,
        "failures": None,
        "failures_cap": FAILURES_CAP,
        "raw": raw if isinstance(raw, dict) else wire.decode(raw),
    }
