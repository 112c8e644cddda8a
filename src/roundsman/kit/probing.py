"""Reads a growing list from a server that documents neither its parameters nor how long an answer may be.

The list is read in the documented way until an answer contradicts it; then the next strategy is tried:

    keyset    pages in ascending order; each starts at the last stamp of the previous page, and must contain
              that page's last row
    offset    the same question with a growing offset; each page must contain the previous page's last row
    grow      one question with a growing limit
    gap       no strategy gets past the truncation

What the answers neither prove nor contradict does not stop a reading: it is reported once, and sweeps find
what was missed. A refused question is an answer, too: the server does not accept what was guessed in it.

What was learned of a server is kept in the source's memory (`largest`, `ways`, `heads`, `by_created`,
`exclusive`, `accepted`, `ascends`, `descending`, `dates`, `undated`, `unordered`, `fits`, `ignores_limit`,
`ignores_larger`). The position of a reading is kept in its `walk`, so that it continues after a crash.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

from roundsman.times import parse_time, rfc3339
from roundsman.wire import Item

MILLISECOND = timedelta(milliseconds=1)
"""The precision of times in questions."""
SHORTEST_TRUNCATED = 5
"""Minimum rows of an answer that may be truncated; a shorter answer is complete."""
ROUND_TO = 5
"""Servers truncate at multiples of this. Such a number of rows is a reason to check, and no proof."""
SMALLER_LIMITS = (100, 20)
"""Limits to try if a larger one is refused."""
SLACK = timedelta(seconds=1)
"""How much earlier than asked for a row may be: some servers round."""
BACKSTEPS = 6
"""Maximum steps back of an offset, after rows before it have vanished; then offsets are given up."""


Step = Literal["done", "more", "again"]
"""The list is read; go on to the next page; ask again, perhaps with another strategy."""


class Refused(Exception):
    """The server refuses a question; `cause` is its error. `doubtful`: it may also be a transient fault."""

    def __init__(self, cause: Exception, *, doubtful: bool = False) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.doubtful = doubtful


class Row(NamedTuple):
    """One row of a list, reduced to what reading needs."""

    id: str
    created: datetime | None
    """When the vendor stored it: the sort key of the list."""
    occurred: datetime | None
    """When it happened: earlier than `created`, sometimes much earlier."""
    item: Item
    odd_time: str = ""
    """The form of `created`, if it is present and cannot be read as a time."""


class Question(NamedTuple):
    """One request for rows."""

    start: datetime | None
    limit: int
    offset_param: str = ""
    offset: int = 0
    backwards: bool = False
    """Newest first."""


class Limits(NamedTuple):
    """The user's options for reading."""

    limit: int
    most: int
    mode: Literal["auto", "keyset", "offset", "grow"]
    offset_params: tuple[str, ...]


class Page(NamedTuple):
    rows: list[Row]
    truncated: bool
    """More rows may follow: the page is full, or at least as long as the longest answer so far."""
    ascending: bool
    descending: bool

    def has(self, row_id: str | None) -> bool:
        return any(row.id == row_id for row in self.rows)


