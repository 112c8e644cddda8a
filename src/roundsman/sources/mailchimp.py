"""Mailchimp: how batch operations ended, and which of them failed.

Documented: the list shows the batches of the last seven days in pages of up to 1,000, in no stated order and without any
filter; `finished` means that results are ready, not that anything succeeded; results are a gzip'd tar behind a signed link
that works for ten minutes; ten requests at a time for a user, however many programs share them
(https://mailchimp.com/developer/marketing/guides/run-async-requests-batch-endpoint/). So the list is read whole at each
visit, and only what is not in it is asked for singly.
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
"""What a refusal says that has its reasons elsewhere."""
FAKE = re.compile(r"(\S.{0,99}?) looks fake or invalid")
BROKEN_EMAIL = re.compile(r"[^\s\"'<>(),;:@]{0,64}@[^\s\"'<>(),;:]{0,255}[^\s\"'<>(),;:.!?]")
"""Addresses with a mistake in them: what the vendor complains of is seldom a good one."""
OVERLAP = 10
"""Rows that two pages of the list share: it shifts while it is read."""
LIST_READS = 3
"""Times that the list is read in one visit, where it changes under our hands."""
GOOD_EVERY = 3600.0
"""Seconds between two notes in the state that all is well."""
FORBIDDEN_WAIT = 300.0
"""Seconds to stay away after a 403 without a reason: that is throttling."""
EVENTS_AT_ONCE, OPERATIONS_AT_ONCE = 2000, 250
"""Events of an archive in one commit, and operations read before others get their turn."""
LATE_READS = 5
"""Times that results are read again which show fewer failures than the batch counts: they may come late."""
SIGNATURE = Scheme("x-mailchimp-signature", "v1", per_second=1)
PROBLEM = re.compile(rb'status\\*"\s{0,9}:\s{0,9}[45]\d\d')
"""What stands in the answer of an operation that failed, although it came as a success."""
FAULTS = ("error", "errors", "detail", "instance")
"""What only answers of operations that failed hold; a `title` or `message` may be a thing's own, too."""
SIGNED = re.compile(rb"\?[^\s?\"\\]{0,2000}Signature=[^\s\"\\]*")
LINK = re.compile(r"(https?://[^\s?]{1,500})\?\S+")
"""Signed links in what a vendor says: whoever has one has the results."""
FULL_FROM = 10
"""Rows from which on a page without a total may not be all."""
AT_ONCE = 30
"""Batches that webhooks named and that are asked for at one visit, at most; the others have their turn when it is due."""
RETRY_FIRST, RETRY_LONGEST = 60.0, 3600.0
"""Seconds between two tries to read results: from, doubling, to."""


def _host(value: str) -> str:
    """A plain host name, in small letters."""
    if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", value := value.lower()):
        raise ValueError("is not a plain host name such as storage.googleapis.com")
    return value


