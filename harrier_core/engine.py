"""The loaded models of this process, each with the one thread that runs it: who runs next, and in which pass.

Queries overtake documents between passes, callers' small requests share a pass, and equal texts run once.
"""

from __future__ import annotations

import threading
import warnings
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import torch

from harrier_core.architecture import read_architecture
from harrier_core.checkpoint import Checkpoint
from harrier_core.decoder import Decoder
from harrier_core.device import FORKED, Placement, place
from harrier_core.errors import BadVectors, EncoderClosed, ForkedModel, ModelUnsupported, ModelWarning
from harrier_core.fallback import Fallback
from harrier_core.models import Model, weight_files
from harrier_core.packing import Row, split, unique
from harrier_core.shared import Lease, Shared

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

# What one pass takes. More gains no speed: on a CPU activations leave the caches, and a query that arrives waits for
# the pass to end; a GPU is full.
_CPU_TOKEN_BUDGET = 1_024
_GPU_TOKEN_BUDGET = 16_384

# Passes of queries in a row while documents wait: they overtake, but do not starve them.
_PATIENCE = 8

# Where memory lives in a driver that a forked child cannot use.
_LOST_IN_FORK = ("cuda", "xpu", "mps")


class _Call:
    """One caller's texts: what is still to run, and the vectors so far."""

    def __init__(
        self, rows: Sequence[Sequence[int]], beginning: tuple[int, ...], token_budget: int, width: int
    ) -> None:
        firsts, self._places = unique(rows)
        self.rows = [split(rows[first], beginning) for first in firsts]
        # The longest first: should it not fit into memory, the call fails at once.
        self.waiting = deque(sorted(range(len(self.rows)), key=lambda row: -len(self.rows[row].rest)))
        self.token_budget = token_budget
        self.vectors: Vectors = np.empty((len(firsts), width), dtype=np.float32)
        self.running = 0
        self.future: Future[Vectors] = Future()

    def take(self, room: int, *, even_if_too_long: bool) -> list[int]:
        """Rows to run now: as many of the longest as fit; at least one if it may be too long."""
        taken: list[int] = []
        while self.waiting:
            length = len(self.rows[self.waiting[0]].rest)
            if length > room and not (even_if_too_long and not taken):
                break
            taken.append(self.waiting.popleft())
            room -= length
        self.running += len(taken)
        return taken

    def put(self, rows: Sequence[int], vectors: Vectors) -> None:
        """Take in the vectors of rows that ran; with the last of them, answer the caller."""
        self.vectors[rows] = vectors
        self.running -= len(rows)
        if not self.waiting and not self.running:
            result: Vectors = self.vectors[self._places]
            try:
                _check(result)
            except BadVectors as error:
                self.fail(error)
                return
            with suppress(InvalidStateError):  # cancelled meanwhile
                self.future.set_result(result)

    def fail(self, error: BaseException) -> None:
        """Answer the caller with an error."""
        with suppress(InvalidStateError):  # cancelled meanwhile
            self.future.set_exception(error)