class Probing:
    """One reading. `memory["walk"]` holds its `start` and its position.

    `ask` returns the rows, and the limit of the request that succeeded: lower than asked for if the answer
    was too large.
    """

    def __init__(
        self,
        memory: dict[str, Any],
        limits: Limits,
        ask: Callable[[Question], Awaitable[tuple[list[Row], int]]],
        take: Callable[[list[Row]], None],
    ) -> None:
        """`ask` raises `Refused` if the server refuses the question itself."""
        self._memory = memory
        self._walk: dict[str, Any] = memory["walk"]
        self._limits = limits
        self._ask = ask
        self._take = take
        self.doubts: list[str] = []
        """What the answers neither prove nor contradict, for a person; each is reported only once."""

    async def advance(self) -> Literal["done", "more", "gap"]:
        """Read until a page advances the reading; a strategy that fails hands over to the next."""
        walk = self._walk
        walk.setdefault("way", (self._memory.get("ways") or self._strategies())[0])
        walk.setdefault("limit", self._limit())
        while walk["way"] != "gap":
            way, _, param = walk["way"].partition(":")
            try:
                if way == "keyset":
                    done = await self._keyset()
                elif way == "offset":
                    done = await self._offset(param)
                else:
                    done = await self._grow()
            except Refused as refused:
                proved = way != "offset" or walk.get("proved")
                guessed = not proved or walk["limit"] > self._memory.get("accepted", 1)
                if refused.doubtful and not guessed and not await self._is_about_the_offset():
                    raise refused.cause from None  # all of it was accepted before: the fault is transient
                if not (walk.get("anchor") or walk.get("full")):
                    raise refused.cause from None  # nothing was guessed yet
                done = self._another_strategy()
            if done != "again":
                return done
        self._memory.pop("ways", None)
        return "gap"

    async def _is_about_the_offset(self) -> bool:
        """Whether a page was refused for its offset: the same question without an offset is accepted."""
        walk = self._walk
        if not walk.get("offset"):
            return False
        try:
            await asked(self._memory, Question(parse_time(walk["start"]), walk["limit"]), self._ask)
        except Refused:
            return False
        return True

    def _strategies(self) -> list[str]:
        """All strategies to get past a truncation, in the order to try them."""
        offsets = [f"offset:{name}" for name in self._limits.offset_params]
        first = {"auto": [], "keyset": ["keyset"], "offset": offsets, "grow": ["grow"]}[self._limits.mode]
        return [*first, *(way for way in ("keyset", *offsets, "grow") if way not in first), "gap"]

    async def _keyset(self) -> Step:
        walk, anchor = self._walk, self._walk.get("anchor")
        at = parse_time(walk.get("at") or walk["start"])
        exclusive = bool(anchor) and bool(self._memory.get("exclusive") or walk.get("earlier"))
        page = await self._page(Question(at - MILLISECOND if at and exclusive else at, walk["limit"]))
        if anchor and not page.has(anchor):
            # The anchor is missing. Either startDate is exclusive (then a start a millisecond earlier brings
            # it), or it does not compare with the sort key (then paging by the sort key skips rows).
            if not exclusive:
                walk["earlier"] = True
                return "again"
            return self._another_strategy()
        if walk.pop("earlier", None):
            self._memory["exclusive"] = True
        if anchor and (self._contradicts(page, at) or await self._hides(page, at)):
            return self._another_strategy()
        if not page.truncated or (not anchor and self._reaches_down(page)):
            return "done"
        if not page.ascending or not (anchor or await self._begins_with_oldest(page, at)):
            return self._another_strategy()
        last = page.rows[-1]
        assert last.created is not None  # an ascending page has a stamp in each row
        if at is not None and anchor and last.created <= at:
            # More rows share one stamp than fit into a page.
            if len(page.rows) < walk["limit"] or walk["limit"] >= self._most():
                return self._another_strategy()
            walk["limit"] = min(walk["limit"] * 2, self._most())
            return "again"
        last = self._telling(page, at) or last
        assert last.created is not None
        walk |= {"at": rfc3339(last.created), "anchor": last.id}
        return "more"

    async def _offset(self, param: str) -> Step:
        walk, offset = self._walk, self._walk.get("offset", 0)
        start = parse_time(walk["start"])
        page = await self._page(Question(start, walk["limit"], param if offset else "", offset))
        if offset and page.rows and page.rows[0].id == walk.get("first"):
            return self._another_strategy()  # the same page again: the server ignores the parameter
        if offset and not page.has(walk["anchor"]):
            # Rows before the offset have vanished and the others moved up: step back.
            walk["back"] = walk.get("back", 0) + 1
            if walk["back"] > BACKSTEPS:
                return self._another_strategy()
            walk |= {"offset": max(0, offset - max(1, self._memory["largest"] // 2)), "first": None}
            return "more"
        if offset:
            walk["proved"] = True  # the server accepted it, and it advanced the reading
        if not page.truncated or (offset and len(page.rows) == 1):
            return "done"
        step = max(1, len(page.rows) - 1)  # pages overlap by a row, to prove that nothing is missing between
        walk |= {"offset": offset + step, "anchor": page.rows[-1].id, "first": page.rows[0].id}
        return "more"

    async def _grow(self) -> Step:
        walk, most = self._walk, self._most()
        page = await self._page(Question(parse_time(walk["start"]), walk["limit"]))
        count = len(page.rows)
        if not page.truncated or self._reaches_down(page):
            return "done"
        ignored = bool(self._memory.get("ignores_limit"))
        if ignored and walk.get("full") == count:
            self._memory["ignores_larger"] = True  # tried once; a larger question costs the whole list
        if count >= walk["limit"] and walk["limit"] < most and not self._memory.get("ignores_larger"):
            walk |= {"limit": min(walk["limit"] * 2, most), "full": count}
            return "again"
        if walk.get("full", count) < count < walk["limit"] and count % ROUND_TO and not ignored:
            return "done"  # longer than the last full answer, below the limit, no multiple to truncate at
        same, page = await self._same_from_the_end(page)
        if same is None:
            same = not self._is_truncated(page)
            if same and not (ignored and count % ROUND_TO):
                self._doubt("cut", f"an answer has exactly {count} rows: whether that is all cannot be told")
        return "done" if same else self._another_strategy()

    def _another_strategy(self) -> Step:
        """This strategy does not get past the truncation: start again with the next one, and remember it."""
        walk, ways = self._walk, self._strategies()
        left = ways[ways.index(walk["way"]) + 1 :] if walk["way"] in ways else ways
        walk["way"] = left[0]
        self._memory["ways"] = left
        for key in ("at", "anchor", "offset", "first", "back", "earlier", "full", "proved"):
            walk.pop(key, None)
        walk["limit"] = self._limit()
        return "again"

    def _limit(self) -> int:
        """The first limit to ask for: the user's, or a lower one that fits."""
        fits: int = self._memory.get("fits", self._limits.limit)
        return min(self._limits.limit, fits)

    def _most(self) -> int:
        """The largest limit to ask for: the user's, or a lower one that fits."""
        fits: int = self._memory.get("fits", self._limits.most)
        return min(self._limits.most, fits)

    # -- what an answer proves -------------------------------------------------------------------------------

    async def _page(self, question: Question) -> Page:
        page = await self._look(question)
        self._take(page.rows)
        stamps = [row.created for row in page.rows if row.created]
        if stamps:
            low, high = parse_time(self._walk.get("low")), parse_time(self._walk.get("high"))
            self._walk["low"] = rfc3339(min(stamps) if low is None else min(low, *stamps))
            self._walk["high"] = rfc3339(max(stamps) if high is None else max(high, *stamps))
        return page

    async def _look(self, question: Question) -> Page:
        rows, limit = await asked(self._memory, question, self._ask)
        if limit < question.limit:
            self._walk["limit"] = self._memory["fits"] = limit
        count, largest = len(rows), self._memory.get("largest", 0)
        if question.limit > 1:
            self._memory["largest"] = max(largest, count)
        stamps = [row.created for row in rows if row.created is not None]
        sortable = len(stamps) == count
        ascending = sortable and stamps == sorted(stamps)
        descending = sortable and stamps == sorted(stamps, reverse=True)
        if count > self._memory.get("ignores_limit", count) + SHORTEST_TRUNCATED:
            del self._memory["ignores_limit"]  # the server does not ignore `limit`: it has a minimum
        if self._memory.get("ignores_limit"):
            # The server ignores `limit`, so the number of rows says nothing. But the answer may be a window
            # of fixed length: then it always has the same number of rows, or does not reach down to `known`.
            known = self._walk.get("known")
            reaches = known is not None and any(row.id == known for row in rows)
            ends = reaches and (rows[-1].id == known or (descending and not ascending) or count > largest)
            truncated = count >= SHORTEST_TRUNCATED and not ends
        else:
            truncated = count >= limit or (count >= SHORTEST_TRUNCATED and count >= largest)
        return Page(rows, truncated, ascending, descending)

    def _reaches_down(self, page: Page) -> bool:
        """Whether it is newest first, down to what was the newest row before: it lacks nothing newer."""
        return page.descending and not page.ascending and page.has(self._walk.get("known"))

    async def _begins_with_oldest(self, page: Page, at: datetime | None) -> bool:
        """Whether an ascending page holds the oldest rows, not the newest ones in ascending order."""
        if self._memory.get("heads"):
            return True
        one = (await self._look(Question(at, 1))).rows
        spans = page.rows[0].created != page.rows[-1].created
        same = bool(one) and (
            one[0].id == page.rows[0].id or (spans and one[0].created == page.rows[0].created)
        )
        if same:
            self._memory["heads"] = True
        return same

    def _telling(self, page: Page, at: datetime | None) -> Row | None:
        """The last row that, as the next anchor, proves what startDate compares with; None if no row does."""
        if self._memory.get("by_created"):
            return None
        rows = (row for row in reversed(page.rows) if row.created and (at is None or row.created > at))
        return next(
            (
                row
                for row in rows
                if row.created and row.occurred and row.occurred < row.created - MILLISECOND
            ),
            None,
        )

    def _contradicts(self, page: Page, at: datetime | None) -> bool:
        """Whether a page disproves that startDate compares with `created`: it lists rows stored before `at`.

        A listed row that occurred before `at` and was stored after it proves that startDate compares with
        `created`. Without either, reading goes on as documented.
        """
        if at is None or self._memory.get("by_created"):
            return False
        bound = at - MILLISECOND
        if any(row.created and row.created < bound - SLACK for row in page.rows):
            return True
        proof = any(row.occurred and row.created and row.occurred < bound <= row.created for row in page.rows)
        if proof or self._limits.mode == "keyset" or not any(row.occurred for row in page.rows):
            # Rows without `occurred` leave nothing else to compare with; mode = "keyset" is the user's
            # decision.
            self._memory["by_created"] = True
        else:
            self._doubt(
                "startDate",
                "the rows do not show whether startDate compares with createdAt: they are read as documented, and sweeps "
                "look for what that could miss",
            )
        return False

    async def _hides(self, page: Page, at: datetime | None) -> bool:
        """Whether the last page of a doubtful reading lacks one of the newest rows, which it should have."""
        if page.truncated or at is None or self._memory.get("by_created"):
            return False
        newest = await self._page(Question(None, self._walk["limit"], backwards=True))
        for again in (False, True):
            there = {row.id for row in page.rows}
            bound = at + MILLISECOND
            missing = [
                row for row in newest.rows if row.created and row.created >= bound and row.id not in there
            ]
            if not missing:
                return False
            if not again:  # the row may have been added between the two questions
                page = await self._page(Question(at, self._walk["limit"]))
        return True

    def _doubt(self, about: str, what: str) -> None:
        """Report it, only once."""
        doubted = self._memory.get("doubted", [])
        if about not in doubted:
            self._memory["doubted"] = [*doubted, about]
            self.doubts.append(what)

    def _is_truncated(self, page: Page) -> bool:
        """Whether something shows that there are more rows; a suspicious number of rows alone does not."""
        walk, count = self._walk, len(page.rows)
        if not self._memory.get("ignores_limit") and (count >= walk["limit"] or walk.get("full") == count):
            return True  # it is full, or a larger limit brought no more than a full answer
        if walk.get("known") is not None and not page.has(walk["known"]):
            return True  # it does not reach down to the newest row known
        edge, start = walk.get("edge"), parse_time(walk["start"])
        if (
            edge
            and not page.has(edge[0])
            and (start is None or (parse_time(edge[1]) or start) > start + SLACK)
        ):
            return True  # a row that was reported before is missing
        stamps = [row.created for row in page.rows if row.created]
        low, high = parse_time(walk.get("low")), parse_time(walk.get("high"))
        return bool(stamps) and bool((low and low < min(stamps)) or (high and high > max(stamps)))

    async def _same_from_the_end(self, page: Page) -> tuple[bool | None, Page]:
        """Whether the newest rows are also the oldest: then they are all, however suspicious their number.

        None if unknown. Also returns the page, read again if rows were added meanwhile.
        """
        question = Question(parse_time(self._walk["start"]), self._walk["limit"], backwards=True)
        back = await self._look(question)
        stamps = [row.created for row in page.rows if row.created]
        ids = {row.id for row in page.rows}
        if {row.id for row in back.rows} != ids:
            fresh = [row for row in back.rows if row.id not in ids]
            if not stamps or any(row.created is None or row.created < max(stamps) for row in fresh):
                return False, page
            # The other rows may have been added between the two questions.
            page = await self._page(question._replace(backwards=False))
            if {row.id for row in back.rows} != {row.id for row in page.rows}:
                return False, page
        turned = page.ascending and back.descending and page.rows[0].created != page.rows[-1].created
        return (True if turned else None), page


async def asked(
    memory: dict[str, Any],
    question: Question,
    ask: Callable[[Question], Awaitable[tuple[list[Row], int]]],
) -> tuple[list[Row], int]:
    """The rows, and the limit of the request that succeeded.

    If the question is refused, it is asked without what was guessed in it, one guess after the other. What
    the server accepts is remembered. Raises `Refused` if it accepts nothing.
    """
    if memory.get("descending"):
        question = question._replace(backwards=True)
    if memory.get("undated"):
        question = question._replace(start=None)
    first: Refused | None = None
    easier = _easier(memory, question)
    for each in (question, question, *easier):
        # Ask the same question a second time only if the fault may be transient: the status is doubtful, or
        # all of the question was accepted before.
        if each is question and first is not None and easier and not first.doubtful:
            continue
        try:
            rows, limit = await ask(each)
        except Refused as refused:
            first = first or refused
            continue
        if each is question:
            first = None  # accepted at the second try: the fault was transient
        memory["accepted"] = max(memory.get("accepted", 1), limit)
        if each.start is not None:
            memory["dates"] = True
        if not each.backwards:
            memory["ascends"] = True
        if first is not None:
            if each.backwards and not question.backwards:
                memory["descending"] = True
            if each.start != question.start:
                memory["undated"] = True
        return rows, limit
    assert first is not None
    raise first


def _easier(memory: dict[str, Any], question: Question) -> list[Question]:
    """The same question with fewer guesses: a smaller limit, descending order, no start."""
    accepted: int = memory.get("accepted", 1)
    known = [accepted] if accepted > 1 else SMALLER_LIMITS  # a limit that was accepted once
    found = [question._replace(limit=n) for n in known if n < question.limit]
    if not question.backwards and not memory.get("ascends"):
        found += [each._replace(backwards=True) for each in (question, *found)]
    if question.start is not None and not memory.get("dates"):
        found += [each._replace(start=None) for each in (question, *found)]
    return found


def forget(memory: dict[str, Any]) -> None:
    """Forget what was learned of the server: it may have changed."""
    for key in (
        *("ways", "heads", "by_created", "exclusive", "fits"),
        *("accepted", "ascends", "descending", "dates", "undated", "unordered"),
        *("ignores_limit", "ignores_larger"),
    ):
        memory.pop(key, None)
