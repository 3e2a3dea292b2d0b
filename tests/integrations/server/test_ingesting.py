"""An ingest over HTTP that fails, or whose client fails, leaves nothing running."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, pairwise
from typing import Any

import pytest
from harrier_server import Limits
from harrier_server.ingesting import AHEAD, Ingesting
from harrier_server.under_way import UnderWay
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from harrier_core import Encoder, Index, StoreUnavailable
from harrier_core.store import Write, Written
from harrier_core.testing import MemoryStore

LIMITS = Limits(body=1_000, arrival=0.3)


class _Gone(MemoryStore):
    """A store that is unreachable when something is written."""

    def write(self, write: Write) -> Written:  # noqa: ARG002
        raise StoreUnavailable("gone")


class _Client:
    """A client that sends parts of a body, and receives the first report when it is allowed."""

    def __init__(self, parts: Iterable[dict[str, Any]], *, pause: float = 0.0) -> None:
        self._parts = iter(parts)
        self._pause = pause
        self.takes = True
        self.dropped = False
        self.taken: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        await asyncio.sleep(self._pause)
        part = next(self._parts, None)
        if part is None:
            await asyncio.sleep(60)
            raise AssertionError("the server waited for too long")
        return part

    def drop(self) -> None:
        self.dropped = True

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.body":
            while not self.takes and not self.dropped:
                await asyncio.sleep(0.01)
            self.taken.append(json.loads(message["body"]))


def ingested(
    index: Index,
    client: _Client,
    limits: Limits = LIMITS,
    count: Callable[[int], None] = lambda size: None,
) -> list[dict[str, Any]]:
    """Return the counts in the lines of a response."""

    async def main() -> None:
        extensions = {"harrier.drop": {"drop": client.drop}}
        scope = {"type": "http", "method": "POST", "headers": [], "extensions": extensions}
        response = Ingesting(Request(scope, client.receive), index, limits, UnderWay(), count=count)
        await asyncio.wait_for(response(scope, client.receive, client.send), 60)

    asyncio.run(main())
    return client.taken


def part(body: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def lines(number: int) -> Iterator[dict[str, Any]]:
    for at in range(number):
        yield part(json.dumps({"id": f"r{at}", "text": f"text {at}"}).encode() + b"\n")


END = part(b"", more=False)


def test_a_failure_while_the_client_sends(encoder: Encoder) -> None:
    """No thread is left waiting, however much the client would send."""
    ingested(Index(MemoryStore(), encoder), _Client([*lines(1), END]))
    before = threading.active_count()
    client = _Client(lines(1_000_000))
    *_, last = ingested(Index(_Gone(), encoder), client)
    assert (last["status"], last["error"]["code"], last["written"]) == ("failed", "unavailable", 0)
    until = time.monotonic() + 20  # those of the pools end by themselves
    while threading.active_count() > before:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_progress(encoder: Encoder) -> None:
    """Only the latest counts are reported; the last line has the rejected records."""
    client = _Client([*lines(3_500), *(part(b"{}\n") for _ in range(2_000)), END])
    index = Index(MemoryStore(), encoder)
    ingest, latest = index.aingest, []

    async def listening(records: Any, *, on_progress: Any) -> Any:
        def tell(report: Any) -> None:
            latest.append(report)
            client.takes = len(latest) > 2
            on_progress(report)

        return await ingest(records, on_progress=tell)

    index.aingest = listening  # type: ignore[method-assign, assignment]
    first, *_, last = ingested(index, client)
    assert len(client.taken[:-1]) < len(latest)
    assert (first["status"], "rejected" in first) == ("running", False)
    assert (last["status"], last["records"], last["written"]) == ("done", 3_500, 3_500)
    assert (len(last["rejected"]), last["rejected_total"]) == (1_000, 2_000)


@pytest.mark.parametrize(
    ("last", "code"),
    [([{"type": "http.disconnect"}], None), ([part(b"x" * 2_000)], "too_large"), ([], "timeout")],
)
def test_an_incomplete_body(
    encoder: Encoder, last: list[dict[str, Any]], code: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Received records are ingested, and the last line says that the body was incomplete."""
    index = Index(MemoryStore(), encoder)
    limits = LIMITS if code else Limits()  # an ingest whose client left has to end in that time, too
    *_, told = ingested(index, _Client([*lines(10), *last]), limits)
    assert (told["status"], told["records"], index.count()) == ("incomplete", 10, 10)
    assert told.get("error", {"code": None})["code"] == code
    assert not caplog.records


