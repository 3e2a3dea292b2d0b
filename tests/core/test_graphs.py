"""Small passes that are replayed: padded to a shape, with the same vectors as without padding.

On a CPU the work is repeated where a GPU would replay it; the last test uses a real recording.
"""

from __future__ import annotations

import gc
import random
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from passes import error, load, make_ragged, some_rows
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from harrier_core import Encoder, ModelWarning, attention
from harrier_core.attention import Ragged, Text
from harrier_core.decoder import _KEPT_BEGINNINGS
from harrier_core.graphs import _KEPT, Graphs, Shape, shape_of
from harrier_core.testing import ARCHITECTURES
from harrier_core.token_rows import Row

LENGTHS = st.lists(st.integers(1, 1_100), min_size=1, max_size=70)
INSTRUCTION = tuple(range(7, 27))


class Recorded:
    """A decoder that lays out passes as on a GPU, and counts its recordings."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.decoder, _ = load(folder)
        self.plain, _ = load(folder)
        assert self.plain._graphs is None, "on a CPU there is nothing to win"
        self.recordings = 0
        self.replays = 0
        monkeypatch.setattr(Graphs, "_record", lambda _, work: self._record(work))
        make_ragged(self.decoder, monkeypatch)
        self.decoder._graphs = Graphs(self.decoder._scale, self.decoder._device)

    def _record(self, work: Callable[[], Tensor]) -> Callable[[], Tensor]:
        self.recordings += 1
        work()

        def replay() -> Tensor:
            self.replays += 1
            return work()

        return replay

    def error(self, rows: list[Row]) -> float:
        return error(self.decoder.launch(rows)(), self.plain.launch(rows)())


@pytest.fixture
def recorded(request: pytest.FixtureRequest, built: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Recorded:
    return Recorded(built(getattr(request, "param", ARCHITECTURES[0])), monkeypatch)


@given(LENGTHS, st.sampled_from([(), INSTRUCTION]))
def test_padding_to_a_shape(lengths: list[int], shared: tuple[int, ...]) -> None:
    """A shape holds the rows and whole filler texts with the same prefix, and no token more."""
    rows = some_rows(lengths, shared)
    shape = shape_of(rows)
    assert (shape is None) == (len(rows) >= 65 or sum(lengths) + _more_texts(len(rows)) > 1_024)
    if shape:
        filled = shape.fill(rows)
        assert filled[: len(rows)] == rows
        assert len(filled) == shape.texts
        assert sum(len(row.rest) for row in filled) == shape.tokens
        assert all(row.rest and row.shared == shared for row in filled)


def _more_texts(texts: int) -> int:
    return next((size - texts for size in (2, 5, 17, 65) if size > texts), 0)


def test_shapes() -> None:
    """The smallest shape is used; a pass with several prefixes has none."""
    assert shape_of(some_rows([8], INSTRUCTION)) == Shape(2, 16, INSTRUCTION)
    assert shape_of(some_rows([15])) == Shape(2, 16, ())
    assert shape_of(some_rows([16])) == Shape(2, 32, ())
    assert shape_of(some_rows([8] * 64)) == Shape(65, 1_024, ())
    assert shape_of([*some_rows([3]), *some_rows([3], INSTRUCTION)]) is None


@pytest.mark.parametrize("recorded", ARCHITECTURES, indirect=True)
@pytest.mark.parametrize("shared", [(), INSTRUCTION])
def test_replays_equal_passes(recorded: Recorded, shared: tuple[int, ...]) -> None:
    """Every replayed pass gives the right vectors, whatever ran in its memory before."""
    chance = random.Random(0)
    for seed in range(40):
        lengths = [chance.randrange(1, 40) for _ in range(chance.choice([1, 1, 3, 4, 16]))]
        assert recorded.error(some_rows(lengths, shared, seed)) < 1e-5
    assert recorded.replays > 20
    assert recorded.recordings < 15


def test_recorded_the_second_time(recorded: Recorded) -> None:
    """A shape is recorded when it occurs for the second time."""
    for _ in range(4):
        assert recorded.error(some_rows([5])) < 1e-5
    assert (recorded.recordings, recorded.replays) == (1, 3)


def test_large_passes_are_not_recorded(recorded: Recorded) -> None:
    """Passes with several prefixes, many texts or many tokens are not recorded."""
    for rows in [some_rows([3] * 65), [*some_rows([3]), *some_rows([3], INSTRUCTION)]] * 3:
        assert recorded.error(rows) < 1e-5
    assert recorded.recordings == 0


def test_an_evicted_prefix(recorded: Recorded) -> None:
    """A recording keeps its prefix in memory, and the number of recordings is limited."""
    beginnings = [tuple(range(number, number + 9)) for number in range(_KEPT_BEGINNINGS + 2)]
    for _ in range(3):
        for shared in beginnings:
            assert recorded.error(some_rows([5], shared)) < 1e-5
    assert recorded.recordings == len(beginnings)
    graphs: Any = recorded.decoder._graphs
    for shared in (tuple(range(number, number + 3)) for number in range(_KEPT)):
        recorded.decoder.launch(some_rows([5], shared))
    assert len(graphs._shapes) == _KEPT
    assert not any(graphs._shapes.values())


def test_a_precise_pass_is_not_replayed(recorded: Recorded) -> None:
    """It computes in another dtype than the recording."""
    for _ in range(3):
        recorded.decoder.launch(some_rows([5]), precise=True)()
    assert recorded.recordings == 0


def test_a_failed_recording(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is reported once and passes are launched normally; out of memory is retried later."""

    def failing(*_: object) -> None:
        raise errors.pop()

    monkeypatch.setattr(Graphs, "_record", failing)
    errors = [
        RuntimeError("operation not permitted when stream is capturing\nand much more"),
        torch.OutOfMemoryError("CUDA out of memory."),
    ]
    for _ in range(2):
        assert recorded.error(some_rows([5])) < 1e-5
    with pytest.warns(ModelWarning, match="^small passes on cpu run without CUDA graphs: .*is capturing$"):
        assert recorded.error(some_rows([5])) < 1e-5
    for _ in range(2):
        assert recorded.error(some_rows([5])) < 1e-5


