"""Routes about the health of an index: /v1/indexes/NAME, /v1/verify and /v1/recall."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from threading import Event
from time import perf_counter
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from harrier_core.fields import PRIVATE, Field, fields_of
from harrier_core.threads import in_thread
from harrier_server.bodies import decode, dumped
from harrier_server.indexes import index_of, view_of
from harrier_server.naming import Role
from harrier_server.refusals import Refusal, bad, refusal_of
from harrier_server.routes import Routes, answer
from harrier_server.state import State

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from harrier_core.index import Index
    from harrier_core.records import Match, VerifyReport
    from harrier_core.store import Facts
    from harrier_core.view import View

_SAMPLE = 256  # chunks from which fields are read
_VALUES = 12  # values of a field
_MOST_SAMPLED = 1_000  # chunks that are encoded again
_MOST_ASKED = 200  # searches that are compared with exact ones
_TOGETHER = 10  # of them at once
_PROBLEMS = 200  # problems that are listed
_EVERY = 0.25  # seconds between lines


class VerifyRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of /v1/verify."""

    index: str
    sample: int = 100


class RecallRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of /v1/recall. queries: by default, some of the index's own texts."""

    index: str
    queries: list[str] | None = None
    k: int = 10
    sample: int = 50
    ef: int | None = None


def routes(make: Routes, state: State) -> Sequence[Route]:
    """Return the routes of a server."""
    verifying: set[str] = set()

    async def index(request: Request, body: bytes) -> Response:  # noqa: ARG001  # a handler's
        name = request.path_params["name"]
        return answer(await in_thread(_described, state, name, view_of(state, name)))

    async def verify(request: Request, body: bytes) -> Response:  # noqa: ARG001
        asked = decode(body, VerifyRequest)
        _check("sample", asked.sample, 0, _MOST_SAMPLED)
        found = index_of(state, asked.index)
        if state.views[asked.index].fixed is not None:
            raise Refusal(403, "this server exposes part of the index, and does not verify it", code="not_allowed")
        if asked.index in verifying:
            raise Refusal(409, "the index is being verified already", code="busy")
        verifying.add(asked.index)
        try:
            await in_thread(found.missing, ["ready"])  # raises if something is wrong with the index
        except BaseException:
            verifying.discard(asked.index)
            raise
        return _Verifying(found, asked.sample, lambda: verifying.discard(asked.index))

    async def recall(request: Request, body: bytes) -> Response:
        asked = decode(body, RecallRequest)
        _check("k", asked.k, 1, 100)
        _check("sample", asked.sample, 1, _MOST_ASKED)
        if asked.queries is not None and not 1 <= len(asked.queries) <= _MOST_ASKED:
            raise bad(f"queries must have 1 to {_MOST_ASKED} texts, got {len(asked.queries)}", "queries")
        view = view_of(state, asked.index)
        vectors, caller, stopped = None, state.caller(request), Event()
        if asked.queries is not None:
            vectors = (await state.service.encode(asked.queries, Role("query"), caller)).vectors
        try:
            return answer(await state.threads[asked.index].run_costly(caller, _recall, view, asked, vectors, stopped))
        finally:
            stopped.set()

    return [
        make.route("/v1/indexes/{name}", "GET", index),
        make.route("/v1/verify", "POST", verify),
        make.route("/v1/recall", "POST", recall),
    ]


