"""Routes that show why a search finds what it does: /v1/server and /v1/explain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from harrier_core import __version__
from harrier_server.bodies import decode
from harrier_server.indexes import told, view_of
from harrier_server.naming import Role
from harrier_server.refusals import bad
from harrier_server.routes import Routes, answer
from harrier_server.state import State

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harrier_core.records import Match
    from harrier_core.view import View

_MOST_K = 200
_SAMPLE = 256  # representative chunks
_FRESH = 300.0  # seconds for which they are reused
_QUANTILES = (0.05, 0.5, 0.95)


class ExplainRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of /v1/explain. role: "document" encodes the query without any instruction."""

    index: str
    query: str
    k: int = 10
    where: dict[str, Any] | None = None
    mode: Literal["dense", "keyword", "hybrid"] = "dense"
    role: Literal["query", "document"] = "query"
    task: str | None = None
    instruction: str | None = None
    exact: bool = False


class Backgrounds:
    """Vectors of some chunks of each index: the cosines of most of them to a query are those of unrelated texts."""

    def __init__(self, views: Mapping[str, View]) -> None:
        self._views = views
        self._kept: dict[str, tuple[float, NDArray[np.float32]]] = {}

    def cosines(self, name: str, vector: NDArray[np.float32]) -> dict[str, Any] | None:
        """Return the distribution of cosines between a query and some chunks, or None if there are too few."""
        read_at, vectors = self._kept.get(name, (0.0, None))
        if vectors is None or monotonic() - read_at > _FRESH:
            found = [match.vector for match in self._views[name].sample(_SAMPLE) if match.vector is not None]
            vectors = np.array(found, dtype=np.float32).reshape(len(found), len(vector))
            self._kept[name] = monotonic(), vectors
        if len(vectors) < 2:
            return None
        cosines = vectors @ vector / np.linalg.norm(vectors, axis=1)
        low, middle, high = map(float, np.quantile(cosines, _QUANTILES))
        return {"chunks": len(vectors), "low": low, "middle": middle, "high": high, "highest": float(cosines.max())}


def routes(make: Routes, state: State) -> Sequence[Route]:
    """Return the routes of a server."""
    backgrounds = Backgrounds(state.views)

    async def server(request: Request, body: bytes) -> Response:  # noqa: ARG001  # a handler's
        served, settings = state.served, state.settings
        return answer(
            {
                "version": __version__,
                "instructions": settings.instructions,
                "ingest": settings.ingest,
                "indexes": list(state.indexes),
                **served.told,
            }
        )

    async def explain(request: Request, body: bytes) -> Response:
        asked = decode(body, ExplainRequest)
        if not 1 <= asked.k <= _MOST_K:
            raise bad(f"k must be from 1 to {_MOST_K:,}, got {asked.k}", "k")
        view, caller = view_of(state, asked.index), state.caller(request)
        if asked.mode == "keyword":
            with state.turns.admitted(len(asked.query), caller):
                return answer(await _by_word(view, asked))
        return answer(await _by_vector(state, view, asked, caller, backgrounds))

    return [
        make.route("/v1/server", "GET", server),
        make.route("/v1/explain", "POST", explain),
    ]


def _role(state: State, asked: ExplainRequest) -> Role:
    """Return the role of the query, by the rules that apply to all requests."""
    if asked.role == "document":
        if asked.task is not None or asked.instruction is not None:
            raise bad("a document carries no instruction; omit task and instruction", "role", code="two_roles")
        return Role("document")
    return state.served.names.query_role(asked.task, asked.instruction)


async def _by_word(view: View, asked: ExplainRequest) -> dict[str, Any]:
    """Search without the model."""
    begun = perf_counter()
    found = await view.asearch(asked.query, asked.k, asked.where, mode="keyword")
    return {"matches": list(map(told, found)), "seconds": {"search": perf_counter() - begun}}


async def _by_vector(
    state: State, view: View, asked: ExplainRequest, caller: str, backgrounds: Backgrounds
) -> dict[str, Any]:
    """Search, and report what the model read, how long it took, and what unrelated texts score."""
    role, begun = _role(state, asked), perf_counter()
    [vector] = (await state.service.encode([asked.query], role, caller)).vectors
    encoded = perf_counter()

    def search() -> list[Match]:
        [matches] = view.search_vectors(
            vector[None], asked.k, asked.where, queries=[asked.query], mode=asked.mode, exact=asked.exact
        )
        return matches

    def explained() -> dict[str, Any]:
        encoder = state.served.encoder
        prompt = asked.query if role.kind == "document" else encoder.prompt(asked.query, task=role.task)
        background = backgrounds.cosines(asked.index, vector)
        return {"prompt": prompt, "pieces": encoder.pieces(prompt), "background": background}

    threads = state.threads[asked.index]
    found = await (threads.run_costly(caller, search) if asked.exact else threads.run(search))
    seconds = {"encode": encoded - begun, "search": perf_counter() - encoded}
    return {"matches": list(map(told, found)), "seconds": seconds, **await threads.run(explained)}
