"""The ASGI application: its routes, and a model that is loaded in the background."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

from harrier_core.encoder import Encoder
from harrier_core.errors import HarrierError, SettingError
from harrier_core.view import View
from harrier_server import explaining, health, openai, operating, pages, reading, tei
from harrier_server import indexes as index_routes
from harrier_server.guarding import Guard
from harrier_server.holding import Answers
from harrier_server.mcp import Assistants
from harrier_server.metrics import Metrics
from harrier_server.model import Served
from harrier_server.queued import Queued
from harrier_server.refusals import Refusal
from harrier_server.routes import Routes, answer
from harrier_server.service import Service
from harrier_server.settings import Settings
from harrier_server.state import State
from harrier_server.threads import IndexThreads
from harrier_server.turns import AT_ONCE, Turns
from harrier_server.under_way import UnderWay

if TYPE_CHECKING:
    from harrier_core.index import Index

log = logging.getLogger(__name__)

_UNROUTED = {
    404: ("there is no such path", "not_found"),
    405: ("this path needs another method", "method_not_allowed"),
}


def create_app(
    encoder: Encoder, settings: Settings | None = None, *, indexes: Mapping[str, Index] | None = None
) -> Starlette:
    """Return the application that serves an encoder, and searches in indexes over it.

    The model is loaded when the application starts, while it answers that it is not ready. An Index must use an encoder
    with the same settings: it shares the loaded model. The owner of encoder and indexes has to close them.
    """
    settings = settings or Settings(name_of(encoder))
    limits, guard, metrics = settings.limits, Guard(settings), Metrics()
    turns, under_way = Turns(AT_ONCE, limits.waiting), UnderWay()
    metrics.watch(lambda: turns.waiting, lambda: encoder.stats)
    answers = Answers(limits.answers)
    state = State(settings, guard, turns, under_way, answers)
    state.indexes = {
        name: index.through(lambda each: Queued(each, lambda: state.service)) for name, index in (indexes or {}).items()
    }
    state.threads = {name: IndexThreads() for name in state.indexes}
    state.views = _views(state.indexes, settings)
    assistants = Assistants(state)
    make = Routes(guard, metrics, limits, turns, under_way, answers)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:  # noqa: ARG001  # Starlette's
        loading = asyncio.create_task(_load(state, encoder, metrics))
        try:
            async with assistants.running():
                yield
        finally:
            loading.cancel()
            if state.loaded is not None:
                state.service.close()
            for each in state.threads.values():
                each.close()

    routes = [
        *openai.routes(make, state),
        *tei.routes(make, state),
        *index_routes.routes(make, state),
        *explaining.routes(make, state),
        *reading.routes(make, state),
        *health.routes(make, state),
        *assistants.routes(make),
        *operating.routes(make, state, metrics),
        *(pages.routes(make) if settings.page else ()),
    ]
    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=_of_pages(settings),
        exception_handlers={HTTPException: partial(_unrouted, metrics)},
    )
    app.router.redirect_slashes = False
    app.state.harrier = state
    return app


def _views(indexes: Mapping[str, Index], settings: Settings) -> dict[str, View]:
    """Return the callers' view of each index."""
    for name in (*settings.where, *settings.about):
        if name not in indexes:
            raise SettingError(f"there is no index {name!r}; this server has {', '.join(indexes) or 'none'}")
    return {name: View(index, settings.where.get(name)) for name, index in indexes.items()}


def name_of(encoder: Encoder) -> str:
    """Return a name for clients: the last part of a repository's name or of a folder."""
    return encoder.name.rstrip("/\\").replace("\\", "/").rpartition("/")[2]


def _of_pages(settings: Settings) -> list[Middleware]:
    """Return the CORS middleware, which lets browsers call from pages of the allowed origins."""
    if not settings.origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=list(settings.origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-API-Key", "Harrier-Space"],
            expose_headers=["Harrier-Space", "Harrier-Truncated", "Retry-After"],
        )
    ]


async def _unrouted(metrics: Metrics, request: Request, error: Exception) -> Response:  # noqa: ARG001  # Starlette's
    """Answer an unknown path, or a wrong method, as OpenAI's clients expect."""
    status, headers = (error.status_code, error.headers) if isinstance(error, HTTPException) else (500, None)
    metrics.answered("none", status)
    message, code = _UNROUTED.get(status, ("the request cannot be answered", "invalid_request"))
    return answer(Refusal(status, message, code=code).for_openai(), status, dict(headers or {}))


async def _load(state: State, encoder: Encoder, metrics: Metrics) -> None:
    """Read the model's files, load it, and encode something in each role, so that the first caller does not wait.

    Then watch over its device, until this is cancelled or the device fails for good.
    """

    def load() -> Served:
        served = Served.of(encoder, state.settings)
        encoder.encode_documents(["ready"])
        encoder.encode_queries(["ready"])
        return served

    try:
        served = await asyncio.to_thread(load)
    except Exception as error:
        if isinstance(error, HarrierError):
            log.error("the model could not be loaded: %s", error)  # noqa: TRY400  # it says what to do
        else:
            log.exception("the model could not be loaded")
        state.failed = "the model could not be loaded; see the server's log"
        state.give_up()
        return
    truncating = Encoder(**{**encoder.settings, "on_overflow": "truncate"})
    service = Service(encoder, truncating, state.turns, metrics)
    state.loaded = served, service
    log.info("serving %s", ", ".join(served.names.listed()))
    await service.watch()
    log.error("the device keeps failing, so the server ends")
    state.failed = "the device failed; see the server's log"
    state.give_up()
