"""Sends a feed's questions over HTTP, and reads the rows of the answers."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime

from roundsman.errors import Denied, Failed, RequestFailed, TooLarge
from roundsman.http.answers import REFUSED, Answer, is_refusal
from roundsman.kit.feed.state import FeedState
from roundsman.kit.feed.vendor import Growing
from roundsman.kit.probing import Question, Refused, Row, asked
from roundsman.kit.unread import keep
from roundsman.plugin import Visit
from roundsman.wire import Damage

DOUBTFUL = frozenset({403, 406, 409})
"""Statuses that refuse a question, and may have another cause."""


class Asker:
    """Asks the questions of one visit, and collects what is unexpected in the answers."""

    def __init__(self, source: Growing, visit: Visit, state: FeedState) -> None:
        self._source = source
        self._visit = visit
        self._state = state
        self.unread: list[Damage] = []
        self.remarks = state.remarks()

    async def probe(self, tag: Mapping[str, str] | None) -> Answer:
        """The newest row alone; unchanged if `tag` still holds."""
        paging = self._source.paging
        if not paging.probe_order or self._state.learned.unordered:
            return await self._probed({}, tag)
        try:
            return await self._probed({paging.order_param: paging.probe_order}, tag)
        except (RequestFailed, Denied) as exc:
            if not is_refusal(exc, REFUSED - {403}):
                raise
            refused = exc
        try:
            answer = await self._probed({}, tag)
        except (RequestFailed, Denied):
            raise refused from None  # the order was not the cause
        self._state.learned.refuses_order()
        return answer

    async def _probed(self, order: Mapping[str, str], tag: Mapping[str, str] | None) -> Answer:
        query = self._source.query(**{self._source.paging.limit_param: 1}, **order)
        # The source schedules full reads itself, by `reread.full_read_every`.
        return await self._visit.http.get(self._source.url(), query, self._source.headers(), tag, math.inf)

    async def ask(self, question: Question) -> tuple[list[Row], int]:
        """The rows, and the limit that they were asked with: lower if the answer was too large."""
        limit = question.limit
        while True:
            query = self._source.query(**self._parameters(question, limit))
            try:
                answer = await self._visit.http.get(self._source.url(), query, self._source.headers())
                return await self.rows(answer), limit
            except TooLarge:
                if limit < 2:
                    raise
                limit = max(1, limit // 4)
            except Failed as exc:
                raise Refused(exc, doubtful=True) from None
            except (RequestFailed, Denied) as exc:
                if is_refusal(exc):
                    raise Refused(exc, doubtful=exc.status in DOUBTFUL) from None
                raise

    async def some(self, question: Question) -> list[Row] | None:
        """Rows that are useful but not required; None if the server refuses all forms of the question."""
        try:
            rows, _ = await asked(self._state.learned, question, self.ask)
        except Refused:
            return None
        return rows

    async def rows(self, answer: Answer) -> list[Row]:
        """The rows of an answer. Raises `NoRows` if it has items, and none is a row."""
        shape = self._source.shape
        damaged: list[Damage] = []
        rows = await shape.rows(self._source.name, answer, self._source.paging.items, damaged)
        self.unread += keep(damaged, self._state.unread)
        odd = next((row.odd_time for row in rows if row.odd_time), None)
        if odd and not self._state.odd_times:
            # They are present, not missing: a person should know.
            self._state.odd_times = True
            self.remarks.append(
                f"{shape.created_name} of a row cannot be read as a time: it is of the form {odd}"
            )
        return rows

    def _parameters(self, question: Question, limit: int) -> dict[str, str | int]:
        paging = self._source.paging
        query: dict[str, str | int] = {paging.limit_param: limit}
        if not self._state.learned.unordered:
            field = paging.order.partition(":")[0]
            query[paging.order_param] = f"{field}:DESC" if question.backwards else paging.order
        if question.start is not None:
            query[paging.start_param] = _wire_time(question.start)
        if question.offset_param:
            query[question.offset_param] = question.offset
        return query


def _wire_time(stamp: datetime) -> str:
    """UTC with milliseconds and `Z`, rounded down: the only form seen in use."""
    return stamp.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{stamp.microsecond // 1000:03d}Z"
