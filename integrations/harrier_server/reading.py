"""Routes that read stored records: /v1/records and /v1/near."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from harrier_server.indexes import shared, told, view_of
from harrier_server.refusals import Refusal, bad
from harrier_server.routes import Routes, answer
from harrier_server.state import State

if TYPE_CHECKING:
    from harrier_core.records import Chunk

_MOST_K = 200
_TEXT = 2_000_000  # characters of a record


def routes(make: Routes, state: State) -> Sequence[Route]:
    """Return the routes of a server."""

    async def record(request: Request, body: bytes) -> Response:  # noqa: ARG001
        name, record_id = _named(request, "index"), _named(request, "id")
        whole = await view_of(state, name).arecord(record_id)
        if whole is None:
            raise _no_record()
        shown: list[dict[str, Any]] = []
        room = _TEXT
        for chunk in whole.chunks:
            room -= len(chunk.text)
            if room < 0 and shown:
                break
            shown.append(_chunk(chunk, whole.described(chunk)))
        left_out = len(whole.chunks) - len(shown)
        return answer({"id": whole.id, "metadata": shared(whole.metadata), "chunks": shown, "left_out": left_out})

    async def near(request: Request, body: bytes) -> Response:  # noqa: ARG001
        name, record_id = _named(request, "index"), _named(request, "id")
        number, k = _number(request, "chunk", 0), _number(request, "k", 10)
        if not 1 <= k <= _MOST_K:
            raise bad(f"k must be from 1 to {_MOST_K:,}, got {k}", "k")
        view = view_of(state, name)
        threads, caller = state.threads[name], state.caller(request)
        found = await threads.run_costly(caller, view.near, record_id, number, k)
        if found is None:
            raise _no_record()
        return answer({"matches": [told(match) for match in found]})

    return [make.route("/v1/records", "GET", record), make.route("/v1/near", "GET", near)]


def _chunk(chunk: Chunk, described: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "number": chunk.number,
        "start": chunk.start,
        "end": chunk.end,
        "text": chunk.text,
        "metadata": shared(described),
    }


def _named(request: Request, name: str) -> str:
    value = request.query_params.get(name, "")
    if not value:
        raise bad(f"{name} is missing", name)
    return value


def _number(request: Request, name: str, default: int) -> int:
    value = request.query_params.get(name, str(default))
    if not (value.isdecimal() and value.isascii() and len(value) < 10):
        raise bad(f"{name} must be an integer", name)
    return int(value)


def _no_record() -> Refusal:
    return Refusal(404, "there is no such record", code="record_not_found", param="id")
