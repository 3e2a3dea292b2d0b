"""What every route has in common: who may call, how errors are answered, and that callers may go away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from harrier_server.bodies import dumped, read
from harrier_server.guarding import Guard
from harrier_server.metrics import Metrics
from harrier_server.refusals import Refusal, refusal_of
from harrier_server.tracing import Traced

log = logging.getLogger(__name__)

JSON = "application/json"
_GONE = 499  # as nginx has it: nobody reads the answer

Handler = Callable[[Request, bytes], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Routes:
    """Makes routes of handlers."""

    guard: Guard
    metrics: Metrics
    most_bytes: int

    def route(
        self,
        path: str,
        method: str,
        handler: Handler,
        *,
        tei: bool = False,
        open_: bool = False,
        streamed: bool = False,
        traced: bool = True,
    ) -> Route:
        """Return a route whose handler gets the request and its body.

        tei: errors have TEI's form and not OpenAI's. open_: anybody may ask, without a key and under any name.
        streamed: the response reads the body. traced: each request is a span of its caller's trace.
        """

        async def endpoint(request: Request) -> Response:
            try:
                response = await self._answered(request, handler, open_=open_, streamed=streamed)
            except ClientDisconnect:
                response = Response(status_code=_GONE)
            except Exception as error:
                response = _refused(refusal_of(error), tei=tei)
            self.metrics.answered(path, response.status_code)
            return response

        return Route(path, endpoint, methods=[method], middleware=[Middleware(Traced, path=path)] if traced else [])

    async def _answered(self, request: Request, handler: Handler, *, open_: bool, streamed: bool) -> Response:
        if not open_:
            self.guard.check(request.headers)
            self.guard.check_key(request.headers)
        if streamed:
            return await handler(request, b"")
        body = await read(request, self.most_bytes) if request.method == "POST" else b""
        return await _unless_gone(request, handler(request, body))


async def _unless_gone(request: Request, answering: Awaitable[Response]) -> Response:
    """Return an answer; if its caller goes away before it is there, nobody works on it any more."""
    work = asyncio.ensure_future(answering)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise ClientDisconnect
        return work.result()
    finally:
        for each in (work, gone):
            if not each.done():
                each.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await each


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _refused(refusal: Refusal, *, tei: bool) -> Response:
    body = refusal.for_tei() if tei else refusal.for_openai()
    return answer(body, refusal.status, refusal.headers)


def answer(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return JSON."""
    return Response(dumped(body), status, headers, media_type=JSON)
