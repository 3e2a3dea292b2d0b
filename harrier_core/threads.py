"""The threads for blocking work of an event loop: asyncio's own, unless a surface has others for a request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Threads(Protocol):
    """Something that runs work on threads."""

    async def run(self, work: Callable[..., T], *args: Any) -> T:  # noqa: ANN401
        """Return what the work returns, in a copy of the current context."""


# Tasks inherit it. asyncio's threads are few: if all of them wait for one database, nothing else can use them.
THREADS: ContextVar[Threads | None] = ContextVar("harrier_threads", default=None)


async def in_thread(work: Callable[..., T], *args: Any) -> T:  # noqa: ANN401
    """Return what the work returns, without holding up the event loop."""
    threads = THREADS.get()
    return await (asyncio.to_thread(work, *args) if threads is None else threads.run(work, *args))
