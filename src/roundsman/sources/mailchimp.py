"""Mailchimp: how batch operations ended, and which of them failed.

Documented: the list shows the batches of the last seven days in pages of up to 1,000, in no stated order and
without a filter; `finished` means that results are ready, not that an operation succeeded; results are a
gzipped tar behind a signed link that works for ten minutes; a user may make ten requests at a time, over all
programs (https://mailchimp.com/developer/marketing/guides/run-async-requests-batch-endpoint/). So each visit
reads the whole list, and only batches that are not in it are asked for singly.
"""

import hashlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime, timedelta
from typing import IO, Annotated, Any, ClassVar, Literal, Self
from urllib.parse import parse_qs, quote

import httpx
from pydantic import AfterValidator, Field, model_validator

from roundsman import wire
from roundsman.errors import Backoff, Denied, Overlong, Oversized, RequestFailed, Unreadable, reason
from roundsman.events import Event, notice
from roundsman.http.answers import Answer, error_for
from roundsman.http.client import Http
from roundsman.http.urls import Url, is_loopback
from roundsman.kit import archive, fields, tracking
from roundsman.kit.archive import Limits
from roundsman.kit.builder import PollBuilder
from roundsman.options.secrets import Secret
from roundsman.options.values import Duration, Start
from roundsman.plugin import Poll, Received, Source, State, Visit
from roundsman.shapes import (
    FAILURES_CAP,
    Batch,
    FailedItem,
    Failure,
    FieldError,
    Item,
    Outcome,
    Person,
    batch_outcome,
    in_short,
)
from roundsman.times import parse_time, rfc3339
from roundsman.webhook import Call, Registrar, Registration, Scheme, SignedHook, Strong

STATUSES = frozenset({"pending", "preprocessing", "started", "finalizing", "finished"})
DATA_CENTRE = re.compile(r"-([A-Za-z]{1,4}\d{1,3})$")
ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
EMAIL = re.compile(r"[^\s@\"'<>(),;:]{1,64}@[^\s@\"'<>(),;:]+\.[A-Za-z]{2,24}")
GENERIC = re.compile(r"see the 'errors' array", re.IGNORECASE)
"""The text of a refusal that gives its reasons elsewhere."""
FAKE = re.compile(r"(\S.{0,99}?) looks fake or invalid")
BROKEN_EMAIL = re.compile(r"[^\s\"'<>(),;:@]{0,64}@[^\s\"'<>(),;:]{0,255}[^\s\"'<>(),;:.!?]")
"""Addresses with a mistake in them: an address that the vendor refuses is seldom valid."""
OVERLAP = 10
"""Rows by which two pages of the list overlap: it shifts while it is read."""
LIST_READS = 3
"""Maximum reads of the list per visit, if it changes while it is read."""
GOOD_EVERY = 3600.0
"""Seconds between two updates of `good` in the state."""
FORBIDDEN_WAIT = 300.0
"""Seconds to wait after a 403 without a reason: that is throttling."""
EVENTS_AT_ONCE, OPERATIONS_AT_ONCE = 2000, 250
"""Maximum events of an archive per commit, and operations read before other tasks get a turn."""
LATE_READS = 5
"""Maximum reads of results that show fewer failures than the batch counts: they may come late."""
SIGNATURE = Scheme("x-mailchimp-signature", "v1", per_second=1)
PROBLEM = re.compile(rb'status\\*"\s{0,9}:\s{0,9}[45]\d\d')
"""An error status in the answer of an operation that itself has a status of success."""
FAULTS = ("error", "errors", "detail", "instance")
"""Members that only the answers of failed operations have; other objects may have a `title` or `message`."""
SIGNED = re.compile(rb"\?[^\s?\"\\]{0,2000}Signature=[^\s\"\\]*")
LINK = re.compile(r"(https?://[^\s?]{1,500})\?\S+")
"""Signed links in the vendor's texts: anybody who has one can download the results."""
FULL_FROM = 10
"""A page without a total that has at least so many rows may not be all."""
AT_ONCE = 30
"""Maximum batches from webhooks that a visit asks for; the others are asked for at the next due visit."""
RETRY_FIRST, RETRY_LONGEST = 60.0, 3600.0
"""Seconds between two tries to read results: the first wait, doubled after each try, and the longest."""


def _host(value: str) -> str:
    """A plain host name, in lower case."""
    if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", value := value.lower()):
        raise ValueError("is not a plain host name such as storage.googleapis.com")
    return value


class Webhook(SignedHook):
    """`webhook`: what a call must show to be accepted as the vendor's. All of what is set must be right."""

    signing_secret: Strong | None = None
    """The secret that `roundsman hooks create` shows once; if set, calls need a valid signature."""

    answers_get: ClassVar[bool] = True

    def proofs(self) -> list[Secret]:
        return super().proofs() + ([self.signing_secret] if self.signing_secret else [])

    @property
    def wants_signature(self) -> bool:
        return self.signing_secret is not None

    @classmethod
    def ways(cls) -> str:
        return "token, signing_secret or both"

    def check(self, call: Call) -> None:
        super().check(call)
        if self.signing_secret is not None:
            SIGNATURE.check(call, [self.signing_secret], self.signature_tolerance)


