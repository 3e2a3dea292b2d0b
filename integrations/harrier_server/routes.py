"""The common part of all routes: access checks, answers to errors, and callers that go away."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from harrier_core.callers import CALLER
from harrier_server.bodies import dumped, read
from harrier_server.guarding import Guard
from harrier_server.holding import Answers
from harrier_server.metrics import Metrics
from harrier_server.refusals import Refusal, refusal_of
from harrier_server.settings import Limits
from harrier_server.tracing import Traced
from harrier_server.turns import Turns
from harrier_server.under_way import UnderWay

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

log = logging.getLogger(__name__)

JSON = "application/json"
_GONE = 499  # as in nginx: the client is gone
_SOON = 0.05  # seconds; most answers are ready by then, and need no watching
_MORE, _LINGERING = 2, 5.0  # multiple of the allowed body, and seconds, for reading on after a refusal

Handler = Callable[[Request, bytes], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Routes:
    """Makes routes from handlers."""

    guard: Guard
    metrics: Metrics
    limits: Limits
    turns: Turns
    under_way: UnderWay
    answers: Answers

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
        most: int = sys.maxsize,
    ) -> Route:
        """Return a route whose handler gets the request and its body.

        most: bytes of a body, unless the server allows fewer. tei: errors have TEI's form, not OpenAI's. open_: anyone
        may ask, without a key and under any name. streamed: the response reads the body. traced: each request is a
        span of its caller's trace.
        """

        async def endpoint(request: Request) -> Response:
            try:
                response = await self._answered(request, handler, most, open_=open_, streamed=streamed)
            except ClientDisconnect:
                response = Response(status_code=_GONE)
            except Exception as error:
                response = self._refused(refusal_of(error), tei=tei)
            self.metrics.answered(path, response.status_code)
            return response

        return Route(path, endpoint, methods=[method], middleware=[Middleware(Traced, path=path)] if traced else [])

    async def _answered(
        self, request: Request, handler: Handler, most: int, *, open_: bool, streamed: bool
    ) -> Response:
        if open_:
            return await _unless_gone(request, handler(request, b""))
        self.guard.check(request.headers)
        self.guard.check_key(request.headers)
        caller = self.guard.caller(request)
        CALLER.set(caller)  # of this request's task, and all that it begins
        with self.under_way.begun():
            if streamed:
                return await handler(request, b"")
            body = await self._read(request, caller, most) if request.method == "POST" else b""
            return self.answers.any(await _unless_gone(request, handler(request, body)), caller)

    async def _read(self, request: Request, caller: str, most: int) -> bytes:
        with self.turns.arriving(caller) as count:
            return await read(request, min(self.limits.body, most), self.limits.arrival, count)

    def _refused(self, refusal: Refusal, *, tei: bool) -> Response:
        body = refusal.for_tei() if tei else refusal.for_openai()
        if refusal.unread:
            return _Unread(dumped(body), refusal.status, refusal.headers, _MORE * self.limits.body)
        return answer(body, refusal.status, refusal.headers)


async def _unless_gone(request: Request, answering: Awaitable[Response]) -> Response:
    """Return an answer; if its caller goes away before it is ready, cancel the work."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None  # noqa: S101
    watching: asyncio.Task[None] | None = None
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    def begin() -> None:
        nonlocal watching
        watching = loop.create_task(watch())

    soon = loop.call_later(_SOON, begin)
    try:
        return await answering
    except asyncio.CancelledError:
        if not gone:
            raise
        task.uncancel()
        raise ClientDisconnect from None
    finally:
        soon.cancel()
        if watching is not None:
            watching.cancel()


class _Unread(Response):
    """An answer to a request whose body was not read.

    Closing a connection whose client is still sending resets it, and the answer is lost. So some of the rest is read
    and dropped first; an endless body is cut off all the same.
    """

    media_type = JSON

    def __init__(self, body: bytes, status: int, headers: Mapping[str, str], most: int) -> None:
        """Take the answer. most: how many bytes of the rest are read."""
        super().__init__(body, status, {**headers, "Connection": "close"})
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # Starlette's
        """Answer, and read on for a while."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGERING):
                await self._drop(receive)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _drop(self, receive: Receive) -> None:
        dropped = 0
        while dropped < self._most:
            part = await receive()
            if not part.get("more_body"):  # the end of the body, or the client went away
                return
            dropped += len(part["body"])


def answer(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return an answer with a JSON body."""
    return Response(dumped(body), status, headers, media_type=JSON)