class Engine:
    """One loaded model and its thread."""

    def __init__(self, model: Model, placement: Placement) -> None:
        self.placement = placement
        self._dimensions = model.dimensions
        self._lock = threading.Lock()
        self._queries: deque[_Call] = deque()
        self._documents: deque[_Call] = deque()
        self._overtaken = 0
        self._turning = False
        self._closed = False
        # Loading is this thread's as well. Were it the caller's, the caller would keep a pool of OpenMP threads, and
        # a child that it forks would wait for them for ever.
        self._thread: ThreadPoolExecutor | None = ThreadPoolExecutor(1, thread_name_prefix="harrier-engine")
        self._decoder: Decoder | Fallback | None = self._thread.submit(_load, model, placement).result()

    def submit(
        self, rows: Sequence[Sequence[int]], beginning: tuple[int, ...], token_budget: int | None, *, urgent: bool
    ) -> Future[Vectors]:
        """Unit vectors of these rows of ids, float32 (rows, dimensions), in their order.

        Ids that begin with `beginning` share its computation. The future can be cancelled at any time, also while
        its passes run: it ends after the one under way.
        """
        budget = token_budget or (_CPU_TOKEN_BUDGET if self.placement.device == "cpu" else _GPU_TOKEN_BUDGET)
        call = _Call(rows, beginning, budget, self._dimensions)
        with self._lock:
            if self._closed:
                raise EncoderClosed("the model was closed while this call was on its way")
            (self._queries if urgent else self._documents).append(call)
            self._keep_turning()
        if self._thread is None:  # closed meanwhile, and close may have looked before this call was there
            call.future.cancel()
        return call.future

    def close(self) -> None:
        """Drop the model once the pass under way is over; whoever waits has its call cancelled.

        It takes no lock, neither ours nor the executor's, because the garbage collector may call it, on a thread that
        holds them. An executor that nobody refers to ends its thread by itself.
        """
        self._closed = True
        for call in [*self._queries, *self._documents]:
            call.future.cancel()
        self._decoder = self._thread = None
        if self.placement.device.startswith("cuda"):
            torch.cuda.empty_cache()

    def _keep_turning(self) -> None:
        """See to it that the thread takes a turn; one a pass, so that the executor can end between two of them."""
        thread = self._thread
        if thread is not None and not self._turning and (self._queries or self._documents):
            self._turning = True
            thread.submit(self._turn)

    def _turn(self) -> None:
        decoder = self._decoder
        if decoder is None:  # closed; a call that came at that very moment is nobody else's to end
            for call in [*self._queries, *self._documents]:
                call.future.cancel()
            return
        with self._lock:
            batch = self._next_pass()
        if batch:
            self._run(decoder, batch)
        with self._lock:
            self._turning = False
            with suppress(RuntimeError):  # the process is ending, and nobody waits for the rest
                self._keep_turning()

    def _next_pass(self) -> list[tuple[_Call, list[int]]]:
        """The rows of the next pass: queries before documents, the rest of the room for whoever comes next."""
        overtaking = bool(self._queries) and (not self._documents or self._overtaken < _PATIENCE)
        self._overtaken = self._overtaken + 1 if overtaking and self._documents else 0
        batch: list[tuple[_Call, list[int]]] = []
        room = 0
        for lane in (self._queries, self._documents) if overtaking else (self._documents, self._queries):
            for call in list(lane):
                if call.future.done():  # cancelled, or failed by an earlier pass
                    lane.remove(call)
                    continue
                room = room if batch else call.token_budget
                taken = call.take(room, even_if_too_long=not batch)
                room -= sum(len(call.rows[row].rest) for row in taken)
                if taken:
                    batch.append((call, taken))
                if not call.waiting:
                    lane.remove(call)
            if batch and overtaking:
                break  # what documents could add to a pass of queries, the queries would have to wait for
        return batch

    def _run(self, decoder: Decoder | Fallback, batch: list[tuple[_Call, list[int]]]) -> None:
        rows: list[Row] = [call.rows[row] for call, taken in batch for row in taken]
        try:
            vectors: Vectors = torch.nn.functional.normalize(decoder.last_hidden(rows), dim=-1).numpy()
        except Exception as error:
            for call, _ in batch:
                call.fail(error)  # and, being done, it is dropped before the next pass
            return
        begin = 0
        for call, taken in batch:
            call.put(taken, vectors[begin : begin + len(taken)])
            begin += len(taken)


def _load(model: Model, placement: Placement) -> Decoder | Fallback:
    files = weight_files(model)
    try:
        architecture = read_architecture(model.config)
    except ModelUnsupported as reason:
        fallback = Fallback(model.folder, placement)
        warnings.warn(
            f"{model.name} runs on plain transformers, which is slower: the kit's own forward pass does not know it, "
            f"for {reason}",
            ModelWarning,
            stacklevel=2,
        )
        return fallback
    return Decoder(architecture, Checkpoint(files, architecture.weight_shapes()), placement)


def _check(vectors: Vectors) -> None:
    """Every vector is finite and of unit length; NaN fails the comparison as well."""
    lengths = np.linalg.norm(vectors, axis=1)
    bad = np.flatnonzero(~(np.abs(lengths - 1) < 1e-3)).tolist()
    if bad:
        kind = "no length" if lengths[bad[0]] == 0 else "values that are not finite"
        raise BadVectors(
            f"the model's vector for text {bad[0]} has {kind} ({len(bad)} of this call's {len(vectors)} texts); on a "
            "GPU try dtype='float32', and if that does not help, the weights are damaged: fetch the model again",
            bad,
        )


_engines: Shared[Engine] = Shared(Engine.close)


def use_engine(model: Model, device: str | None, dtype: str | None) -> Lease[Engine]:
    """A lease on the engine for this model, device and format; the first to ask loads it."""
    placement = place(model.architecture, device, dtype)
    key = (model.folder, model.signature, placement.device, placement.dtype)
    return _engines.use(key, lambda: Engine(model, placement))


def refuse_inherited(lease: Lease[Engine]) -> None:
    """Raise if the engine was loaded before a fork and its memory did not come along."""
    device = lease.value.placement.device
    if lease.inherited and device.startswith(_LOST_IN_FORK):
        raise ForkedModel(FORKED)
