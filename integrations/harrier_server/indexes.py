"""Routes for indexes: /v1/indexes, /v1/search and, if allowed, /v1/ingest."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from harrier_core.errors import HarrierError, StoreUnavailable
from harrier_core.fields import PRIVATE
from harrier_core.records import IngestReport, Match
from harrier_core.threads import THREADS, in_thread
from harrier_server.bodies import SearchRequest, decode, texts_of
from harrier_server.ingesting import AHEAD, Ingesting
from harrier_server.refusals import Refusal, bad, refusal_of
from harrier_server.routes import Routes, answer
from harrier_server.state import State

if TYPE_CHECKING:
    from harrier_core.index import Index
    from harrier_core.threads import Threads
    from harrier_core.view import View

_MOST_K = 1_000
_MOST_MATCHES = 20_000  # of all queries of a request, including those that are skipped
_KEPT = 200  # rejected records of the last ingest
_PATIENCE = 5.0  # seconds in which a database has to report its contents


def routes(make: Routes, state: State) -> Sequence[Route]:
    """Return the routes of a server."""
    listing = Listing(state.indexes, state.threads)

    async def indexes(request: Request, body: bytes) -> Response:  # noqa: ARG001  # a handler's
        return answer({"object": "list", "data": [_seen(state, facts) for facts in await listing.facts()]})

    async def search(request: Request, body: bytes) -> Response:
        state.served.check_space(request.headers)
        asked = decode(body, SearchRequest)
        if not 1 <= asked.k <= _MOST_K:
            raise bad(f"k must be from 1 to {_MOST_K:,}, got {asked.k}", "k")
        name = asked.index or _only(state)
        index_of(state, name)
        queries = texts_of(asked.query, state.limits.texts, "query")
        if asked.offset < 0:
            raise bad(f"offset must be at least 0, got {asked.offset}", "offset")
        if len(queries) * (asked.k + asked.offset) > _MOST_MATCHES:
            raise bad(f"the number of queries times (k + offset) must be at most {_MOST_MATCHES:,}", "k")
        with state.turns.admitted(sum(map(_size, queries)), state.caller(request)):
            found = await state.views[name].asearch_many(
                queries,
                asked.k,
                asked.where,
                task=asked.task,
                mode=asked.mode,
                min_score=asked.min_score,
                offset=asked.offset,
            )
        data = [{"query": at, "matches": [told(match) for match in matches]} for at, matches in enumerate(found)]
        return answer({"object": "list", "index": name, "data": data})

    async def ingest(request: Request, body: bytes) -> Response:  # noqa: ARG001  # it is read as it comes
        if not state.settings.ingest:
            raise Refusal(403, "this server does not write to indexes", code="ingest_not_allowed")
        state.served.check_space(request.headers)
        name = request.query_params.get("index", "")
        index = index_of(state, name)
        if state.views[name].fixed is not None:
            raise Refusal(
                403, "this server exposes part of the index, and does not write to it", code="ingest_not_allowed"
            )
        await _open(index, state.limits.arrival)
        with ExitStack() as admitted:
            count = admitted.enter_context(state.turns.arriving(state.caller(request)))
            count(2 * AHEAD)  # half of it for an incomplete line; longer ones count when they come
            ingesting = Ingesting(request, index, state.limits, state.under_way, admitted.pop_all(), count)
            ingesting.keep = lambda report: _keep(state, name, report)
            return ingesting

    return [
        make.route("/v1/indexes", "GET", indexes),
        make.route("/v1/search", "POST", search),
        make.route("/v1/ingest", "POST", ingest, streamed=True),
    ]


async def _open(index: Index, seconds: float) -> None:
    """Open the place of an index, and create it if it is missing. Raise what is wrong with it."""
    try:
        async with asyncio.timeout(seconds):
            await in_thread(lambda: index.store.open(index.encoder.space, create=True))
    except TimeoutError:
        raise StoreUnavailable(f"the index's database did not answer within {seconds:g} seconds") from None


def index_of(state: State, name: str) -> Index:
    """Return an index by its name, for a request whose blocking work then runs on the index's own threads.

    Raise Refusal if the server has no such index.
    """
    index = state.indexes.get(name)
    if index is None:
        known = ", ".join(state.indexes) or "none"
        raise Refusal(404, f"there is no index {name[:100]!r}; this server has {known}", code="index_not_found")
    THREADS.set(state.threads[name])
    return index


def _only(state: State) -> str:
    """Return the name of the only index. Raise Refusal if there are others."""
    if len(state.indexes) != 1:
        raise bad(f"index is missing; this server has {', '.join(state.indexes) or 'none'}", "index")
    return next(iter(state.indexes))


def _keep(state: State, name: str, report: IngestReport) -> None:
    """Keep the records that an ingest rejected, for people who look at the index."""
    listed = [{"record_id": record_id, "reason": reason} for record_id, reason in report.rejected[:_KEPT]]
    when = datetime.now(UTC).isoformat(timespec="seconds")
    state.rejected[name] = {"at": when, "records": listed, "total": len(report.rejected)}


def view_of(state: State, name: str) -> View:
    """Return the callers' view of an index, by its name. Raise Refusal if the server has no such index."""
    index_of(state, name)
    return state.views[name]


def _seen(state: State, facts: dict[str, Any]) -> dict[str, Any]:
    """Return the facts about an index, without the counts if callers may see only a part of it."""
    if state.views[facts["id"]].fixed is None:
        return facts
    return {name: value for name, value in facts.items() if name not in ("chunks", "records")}


class Listing:
    """The known facts of each index. One whose database is down, or does not answer, does not delay the others."""

    def __init__(self, indexes: Mapping[str, Index], threads: Mapping[str, Threads]) -> None:
        self._indexes = indexes
        self._threads = threads
        self._asking: dict[str, asyncio.Future[dict[str, Any]]] = {}  # one thread for each, however often it is listed

    async def facts(self) -> list[dict[str, Any]]:
        """Return the facts that are known within a few seconds."""
        asked = {name: self._asked(name, index) for name, index in self._indexes.items()}
        if asked:
            await asyncio.wait(asked.values(), timeout=_PATIENCE)
        away = {"status": "unavailable"}
        found = {name: each.result() if each.done() else away for name, each in asked.items()}
        return [{"id": name, "object": "index", **facts} for name, facts in found.items()]

    def _asked(self, name: str, index: Index) -> asyncio.Future[dict[str, Any]]:
        if name not in self._asking:
            asking = self._asking[name] = asyncio.ensure_future(_facts(index, self._threads[name]))
            asking.add_done_callback(lambda _: self._asking.pop(name))
        return self._asking[name]


async def _facts(index: Index, threads: Threads) -> dict[str, Any]:
    try:
        facts = await threads.run(index.describe)
    except HarrierError as error:
        return {"status": refusal_of(error).code}
    counts = {"chunks": facts.chunks, "records": facts.records, "keywords": bool(facts.keywords)}
    return {"status": "ready", **counts}


def _size(query: object) -> int:
    return len(query) if isinstance(query, str) else 0


def shared(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata without the fields about the machine that ingested them."""
    return {name: value for name, value in metadata.items() if name not in PRIVATE}


def told(match: Match) -> dict[str, Any]:
    """Return a match in the form for answers."""
    return {
        "id": match.id,
        "record_id": match.record_id,
        "number": match.number,
        "score": match.score,
        "cosine": match.cosine,
        "text": match.text,
        "metadata": shared(match.metadata),
        "start": match.start,
        "end": match.end,
    }
