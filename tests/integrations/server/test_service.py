"""An application in this process, with encoders that cost nothing or fail."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
from harrier_server import Settings, create_app
from harrier_server.bodies import dumped
from harrier_server.metrics import Metrics
from harrier_server.naming import Role
from harrier_server.refusals import refusal_of
from harrier_server.service import Service
from harrier_server.turns import AT_ONCE, Turns
from starlette.applications import Starlette

from harrier_core import Encoder
from harrier_core.embedder import Encoded
from harrier_core.errors import (
    BadVectors,
    InputError,
    OutOfMemory,
    Problem,
    ServerUnavailable,
    StoreError,
    StoreFull,
)


class _Encoder:
    """An encoder whose vectors cost nothing."""

    name = "a model"

    def submit_queries(self, texts: Any, *, task: Any = None) -> Future[Encoded]:  # noqa: ARG002
        return self.submit_documents(texts)

    def submit_documents(self, texts: Any) -> Future[Encoded]:
        future: Future[Encoded] = Future()
        future.set_result(Encoded(np.zeros((len(texts), 2), np.float32), [1] * len(texts)))
        return future

    def close(self) -> None:
        pass


def service_of(encoder: Any) -> Service:
    return Service(encoder, encoder, Turns(AT_ONCE, 1_000_000), Metrics())


def test_slow_stores() -> None:
    """Encoding has its own threads, so slow stores do not block it."""

    async def main() -> int:
        service, held = service_of(_Encoder()), threading.Event()
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        slow = asyncio.ensure_future(asyncio.to_thread(held.wait, 60))
        try:
            encoded = await asyncio.wait_for(service.encode(["a"], Role("document"), "caller"), 20)
        finally:
            held.set()
            await slow
            service.close()
        return len(encoded.vectors)

    assert asyncio.run(main()) == 1


def test_queries_take_turns_if_they_are_large() -> None:
    """Small ones go to the model at once."""

    async def main() -> None:
        turns = Turns(1, 10_000_000)
        service = Service(_Encoder(), _Encoder(), turns, Metrics())  # type: ignore[arg-type]
        large, small = ["word " * 100] * 101, ["word " * 100] * 100
        async with turns.turn("another"):
            waiting = [
                asyncio.ensure_future(service.encode(texts, role, "caller"))
                for texts, role in ((large, Role("query")), (["a"], Role("document")))
            ]
            encoded = await asyncio.wait_for(service.encode(small, Role("query"), "caller"), 20)
            assert len(encoded) == 100
            assert not any(each.done() for each in waiting)
        assert [len(each) for each in await asyncio.gather(*waiting)] == [101, 1]
        service.close()

    asyncio.run(main())


class _Loading(Encoder):
    """An encoder that waits until it is released, and then fails."""

    held = threading.Event()

    @property
    def tasks(self) -> Any:
        self.held.wait(60)
        raise RuntimeError("something secret")


def test_before_the_model_is_loaded() -> None:
    """The server is live but not ready, and requests get Retry-After; a failed load ends it."""
    app: Starlette = create_app(_Loading("none"), Settings("tiny"))
    state, given_up = app.state.harrier, asyncio.Event()
    state.give_up = given_up.set

    async def main() -> None:
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
        ):
            assert (await client.get("/health/live")).status_code == 200
            body = {"model": "tiny-query", "input": "a"}
            answer = await client.post("/v1/embeddings", json=body)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            _Loading.held.set()
            await asyncio.wait_for(given_up.wait(), 20)
            answer = await client.get("/health/ready")
            assert answer.status_code == 503
            assert "could not be loaded" in answer.text
            assert "secret" not in answer.text

    asyncio.run(main())


def test_every_problem_is_reported() -> None:
    """All of them are listed, including texts on which the model fails."""
    many = refusal_of(InputError([Problem(at, InputError, "is wrong") for at in range(500)]))
    assert len(many.more["problems"]) == 500
    assert "and 495 more" in many.message
    bad = refusal_of(BadVectors("no vector", [3, 5]))
    assert [(each["position"], each["kind"]) for each in bad.more["problems"]] == [(3, "BadVectors"), (5, "BadVectors")]
    [one] = refusal_of(OutOfMemory("pass on_overflow='truncate'", 7)).more["problems"]
    assert one == {"position": 7, "kind": "OutOfMemory", "reason": 'send "truncate": true'}


def test_numbers_of_any_size() -> None:
    assert dumped({"n": 2**70}) == b'{"n":1180591620717411303424}'


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (StoreFull("no room left on /srv/index"), 507, "storage_full"),
        (StoreError("records were changed by another process in /srv/index; try again"), 500, "index_failed"),
        (ServerUnavailable("the server at http://10.0.0.1/srv cannot be reached"), 503, "unavailable"),
    ],
)
def test_errors_of_an_index(error: Exception, status: int, code: str, caplog: pytest.LogCaptureFixture) -> None:
    """They are told apart; where the index is stays in the log, without a traceback."""
    refusal = refusal_of(error)
    assert (refusal.status, refusal.code, refusal.param) == (status, code, "index")
    assert "/srv" not in refusal.message
    [logged] = caplog.records
    assert "/srv" in logged.getMessage()
    assert logged.exc_info is None
