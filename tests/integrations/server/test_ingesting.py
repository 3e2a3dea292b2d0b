"""An ingest over HTTP that fails, or whose client does, leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from itertools import chain, pairwise
from typing import Any

import pytest
from harrier_server.ingesting import Ingesting
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from harrier_core import IngestReport, StoreUnavailable


class _Index:
    """Takes so many records and then fails, or takes all."""

    def __init__(self, most: int | None) -> None:
        self.most = most
        self.taken: list[Any] = []

    async def aingest(self, records: Iterator[Any], *, on_progress: Callable[[IngestReport], None]) -> IngestReport:
        def run() -> IngestReport:
            for record in records:
                self.taken.append(record)
                if len(self.taken) == self.most:
                    raise StoreUnavailable("gone")
            rejected = [("a", "is wrong")] * 2_000
            return IngestReport(records=len(self.taken), rejected=rejected)

        for number in range(100):
            on_progress(IngestReport(records=number, rejected=[("a", "is wrong")]))
        done: asyncio.Future[IngestReport] = asyncio.get_running_loop().create_future()
        loop = asyncio.get_running_loop()

        def thread() -> None:
            try:
                report = run()
            except StoreUnavailable as error:
                loop.call_soon_threadsafe(done.set_exception, error)
            else:
                loop.call_soon_threadsafe(done.set_result, report)

        threading.Thread(target=thread).start()
        return await done


def ingested(index: _Index, parts: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the lines of an answer say."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0)
        return next(parts)

    async def send(message: Any) -> None:
        sent.append(message)

    async def main() -> None:
        scope = {"type": "http", "method": "POST", "headers": []}
        response = Ingesting(Request(scope, receive), index, 1_000)  # type: ignore[arg-type]
        await asyncio.wait_for(response(scope, receive, send), 20)

    asyncio.run(main())
    return [json.loads(each["body"]) for each in sent if each["type"] == "http.response.body"]


def parts(number: int, last: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for at in range(number):
        body = json.dumps({"id": f"r{at}", "text": "a text"}).encode() + b"\n"
        yield {"type": "http.request", "body": body, "more_body": True}
    yield last


END = {"type": "http.request", "body": b"", "more_body": False}


def test_one_that_fails_while_the_client_sends() -> None:
    """No thread is left waiting, however much the client would have sent."""
    before = threading.active_count()
    *_, last = ingested(_Index(1), parts(1_000_000, END))
    assert (last["status"], last["error"]["code"]) == ("failed", "unavailable")
    assert threading.active_count() == before


def test_progress() -> None:
    """Only the latest report is told, and it holds counts; what was rejected is in the last line."""
    first, *_, last = ingested(_Index(None), parts(100, END))
    assert (first["status"], first["records"], first["rejected_total"]) == ("running", 99, 1)
    assert "rejected" not in first
    assert (last["status"], last["records"]) == ("done", 100)
    assert (len(last["rejected"]), last["rejected_total"]) == (1_000, 2_000)


@pytest.mark.parametrize(
    "last", [{"type": "http.disconnect"}, {"type": "http.request", "body": b"x" * 2_000, "more_body": True}]
)
def test_a_body_without_its_end(last: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """What came is ingested; the last line says that it was not all."""
    *_, told = ingested(_Index(None), parts(10, last))
    assert (told["status"], told["records"]) == ("incomplete", 10)
    assert ("error" in told) == (last["type"] == "http.request")
    assert not caplog.records


@given(cuts=st.lists(st.integers(0, 400)))
def test_lines_that_come_in_pieces(cuts: list[int]) -> None:
    """Wherever the network cuts them, the records are the same."""
    whole = "".join(json.dumps({"id": f"r{at}", "text": f"text {at}"}) + "\n\n" for at in range(9)).encode()[:-2]
    at = [0, *sorted(cut for cut in cuts if cut < len(whole)), len(whole)]
    pieces = [whole[begin:end] for begin, end in pairwise(at)]
    sent = ({"type": "http.request", "body": piece, "more_body": True} for piece in pieces)
    index = _Index(None)
    *_, last = ingested(index, chain(sent, [END]))
    assert [record.text for record in index.taken] == [f"text {number}" for number in range(9)]
    assert (last["status"], last["records"]) == ("done", 9)