class Batches(Source):
    """Mailchimp's batches: one event per finished batch, and one per operation that failed."""

    type: Literal["mailchimp.batches"]
    base_url: Url = "https://api.mailchimp.com/3.0"
    """Where the vendor's API is; by default derived from the key's suffix, such as "-us6"."""
    api_key: Secret
    """The API key, or an OAuth token."""
    concurrency: Annotated[int, Field(ge=1, le=10)] = 2
    """Maximum requests with this key at the same time; the vendor allows a user ten, over all programs."""
    start: Start = "now"
    """Where to begin on the first run: "now", "beginning" (the last seven days), or a date-time."""
    results: Literal["off", "failures", "all"] = "failures"
    """Download results and report each failed operation; "all": each successful one, too."""
    result_hosts: tuple[Annotated[str, AfterValidator(_host)], ...] = (
        "storage.googleapis.com",
        "mailchimp-api-batch.s3.amazonaws.com",
    )
    """Hosts that results may be downloaded from."""
    stall_after: Duration = 8 * 3600.0
    """Report a batch that has not changed for this long; "all done, not finished" was seen for 7.4 hours."""
    retention: Annotated[Duration, Field(gt=0)] = 7 * 86400.0
    """How long the vendor keeps batches and results."""
    page_size: Annotated[int, Field(ge=20, le=1000)] = 1000
    """Batches to ask for per request."""
    limits: Limits = Limits()
    webhook: Webhook | None = None
    """Take the vendor's webhooks, too, at /hooks/NAME."""

    @model_validator(mode="after")
    def _address(self) -> Self:
        found = DATA_CENTRE.search(self.api_key.reveal())
        if found and "base_url" not in self.model_fields_set:
            self.__dict__["base_url"] = f"https://{found[1].lower()}.api.mailchimp.com/3.0"
        return self

    def warnings(self) -> list[str]:
        found = DATA_CENTRE.search(self.api_key.reveal())
        if not found and "base_url" not in self.model_fields_set:
            what = "ends in no data centre such as -us6, and there is no base_url to say which"
            return [f"api_key: {what}: an OAuth token needs base_url, a key is not whole"]
        return (
            ["api_key: ends in capitals; the vendor's keys do not"]
            if found and not found[1].islower()
            else []
        )

    def auth(self) -> httpx.Auth:
        return httpx.BasicAuth("roundsman", self.api_key.reveal())

    retry_timeouts: ClassVar = False  # a timed-out request may still hold one of the user's ten slots there

    def poll(self, visit: Visit, state: State) -> AsyncIterator[Poll]:
        return _Round(self, visit, state).polls()

    def receive(self, call: Call) -> Received:
        """Reads a form about a finished batch: only the id is used, and the API has to confirm it."""
        try:
            form = parse_qs(call.body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=1000)
        except ValueError:
            raise Unreadable("more fields than any form of the vendor's has") from None
        kinds, ids = form.get("type", []), form.get("data[id]", [])
        if kinds != ["batch_operation_completed"]:
            raise Unreadable(f"not a batch webhook: the type is {', '.join(kinds)[:80] or 'missing'}")
        if len(ids) != 1 or not ID.fullmatch(ids[0]):
            raise Unreadable("a batch webhook without the id of a batch")
        return Received(follow=ids, ring=True)

    def registrar(self, http: Http) -> Registrar:
        return _Registrar(f"{self.base_url}/batch-webhooks", http)

    @classmethod
    def follow(cls, state: State, ids: Sequence[str]) -> State:
        for each in ids:
            if not ID.fullmatch(each):
                raise ValueError(f"{each[:80]!r} is not the id of a batch")
        wanted = {**dict.fromkeys(state.get("wanted", ())), **dict.fromkeys(ids)}
        return {**state, "wanted": list(wanted), "list": None, "tag": None}

    @classmethod
    def following(cls, state: State) -> Sequence[str]:
        return list(dict.fromkeys([*state.get("wanted", ()), *state.get("open", ()), *state.get("owed", ())]))

    def rewound(self, state: State, to: datetime | None) -> State:
        return {**state, "floor": rfc3339(to) if to else "", "list": None, "tag": None}


class _Registrar:
    """The vendor's API for batch webhooks: https://mailchimp.com/developer/marketing/api/batch-webhooks/."""

    most = 20

    def __init__(self, url: str, http: Http) -> None:
        self._url, self._http = url, http

    async def list(self) -> list[Registration]:
        answer = await self._http.get(self._url, {"count": 1000})
        return [_registration(row) for row, _ in answer.items("webhooks")]

    async def create(self, url: str) -> Registration:
        content = wire.encode({"url": url, "enabled": True})
        answer = await self._send("POST", self._url, content)
        made = answer.json()
        if not isinstance(made, dict) or not fields.text(made.get("id")):
            raise Unreadable("the answer is not the webhook that was made")
        return _registration(made)

    async def delete(self, key: str) -> None:
        await self._send("DELETE", f"{self._url}/{quote(key, safe='')}")

    async def _send(self, method: str, url: str, content: bytes | None = None) -> Answer:
        headers = {"content-type": "application/json"} if content else None
        # For a deletion, only the status counts.
        answer = await self._http.send(
            method, url, headers=headers, content=content, read=content is not None
        )
        if not 200 <= answer.status < 300:
            raise error_for(method, url, answer, self._http.now().timestamp())
        return answer