class Webhook(SignedHook):
    """`webhook`: what a caller must show to be taken for the vendor. All of what is set must be right."""

    signing_secret: Strong | None = None
    """The secret that `roundsman hooks create` shows once; when it is set, calls without a right signature are refused."""

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
    """Where the vendor's API is; by default made from the key's suffix, such as "-us6"."""
    api_key: Secret
    """The API key, or an OAuth token."""
    concurrency: Annotated[int, Field(ge=1, le=10)] = 2
    """Requests under way with this key at the same time; the vendor allows a user ten, over all programs."""
    start: Start = "now"
    """Where to begin on the first run: "now", "beginning" (the last seven days), or a date-time."""
    results: Literal["off", "failures", "all"] = "failures"
    """Download results and tell each failed operation; "all": each successful one, too."""
    result_hosts: tuple[Annotated[str, AfterValidator(_host)], ...] = (
        "storage.googleapis.com",
        "mailchimp-api-batch.s3.amazonaws.com",
    )
    """Hosts that results may be downloaded from."""
    stall_after: Duration = 8 * 3600.0
    """Tell that a batch has not moved for so long; "all done, not yet finished" was seen for 7.4 hours."""
    retention: Annotated[Duration, Field(gt=0)] = 7 * 86400.0
    """How long the vendor keeps batches and results."""
    page_size: Annotated[int, Field(ge=20, le=1000)] = 1000
    """Batches to ask for at a time."""
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

    retry_timeouts: ClassVar = False  # what timed out may still hold one of the user's ten slots there

    def poll(self, visit: Visit, state: State) -> AsyncIterator[Poll]:
        return _Round(self, visit, state).polls()

    def receive(self, call: Call) -> Received:
        """A finished batch, form-encoded: nothing is taken from it but the id, which the API has to confirm."""
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
    """Batch webhooks, over https://mailchimp.com/developer/marketing/api/batch-webhooks/."""

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
        # Of a deletion only the status counts.
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
    """One visit. `memory` is the state to be:

    floor    finished batches that were completed before it are not told
    open     unfinished batches by id, as `follow.py` has them
    owed     finished batches whose results are to be read
    wanted   ids that somebody wants followed, until they are found
    missed   batches whose results were given up: following one again has them tried again
    list     a digest of the list when it was last gone through, and the `tag` of that answer
    turn     "results", where single questions have had theirs
    good     when all was well, within the hour
    odd      statuses that were remarked on
    """

    def __init__(self, source: Batches, visit: Visit, state: State) -> None:
        super().__init__(state)
        self.source, self.visit = source, visit
        self.open: dict[str, Any] = self.memory.setdefault("open", {})
        self.owed: dict[str, Any] = self.memory.setdefault("owed", {})
        self.now = visit.now
        # Where a webhook rang: the batches that were named are asked for, and the list has its time.
        rung = visit.trigger == "webhook" and "floor" in self.memory
        self.named: set[str] | None = set(self.memory.get("wanted", ())) or None if rung else None
        self.tired: Backoff | None = None
        """Why no more is asked at this visit."""
        self.first: datetime | None = None
        """The vendor's clock at the first answer, where it tells it."""

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
        for key in sorted(self.owed, key=lambda key: int(self.owed[key]["tries"])):
            if self.tired is not None or self.visit.wait:
                break  # the vendor wants a rest
            if self.named is not None and key not in self.named:
                continue
            if not self._too_early(self.owed[key]):
                async for poll in self._results(key, self.owed[key]):
                    yield poll
        if self.tired is not None:
            raise self.tired

    # -- finding batches ---------------------------------------------------------------------------------------------

    async def _get(self, path: str, tag: Any = None, **query: str | int) -> Answer:
        try:
            answer = await self.visit.http.get(f"{self.source.base_url}/batches{path}", query, tag=tag)
        except (Denied, RequestFailed) as exc:
            # The vendor's throttling wears a 403 without a reason in it; a refusal has one.
            if exc.status == 403 and not getattr(exc, "body", b"").lstrip().startswith(b"{"):
                raise Backoff(
                    FORBIDDEN_WAIT, "403 without a reason: the account is being throttled"
                ) from None
            raise
        self.first = self.first or answer.date()
        return answer

    async def _list(self) -> None:
        """Read the list whole, as one answer if it fits, and take up what is in it."""
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
            )  # what was never seen is asked for until it is
        if digest == self.memory.get("list"):
            self.memory["tag"] = tag
            return
        self.rows += len(rows)
        finished = [key for key, (data, _) in rows.items() if data.get("status") == "finished"]
        told = await self.visit.known([f"{key}:completed" for key in finished])
        for key, (data, raw) in rows.items():
            if f"{key}:completed" not in told:
                self._take(key, data, raw, listed=True)
            elif key not in self.memory.get("missed", ()):
                self.open.pop(key, None)
        self.memory |= {"list": digest, "tag": tag}

    async def _walk(self) -> tuple[dict[str, wire.Item], int | None, Any, bool]:
        """Rows by id; how many there should be, where it is said; the tag, if one answer had them all; whether nothing changed."""
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
                # Where the total changed on the way, something may have slipped past.
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
        """Ask for what is followed and was not in the list."""
        wanted = self.memory.pop("wanted", [])
        told = await self.visit.known([f"{key}:completed" for key in wanted])
        missed = self.memory.get("missed", [])
        for key in wanted:
            if key not in self.owed and (f"{key}:completed" not in told or key in missed):
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
                    # No more questions at this visit; and the next one has its time for results.
                    self.tired, self.memory["turn"] = exc, "results"
                    if key in self.open:
                        self._later(self.open[key])
                    return
            else:
                self._take(key, data, answer.body, listed=False)

    def _trouble_with(self, key: str, exc: Exception) -> None:
        """One batch that cannot be asked for is no trouble of the others, which the list has just shown.

        Where there was no list, it is: the webhook that rang for it is answered another time.
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
        """The list's pages do not show what it says it has, however often it is read."""
        if not self.memory.get("short"):
            self.memory["short"] = True
            message = f"The list has {total} batches and shows {shown}: batches may be missing that `roundsman track` did not name."
            self.events.append(
                notice("roundsman.source.gap", self.source.name, "short list", message, now=self.now)
            )

    def _take(self, key: str, data: dict[str, Any], raw: Any, *, listed: bool) -> None:
        """One batch as it is now: followed on, told, or known to be old."""
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
        missed = self.memory.get("missed", [])
        again = key in missed  # its completion was told, and its results were not
        self.memory["missed"] = [each for each in missed if each != key]
        wants = self.source.results != "off" and batch["total"] != 0 and bool(ID.fullmatch(key))
        # Also where nothing is counted as failed: an operation over many people is a success that may leave some out.
        if key not in self.owed and wants:
            self.owed[key] = {"batch": batch, "told": again, "tries": 0, "next": None}
        elif key not in self.owed and not again:
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

    # -- what people should hear of ----------------------------------------------------------------------------------

    def _mind_the_gap(self) -> None:
        """Batches that came and went while we were away longer than the vendor keeps them."""
        now, good = (
            self.visit.vendor_now,
            parse_time(self.memory.get("good")),
        )  # it is the vendor who forgets
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

    # -- results -----------------------------------------------------------------------------------------------------

    def _too_early(self, entry: dict[str, Any]) -> bool:
        then = parse_time(entry.get("next"))
        return then is not None and then > self.now and (then - self.now).total_seconds() <= RETRY_LONGEST

    async def _results(self, key: str, entry: dict[str, Any]) -> AsyncIterator[Poll]:
        """Read the results of one batch. The completed batch is told after them, or at once where they cannot be had."""
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
        """The archive, through a link that is made for this download; once more where it has expired."""
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
                    # 404 of a link is not yet 404 of the batch.
                    raise RequestFailed(str(exc)) from None
        raise AssertionError

    def _postpone(self, key: str, entry: dict[str, Any], why: str, *, final: bool) -> None:
        """Results cannot be had now: tell the batch, and try again later; or give up, out loud."""
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
        now = self.visit.vendor_now  # it is the vendor who forgets
        over = since is not None and (now - since).total_seconds() > self.source.retention
        if final or over:
            self._give_up(key)
        else:
            self.remarks.append(f"the results of batch {key} cannot be read: {why}; again in {wait:.0f}s")
        if final or over or "result_hosts" in why:
            self._missing(batch, f"cannot be read: {why}")

    def _later(self, entry: dict[str, Any]) -> float:
        """Leave it alone for a while, longer each time; how long."""
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
        del self.owed[key]
        self.memory["missed"] = [*self.memory.get("missed", []), key][-200:]

    def _read(self, key: str, entry: dict[str, Any], reading: "_Reading") -> None:
        batch: Batch = entry["batch"]
        counted = reading.failed + reading.other
        # "Errored" is documented as "not 200": where that is what the archive shows, the archive is believed.
        if batch["failed"] is None or (reading.other and counted == batch["failed"]):
            failed = reading.failed
            batch = {**batch, "failed": failed, "outcome": batch_outcome(batch["total"], failed)}
        if reading.failed > (batch["failed"] or 0):  # more were told than the vendor counts
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
            del self.owed[key]


