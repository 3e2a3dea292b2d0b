"""The Model Context Protocol over HTTP: /NAME/mcp is a server for the index NAME, and /mcp for the only one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from harrier_core.errors import MissingExtra
from harrier_server.bodies import has_too_many_values
from harrier_server.indexes import index_of
from harrier_server.refusals import Refusal, bad
from harrier_server.routes import Routes
from harrier_server.state import State

if TYPE_CHECKING:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
    from starlette.types import Message

_BODY = 2**20  # bytes of a call
_VALUES = 2**13  # in a call; the SDK takes up to 1.6 microseconds for each, and conditions have at most 5,000
_CALL = 4_096  # characters that a call counts as, in addition to its own


class Assistants:
    """A protocol server for each index, if the package is installed. All of them are read-only."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._missing: MissingExtra | None = None
        self._managers: Mapping[str, StreamableHTTPSessionManager] = {}
        try:
            self._managers = {name: _manager(state, name) for name in state.indexes}
        except MissingExtra as error:
            self._missing = error

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep them running for as long as the application does."""
        async with AsyncExitStack() as stack:
            for each in self._managers.values():
                await stack.enter_async_context(each.run())
            yield

    def routes(self, make: Routes) -> Sequence[Route]:
        """Return the routes of a server."""

        async def speak(request: Request, body: bytes) -> Response:
            if has_too_many_values(body, _VALUES):
                raise bad(f"the body has more than {_VALUES:,} values", code="too_many")
            state = self._state
            manager = self._of(request.path_params.get("name"))
            _ = state.served  # raises while the model is still loading
            with state.turns.admitted(len(body) + _CALL, state.caller(request)):
                return await _spoken(manager, request, body)

        return [make.route(path, "POST", speak, most=_BODY) for path in ("/mcp", "/{name}/mcp")]

    def _of(self, name: str | None) -> StreamableHTTPSessionManager:
        if self._missing is not None:
            raise Refusal(404, str(self._missing), code="mcp_not_installed")
        if name is None and len(self._managers) != 1:
            known = ", ".join(f"/{each}/mcp" for each in self._managers) or "none; start it with --index NAME=PLACE"
            raise Refusal(404, f"the path must name an index; this server has {known}", code="index_not_found")
        index_of(self._state, name or next(iter(self._managers)))
        return self._managers[name or next(iter(self._managers))]


def _manager(state: State, name: str) -> StreamableHTTPSessionManager:
    from harrier_mcp import Settings, create_server
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

    settings = Settings(name=name, about=state.settings.about.get(name), where=state.views[name].fixed)
    # Access was checked before. Nothing is kept between requests, not even for older revisions.
    return StreamableHTTPSessionManager(
        create_server(state.indexes[name], settings), json_response=True, stateless=True, max_request_body_size=_BODY
    )


async def _spoken(manager: StreamableHTTPSessionManager, request: Request, body: bytes) -> Response:
    """Return the SDK's answer to a request that was already read."""
    parts: list[bytes] = []
    begun: Message = {}
    unread = [body]

    async def receive() -> Message:
        if not unread:
            await asyncio.Event().wait()  # a caller that goes away ends this whole call
        return {"type": "http.request", "body": unread.pop(), "more_body": False}

    async def send(message: Message) -> None:
        nonlocal begun
        if message["type"] == "http.response.start":
            begun = message
        else:
            parts.append(message.get("body", b""))

    await manager.handle_request(request.scope, receive, send)
    response = Response(b"".join(parts), begun.get("status", 500))
    kept: Any = [each for each in begun.get("headers", ()) if each[0].lower() != b"content-length"]
    response.raw_headers[:0] = kept
    return response