def _check(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise bad(f"{name} must be from {least} to {most:,}, got {value}", name)


def _described(state: State, name: str, view: View) -> dict[str, Any]:
    """Return what is known of an index: the store's facts, whether it has the model's space, its fields."""
    facts = view.index.describe()
    found = {
        "id": name,
        "part": view.fixed is not None,
        "space": json.loads(facts.space.to_json()) if facts.space else None,
        "digest": facts.space.digest if facts.space else None,
        "differences": facts.space.differences(state.served.space) if facts.space else [],
        "rejected": state.rejected.get(name),
    }
    if view.fixed is None:
        found |= _counts(facts)
    if not found["differences"]:
        fields = fields_of([match.metadata for match in view.sample(_SAMPLE)])
        found["fields"] = [_field(field) for field in fields if field.name not in PRIVATE]
    return found


def _counts(facts: Facts) -> dict[str, Any]:
    names = ("records", "chunks", "indexed", "keywords", "bytes", "health")
    ingested = facts.ingested.isoformat() if facts.ingested else None
    return {"ingested": ingested, **{name: getattr(facts, name) for name in names}}


def _field(field: Field) -> dict[str, Any]:
    values = [{"value": value, "chunks": number} for value, number in field.values[:_VALUES]]
    named = {"name": field.name, "kinds": field.kinds, "share": field.share, "range": field.range}
    return {**named, "distinct": len(field.values), "values": values}


class _Stopped(Exception):
    """The reader is gone."""


class _Verifying(StreamingResponse):
    """A line now and then while an index is verified, and finally one with all problems."""

    media_type = "application/x-ndjson"

    def __init__(self, index: Index, sample: int, ended: Callable[[], None]) -> None:
        """Begin. ended: called once the thread has ended, which is soon after the reader has left."""
        super().__init__(self._lines())
        self._latest: VerifyReport | None = None
        self._stopped = False
        self._ended = ended
        self._verifying = asyncio.ensure_future(in_thread(index.verify, sample, self._follow))
        self._verifying.add_done_callback(self._end)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # Starlette's
        """Send the lines, unless the reader has left already."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._stopped = True

    async def _lines(self) -> AsyncIterator[bytes]:
        verifying = self._verifying
        while not verifying.done():
            await asyncio.wait({verifying}, timeout=_EVERY)
            if self._latest is not None and not verifying.done():
                yield _line("running", self._latest)
        try:
            yield _line("done", verifying.result())
        except Exception as error:
            yield dumped({"status": "failed", **refusal_of(error).for_openai()}) + b"\n"

    def _follow(self, report: VerifyReport) -> None:
        self._latest = report
        if self._stopped:
            raise _Stopped

    def _end(self, verifying: asyncio.Future[VerifyReport]) -> None:
        self._ended()
        if not verifying.cancelled():
            verifying.exception()  # no one else retrieves it if the reader has left


def _line(status: str, report: VerifyReport) -> bytes:
    problems = [{"record_id": name, "problem": problem} for name, problem in report.problems[:_PROBLEMS]]
    counts = {"checked": report.checked, "encoded": report.encoded, "least_cosine": report.least_cosine}
    more = {"problems": problems, "problems_total": len(report.problems)} if status == "done" else {}
    return dumped({"status": status, **counts, **more}) + b"\n"


def _recall(view: View, asked: RecallRequest, vectors: Any, stopped: Event) -> dict[str, Any]:
    """Compare ordinary searches with searches that compare all chunks; end soon after the caller has left."""

    def found_by(**how: Any) -> list[list[Match]]:
        found = []
        for begin in range(0, len(vectors), _TOGETHER):
            if stopped.is_set():
                raise _Stopped
            found += view.search_vectors(vectors[begin : begin + _TOGETHER], asked.k, **how)
        return found

    named = asked.queries
    if vectors is None:
        sampled = view.sample(asked.sample)
        if not sampled:
            raise Refusal(404, "the index is empty", code="index_not_found", param="index")
        vectors = np.array([match.vector for match in sampled], dtype=np.float32)
        named = [match.record_id for match in sampled]
    begun = perf_counter()
    found = found_by(ef=asked.ef)
    approximate = perf_counter() - begun
    exact = found_by(exact=True)
    exactly = perf_counter() - begun - approximate
    shares = [_share(own, right) for own, right in zip(found, exact, strict=True)]
    worst = sorted(range(len(shares)), key=lambda at: shares[at])[:10]
    return {
        "k": asked.k,
        "searches": len(shares),
        "recall": float(np.mean(shares)),
        "least": float(min(shares)),
        "seconds": {"search": approximate / len(shares), "exact": exactly / len(shares)},
        "worst": [{"query": (named or [])[at], "recall": shares[at]} for at in worst if shares[at] < 1],
        "by": "records" if asked.queries is None else "queries",
    }


def _share(found: Sequence[Match], right: Sequence[Match]) -> float:
    """Return the share of the right matches that were found; one as near as the last of them counts as right, too."""
    if not right:
        return 1.0
    least = min(match.score for match in right) - 1e-6
    return min(1.0, sum(match.score >= least for match in found) / len(right))
