"""Routes for operators: whether the server is alive, whether it is ready, and its counters."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from harrier_server.metrics import Metrics
from harrier_server.routes import Routes, answer
from harrier_server.state import State


def routes(make: Routes, state: State, metrics: Metrics) -> Sequence[Route]:
    """Return the routes of a server."""

    async def live(request: Request, body: bytes) -> Response:  # noqa: ARG001  # a handler's
        return answer({"status": "live"})

    async def ready(request: Request, body: bytes) -> Response:  # noqa: ARG001
        trouble = state.trouble
        return answer({"status": trouble or "ready"}, 503 if trouble else 200)

    async def counted(request: Request, body: bytes) -> Response:  # noqa: ARG001
        return Response(metrics.written(), media_type=metrics.content_type)

    return [
        make.route("/health/live", "GET", live, open_=True, traced=False),
        make.route("/health/ready", "GET", ready, open_=True, traced=False),
        make.route("/metrics", "GET", counted, traced=False),
    ]
