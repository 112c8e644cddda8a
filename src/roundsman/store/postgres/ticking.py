"""Units of commands about failures: mark them as done, and undo that."""

from collections.abc import Sequence

from roundsman.store.postgres.failures import LAST_ACTS
from roundsman.store.postgres.reading import EVENT, reading
from roundsman.store.postgres.transaction import Transaction
from roundsman.store.postgres.units import Units, durable
from roundsman.store.rows import about_event, act_of, event_of
from roundsman.store.values import Act, Acted

PIECE = 1000
"""Failures of one unit: others wait until the unit ends."""


class Ticking(Units):
    """What commands write about failures."""

    async def tick_off(self, seqs: Sequence[int] | None, who: str, note: str | None, now: float) -> Acted:
        """Mark failures as done (all open ones if `seqs` is None), and record who did it. Several commits if there are
        many.
        """
        return await self._act(
            await self._open_seqs() if seqs is None else seqs, Act(0, now, who, True, note)
        )

    async def reopen(self, seqs: Sequence[int], who: str, note: str | None, now: float) -> Acted:
        """Undo that failures were marked as done, and record who did it. Those whose payloads were pruned stay done."""
        return await self._act(seqs, Act(0, now, who, False, note))

    async def _act(self, seqs: Sequence[int], act: Act) -> Acted:
        """Record this act on each of these failures, except on those on which it changes nothing."""
        seqs = list(dict.fromkeys(seqs))
        changed: list[int] = []
        already: dict[int, Act | None] = {}
        for at in range(0, len(seqs), PIECE):
            some = seqs[at : at + PIECE]
            keys = await self._keys(some) if act.done else {}
            piece = await self._act_on(some, act, keys)
            changed += piece.changed
            already |= piece.already
        return Acted(changed, already)

    @reading
    async def _open_seqs(self) -> list[int]:
        """The failures that are listed, oldest first."""
        sql = "SELECT seq FROM events WHERE failure = 1 AND body IS NOT NULL ORDER BY seq"
        return [seq for [seq] in await self._rows(sql)]

    @reading
    async def _keys(self, seqs: Sequence[int]) -> dict[int, str | None]:
        """What each of these failures is about."""
        sql = f"{EVENT} WHERE e.seq = ANY (%s::bigint[]) AND e.failure = 1 AND e.body IS NOT NULL"
        return {row[0]: about_event(event_of(row)) for row in await self._rows(sql, (list(seqs),))}

    @durable
    async def _act_on(
        self, transaction: Transaction, seqs: Sequence[int], act: Act, keys: dict[int, str | None]
    ) -> Acted:
        was, now = (1, 0) if act.done else (0, 1)
        # One whose payload was pruned could not be listed.
        done = await transaction.run(
            "UPDATE events SET failure = %s WHERE seq = ANY (%s::bigint[]) AND failure = %s "
            "AND (%s OR body IS NOT NULL) RETURNING seq",
            (now, list(seqs), was, act.done),
        )
        there = {seq for [seq] in await done.fetchall()}
        changed = [seq for seq in seqs if seq in there]
        # With the key of the act that is undone: its failure may be deleted, and its source is in the key.
        await transaction.run(
            "INSERT INTO acts (seq, at, who, done, note, about) SELECT g.seq, %s, %s, %s, %s, coalesce(g.about, "
            "(SELECT a.about FROM acts a WHERE a.seq = g.seq ORDER BY a.n DESC LIMIT 1)) "
            "FROM unnest(%s::bigint[], %s::text[]) WITH ORDINALITY AS g (seq, about, place) ORDER BY g.place",
            (act.at, act.who, int(act.done), act.note, changed, [keys.get(seq) for seq in changed]),
        )
        so = "SELECT seq FROM events WHERE seq = ANY (%s::bigint[]) AND failure = %s"
        others = list(set(seqs).difference(changed))
        unchanged = [seq for [seq] in await (await transaction.run(so, (others, now))).fetchall()]
        last = await (await transaction.run(LAST_ACTS, (unchanged,))).fetchall()
        acts = {found[0]: act_of(found) for found in last}
        return Acted(changed, {seq: acts.get(seq) for seq in unchanged})