def test_a_model_is_released_at_once(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recordings do not keep a closed model's memory until garbage collection."""
    monkeypatch.setattr(Graphs, "_record", lambda _, work: partial(torch.clone, work()))
    for _ in range(3):
        recorded.decoder.launch(some_rows([5]))()
    gone = weakref.ref(recorded.decoder)
    gc.disable()
    try:
        del recorded.decoder
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.skipif(attention.varlen() is None, reason="this torch has no varlen_attn: recordings were not traced")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nothing_recorded_waits_for_the_gpu(architecture: Any, built: Callable[..., Path]) -> None:
    """A traced pass synchronises nowhere, and torch's own kernel accepts its arguments."""
    decoder, _ = load(built(architecture), "bfloat16")
    with torch.inference_mode():
        beginnings = {INSTRUCTION: decoder._beginning(INSTRUCTION)}
        texts = [Text(tokens, INSTRUCTION) for tokens in (5, 1, 10)]
        layout = Ragged(texts, beginnings, decoder._scale, torch.device("cpu"))
        with FakeTensorMode(allow_non_fake_inputs=True) as without_values:
            for name in ("positions", "last", "_asked", "_asked_last", "_seen", "_order"):
                setattr(layout, name, without_values.from_tensor(getattr(layout, name)))
            hidden = decoder._forward(torch.empty(16, dtype=torch.long), layout, torch.bfloat16)
            assert hidden.shape == (3, decoder._architecture.hidden)
            with pytest.raises(DataDependentOutputException):
                hidden.tolist()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: nothing was recorded and replayed on a GPU")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_recordings_on_a_gpu(architecture: Any, built: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Replayed passes equal launched ones, also after tables were replaced by larger ones."""
    folder = str(built(architecture))
    texts = [["one"], ["two", "three words here", "four"], ["a longer text " * 40], ["word"] * 60]
    replayed: list[int] = []
    run = Graphs.run

    def watching(graphs: Graphs, rows: Any, *more: Any) -> Tensor | None:
        result = run(graphs, rows, *more)
        replayed.append(result is not None)
        return result

    monkeypatch.setattr(Graphs, "run", watching)
    with Encoder(folder, device="cuda", task="a task") as encoder:
        launched = [[encoder.encode_queries(each), encoder.encode_documents(each)] for each in texts]
        assert not any(replayed)
        for _ in range(3):
            encoder.encode_documents(["long " * 480])
            again = [[encoder.encode_queries(each), encoder.encode_documents(each)] for each in texts]
            for one, other in zip(launched, again, strict=True):
                assert all((a * b).sum(1).min() > 0.9999 for a, b in zip(one, other, strict=True))
    assert sum(replayed) >= 12