class _Reading:
    """One archive, operation by operation."""

    def __init__(self, source: Batches, batch: Batch) -> None:
        self._source = source
        self._batch = batch
        self._stamp = parse_time(batch["completed_at"] or batch["submitted_at"])
        self.failures: list[FailedItem] = []
        """The first of them, in short."""
        self.failed = 0
        """Operations that failed."""
        self.in_part = 0
        """Operations that went well and left somebody out."""
        self.other = 0
        """Operations that went well with another status than 200: the vendor may count them as failed."""
        self._seen: Counter[str] = Counter()
        self.bad = 0
        self.problems: list[str] = []
        """The first files that could not be read, and why."""

    def pages(self, packed: IO[bytes]) -> Iterator[list[Event]]:
        """Events, some at a time; now and then none, so that others get their turn."""
        events: list[Event] = []
        count = 0
        for member in self._members(packed):
            if isinstance(member, Unreadable):
                yield events  # what was readable counts
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
        """The operations of one file, one after the other; what cannot be read of it is remembered as a problem."""
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
        """The files of the archive; in the end, why it is not read any further."""
        try:
            yield from archive.members(packed, self._source.limits)
        except Unreadable as exc:
            yield exc

    def _key(self, body: bytes) -> str:
        """What an operation is called in ids: by what it says, and the how-manieth of its like it is.

        Not by its place: results that are read again, for some were missing, may have it elsewhere.
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
        """What one operation has to tell: that it failed or, if that is wanted, went well; and whom it left out."""
        status = operation.get("status_code")
        if isinstance(status, str):
            status = fields.count(status)
        good = type(status) is int and 200 <= status < 300
        body = bytes(raw)
        if good and self._source.results != "all" and b"error" not in body and not PROBLEM.search(body):
            self.other += status != 200
            return []  # nearly all of them
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
            good = True  # the answer is that of a success
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
            # Some of many people, in an answer that came as a success.
            self.in_part += 1
            return [self._left_out(entry, item_id, f"{key}:{n}") for n, entry in enumerate(left_out)]
        told = answer.get("status") if refused or status is None else status
        code = fields.text(told)
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
        """Somebody whom an operation over many people did not take."""
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
    """Whether an answer without a status speaks of an error. Members that were not taken are another thing: `_left_out`."""
    members = any(name in answer for name in ("new_members", "updated_members", "error_count"))
    faults = [name for name in FAULTS if answer.get(name) and not (name == "errors" and members)]
    return bool(faults) or ("id" not in answer and any(answer.get(name) for name in ("title", "message")))


def _left_out(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """Whom an answer of success names as not taken; one entry without a name where it only counts them."""
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
    """What was wrong, in one line: what the fields say, where the rest only points at them."""
    about = "; ".join(f"{f['field']}: {f['message']}" if f["field"] else f["message"] or "" for f in wrong)
    if said is None or GENERIC.search(said):
        said = about or said
    elif about and about not in said:
        said = f"{said} ({about})"
    text = LINK.sub(r"\1?***", said[:2000]) if said else None
    return text if text is None or len(text) <= 500 else text[:497] + "..."


def _of(key: str, answer: Answer) -> dict[str, Any]:
    """The batch that was asked for; Unreadable where the answer is not about it."""
    data = answer.json()
    if not isinstance(data, dict):
        raise Unreadable("the answer is not an object")
    if data.get("id") != key:
        wire.refuse_failure(data)
        raise Unreadable(f"the answer about batch {key} is not about it")
    return data


def _seen(data: dict[str, Any]) -> list[Any]:
    """What counts as a change. The link does not: it is signed anew each time."""
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
    """What the operation was answered: JSON as text, if it is; else as it is."""
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
    """The value without what would let its reader download results: also inside the text of a response."""
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
    """Whom it concerns: the address in the answer, in its words, or in the operation's id."""
    email = fields.text(problem.get("email_address"))
    errors = problem.get("errors")
    words = (
        [each.get("message") for each in errors if isinstance(each, dict)] if isinstance(errors, list) else []
    )
    for each in (problem.get("detail"), *words[:20], item_id):
        if email is None and isinstance(each, str):
            each = each[:1000]  # noqa: PLW2901 - what is longer is no message to a person
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
    """An answer that is no problem object, for a person."""
    if isinstance(response, str) and response.strip():
        text = " ".join(response.split())
        return text if len(text) <= 300 else text[:297] + "..."
    return None
