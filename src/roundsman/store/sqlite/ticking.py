"""Units of commands about failures: mark them as done, and undo that."""

from collections.abc import Sequence

from roundsman.store.rows import about_event, act_of, event_of
from roundsman.store.sqlite.failures import LAST_ACTS, listed
from roundsman.store.sqlite.reading import EVENT, reading
from roundsman.store.sqlite.units import Units, durable
from roundsman.store.ticking import Acting
from roundsman.store.values import Act, Acted


class Ticking(Units, Acting):
    """What is read and written of failures."""

    @reading
    def _open_seqs(self) -> list[int]:
        sql = "SELECT seq FROM events WHERE failure = 1 AND body IS NOT NULL ORDER BY seq"
        return [seq for [seq] in self._run(sql)]

    @reading
    def _keys(self, seqs: Sequence[int]) -> dict[int, str | None]:
        sql = f"{EVENT} WHERE e.seq IN (SELECT value FROM json_each(?)) AND e.failure = 1 AND e.body IS NOT NULL"  # noqa: S608 - fixed words
        return {row[0]: about_event(event_of(row)) for row in self._run(sql, (listed(seqs),))}

    @durable
    def _act_on(self, seqs: Sequence[int], act: Act, keys: dict[int, str | None]) -> Acted:
        was, now = (1, 0) if act.done else (0, 1)
        # One whose payload was pruned could not be listed.
        flag = "UPDATE events SET failure = :now WHERE seq = :seq AND failure = :was AND (:now = 0 OR body IS NOT NULL)"
        # With the key of the act that is undone: its failure may be deleted, and its source is in the key.
        row = (
            "INSERT INTO acts (seq, at, who, done, note, about) VALUES (:seq, :at, :who, :done, :note, "
            "coalesce(:about, (SELECT about FROM acts WHERE seq = :seq ORDER BY n DESC LIMIT 1)))"
        )
        changed = [seq for seq in seqs if self._do(flag, {"seq": seq, "was": was, "now": now}).rowcount]
        said = {"at": act.at, "who": act.who, "done": act.done, "note": act.note}
        self._do_many(row, [{**said, "seq": seq, "about": keys.get(seq)} for seq in changed])
        others = listed(set(seqs).difference(changed))
        so = "SELECT seq FROM events WHERE seq IN (SELECT value FROM json_each(?)) AND failure = ?"
        unchanged = [seq for [seq] in self._do(so, (others, now))]
        acts = {found[0]: act_of(found) for found in self._do(LAST_ACTS, (listed(unchanged),))}
        return Acted(changed, {seq: acts.get(seq) for seq in unchanged})
