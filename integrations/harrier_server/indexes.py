"""Routes over indexes: /v1/indexes, /v1/search and, where it is allowed, /v1/ingest."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from harrier_core.records import Match
from harrier_server.bodies import SearchRequest, decode, texts_of
from harrier_server.ingesting import Ingesting
from harrier_server.refusals import Refusal, bad
from harrier_server.routes import Routes, answer
from harrier_server.state import State

if TYPE_CHECKING:
    from harrier_core.index import Index

_MOST_K = 1_000


def routes(make: Routes, state: State) -> Sequence[Route]:
    """Return the routes of a server."""

    async def indexes(request: Request, body: bytes) -> Response:  # noqa: ARG001  # a handler's
        found = [{"id": name, **await asyncio.to_thread(_facts, index)} for name, index in state.indexes.items()]
        return answer({"object": "list", "data": found})

    async def search(request: Request, body: bytes) -> Response:
        state.served.check_space(request.headers)
        asked = decode(body, SearchRequest)
        if not 1 <= asked.k <= _MOST_K:
            raise bad(f"k must be from 1 to {_MOST_K:,}, got {asked.k}", "k")
        queries = texts_of(asked.query, state.limits.texts, "query")
        async with state.service.turns.admitted(sum(map(len, queries))):
            found = await index_of(state, asked.index).asearch_many(
                queries,
                asked.k,
                asked.where,
                task=asked.task,
                mode=asked.mode,
                min_score=asked.min_score,
                offset=asked.offset,
            )
        data = [{"query": at, "matches": [_told(match) for match in matches]} for at, matches in enumerate(found)]
        return answer({"object": "list", "index": asked.index, "data": data})

    async def ingest(request: Request, body: bytes) -> Response:  # noqa: ARG001  # it is read as it comes
        if not state.settings.ingest:
            raise Refusal(403, "this server does not write to indexes", code="ingest_not_allowed")
        state.served.check_space(request.headers)
        name = request.query_params.get("index", "")
        return Ingesting(request, index_of(state, name), state.limits.body)

    return [
        make.route("/v1/indexes", "GET", indexes),
        make.route("/v1/search", "POST", search),
        make.route("/v1/ingest", "POST", ingest, streamed=True),
    ]


def index_of(state: State, name: str) -> Index:
    """Return the index of a name. Raise Refusal if the server has none."""
    index = state.indexes.get(name)
    if index is None:
        known = ", ".join(state.indexes) or "none"
        raise Refusal(404, f"there is no index {name[:100]!r}; this server has {known}", code="index_not_found")
    return index


def _facts(index: Index) -> dict[str, Any]:
    facts = index.describe()
    return {"object": "index", "chunks": facts.chunks, "records": facts.records, "keywords": bool(facts.keywords)}


def _told(match: Match) -> dict[str, Any]:
    return {
        "id": match.id,
        "record_id": match.record_id,
        "number": match.number,
        "score": match.score,
        "cosine": match.cosine,
        "text": match.text,
        "metadata": match.metadata,
        "start": match.start,
        "end": match.end,
    }
