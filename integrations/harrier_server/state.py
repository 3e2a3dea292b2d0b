"""The state that the routes of a server share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harrier_server.refusals import Refusal

if TYPE_CHECKING:
    from starlette.requests import Request

    from harrier_core.index import Index
    from harrier_core.view import View
    from harrier_server.guarding import Guard
    from harrier_server.holding import Answers
    from harrier_server.model import Served
    from harrier_server.service import Service
    from harrier_server.settings import Limits, Settings
    from harrier_server.threads import IndexThreads
    from harrier_server.turns import Turns
    from harrier_server.under_way import UnderWay


@dataclass(slots=True)
class State:
    """The shared state, which is empty until the model is loaded."""

    settings: Settings
    guard: Guard
    turns: Turns
    under_way: UnderWay
    answers: Answers
    indexes: Mapping[str, Index] = field(default_factory=dict)
    views: Mapping[str, View] = field(default_factory=dict)  # with the same names: what callers may see
    threads: Mapping[str, IndexThreads] = field(default_factory=dict)  # and these are the indexes' own
    rejected: dict[str, dict[str, Any]] = field(default_factory=dict)  # by the last ingest into each index
    loaded: tuple[Served, Service] | None = field(default=None)
    failed: str | None = None  # the message if the server gave up on the model; the log has the reason
    give_up: Callable[[], None] = lambda: None  # ends the server process

    @property
    def limits(self) -> Limits:
        """The limits of requests."""
        return self.settings.limits

    @property
    def served(self) -> Served:
        """The served model. Raise Refusal while it is being loaded."""
        return self._loaded()[0]

    @property
    def service(self) -> Service:
        """The service that encodes. Raise Refusal while the model is still loading."""
        return self._loaded()[1]

    @property
    def trouble(self) -> str | None:
        """Why the server is not ready, or None."""
        if self.failed is not None or self.loaded is None:
            return self.failed or "the model is still loading"
        if self.under_way.ending:
            return "the server is shutting down"
        return None if self.service.is_well else "the device fails; see the server's log"

    def _loaded(self) -> tuple[Served, Service]:
        if self.loaded is None:
            said = self.failed or "the model is still loading"
            raise Refusal(503, said, code="unavailable", headers={"Retry-After": "1"})
        return self.loaded

    def caller(self, request: Request) -> str:
        """Return the caller, for fair queueing."""
        return self.guard.caller(request)
