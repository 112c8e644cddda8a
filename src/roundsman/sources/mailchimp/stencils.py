"""Makes hundreds of thousands of similar events: what they share is encoded once."""

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from roundsman import wire
from roundsman.events import Event
from roundsman.shapes import Batch, Outcome
from roundsman.summary import summary
from roundsman.times import parse_time

ID, SUBJECT, DATA = "\0id", "\0subject", {"\0data": 0}
"""Places to fill in. No name of a source and no id has such a character."""


class Stencil:
    """Makes the events of one type about one batch, as `Event.of` makes them."""

    def __init__(self, source: str, batch: Batch, kind: str, outcome: Outcome) -> None:
        self._batch_id = batch["batch_id"]
        self._model = Event.of(
            vendor="mailchimp",
            source=source,
            type=f"com.mailchimp.batch.{kind}",
            id=f"{self._batch_id}:{ID}",
            data=DATA,
            time=batch["completed_at"],
            subject=SUBJECT,
            outcome=outcome,
            stamp=parse_time(batch["completed_at"] or batch["submitted_at"]),
        )
        self._to_id, _, rest = self._model.body.partition(wire.encode(ID)[1:-1])
        self._to_subject, _, rest = rest.partition(wire.encode(SUBJECT))
        self._to_summary, _, rest = rest.partition(wire.encode(self._model.summary))
        self._to_data, _, self._end = rest.partition(wire.encode(DATA))

    def event(self, key: str, subject: str | None, data: Mapping[str, Any]) -> Event:
        """An event. `key` is its name within the batch, of letters, digits and colons."""
        thing, model = subject or self._batch_id, self._model
        parts = (
            self._to_id,
            key.encode(),
            self._to_subject,
            wire.encode(thing),
            self._to_summary,
            wire.encode(summary(model.source, model.type, model.outcome, data, thing)),
            self._to_data,
            wire.encode(data),
            self._end,
        )
        return replace(self._model, id=f"{self._batch_id}:{key}", body=b"".join(parts))
