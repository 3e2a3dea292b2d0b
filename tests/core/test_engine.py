"""Scheduling by a real engine with a tiny model, whose passes are held up and observed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harrier_core.calls import Call
from harrier_core.decoder import Decoder
from harrier_core.device import choose
from harrier_core.engine import Engine
from harrier_core.errors import BadVectors, DeviceFailed, DeviceFull, EncoderClosed, OutOfMemory
from harrier_core.lanes import _AHEAD, _PATIENCE, Lanes
from harrier_core.models import open_model
from harrier_core.token_rows import Row


def submit(
    engine: Engine, windows: Iterable[list[Row]], rows: int, *, urgent: bool = False, budget: int = 10
) -> Future[Any]:
    vectors, tokens = np.empty((rows, 64), dtype=np.float32), np.zeros(rows, dtype=np.int32)
    call = Call(iter(windows), range(rows), vectors, tokens, set(), budget, urgent)
    call.add(call.fetch())
    return engine.submit(call)


class Watched:
    """An engine whose passes wait for `go` and are recorded by the first id of each row."""

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

    def submit(self, *rows: list[int], urgent: bool = False, budget: int = 10) -> Future[Any]:
        return submit(self.engine, [[Row(row) for row in rows]], len(rows), urgent=urgent, budget=budget)

    def overlap(self) -> None:
        """Finish each pass after the next one has begun, as on a GPU."""
        assert self.engine._runner
        self.engine._runner.overlaps = True

    def finish(self, *futures: Future[Any]) -> list[list[int]]:
        """Let all passes run, and return those after the first, which blocked the others."""
        self.go.set()
        wait(futures, timeout=60)
        return self.passes[1:]


@pytest.fixture
def watched(built: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    engine = Engine(open_model(str(built())), choose("qwen3", "cpu"))
    watched = Watched(engine, monkeypatch)
    first = watched.submit([1])
    while not watched.passes:  # the first pass is under way, so that whatever comes now is queued
        pass
    yield watched
    watched.go.set()
    first.exception(60)
    engine.close()


def test_small_calls_share_a_pass(watched: Watched) -> None:
    """Sixty-four waiting queries are one pass."""
    futures = [watched.submit([number, 7], urgent=True, budget=200) for number in range(2, 66)]
    assert watched.finish(*futures) == [list(range(2, 66))]


def test_a_pass_keeps_to_the_budget(watched: Watched) -> None:
    """The longest rows come first; a row that exceeds the budget runs alone."""
    future = watched.submit([2] * 4, [3] * 6, [4] * 11, [5] * 4, [6] * 2)
    assert watched.finish(future) == [[4], [3, 2], [5, 6]]


def test_queries_overtake_documents(watched: Watched) -> None:
    """Queries run between passes of documents, and never share a pass with them."""
    documents = watched.submit([2] * 9, [3] * 9)
    query = watched.submit([4], urgent=True)
    assert watched.finish(documents, query) == [[4], [2], [3]]


def test_one_query_among_thousands(watched: Watched) -> None:
    """It runs in the next pass, although another caller's two thousand came first."""
    many = [watched.submit(*([2, 3] for _ in range(256)), urgent=True, budget=100) for _ in range(8)]
    one = watched.submit([4, 5], urgent=True, budget=100)
    watched.go.set()
    one.result(60)
    assert 4 in watched.passes[1]
    assert not any(each.done() for each in many)
    wait(many)


def test_documents_do_not_starve(watched: Watched) -> None:
    """Documents get at least every ninth pass, however many queries there are."""
    documents = watched.submit([2] * 9, [3] * 9)
    queries = watched.submit(*([4 + number] * 9 for number in range(3 * _PATIENCE)), urgent=True)
    passes = watched.finish(documents, queries)
    assert [number for number, rows in enumerate(passes) if rows[0] in (2, 3)] == [_PATIENCE, 2 * _PATIENCE + 1]


def test_a_cancelled_call_is_dropped(watched: Watched) -> None:
    """Its rows do not run, and other calls are unaffected."""
    dropped, kept = watched.submit([2]), watched.submit([3])
    assert dropped.cancel()
    assert watched.finish(kept) == [[3]]


