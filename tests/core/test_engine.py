"""Who runs next, and with whom: a real engine on a tiny model, its passes held up and looked at."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harrier_core.calls import Call
from harrier_core.decoder import Decoder
from harrier_core.device import place
from harrier_core.engine import _PATIENCE, Engine
from harrier_core.errors import BadVectors, EncoderClosed
from harrier_core.models import open_model
from harrier_core.packing import Row


class Watched:
    """An engine whose passes wait for `go`, and are noted: the first ids of the rows of each."""

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.engine = engine
        self.passes: list[list[int]] = []
        self.go = threading.Event()
        run = Decoder.launch

        def watched(decoder: Decoder, rows: Any, **how: Any) -> Any:
            self.passes.append([row.ids[0] for row in rows])
            assert self.go.wait(60)
            return run(decoder, rows, **how)

        monkeypatch.setattr(Decoder, "launch", watched)

    def submit(self, *rows: list[int], urgent: bool = False, budget: int = 10, window: int = 100) -> Future[Any]:
        windows = ([Row(row) for row in rows[begin : begin + window]] for begin in range(0, len(rows), window))
        call = Call(windows, range(len(rows)), np.empty((len(rows), 64), dtype=np.float32), budget, urgent)
        call.add(call.fetch())
        return self.engine.submit(call)

    def finish(self, *futures: Future[Any]) -> list[list[int]]:
        """Let the passes run; those that there were, without the first, which held up the others."""
        self.go.set()
        wait(futures, timeout=60)
        return self.passes[1:]


@pytest.fixture
def watched(built: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    engine = Engine(open_model(str(built())), place("qwen3", "cpu"))
    watched = Watched(engine, monkeypatch)
    first = watched.submit([1])
    while not watched.passes:  # the first pass is under way, so that whatever comes now is queued
        pass
    yield watched
    watched.go.set()
    first.exception(60)
    engine.close()


def test_small_calls_share_a_pass(watched: Watched) -> None:
    """Sixty-four queries that wait together are one pass."""
    futures = [watched.submit([number, 7], urgent=True, budget=200) for number in range(2, 66)]
    assert watched.finish(*futures) == [list(range(2, 66))]


def test_a_pass_keeps_to_the_budget(watched: Watched) -> None:
    """The longest first, as many as fit; one that is longer by itself runs by itself."""
    future = watched.submit([2] * 4, [3] * 6, [4] * 11, [5] * 4, [6] * 2)
    assert watched.finish(future) == [[4], [3, 2], [5, 6]]


def test_queries_overtake_documents(watched: Watched) -> None:
    """Between passes; and they do not take documents along, for which they would have to wait."""
    documents = watched.submit([2] * 9, [3] * 9)
    query = watched.submit([4], urgent=True)
    assert watched.finish(documents, query) == [[4], [2], [3]]


def test_documents_do_not_starve(watched: Watched) -> None:
    """However many queries there are, documents get every so manieth pass."""
    documents = watched.submit([2] * 9, [3] * 9)
    queries = watched.submit(*([4 + number] * 9 for number in range(3 * _PATIENCE)), urgent=True)
    passes = watched.finish(documents, queries)
    assert [number for number, rows in enumerate(passes) if rows[0] in (2, 3)] == [_PATIENCE, 2 * _PATIENCE + 1]


def test_a_cancelled_call_is_dropped(watched: Watched) -> None:
    """Its rows run in no pass, and its neighbours' do."""
    dropped, kept = watched.submit([2]), watched.submit([3])
    assert dropped.cancel()
    assert watched.finish(kept) == [[3]]


def test_an_error_is_for_the_calls_of_its_pass(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them, also where rows are left to run; the next call finds a working engine."""
    run = Decoder.launch

    def failing(decoder: Decoder, rows: Any, **how: Any) -> Any:
        if any(row.ids[0] == 2 for row in rows):
            raise RuntimeError("a kernel failed")
        return run(decoder, rows, **how)

    monkeypatch.setattr(Decoder, "launch", failing)
    failed = watched.submit([2] * 9, [3] * 9)
    fine = watched.submit([4] * 8)
    watched.finish(failed, fine)
    assert str(failed.exception()) == "a kernel failed"
    assert fine.result().shape == (1, 64)


def test_a_bad_vector_is_for_its_own_call(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neighbours in the same pass get theirs."""
    run = Decoder.launch

    def spoiling(decoder: Decoder, rows: Any, **how: Any) -> Any:
        hidden = run(decoder, rows, **how)().clone()
        hidden[[row.ids[0] == 2 for row in rows]] = float("nan")
        return lambda: hidden

    monkeypatch.setattr(Decoder, "launch", spoiling)
    bad, good = watched.submit([3], [2]), watched.submit([4])
    assert watched.finish(bad, good) == [[3, 2, 4]]
    error = bad.exception()
    assert isinstance(error, BadVectors)
    assert error.positions == (1,)
    assert good.result().shape == (1, 64)


def test_closing_ends_what_waits(watched: Watched) -> None:
    """What waits is cancelled at once, the pass under way is let finish, and nothing more is taken."""
    waiting = [watched.submit([2]), watched.submit([3], urgent=True)]
    watched.engine.close()
    assert all(future.cancelled() for future in waiting)
    with pytest.raises(EncoderClosed, match="closed while this call was on its way"):
        watched.submit([4])


def test_a_call_in_the_moment_of_closing(watched: Watched) -> None:
    """The model is gone and the thread not yet: the call ends all the same."""
    watched.engine._decoder = None
    late = watched.submit([2])
    watched.go.set()
    with pytest.raises(CancelledError):
        late.result(60)
