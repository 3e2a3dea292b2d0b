"""A synchronous wrapper around the MCP SDK's client, which runs on its own thread."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Coroutine, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.server import Server
from mcp_types import CallToolResult

T = TypeVar("T")


class Assistant:
    """One connection: to a command, an address or a server of this process.

    mode: "auto" uses the newest revision of the protocol, "legacy" the initialization handshake.
    """

    def __init__(
        self,
        server: StdioServerParameters | Server[Any] | str,
        mode: str = "auto",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._ending: asyncio.Event = asyncio.Event()
        connected: Future[Client] = Future()
        self._life = asyncio.run_coroutine_threadsafe(self._live(server, mode, headers, connected), self._loop)
        self._life.add_done_callback(lambda done: _fail(connected, done))
        self.client = connected.result(60)

    async def _live(self, server: Any, mode: str, headers: Mapping[str, str] | None, connected: Future[Client]) -> None:
        async with httpx2.AsyncClient(headers=dict(headers or {})) as http:
            at = server
            if isinstance(server, str):
                at = streamable_http_client(server, http_client=http)
            elif isinstance(server, StdioServerParameters):
                at = stdio_client(server)
            async with Client(at, mode=mode) as client:
                connected.set_result(client)
                await self._ending.wait()

    def run(self, work: Coroutine[Any, Any, T], timeout: float = 60) -> T:
        """Run a coroutine of the client, and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)

    def call(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool, check that its text equals its structured content, and return it."""
        result = self.ask(name, **arguments)
        assert not result.is_error, result.content
        answer: dict[str, Any] = result.structured_content
        assert json.loads(said(result)) == answer
        return answer

    def refused(self, name: str, **arguments: Any) -> str:
        """Call a tool that fails, and return the reason."""
        result = self.ask(name, **arguments)
        assert result.is_error
        return said(result)

    def ask(self, name: str, **arguments: Any) -> CallToolResult:
        """Return the result of a call."""
        result = self.run(self.client.call_tool(name, arguments))
        assert isinstance(result, CallToolResult)
        return result

    def close(self) -> None:
        """Close the connection, and end the command."""
        if self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._ending.set)
        self._life.result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _fail(connected: Future[Client], done: Future[None]) -> None:
    """Raise the first error in the SDK's exception group, unless there was a connection."""
    if connected.done():
        return
    error = done.exception() or ConnectionError("the connection ended")
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    connected.set_exception(error)


def said(result: CallToolResult) -> str:
    """Return the single text of a result."""
    [content] = result.content
    assert content.type == "text"
    return content.text
