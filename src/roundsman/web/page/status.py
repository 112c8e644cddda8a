"""`GET /status.json`: what `roundsman status --json` prints, a part of the sources at a time."""

from collections.abc import Sequence
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from roundsman import screen
from roundsman.config.registry import source_class
from roundsman.engine.delivery import wanted_by
from roundsman.engine.engine import Engine
from roundsman.screen.states import States
from roundsman.store import Kind, SourceEntry, View
from roundsman.web.page.door import Session
from roundsman.web.page.queries import Query

MOST = 1000
"""Sources of one answer, also if the request does not say how many."""
KNOWN = ("offset", "limit")


class Part:
    """A view of a store that has only some of the sources."""

    def __init__(self, view: View, names: Sequence[str]) -> None:
        self._view, self._names = view, names

    def __getattr__(self, name: str) -> Any:
        return getattr(self._view, name)

    async def sources(self) -> list[SourceEntry]:
        return await self._view.sources(self._names)

    async def holders(self, kind: Kind) -> dict[str, str]:
        return await self._view.holders(kind, self._names if kind == "source" else None)

    async def counts(self) -> dict[str, int]:
        return await self._view.counts(self._names)


class Status:
    """The endpoint."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._states = States(source_class)

    async def __call__(self, request: Request, _: Session) -> Response:
        query = Query(request, KNOWN)
        offset, limit = query.number("offset", 0), query.number("limit", MOST, (1, MOST))
        engine, states = self._engine, self._states
        filters = {name: wanted_by(sink) for name, sink in engine.sinks.items()}
        configured = (set(engine.roster) | set(engine.roster.elsewhere), set(engine.sinks))

        async def read(view: View) -> Response:
            names, total = await view.names(offset, limit)
            part = cast("View", Part(view, names))
            known = (states.following, configured, states.gap, states.progress)
            worker = engine.fleet.name if engine.fleet is not None else None
            found = await screen.status(part, filters, *known, worker)
            more = offset + len(names) < total
            paging = {"offset": offset, "next": offset + len(names) if more else None, "total": total}
            return JSONResponse(
                {**found, **paging}
            )  # here, because the JSON of a thousand sources takes 10 ms

        return await engine.store.apart(read)
