"""Pending requests: a server that ends waits for them, and cuts off those that take too long."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from harrier_server.refusals import Refusal

_AFTER = {"Retry-After": "5"}  # seconds after which a server that ends may be back


class UnderWay:
    """The pending requests of one server."""

    def __init__(self) -> None:
        self.ending = False  # no new requests may begin
        self._is_over = False
        self._tasks: set[asyncio.Task[Any]] = set()

    @contextmanager
    def begun(self) -> Iterator[None]:
        """Count the current task as a request. Raise Refusal if the server is shutting down, or cuts it off."""
        if self.ending:
            raise Refusal(503, "the server is shutting down", code="unavailable", headers=_AFTER)
        with self.going_on():
            yield

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Count the current task as a request that began earlier. Raise Refusal if the server cuts it off."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101
        self._tasks.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if not self._is_over:
                raise
            task.uncancel()
            message = "the server shut down before it answered this request"
            raise Refusal(503, message, code="unavailable", headers=_AFTER) from None
        finally:
            self._tasks.discard(task)

    def cut_off(self) -> int:
        """End all of them, each with an answer that says so, and return how many there were."""
        self.ending = self._is_over = True
        for task in self._tasks:
            task.cancel()
        return len(self._tasks)