def _registration(row: dict[str, Any]) -> Registration:
    secret = fields.text(row.get("signing_secret"))
    key, url = fields.text(row.get("id")), fields.text(row.get("url"))
    signed = row.get("signing_enabled")
    return Registration(
        key or "",
        url or "",
        row.get("enabled") is not False,
        secret,
        signed if isinstance(signed, bool) else None,
    )


class _Round(PollBuilder):
    """One visit. `memory` is the new state:

    floor    finished batches that were completed before it are not reported
    open     unfinished batches by id, as in `kit/tracking.py`
    owed     finished batches whose results are still to be read
    wanted   ids to track, until they are looked up
    missed   batches whose results were given up: tracking one again retries its results
    list     a digest of the list when it was last processed; `tag`: the tag of that answer
    turn     "results" if the next due visit skips single requests and reads results
    good     when a visit last succeeded; updated once an hour
    odd      subjects that were remarked on
    """

    def __init__(self, source: Batches, visit: Visit, state: State) -> None:
        super().__init__(state)
        self.source, self.visit = source, visit
        self.open: dict[str, Any] = self.memory.setdefault("open", {})
        self.results_due: dict[str, Any] = self.memory.setdefault("owed", {})
        self.now = visit.now
        # If a webhook triggered the visit, ask only for the batches that it named; the list is read when due.
        rung = visit.trigger == "webhook" and "floor" in self.memory
        self.named: set[str] | None = set(self.memory.get("wanted", ())) or None if rung else None
        self.tired: Backoff | None = None
        """Why no more requests are made at this visit."""
        self.first: datetime | None = None
        """The vendor's clock at the first answer, if it sends one."""

    async def polls(self) -> AsyncIterator[Poll]:
        if self.named is None:
            await self._list()
        await self._singly()
        if self.named is None:
            self._mind_the_gap()
        for key, entry in self.open.items():
            details = {"seen": entry["seen"]}
            self.events += tracking.stalled(
                self.source.name,
                "batch",
                key,
                entry,
                self.source.stall_after,
                self.visit.vendor_now,
                details,
            )
        yield self.poll()
        for key in sorted(self.results_due, key=lambda key: int(self.results_due[key]["tries"])):
            if self.tired is not None or self.visit.wait:
                break  # the vendor asks us to wait
            if self.named is not None and key not in self.named:
                continue
            if not self._too_early(self.results_due[key]):
                async for poll in self._results(key, self.results_due[key]):
                    yield poll
        if self.tired is not None:
            raise self.tired

    # -- finding batches -------------------------------------------------------------------------------------

    async def _get(self, path: str, tag: Any = None, **query: str | int) -> Answer:
        try:
            answer = await self.visit.http.get(f"{self.source.base_url}/batches{path}", query, tag=tag)
        except (Denied, RequestFailed) as exc:
            # The vendor throttles with a 403 without a reason; a refusal has one.
            if exc.status == 403 and not getattr(exc, "body", b"").lstrip().startswith(b"{"):
                raise Backoff(
                    FORBIDDEN_WAIT, "403 without a reason: the account is being throttled"
                ) from None
            raise
        self.first = self.first or answer.date()
        return answer

    async def _list(self) -> None:
        """Read the whole list, in one answer if it fits, and process its batches."""
        for _ in range(LIST_READS):
            rows, total, tag, unchanged = await self._walk()
            if unchanged:
                return
            if total is None or len(rows) >= total:
                break
        else:
            self._tell_short(total or 0, len(rows))
        self.begin(self.source.start, self.first, self.now)
        seen = {key: _seen(data) for key, (data, _) in rows.items()}
        digest = hashlib.blake2b(wire.encode(sorted(seen.items())), digest_size=8).hexdigest()
        for key, entry in self.open.items():
            entry["listed"] = (
                key in rows and entry["seen"] is not None
            )  # a batch that was never seen is asked for singly until it is
        if digest == self.memory.get("list"):
            self.memory["tag"] = tag
            return
        self.rows += len(rows)
        finished = [key for key, (data, _) in rows.items() if data.get("status") == "finished"]
        known = await self.visit.known([f"{key}:completed" for key in finished])
        for key, (data, raw) in rows.items():
            if f"{key}:completed" not in known:
                self._take(key, data, raw, listed=True)
            elif key not in self.memory.get("missed", ()):
                self.open.pop(key, None)
        self.memory |= {"list": digest, "tag": tag}

    async def _walk(self) -> tuple[dict[str, wire.Item], int | None, Any, bool]:
        """Rows by id; the stated total; the tag, if one answer had all rows; whether nothing changed."""
        size = self.source.page_size
        left_out = "_links,batches._links,batches.response_body_url"
        rows: dict[str, wire.Item] = {}
        tag, offset, totals = None, 0, set[int | None]()
        while True:
            tagged = self.memory.get("tag") if not offset else None
            answer = await self._get("", tagged, count=size, offset=offset, exclude_fields=left_out)
            if answer.unchanged and not offset:
                return {}, 0, None, True
            damaged: list[wire.Damage] = []
            page = self._ids(answer.items("batches", damaged))
            self.unread.add(damaged)
            total = fields.count(answer.envelope().get("total_items"))
            totals.add(total)

            fresh = page.keys() - rows.keys()
            rows |= page
            if not offset and (len(page) >= total if total is not None else len(page) < FULL_FROM):
                tag = answer.tag
            offset += max(1, len(page) - min(OVERLAP, len(page) // 2))
            if not fresh or (len(rows) >= total if total is not None else len(page) < FULL_FROM):
                # If the total changed between the pages, a row may have been missed.
                return rows, total if len(totals) == 1 else len(rows) + 1, tag, False

    def _ids(self, items: list[wire.Item]) -> dict[str, wire.Item]:
        found = {}
        for data, raw in items:
            key = data.get("id")
            if isinstance(key, str) and key:
                found[key] = (data, raw)
            else:
                self.remark("a batch without an id is in the list")
        return found

    async def _singly(self) -> None:
        """Ask for the tracked batches that were not in the list."""
        wanted = self.memory.pop("wanted", [])
        known = await self.visit.known([f"{key}:completed" for key in wanted])
        given_up = self.memory.get("missed", [])
        for key in wanted:
            if key not in self.results_due and (f"{key}:completed" not in known or key in given_up):
                self.open.setdefault(key, {**tracking.entry(self.visit.vendor_now), "listed": False})
        if self.named is None and self.memory.pop("turn", None) == "results":
            return
        hidden = [key for key, entry in self.open.items() if not entry.get("listed")]
        if self.named is not None:
            hidden = [key for key in self.open if key in self.named][:AT_ONCE]
        for key in [key for key in hidden if not self._too_early(self.open[key])]:
            if not ID.fullmatch(key):
                self._gone(key)  # an id that cannot be asked for
                continue
            try:
                answer = await self._get(f"/{quote(key, safe='')}", exclude_fields="_links,response_body_url")
                data = _of(key, answer)
            except (RequestFailed, Unreadable, Denied, Backoff) as exc:
                self._trouble_with(key, exc)
                if isinstance(exc, Backoff):
                    # Make no more requests at this visit; the next one reads results instead.
                    self.tired, self.memory["turn"] = exc, "results"
                    if key in self.open:
                        self._later(self.open[key])
                    return
            else:
                self._take(key, data, answer.body, listed=False)

    def _trouble_with(self, key: str, exc: Exception) -> None:
        """Handle the error of one batch. It does not concern the others, which the list has just shown.

        Without a list, an error other than a 404 fails the visit, and a later visit asks for the webhook's
        ids.
        """
        if getattr(exc, "status", None) == 401 or (
            self.named is not None and getattr(exc, "status", None) != 404
        ):
            raise exc
        entry = self.open[key]
        if getattr(exc, "status", None) == 404 and not getattr(exc, "passing", False):
            if tracking.missed(entry, self.now, self.source.interval):
                self._gone(key)
        elif tracking.hopeless(entry, self.source.retention, self.visit.vendor_now):
            self._gone(key, f"({exc}) ")
        else:
            self.remark(f"batch {key} cannot be asked for: {exc}", about=f"asking {key}")

    def _gone(self, key: str, why: str = "") -> None:
        entry = self.open.pop(key)
        self.events.append(tracking.gone(self.source.name, "batch", key, entry, self.now, why))

    def _tell_short(self, total: int, shown: int) -> None:
        """Report once that the list shows fewer batches than its total, however often it is read."""
        if not self.memory.get("short"):
            self.memory["short"] = True
            message = f"The list has {total} batches and shows {shown}: batches may be missing that `roundsman track` did not name."
            self.events.append(
                notice("roundsman.source.gap", self.source.name, "short list", message, now=self.now)
            )

    def _take(self, key: str, data: dict[str, Any], raw: Any, *, listed: bool) -> None:
        """One batch as it is now: track it, report it, or skip it because it is old."""
        status = fields.text(data.get("status"))
        if status != "finished":
            if status not in STATUSES:
                self.remark(
                    f"batch {key} has the unknown status {status!r}: not taken for an end",
                    about=f"status {status}",
                )
            entry = self.open.setdefault(key, tracking.entry(self.visit.vendor_now))
            entry["listed"] = listed
            before, seen = entry["seen"], _seen(data)
            if before and any(
                then and now is not None and now < then
                for then, now in zip(before[1:4], seen[1:4], strict=True)
            ):
                self.remark(
                    f"the counts of batch {key} shrank from {before[1:4]} to {seen[1:4]}",
                    about=f"shrunk {key}",
                )
            tracking.saw(entry, seen, self.visit.vendor_now)
            return
        followed = self.open.pop(key, None) is not None
        batch = _batch(key, data, raw)
        if not followed and self._is_old(batch):
            return
        given_up = self.memory.get("missed", [])
        again = key in given_up  # its completion was reported, and its results were not
        self.memory["missed"] = [each for each in given_up if each != key]
        wants = self.source.results != "off" and batch["total"] != 0 and bool(ID.fullmatch(key))
        # Also if no operation is counted as failed: one over many people can succeed and leave some out.
        if key not in self.results_due and wants:
            self.results_due[key] = {"batch": batch, "told": again, "tries": 0, "next": None}
        elif key not in self.results_due and not again:
            if not batch["failed"]:
                batch["failures"] = []
            self.events.append(self._completed(batch))

    def _is_old(self, batch: Batch) -> bool:
        floor = parse_time(self.memory.get("floor"))
        at = parse_time(batch["completed_at"]) or parse_time(batch["submitted_at"])
        return floor is not None and at is not None and at < floor

    def _completed(self, batch: Batch) -> Event:
        completed = batch["completed_at"] or batch["submitted_at"]
        return Event.of(
            vendor="mailchimp",
            source=self.source.name,
            type="com.mailchimp.batch.completed",
            id=f"{batch['batch_id']}:completed",
            data=batch,
            time=completed,
            subject=batch["batch_id"],
            outcome=batch["outcome"],
            stamp=parse_time(completed),
        )

    # -- gaps ------------------------------------------------------------------------------------------------

    def _mind_the_gap(self) -> None:
        """Report that batches may have come and gone during an absence longer than `retention`."""
        now, good = (
            self.visit.vendor_now,
            parse_time(self.memory.get("good")),
        )  # by the vendor's clock, because the vendor deletes them
        away = (now - good).total_seconds() if good else 0.0
        if good and away > self.source.retention:
            message = (
                f"There was no visit since {rfc3339(good)}, and the vendor shows only the batches of the last "
                f"{self.source.retention / 86400:g} days: what ended before {rfc3339(now - timedelta(seconds=self.source.retention))} is missing."
            )
            self.events.append(
                notice("roundsman.source.gap", self.source.name, rfc3339(good), message, since=good, now=now)
            )
        if good is None or not 0 <= away < GOOD_EVERY:
            self.memory["good"] = rfc3339(now)

    # -- results ---------------------------------------------------------------------------------------------

    def _too_early(self, entry: dict[str, Any]) -> bool:
        then = parse_time(entry.get("next"))
        return then is not None and then > self.now and (then - self.now).total_seconds() <= RETRY_LONGEST

    async def _results(self, key: str, entry: dict[str, Any]) -> AsyncIterator[Poll]:
        """Read the results of one batch, then report its completion; or at once, if they cannot be read."""
        try:
            packed = await self._fetch(key)
        except Oversized as exc:
            self._postpone(key, entry, str(exc), final=True)
        except (RequestFailed, Unreadable, Denied, Backoff, OSError) as exc:
            self.tired = exc if isinstance(exc, Backoff) else None
            status = getattr(exc, "status", None)
            if status == 401:
                raise
            entry["missing"] = entry.get("missing", 0) + 1 if status == 404 else 0
            self._postpone(key, entry, reason(exc), final=entry["missing"] >= tracking.GONE_AFTER)
        else:
            reading = _Reading(self.source, entry["batch"])
            try:
                for events in reading.pages(packed):
                    yield self.page(events)
            except Oversized as exc:
                self._postpone(key, entry, str(exc), final=True)
            except Unreadable as exc:
                self._postpone(key, entry, str(exc), final=False)
            else:
                self._read(key, entry, reading)
            finally:
                packed.close()
        yield self.poll()

    async def _fetch(self, key: str) -> IO[bytes]:
        """The archive, through a link made for this download; through a second one if that has expired."""
        for attempt in (1, 2):
            answer = _of(key, await self._get(f"/{quote(key, safe='')}", exclude_fields="_links"))
            link = answer.get("response_body_url")
            if not isinstance(link, str) or not link:
                raise RequestFailed(f"there is no link to the results of batch {key}")
            try:
                local = is_loopback(self.source.base_url)
                async with self.visit.http.download(link, self.source.result_hosts, local=local) as pieces:
                    return await archive.fetch(pieces, self.source.limits)
            except RequestFailed as exc:
                if attempt == 2 or exc.status not in {400, 401, 403}:
                    # A 404 of the link is not a 404 of the batch, so the status is dropped.
                    raise RequestFailed(str(exc)) from None
        raise AssertionError

    def _postpone(self, key: str, entry: dict[str, Any], why: str, *, final: bool) -> None:
        """Results cannot be read now: report the batch and retry later, or give up with a notice."""
        batch: Batch = entry["batch"]
        if not entry["told"]:
            entry["told"] = True
            self.events.append(self._completed(batch))
        wait = self._later(entry)
        since = (
            parse_time(batch["submitted_at"])
            or parse_time(batch["completed_at"])
            or parse_time(entry.setdefault("since", rfc3339(self.now)))
        )
        now = self.visit.vendor_now  # by the vendor's clock, because the vendor deletes them
        over = since is not None and (now - since).total_seconds() > self.source.retention
        if final or over:
            self._give_up(key)
        else:
            self.remarks.append(f"the results of batch {key} cannot be read: {why}; again in {wait:.0f}s")
        if final or over or "result_hosts" in why:
            self._missing(batch, f"cannot be read: {why}")

    def _later(self, entry: dict[str, Any]) -> float:
        """Set the time of the next try; the wait grows with each. Returns the wait in seconds."""
        entry["tries"] = entry.get("tries", 0) + 1
        wait: float = min(RETRY_LONGEST, RETRY_FIRST * 2.0 ** min(entry["tries"] - 1, 10))
        entry["next"] = rfc3339(self.now + timedelta(seconds=wait))
        return wait

    def _missing(self, batch: Batch, why: str) -> None:
        message = f"The results of batch {batch['batch_id']} {why}. Operations that failed there may not have been told."
        details = {"batch_id": batch["batch_id"], "total": batch["total"], "failed": batch["failed"]}
        self.events.append(
            notice(
                "roundsman.source.gap",
                self.source.name,
                f"results:{batch['batch_id']}",
                message,
                now=self.now,
                details=details,
            )
        )

    def _give_up(self, key: str) -> None:
        del self.results_due[key]
        self.memory["missed"] = [*self.memory.get("missed", []), key][-200:]

    def _read(self, key: str, entry: dict[str, Any], reading: "_Reading") -> None:
        batch: Batch = entry["batch"]
        counted = reading.failed + reading.other
        # "Errored" is documented as "not 200": if the archive shows just that, its count is used.
        if batch["failed"] is None or (reading.other and counted == batch["failed"]):
            failed = reading.failed
            batch = {**batch, "failed": failed, "outcome": batch_outcome(batch["total"], failed)}
        if reading.failed > (batch["failed"] or 0):  # more were reported than the vendor counts
            failed = reading.failed
            batch = {**batch, "failed": failed, "outcome": batch_outcome(batch["total"], failed)}
        if reading.in_part:
            failed = min((batch["failed"] or 0) + reading.in_part, batch["total"] or reading.in_part)
            batch = {**batch, "failed": failed, "outcome": "partial"}
        short = not reading.bad and reading.failed + reading.in_part < (batch["failed"] or 0)
        why = f"show {reading.failed + reading.in_part} of {batch['failed']} failed operations"
        if short and entry["tries"] < LATE_READS:
            self._postpone(key, entry, f"they {why}", final=False)
            return
        if not entry["told"]:
            self.events.append(self._completed({**batch, "failures": reading.failures}))
        if reading.problems:
            count = (
                f"{reading.bad} file{'s' if reading.bad > 1 else ''} of them, such as {reading.problems[0]}"
            )
            self._missing(batch, f"could not be read in full: {count}")
        if short:
            self._missing(batch, why)
        if short or reading.problems:
            self._give_up(key)
        else:
            del self.results_due[key]


class _Reading:
    """Reads one archive, operation by operation."""

    def __init__(self, source: Batches, batch: Batch) -> None:
        self._source = source
        self._batch = batch
        self._stamp = parse_time(batch["completed_at"] or batch["submitted_at"])
        self.failures: list[FailedItem] = []
        """The first failed operations, in short form."""
        self.failed = 0
        """Operations that failed."""
        self.in_part = 0
        """Operations that succeeded and left people out."""
        self.other = 0
        """Operations that succeeded with another status than 200: the vendor may count them as failed."""
        self._seen: Counter[str] = Counter()
        self.bad = 0
        self.problems: list[str] = []
        """The first files that could not be read, and why."""

    def pages(self, packed: IO[bytes]) -> Iterator[list[Event]]:
        """The events, some at a time; sometimes none, so that other tasks get a turn."""
        events: list[Event] = []
        count = 0
        for member in self._members(packed):
            if isinstance(member, Unreadable):
                yield events  # what was read before the damage counts
                raise member
            for operation, raw in self._operations(member):
                events += self._events(operation, raw)
                count += 1
                if len(events) >= EVENTS_AT_ONCE:
                    yield events
                    events = []
                elif count % OPERATIONS_AT_ONCE == 0:
                    yield []
        yield events

    def _operations(self, member: archive.Member) -> Iterator[wire.Item]:
        """The operations of one file, one after the other; unreadable ones are recorded as problems."""
        damaged: list[wire.Damage] = []
        try:
            if member.rest is None:
                yield from wire.objects(member.body, damaged)
            else:
                for raw in wire.stream(member.rest, self._source.limits.member):
                    yield from wire.objects(raw, damaged)
        except Overlong:
            most = self._source.limits.member
            self._bad(member.name, f"an operation in it is larger than limits.member ({most} bytes)")
        except Unreadable as exc:
            self._bad(member.name, str(exc))
        for each in damaged:
            if not each.told:
                self._bad(member.name, each.why)

    def _members(self, packed: IO[bytes]) -> Iterator[archive.Member | Unreadable]:
        """The files of the archive; if it cannot be read to the end, the last item is the reason."""
        try:
            yield from archive.members(packed, self._source.limits)
        except Unreadable as exc:
            yield exc

    def _key(self, body: bytes) -> str:
        """An operation's name in ids: a digest of its content, numbered if the same content occurs again.

        The position is not used: if results are read again because some were missing, it may change.
        """
        digest = hashlib.blake2b(body, digest_size=9).hexdigest()
        self._seen[digest] += 1
        times = self._seen[digest]
        return digest if times == 1 else f"{digest}:{times}"

    def _bad(self, name: str, why: str) -> None:
        self.bad += 1
        if len(self.problems) < 10:
            self.problems.append(
                f"{name[:80]!r}, which {why}" if why.startswith("is ") else f"{name[:80]!r}: {why}"
            )

    def _events(self, operation: dict[str, Any], raw: Any) -> list[Event]:
        """The events of one operation: its failure, its success if wanted, or the people that it left out."""
        status = operation.get("status_code")
        if isinstance(status, str):
            status = fields.count(status)
        good = type(status) is int and 200 <= status < 300
        body = bytes(raw)
        if good and self._source.results != "all" and b"error" not in body and not PROBLEM.search(body):
            self.other += status != 200
            return []  # the common case
        response = _response(operation.get("response"))
        answer = response if isinstance(response, dict) else {}
        refused = 400 <= (fields.count(answer.get("status")) or 0) < 600 and bool(
            answer.get("title") or answer.get("detail")
        )
        if (
            status is None
            and answer
            and not _says_fault(answer)
            and fields.count(answer.get("status")) is None
        ):
            good = True  # the answer looks like a success
        good = good and not refused
        self.other += good and status not in {200, None}
        if b"response_body_url" in body:
            raw = _without_links(operation)
        elif b"Signature=" in body:
            raw = wire.line(SIGNED.sub(rb"?***", body))
        item_id = fields.text(operation.get("operation_id"))
        left_out = _left_out(answer) if good else []
        if good and not left_out and self._source.results != "all":
            return []
        key = self._key(body)
        if left_out:
            # The operation succeeded, but its answer says that it did not take some of many people.
            self.in_part += 1
            return [self._left_out(entry, item_id, f"{key}:{n}") for n, entry in enumerate(left_out)]
        stated = answer.get("status") if refused or status is None else status
        code = fields.text(stated)
        item: Item = {
            "batch_id": self._batch["batch_id"],
            "item_id": item_id,
            "index": None,
            "code": code,
            "person": _person(answer, item_id),
            "about": None,
            "raw": raw,
        }
        if good:
            return [self._event("operation_succeeded", "succeeded", item, key)]
        wrong = _fields(answer.get("errors"))
        said = fields.text(answer.get("detail")) or fields.text(answer.get("title")) or _plain(response)
        failure: Failure = {**item, "message": _message(said, wrong), "fields": wrong}
        self.failed += 1
        return [self._failure(failure, key)]

    def _left_out(self, entry: dict[str, Any], item_id: str | None, key: str) -> Event:
        """The failure of one person whom an operation over many people did not take."""
        what = fields.text(entry.get("error"))
        field, why = fields.text(entry.get("field")), fields.text(entry.get("field_message"))
        wrong: list[FieldError] = [{"field": field, "message": why}] if field or why else []
        email = fields.text(entry.get("email_address"))
        person = {"email_address": email.strip('"') if email else None, "detail": what}
        return self._failure(
            {
                "batch_id": self._batch["batch_id"],
                "item_id": item_id,
                "index": None,
                "code": fields.text(entry.get("error_code")),
                "person": _person(person, None),
                "about": None,
                "raw": entry,
                "message": _message(what, wrong),
                "fields": wrong,
            },
            key,
        )

    def _failure(self, failure: Failure, key: str) -> Event:
        if len(self.failures) < FAILURES_CAP:
            self.failures.append(in_short(failure))
        return self._event("operation_failed", "failed", failure, key)

    def _event(self, kind: str, outcome: Outcome, data: Item | Failure, key: str) -> Event:
        return Event.of(
            vendor="mailchimp",
            source=self._source.name,
            type=f"com.mailchimp.batch.{kind}",
            id=f"{self._batch['batch_id']}:{key}",
            data=data,
            time=self._batch["completed_at"],
            subject=data["item_id"] or self._batch["batch_id"],
            outcome=outcome,
            stamp=self._stamp,
        )


def _says_fault(answer: dict[str, Any]) -> bool:
    """Whether an answer without a status describes an error; `_left_out` handles members not taken."""
    members = any(name in answer for name in ("new_members", "updated_members", "error_count"))
    faults = [name for name in FAULTS if answer.get(name) and not (name == "errors" and members)]
    return bool(faults) or ("id" not in answer and any(answer.get(name) for name in ("title", "message")))


def _left_out(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """The people whom a successful answer names as not taken; one nameless entry if it only counts them."""
    errors = answer.get("errors")
    found: list[dict[str, Any]] = []
    for each in errors if isinstance(errors, list) else ():
        if isinstance(each, str) and each:
            found.append({"error": each})
        elif isinstance(each, dict) and isinstance(many := each.get("email_addresses"), list) and many:
            found += [{**each, "email_address": email} for email in many if isinstance(email, str)]
        elif isinstance(each, dict):
            found.append(each)
    more = (fields.count(answer.get("error_count")) or 0) - len(found)
    if more > 0:
        other = "more " if found else ""
        found.append(
            {"error": f"{more} {other}of the people in this operation were not taken", "error_count": more}
        )
    return found


def _message(said: str | None, wrong: list[FieldError]) -> str | None:
    """What was wrong, in one line: the messages of the fields, if the text only points at them."""
    about = "; ".join(f"{f['field']}: {f['message']}" if f["field"] else f["message"] or "" for f in wrong)
    if said is None or GENERIC.search(said):
        said = about or said
    elif about and about not in said:
        said = f"{said} ({about})"
    text = LINK.sub(r"\1?***", said[:2000]) if said else None
    return text if text is None or len(text) <= 500 else text[:497] + "..."


def _of(key: str, answer: Answer) -> dict[str, Any]:
    """The batch that was asked for. Raises `Unreadable` if the answer is about something else."""
    data = answer.json()
    if not isinstance(data, dict):
        raise Unreadable("the answer is not an object")
    if data.get("id") != key:
        wire.refuse_failure(data)
        raise Unreadable(f"the answer about batch {key} is not about it")
    return data


def _seen(data: dict[str, Any]) -> list[Any]:
    """The values whose change counts. The link does not count: it is signed anew each time."""
    names = ("total_operations", "finished_operations", "errored_operations")
    return [
        data.get("status"),
        *(fields.count(data.get(name)) for name in names),
        data.get("completed_at") or None,
    ]


def _batch(key: str, data: dict[str, Any], raw: Any) -> Batch:
    total, failed = fields.count(data.get("total_operations")), fields.count(data.get("errored_operations"))
    submitted, completed = parse_time(data.get("submitted_at")), parse_time(data.get("completed_at"))
    if data.get("response_body_url") or "_links" in data:
        raw = {k: v for k, v in data.items() if k not in {"response_body_url", "_links"}}
    return {
        "batch_id": key,
        "outcome": batch_outcome(total, failed),
        "status": fields.text(data.get("status")),
        "total": total,
        "failed": failed,
        "submitted_at": rfc3339(submitted) if submitted else None,
        "completed_at": rfc3339(completed) if completed else None,
        "failures": None,
        "failures_cap": FAILURES_CAP,
        "raw": raw if isinstance(raw, dict) else wire.decode(raw),
    }


def _response(value: Any) -> Any:
    """The answer to the operation, decoded if it is JSON as text; else as it is."""
    if not isinstance(value, str):
        return value
    try:
        found = wire.decode(value.encode("utf-8", "replace"))
    except Unreadable:
        return value
    # Some are encoded twice.
    return (
        _response(found) if isinstance(found, str) and found[:1] in {"{", "["} and found != value else found
    )


def _without_links(value: Any) -> Any:
    """The value without links that would let a reader download results, also inside a response's text."""
    if isinstance(value, dict):
        return {k: _without_links(v) for k, v in value.items() if k not in {"response_body_url", "_links"}}
    if isinstance(value, list):
        return [_without_links(each) for each in value]
    if isinstance(value, str) and "response_body_url" in value:
        inner = _response(value)
        return (
            "(cut: it holds a signed link)"
            if isinstance(inner, str)
            else wire.encode(_without_links(inner)).decode()
        )
    return value


def _person(problem: dict[str, Any], item_id: str | None) -> Person | None:
    """The person concerned: by the address in the answer, in its text, or in the operation's id."""
    email = fields.text(problem.get("email_address"))
    errors = problem.get("errors")
    words = (
        [each.get("message") for each in errors if isinstance(each, dict)] if isinstance(errors, list) else []
    )
    for each in (problem.get("detail"), *words[:20], item_id):
        if email is None and isinstance(each, str):
            each = each[:1000]  # noqa: PLW2901 - a longer text is not a message to a person
            found = FAKE.match(each) or ("@" in each and (EMAIL.search(each) or BROKEN_EMAIL.search(each)))
            email = found[found.lastindex or 0] if found else None
    name = fields.text(problem.get("full_name"))
    key = fields.text(problem.get("unique_email_id")) or None
    return {"id": key, "name": name, "email": email} if email or name else None


def _fields(errors: Any) -> list[FieldError]:
    return [
        {"field": fields.text(each.get("field")), "message": fields.text(each.get("message"))}
        for each in (errors if isinstance(errors, list) else [])[:100]
        if isinstance(each, dict)
    ]


def _plain(response: Any) -> str | None:
    """An answer that is not a problem object, as text for a person."""
    if isinstance(response, str) and response.strip():
        text = " ".join(response.split())
        return text if len(text) <= 300 else text[:297] + "..."
    return None
