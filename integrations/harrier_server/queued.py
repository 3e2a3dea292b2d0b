"""The encoder of the served indexes: their texts take turns, and count, like those of requests for vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from harrier_core.embedder import Around, Embedder, Encoded
from harrier_core.texts import listed
from harrier_server.naming import Role

if TYPE_CHECKING:
    from harrier_core.tasks import Task
    from harrier_core.types import Vectors
    from harrier_server.service import Service


class Queued(Around):
    """An embedder of a server whose requests were admitted. Those of the event loop must await its results."""

    def __init__(self, embedder: Embedder, service: Callable[[], Service]) -> None:
        """Take an embedder, and a function that returns the service, or raises Refusal before the model is loaded."""
        super().__init__(embedder)
        self._service = service

    @property
    def tasks(self) -> Mapping[str, str]:
        """The model's own tasks, if the embedder lists them."""
        found: Mapping[str, str] = getattr(self._embedder, "tasks", {})
        return found

    @property
    def settings(self) -> Mapping[str, Any] | None:
        """The arguments of an equal Encoder, if there is one."""
        return self._embedder.settings

    @property
    def uncached(self) -> Embedder:
        """The embedder that makes the vectors, whose texts take turns as well."""
        return Queued(self._embedder.uncached, self._service)

    def submit_queries(self, texts: Iterable[str], *, task: str | Task | None = None) -> Future[Encoded]:
        """Begin to encode queries; the future can be cancelled."""
        return self._service().submit(listed(texts), Role("query", task), self._embedder)

    def submit_documents(self, texts: Iterable[str]) -> Future[Encoded]:
        """Begin to encode documents; the future can be cancelled."""
        return self._service().submit(listed(texts), Role("document"), self._embedder)

    async def aencode_queries(self, texts: Iterable[str], *, task: str | Task | None = None) -> Vectors:
        """Return unit vectors of queries."""
        return (await self._service().encoded(listed(texts), Role("query", task), self._embedder)).vectors