def test_an_error_is_for_the_calls_of_its_pass(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """All calls of the pass fail, and the next call finds a working engine."""
    run = Decoder.launch

    def failing(decoder: Decoder, rows: Any, **how: Any) -> Any:
        if any(row.ids[0] == 2 for row in rows):
            raise RuntimeError("a kernel failed")
        return run(decoder, rows, **how)

    monkeypatch.setattr(Decoder, "launch", failing)
    failed = watched.submit([2] * 9, [3] * 9)
    fine = watched.submit([4] * 8)
    watched.finish(failed, fine)
    error = failed.exception()
    assert isinstance(error, DeviceFailed)
    assert str(error) == "a forward pass failed on cpu (RuntimeError: a kernel failed)"
    assert isinstance(error.__cause__, RuntimeError)
    assert fine.result().vectors.shape == (1, 64)


def test_a_bad_vector_is_for_its_own_call(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other calls in the same pass get their vectors."""
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
    assert good.result().vectors.shape == (1, 64)


def test_closing_cancels_waiting_calls(watched: Watched) -> None:
    """Waiting calls are cancelled, the current pass is completed, and new calls are refused."""
    waiting = [watched.submit([2]), watched.submit([3], urgent=True)]
    watched.engine.close()
    assert all(future.cancelled() for future in waiting)
    with pytest.raises(EncoderClosed, match="closed during this call"):
        watched.submit([4])


def test_closing_while_a_pass_is_begun_ahead(watched: Watched) -> None:
    """A pass that was started ahead is completed, and its caller does not hang."""
    watched.overlap()
    watched.finish(watched.submit([2] * 9))
    watched.go.clear()
    begun = watched.submit([3] * 9)
    while watched.passes[-1] != [3]:
        pass
    watched.engine.close()
    watched.go.set()
    assert begun.result(10).vectors.shape == (1, 64)


def test_a_call_in_the_moment_of_closing(watched: Watched) -> None:
    """A call between the release of the model and the end of the thread does not hang."""
    watched.engine._runner = None
    late = watched.submit([2])
    watched.go.set()
    with pytest.raises(CancelledError):
        late.result(60)


def test_windows_are_fetched_as_they_are_needed(watched: Watched) -> None:
    """Of a call with a thousand windows, only a few passes of rows wait at a time."""
    passes_at: list[int] = []

    def windows() -> Iterator[list[Row]]:
        for number in range(1_000):
            passes_at.append(len(watched.passes))
            yield [Row([2 + number % 500] * 5)]

    future = submit(watched.engine, windows(), 1_000)
    watched.finish(future)
    assert future.result().vectors.shape == (1_000, 64)
    rows_a_pass = 2
    assert all(number <= rows_a_pass * (passes + _AHEAD) for number, passes in enumerate(passes_at))


def test_an_error_in_a_later_window(watched: Watched) -> None:
    """An error in a text that is tokenized later reaches the caller."""

    def windows() -> Iterator[list[Row]]:
        yield [Row([2])]
        raise ValueError("wrong")

    future = submit(watched.engine, windows(), 5)
    watched.finish(future)
    with pytest.raises(ValueError, match="^wrong$"):
        future.result()


def test_a_first_window_without_rows(watched: Watched) -> None:
    """If the first window has no valid rows, later windows are fetched and the error is raised."""

    def windows() -> Iterator[list[Row]]:
        yield []
        yield []
        raise ValueError("wrong")

    watched.go.set()
    with pytest.raises(ValueError, match="^wrong$"):
        submit(watched.engine, windows(), 5).result(10)


def limit_memory(monkeypatch: pytest.MonkeyPatch, tokens: int) -> None:
    """Make passes of more tokens run out of memory, as on a GPU."""
    run = Decoder.launch

    def limited(decoder: Decoder, rows: Any, **how: Any) -> Any:
        if sum(len(row.rest) for row in rows) > tokens:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return run(decoder, rows, **how)

    monkeypatch.setattr(Decoder, "launch", limited)


def test_out_of_memory(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass is halved until it fits, its vectors are right, and later passes are smaller."""
    rows = [[2 + number] * 5 for number in range(32)]
    before = watched.submit(*rows, budget=200)
    watched.finish(before)
    limit_memory(monkeypatch, tokens=50)
    watched.passes.clear()
    after = watched.submit(*rows, budget=200)
    watched.finish(after)
    assert np.abs(before.result().vectors - after.result().vectors).max() < 1e-6
    assert [len(rows) for rows in watched.passes] == [8, 8, 8, 8]
    assert watched.engine.stats(0).retries == 3
    watched.passes.clear()
    wait([watched.submit(*rows, budget=200)])
    assert [len(rows) for rows in watched.passes] == [8, 8, 8, 8]
    assert watched.engine.stats(0).retries == 3


def test_a_text_too_large_for_memory(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails alone, with its length and the longest that ran, and other calls get their vectors."""
    limit_memory(monkeypatch, tokens=50)
    failing, fine = watched.submit([2] * 8, [3] * 60, budget=200), watched.submit([4] * 5, [5] * 40, budget=200)
    watched.finish(failing, fine)
    assert fine.result().vectors.shape == (2, 64)
    error = failing.exception()
    assert isinstance(error, OutOfMemory)
    assert error.position == 1
    assert str(error) == (
        "text 1 has 60 tokens with its prompt, which does not fit in the memory of cpu even alone "
        "(the longest that ran had 40); split it"
    )


@pytest.mark.parametrize("later", [False, True])
def test_a_device_that_fails(watched: Watched, monkeypatch: pytest.MonkeyPatch, later: bool) -> None:
    """Failed passes are counted until one runs, whether a pass fails at its start or at its end."""
    watched.finish(watched.submit([2] * 9))
    run = Decoder.launch

    def failing(*_: Any, **__: Any) -> Any:
        def fail() -> Any:
            raise RuntimeError("CUDA error: an illegal memory access was encountered\nCompile with TORCH_USE_CUDA_DSA")

        return fail if later else fail()

    monkeypatch.setattr(Decoder, "launch", failing)
    for number in range(1, 4):
        error = watched.submit([3] * 9).exception(60)
        assert isinstance(error, DeviceFailed)
        assert "TORCH_USE_CUDA_DSA" not in str(error)
        assert (watched.engine.stats(0).failures, watched.engine.stats(0).failing) == (number, number)
    monkeypatch.setattr(Decoder, "launch", run)
    watched.submit([4] * 9).result(60)
    assert (watched.engine.stats(0).failures, watched.engine.stats(0).failing) == (3, 0)


@pytest.mark.parametrize("overlaps", [False, True])
def test_an_answer_that_cannot_be_made(watched: Watched, monkeypatch: pytest.MonkeyPatch, overlaps: bool) -> None:
    """Its calls fail, and the engine runs the next one."""
    if overlaps:
        watched.overlap()
    put = Call.put

    def failing(call: Call, *args: Any) -> None:
        if len(call.vectors) == 2:
            raise MemoryError("no memory for the vectors")
        put(call, *args)

    monkeypatch.setattr(Call, "put", failing)
    watched.go.set()
    error = watched.submit([2], [3]).exception(60)
    assert isinstance(error, DeviceFull)
    assert isinstance(error.__cause__, MemoryError)
    assert watched.engine.stats(0).failing == 1
    assert watched.submit([4]).result(60).vectors.shape == (1, 64)
    assert watched.engine.stats(0).failing == 0


@pytest.mark.parametrize("method", ["next_pass", "begin_fetches"])
def test_a_turn_that_fails(watched: Watched, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """Its calls fail, and the engine runs the next one."""
    waiting = watched.submit([2] * 9)
    with monkeypatch.context() as spoiled:
        failing = threading.Event()

        def fail(*_: Any) -> Any:
            failing.set()
            raise MemoryError

        spoiled.setattr(Lanes, method, fail)
        watched.go.set()
        assert isinstance(waiting.exception(60), DeviceFull)
        assert failing.is_set()
    assert watched.submit([4]).result(60).vectors.shape == (1, 64)
    assert watched.engine.waited_for() == []


def test_memory_that_others_took(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts as long as one that ran are not too long: the device is full, and later passes are as large as before."""
    watched.finish(watched.submit(*([2 + number] * 8 for number in range(8)), budget=200))
    run = Decoder.launch
    limit_memory(monkeypatch, tokens=5)
    error = watched.submit([3] * 8, [4] * 7, budget=200).exception(60)
    assert isinstance(error, DeviceFull)
    assert str(error) == (
        "the memory of cpu is full: a text of 8 tokens did not fit, but one of 8 did before; other programs may use it"
    )
    assert watched.engine.stats(0).failing == 1
    longer = watched.submit([5] * 90, [3] * 8, budget=200)
    assert isinstance(longer.exception(60), DeviceFull)
    assert isinstance(watched.submit([5] * 90).exception(60), OutOfMemory)
    assert (watched.engine.stats(0).failures, watched.engine.stats(0).failing) == (2, 2)
    monkeypatch.setattr(Decoder, "launch", run)
    wait([watched.submit([3] * 3, urgent=True)])
    assert watched.engine.stats(0).failing == 0


def test_the_size_of_passes_after_memory_was_taken(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [[2 + number] * 8 for number in range(8)]
    watched.finish(watched.submit(*rows, budget=200))
    with monkeypatch.context() as taken:
        limit_memory(taken, tokens=5)
        assert isinstance(watched.submit(*rows, budget=200).exception(60), DeviceFull)
    watched.passes.clear()
    watched.submit(*rows, budget=200).result(60)
    assert [len(each) for each in watched.passes] == [8]


def test_nan_is_retried_in_float32(built: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Only texts with NaN are retried, and their vectors are as accurate as others."""
    model = open_model(str(built("gemma3")))
    rows = [[2, 5, 9], [3, 5, 9], [4, 5, 9, 4]]
    exact = Engine(model, choose("gemma3_text", "cpu", "float32"))
    expected = submit(exact, [[Row(row) for row in rows]], 3).result(60).vectors
    exact.close()
    launched: list[tuple[int, bool]] = []
    run = Decoder.launch

    def spoiling(decoder: Decoder, rows: Any, *, precise: bool = False) -> Any:
        launched.append((len(rows), precise))
        hidden = run(decoder, rows, precise=precise)().clone()
        if not precise:
            hidden[[row.ids[0] == 3 for row in rows]] = float("inf")
        return lambda: hidden

    monkeypatch.setattr(Decoder, "launch", spoiling)
    engine = Engine(model, choose("gemma3_text", "cpu", "bfloat16"))
    vectors = submit(engine, [[Row(row) for row in rows]], 3).result(60).vectors
    assert launched == [(3, False), (1, True)]
    assert engine.stats(0).retries == 1
    engine.close()
    assert 0.999 < (vectors * expected).sum(axis=1).min() < 0.999_999_9


def test_passes_overlap(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next pass starts before the last one ends, as on a GPU, and callers get their own vectors."""
    order: list[str] = []
    run = Decoder.launch

    def launch(decoder: Decoder, rows: Any, **how: Any) -> Any:
        hidden: torch.Tensor = run(decoder, rows, **how)()
        name = rows[0].ids[0]
        order.append(f"begin {name}")

        def wait_for_it() -> torch.Tensor:
            order.append(f"end {name}")
            return hidden

        return wait_for_it

    monkeypatch.setattr(Decoder, "launch", launch)
    alone = [watched.submit([number, 7, 8]) for number in (2, 3, 4)]
    watched.finish(*alone)
    order.clear()
    watched.overlap()
    watched.go.clear()
    calls = [watched.submit([number, 7, 8] * 3) for number in (2, 3, 4)]
    watched.finish(*calls)
    assert order == ["begin 2", "begin 3", "end 2", "begin 4", "end 3", "end 4"]
    again = [watched.submit([number, 7, 8]) for number in (2, 3, 4)]
    watched.finish(*again)
    for one, other in zip(alone, again, strict=True):
        assert np.abs(one.result().vectors - other.result().vectors).max() < 1e-6
