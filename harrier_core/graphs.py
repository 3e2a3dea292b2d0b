"""Small passes on a GPU, recorded once and replayed, because launching their kernels takes longer than running them.

A recording has a fixed shape, so a pass is padded to the next shape with dummy texts. It also belongs to one
beginning, whose keys and values it reads from where they were when it was recorded.
"""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harrier_core.attention import Beginnings, Ragged, Text
from harrier_core.errors import ModelWarning
from harrier_core.token_rows import Row

# Sizes of recordings. There is room for one text less, because a dummy text takes the remaining tokens.
_TEXTS = (2, 5, 17, 65)
_TOKENS = (16, 32, 64, 128, 256, 512, 1_024)

_KEPT = 64  # shapes; all recordings share the memory between the first product and the last
_FILLING = 0  # any token will do

_one_at_a_time = threading.Lock()  # across all models: a process may record one thing at a time

Forward = Callable[[Tensor, Ragged], Tensor]  # ids, (tokens,), and their layout to hidden states, (texts, hidden)


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of one recording."""

    texts: int
    tokens: int
    beginning: tuple[int, ...]

    def fill(self, rows: Sequence[Row]) -> list[Row]:
        """Return these rows, followed by dummy rows that fill the shape."""
        texts = self.texts - len(rows)
        tokens = self.tokens - sum(len(row.rest) for row in rows)
        lengths = [1] * (texts - 1) + [tokens - texts + 1]
        return [*rows, *(Row([_FILLING] * length, self.beginning) for length in lengths)]


def shape_of(rows: Sequence[Row]) -> Shape | None:
    """Return the smallest shape that these rows fit into, if there is one."""
    beginnings = {row.shared for row in rows}
    texts = next((texts for texts in _TEXTS if texts > len(rows)), 0)
    needed = sum(len(row.rest) for row in rows) + texts - len(rows)
    tokens = next((tokens for tokens in _TOKENS if tokens >= needed), 0)
    return Shape(texts, tokens, *beginnings) if texts and tokens and len(beginnings) == 1 else None


@dataclass(frozen=True, slots=True)
class _Recording:
    ids: Tensor  # (tokens,)
    layout: Ragged
    replay: Callable[[], Tensor]


class Graphs:
    """The recordings of one model."""

    def __init__(self, scale: float, device: torch.device) -> None:
        self._scale = scale
        self._device = device
        self._shapes: OrderedDict[Shape, _Recording | None] = OrderedDict()  # shapes seen only once have none yet
        self._stream: Any = None
        self._pool: Any = None
        self._works = True

    def run(self, rows: Sequence[Row], beginnings: Beginnings, forward: Forward) -> Tensor | None:
        """Return the hidden states of the rows' last tokens, (rows, hidden), until the next run; None if not replayed.

        A shape is recorded when it is seen for the second time: most of those that are seen once are not seen again.
        """
        shape = shape_of(rows)
        if shape is None or not self._works:
            return None
        known = shape in self._shapes
        recording = self._shapes.setdefault(shape, None)
        self._shapes.move_to_end(shape)
        if len(self._shapes) > _KEPT:
            self._shapes.popitem(last=False)
        if not known:
            return None
        filled = shape.fill(rows)
        texts = [Text(len(row.rest), row.shared) for row in filled]
        ids = torch.tensor([id_ for row in filled for id_ in row.rest])
        if recording is None:
            layout = Ragged(texts, beginnings, self._scale, self._device)
            layout.widen(shape.tokens)
            recording = self._shapes[shape] = self._recording(ids.to(self._device), layout, forward)
            if recording is None:
                return None
        recording.ids.copy_(ids, non_blocking=True)
        recording.layout.become(Ragged(texts, beginnings, self._scale, ids.device))
        return recording.replay()[: len(rows)]

    def _recording(self, ids: Tensor, layout: Ragged, forward: Forward) -> _Recording | None:
        try:
            return _Recording(ids, layout, self._record(lambda: forward(ids, layout)))
        except torch.OutOfMemoryError:
            return None  # there may be more memory another time
        except RuntimeError as error:
            self._works = False
            said = str(error).partition("\n")[0]
            warnings.warn(f"small passes on {self._device} run without CUDA graphs: {said}", ModelWarning, stacklevel=2)
            return None

    def _record(self, work: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """Return a function that repeats that work on the same memory."""
        with _one_at_a_time, torch.cuda.device(self._device):
            # A separate stream, because torch's stream for recordings belongs to the device that recorded first.
            self._stream = self._stream or torch.cuda.Stream()  # type: ignore[no-untyped-call]
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            before = torch.cuda.current_stream()
            self._stream.wait_stream(before)
            graph = torch.cuda.CUDAGraph()
            try:
                with torch.cuda.stream(self._stream):
                    work()  # a first run, for what cannot be recorded: kernels are compiled, tables grow
                # Other threads may launch on the GPU in the meantime.
                with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"):
                    result = work()
            finally:
                torch.cuda.set_stream(before)  # torch does not do so if recording fails
                before.wait_stream(self._stream)

        def replay() -> Tensor:
            graph.replay()
            return result

        return replay
