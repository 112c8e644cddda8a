"""The pages: each is read from the daemon and the store, and made into HTML aside."""

import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from itertools import islice
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from roundsman.engine.delivery import wanted_by
from roundsman.engine.engine import Engine
from roundsman.plugin import Tracks
from roundsman.store import Filter, View
from roundsman.web.page import elsewhere, pages, rows
from roundsman.web.page.asked import LogQuery, SourceQuery, seq_of
from roundsman.web.page.counting import Counting
from roundsman.web.page.door import Door, Session, inside
from roundsman.web.page.templates import render, static

SOONEST, SHARE = 5.0, 0.003
"""A browser loads a page again after so many seconds; later if that would take more than this share of a processor."""
FEW = 25
"""Sources on the first page."""
LONGEST = 500
"""Maximum characters of a name and of a note, as for `roundsman failures done`."""
UNCHANGING = "max-age=31536000, immutable"

Values = Mapping[str, Any]
Reads = Callable[[View], Coroutine[Any, Any, Values]]


def login(target: str, *, by_token: bool, problem: str = "") -> str:
    """The form to log in with. Its fields: `user`, `secret`, and `next`, where to go on to (a path of the page)."""
    return render("login.html", target=target, by_token=by_token, problem=problem)


class Views:
    """The pages of one daemon."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._counting = Counting(engine)

    async def home(self, request: Request, session: Session) -> Response:
        """The state of everything."""
        engine = self._engine
        census = await self._counting.census()
        listing = await self._counting.listing()
        lists = self._lists(listing.names(0, FEW))
        sinks = list(rows.sink_rows(engine, census))
        types = {name: sink.type for name, sink in engine.sinks.items()}

        async def reads(view: View) -> Values:
            held = await view.holders("sink") if engine.fleet is not None else {}
            entries = {entry.name: entry for entry in await view.sinks()}
            _, failures = await pages.open_failures(view, Filter(), None, pages.OPEN)
            return {
                "failures": failures,
                "found": await pages.newest(view, Filter()),
                **await lists(view),
                "sinks": elsewhere.sink_rows(sinks, types, entries, held, census),
                "sink_entries": entries,
                "sink_holders": held,
                "head": await view.head(),
                "workers": await pages.all_workers(view) if engine.fleet is not None else [],
            }

        values = {
            "listing": listing,
            "census": census,
            "states": rows.STATES,
        }
        return await self._page(request, session, "home.html", reads, values)

    async def sources(self, request: Request, session: Session) -> Response:
        """All sources, a page at a time."""
        query = SourceQuery.of(request.query_params)
        every = await self._counting.listing()
        listing = every
        if query.narrows:
            others = await self._counting.others()
            listing = await rows.listing(self._engine, query.words, query.state, others)
        reads = self._lists(listing.names(query.offset, pages.LISTED))
        census = await self._counting.census()
        values = {
            "query": query,
            "listing": listing,
            "every_listing": every,
            "census": census,
            "states": rows.STATES,
            "size": pages.LISTED,
        }
        return await self._page(request, session, "sources.html", reads, values)

    def _lists(self, names: Sequence[str]) -> Reads:
        """Reads these sources. What this worker holds is known here; the rest as the store has it."""
        engine = self._engine
        own = rows.source_rows(engine, names)
        others = {name: engine.roster.elsewhere[name] for name in names if name in engine.roster.elsewhere}

        async def reads(view: View) -> Values:
            stored = await pages.stored(view, names)
            holders = await view.holders("source", names) if engine.fleet is not None else {}
            found = await elsewhere.source_rows(view, others, stored, holders, engine.time.now())
            return {"stored": stored, "holders": holders, "sources": elsewhere.in_order(names, found, own)}

        return reads

    async def source(self, request: Request, session: Session) -> Response:
        """One source."""
        name = request.path_params["name"]
        census = await self._counting.census()
        source = self._engine.roster.source(name)  # after the wait: a reload may have removed it meanwhile
        if source is None:
            return self._missing(session, f"{name}: no such source")
        lists = self._lists([name])

        async def reads(view: View) -> Values:
            found = await lists(view)
            return {
                "row": found["sources"][0],
                "stored": found["stored"],
                "holders": found["holders"],
                "follows": await pages.follows(view, source) if isinstance(source, Tracks) else None,
                "found": await pages.newest(view, Filter(sources=[name])),
                "charts": await pages.source_charts(view, name, self._engine.time.now()),
            }

        return await self._page(request, session, "source.html", reads, {"census": census})

    async def sink(self, request: Request, session: Session) -> Response:
        """One sink."""
        name = request.path_params["name"]
        census = await self._counting.census()
        engine = self._engine
        sink = engine.sinks.get(name)  # after the wait: a reload may have removed it meanwhile
        if sink is None:
            return self._missing(session, f"{name}: no such sink")
        delivery = engine.deliveries.get(name)
        own = [rows.sink_row(name, delivery, census)] if delivery is not None else []

        async def reads(view: View) -> Values:
            entry = await pages.sink_entry(view, name)
            held = await view.holders("sink", [name]) if engine.fleet is not None else {}
            entries = {name: entry} if entry is not None else {}
            [row] = elsewhere.sink_rows(own, {name: sink.type}, entries, held, census)
            return {
                "row": row,
                "entry": entry,
                "sink_holders": held,
                "dead": await pages.dead_letters(view, name),
                "head": await view.head(),
                "charts": await pages.sink_charts(view, name, self._engine.time.now()),
            }

        return await self._page(request, session, "sink.html", reads, {"wanted": wanted_by(sink)})

    async def failures(self, request: Request, session: Session) -> Response:
        """Open failures, and what persons did with failures."""
        query = LogQuery.of(request.query_params)

        async def reads(view: View) -> Values:
            total, found = await pages.open_failures(view, query.filter(), query.before, pages.LISTED)
            return {"total": total, "failures": found, "acts": await pages.acts(view)}

        values = {"query": query, "size": pages.LISTED}
        return await self._page(request, session, "failures.html", reads, values)

    async def log(self, request: Request, session: Session) -> Response:
        """The log, a page at a time, with filters."""
        query = LogQuery.of(request.query_params)

        async def reads(view: View) -> Values:
            head = await view.head()
            found = await view.search(
                query.filter(), query.words, query.span(), pages.LISTED, oldest_first=query.after is not None
            )
            return {"found": pages.lines(found), "head": head}

        values = {
            "query": query,
            "kinds": pages.kinds(),
            "outcomes": pages.OUTCOMES,
            "names": list(islice(self._engine.roster.configured(), pages.LISTED)),
            "size": pages.LISTED,
        }
        return await self._page(request, session, "log.html", reads, values)

    async def event(self, request: Request, session: Session) -> Response:
        """One event."""
        seq = seq_of(request.path_params["seq"])

        async def reads(view: View) -> Values:
            return {"whole": await pages.whole(view, seq) if seq is not None else None}

        return await self._page(request, session, "event.html", reads, {"number": request.path_params["seq"]})

    # -- what changes something ----------------------------------------------------------------------------------------

    async def done(self, _: Request, session: Session) -> Response:
        """Mark a failure as done."""
        return await self._act(session, done=True)

    async def undo(self, _: Request, session: Session) -> Response:
        """Open a failure again."""
        return await self._act(session, done=False)

    async def _act(self, session: Session, *, done: bool) -> Response:
        seq, who, note = (
            seq_of(session.said("seq")),
            session.said("who").strip(),
            session.said("note").strip(),
        )
        wrong = None
        if seq is None:
            wrong = "the number of the failure is missing"
        elif not who or len(who) > LONGEST:
            wrong = f"the name of the person is missing, or longer than {LONGEST} characters"
        elif len(note) > LONGEST:
            wrong = f"the note is longer than {LONGEST} characters"
        if wrong or seq is None:
            return self._missing(session, f"Nothing was changed: {wrong}", 400)
        store, now = self._engine.store, self._engine.time.now()
        acts = store.tick_off if done else store.reopen
        acted = await acts([seq], who, note or None, now)
        if not acted.changed and seq not in acted.already:
            return self._missing(session, f"Nothing was changed: {seq} is not the number of a failure", 404)
        self._counting.changed()
        path, _, query = inside(session.said("back") or "/").partition("?")
        kept = [each for each in query.split("&") if each and not each.startswith("acted=")]
        return RedirectResponse(f"{path}?{'&'.join([*kept, urlencode({'acted': seq})])}", 303)

    # -- what all pages share ------------------------------------------------------------------------------------------

    async def _page(
        self, request: Request, session: Session, template: str, reads: Reads, values: Values
    ) -> Response:
        """The page of this template, with these values and those that it reads aside."""
        acted = seq_of(request.query_params.get("acted", ""))
        shares = await self._counting.shares()
        common = {
            "shares": shares,
            "shared_work": self._engine.fleet is not None,
            "session": session,
            "here": request.url.path,
            "query_string": request.url.query,
        }

        async def made(view: View) -> tuple[str, int]:
            began = time.thread_time()
            found = await reads(view)
            shared = await pages.shared(view, self._engine, acted)
            status = 404 if found.get("whole", True) is None else 200
            # So that a page that is open costs little: what took long is loaded later again.
            took = time.thread_time() - began
            every = max(SOONEST, round(2 * took / SHARE))
            return render(template, **values, **found, **common, shared=shared, every=every), status

        html, status = await self._engine.store.apart(made)
        return HTMLResponse(html, status)

    def _missing(self, session: Session, what: str, status: int = 404) -> Response:
        return HTMLResponse(render("missing.html", session=session, what=what), status)


def routes(engine: Engine, door: Door) -> list[Route]:
    """The routes of the pages, and of the files that they load."""
    views = Views(engine)

    def served(name: str) -> Route:
        async def serve(_: Request) -> Response:
            file = static()[name]
            return Response(file.body, media_type=file.kind, headers={"cache-control": UNCHANGING})

        return door.anyone(f"/{name}", serve)

    return [
        door.reader("/", views.home),
        door.reader("/sources", views.sources),
        door.reader("/source/{name}", views.source),
        door.reader("/sink/{name}", views.sink),
        door.reader("/failures", views.failures),
        door.reader("/log", views.log),
        door.reader("/event/{seq}", views.event),
        door.actor("/failures/done", views.done),
        door.actor("/failures/undo", views.undo),
        *(served(name) for name in static()),
    ]