def test_a_line_that_comes_byte_by_byte(encoder: Encoder) -> None:
    """The time limit applies to each line, not to each byte."""
    slow = chain(lines(10), (part(b" ") for _ in range(1_000)), [END])
    *_, told = ingested(Index(MemoryStore(), encoder), _Client(slow, pause=0.05))
    assert (told["status"], told["records"]) == ("incomplete", 10)
    assert told["error"]["message"] == "line 11 did not arrive within 0.3 seconds; send fewer texts at once"


def test_a_body_that_cannot_be_read(encoder: Encoder) -> None:
    """Whatever the reason is, the ingest ends."""

    def failing() -> Iterator[dict[str, Any]]:
        yield from lines(10)
        raise MemoryError

    index = Index(MemoryStore(), encoder)
    *_, told = ingested(index, _Client(failing()))
    assert (told["status"], told["error"]["code"], index.count()) == ("incomplete", "internal_error", 10)


def test_a_client_that_stalls_in_a_line_and_takes_no_answer(encoder: Encoder) -> None:
    """Its connection is dropped, because nothing else ends it."""
    client = _Client([*lines(10), part(b"{")])
    client.takes = False
    index = Index(MemoryStore(), encoder)
    ingested(index, client)
    assert client.dropped
    assert index.count() == 10
    taking = _Client([*lines(10), part(b"{")])
    ingested(index, taking)
    assert not taking.dropped


@given(cuts=st.lists(st.integers(0, 400)))
def test_lines_that_come_in_pieces(encoder: Encoder, cuts: list[int]) -> None:
    """Records are the same, wherever the network splits lines."""
    whole = "".join(json.dumps({"id": f"r{at}", "text": f"text {at}"}) + "\n\n" for at in range(9)).encode()[:-2]
    at = [0, *sorted(cut for cut in cuts if cut < len(whole)), len(whole)]
    index = Index(MemoryStore(), encoder)
    *_, last = ingested(index, _Client([*(part(whole[begin:end]) for begin, end in pairwise(at)), END]))
    assert sorted(each.chunk.text for each in index.read()) == [f"text {number}" for number in range(9)]
    assert (last["status"], last["records"]) == ("done", 9)


@pytest.mark.parametrize(("size", "most"), [(1_000, 2 * AHEAD), (4 * AHEAD, 12 * AHEAD)])
def test_a_store_that_is_slower_than_the_client(encoder: Encoder, size: int, most: int) -> None:
    """The client has to wait, and what is held for it counts as waiting."""
    read = counted = 0

    def many() -> Iterator[dict[str, Any]]:
        nonlocal read
        for at in range(100 * AHEAD // size):
            read += size
            line = json.dumps({"id": f"r{at}", "text": "a", "metadata": {"text": "a" * size}}).encode() + b"\n"
            yield from (part(line[begin : begin + 2**18]) for begin in range(0, len(line), 2**18))
        yield END

    def count(more: int) -> None:
        nonlocal counted
        counted += more

    def consumed(records: Iterator[Any]) -> None:
        next(records)
        time.sleep(0.5)
        held.append(read)

    held: list[int] = []
    index = Index(MemoryStore(), encoder)

    async def slow(records: Any, *, on_progress: Any) -> Any:  # noqa: ARG001
        await asyncio.to_thread(consumed, iter(records))
        raise StoreUnavailable("gone")

    index.aingest = slow  # type: ignore[method-assign, assignment]
    ingested(index, _Client(many()), Limits(), count)
    assert held[0] <= most
    assert AHEAD + counted >= size
