"""Requests as spans of their callers' traces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import Headers

from harrier_core.tracing import served

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Traced:
    """A route whose requests are spans, from the first byte of the request to the last of the answer."""

    def __init__(self, app: ASGIApp, path: str) -> None:
        """Take the application that answers the route. path: the route's template, not a request's path."""
        self._app = app
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        with served(scope["method"], self._path, Headers(scope=scope)) as tell:

            async def sending(message: Message) -> None:
                if message["type"] == "http.response.start":
                    tell(message["status"])
                await send(message)

            await self._app(scope, receive, sending)
