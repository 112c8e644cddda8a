"""Units of commands about failures: mark them as done, and undo that."""

from collections.abc import Sequence

from roundsman.store.postgres.failures import LAST_ACTS
from roundsman.store.postgres.reading import EVENT, reading
from roundsman.store.postgres.transaction import Transaction
from roundsman.store.postgres.units import Units, durable
from roundsman.store.rows import about_event, act_of, event_of
from roundsman.store.ticking import Acting
from roundsman.store.values import Act, Acted


class Ticking(Units, Acting):
    """What is read and written of failures."""

    @reading
    async def _open_seqs(self) -> list[int]:
        sql = "SELECT seq FROM events WHERE failure = 1 AND body IS NOT NULL ORDER BY seq"
        return [seq for [seq] in await self._rows(sql)]

    @reading
    async def _keys(self, seqs: Sequence[int]) -> dict[int, str | None]:
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
