"""The loaded models of this process, each with the one thread that runs it: who runs next, and in which pass.

Queries overtake documents between passes, and callers' small requests share a pass. While a pass runs, a second
thread tokenizes what comes after, and no more than that. A pass that does not fit into memory runs in halves, and one
that yields NaN runs again in float32.
"""

from __future__ import annotations

import threading
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import torch

from harrier_core.architecture import read_architecture
from harrier_core.budget import Budget
from harrier_core.calls import Call, bad_rows
from harrier_core.checkpoint import Checkpoint
from harrier_core.decoder import Decoder
from harrier_core.device import FORKED, Placement, place, release_memory
from harrier_core.embedder import Encoded
from harrier_core.ending import refuse_at_end, watch
from harrier_core.errors import DeviceError, EncoderClosed, ForkedModel, ModelUnsupported, ModelWarning, OutOfMemory
from harrier_core.fallback import Fallback
from harrier_core.models import Model, weight_files
from harrier_core.packing import Row
from harrier_core.shared import Lease, Shared
from harrier_core.stats import Meter, Stats

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

# Passes of queries in a row while documents wait: they overtake, but do not starve them.
_PATIENCE = 8

# Passes' worth of tokenized rows that wait, at most and one window more: enough that no pass waits for the tokenizer.
_AHEAD = 4

# Where memory lives in a driver that a forked child cannot use.
_LOST_IN_FORK = ("cuda", "xpu", "mps")

Batch = list[tuple[Call, list[tuple[int, Row]]]]  # whose rows, and their numbers


@dataclass(slots=True)
class _Started:
    """A pass that was begun, in as many parts as memory asked for."""

    batch: Batch
    rows: list[Row]
    begun: float
    parts: list[tuple[Sequence[int], Callable[[], torch.Tensor]]] = field(default_factory=list)
    too_large: set[int] = field(default_factory=set)

    def wait(self, vectors: torch.Tensor) -> list[int]:
        """Write the unit vectors of all parts in their places, and say which of the rows have none all the same."""
        for rows, hidden in self.parts:
            vectors[rows] = torch.nn.functional.normalize(hidden(), dim=1)
        self.parts.clear()
        return [row for row in bad_rows(vectors.numpy()) if row not in self.too_large]


class Engine:
    """One loaded model and its threads."""

    def __init__(self, model: Model, placement: Placement) -> None:
        refuse_at_end()
        self.placement = placement
        self._dimensions = model.dimensions
        self._lock = threading.Lock()
        self._queries: deque[Call] = deque()
        self._documents: deque[Call] = deque()
        self._overtaken = 0
        self._turning = False
        self._closed = False
        self._started: _Started | None = None
        self._starting: Batch = []  # of a pass that is being begun: no lane has its calls any more
        self._budget = Budget(on_cpu=placement.device == "cpu")
        self._tokenizing: ThreadPoolExecutor | None = ThreadPoolExecutor(1, thread_name_prefix="harrier-tokenizer")
        # Loading is this thread's as well. Were it the caller's, the caller would keep a pool of OpenMP threads, and
        # a child that it forks would wait for them for ever.
        self._thread: ThreadPoolExecutor | None = ThreadPoolExecutor(1, thread_name_prefix="harrier-engine")
        self._decoder: Decoder | Fallback | None = self._thread.submit(_load, model, placement).result()
        self._meter = Meter(model.name)
        watch(self)

    def submit(self, call: Call) -> Future[Encoded]:
        """Unit vectors of a call's texts, float32 (texts, dimensions), in their order.

        The first window of texts comes with the call. The future can be cancelled at any time, also while its passes
        run: it ends after the one under way.
        """
        with self._lock:
            if self._closed:
                raise EncoderClosed("the model was closed while this call was on its way")
            refuse_at_end()
            (self._queries if call.urgent else self._documents).append(call)
            self._keep_turning()
        if self._thread is None:  # closed meanwhile, and close may have looked before this call was there
            call.future.cancel()
        return call.future

    def waited_for(self) -> list[Future[Encoded]]:
        """Return the results of all calls that were not answered yet."""
        with self._lock:
            waiting = [*self._queries, *self._documents]
            waiting += [call for call, _ in [*self._starting, *self._started_batch()]]
        return [call.future for call in waiting]

    def stats(self, truncations: int) -> Stats:
        """What was done since the model was loaded."""
        return self._meter.read(truncations)

    def close(self) -> None:
        """Drop the model once the pass under way is over; whoever waits has its call cancelled.

        It takes no lock, neither ours nor the executors', because the garbage collector may call it, on a thread that
        holds them. An executor that nobody refers to ends its thread by itself.
        """
        self._closed = True
        for call in [*self._queries, *self._documents]:
            call.future.cancel()
        self._decoder = self._thread = self._tokenizing = None
        release_memory(self.placement.device)

    # -- turns: who is next

    def _keep_turning(self) -> None:
        """See to it that the thread takes a turn; one a pass, so that the executor can end between two of them."""
        thread = self._thread
        if thread is None or self._turning:
            return
        lanes = (call for lane in (self._queries, self._documents) for call in lane)
        if self._started or any(call.waiting or call.future.done() for call in lanes):
            self._turning = True
            thread.submit(self._turn)

    def _turn(self) -> None:
        decoder = self._decoder
        if decoder is None:  # closed; a call that came at that very moment is nobody else's to end
            for call in [*self._queries, *self._documents, *(call for call, _ in self._started_batch())]:
                call.future.cancel()
            self._started = None
            release_memory(self.placement.device)
            return
        with self._lock:
            batch = self._starting = self._next_pass()
            self._tokenize_ahead()
        # A GPU is given the next pass before the last one is waited for. A CPU has nothing to do meanwhile.
        started = self._start(decoder, batch) if batch else None
        before, self._started = self._started, started
        self._starting = []
        if before:
            self._finish(decoder, before)
        if started and self.placement.device == "cpu":
            self._started = None
            self._finish(decoder, started)
        with self._lock:
            self._turning = False
            with suppress(RuntimeError):  # the process is ending, and nobody waits for the rest
                self._keep_turning()
        if self._thread is None:  # closed meanwhile: there will be no other turn
            before, self._started = self._started, None
            if before:
                self._finish(decoder, before)
        del decoder  # whoever drops the last reference looks, or releases, afterwards: `close` if it comes later
        if self._thread is None:
            release_memory(self.placement.device)

    def _started_batch(self) -> Batch:
        return self._started.batch if self._started else []

    def _next_pass(self) -> Batch:
        """The rows of the next pass: queries before documents, the rest of the room for whoever comes next."""
        queries = any(call.waiting for call in self._queries)
        documents = any(call.waiting for call in self._documents)
        overtaking = queries and (not documents or self._overtaken < _PATIENCE)
        self._overtaken = self._overtaken + 1 if overtaking and documents else 0
        batch: Batch = []
        room = 0
        for lane in (self._queries, self._documents) if overtaking else (self._documents, self._queries):
            for call in list(lane):
                if call.future.done():  # cancelled, or failed by an earlier pass
                    lane.remove(call)
                    continue
                room = room if batch else self._budget.tokens(call.token_budget)
                taken = call.take(room, even_if_too_long=not batch)
                room -= sum(len(row.rest) for _, row in taken)
                if taken:
                    batch.append((call, taken))
                if call.complete and not call.waiting:
                    lane.remove(call)
            if batch and overtaking:
                break  # what documents could add to a pass of queries, the queries would have to wait for
        return batch

    def _tokenize_ahead(self) -> None:
        """Have windows fetched for calls that will soon have no rows left."""
        tokenizing = self._tokenizing
        for call in [*self._queries, *self._documents]:
            enough = call.waiting_tokens >= _AHEAD * self._budget.tokens(call.token_budget)
            if tokenizing and not (call.complete or call.fetching or enough or call.future.done()):
                call.fetching = True
                with suppress(RuntimeError):  # the process is ending
                    tokenizing.submit(self._fetch, call)

    def _fetch(self, call: Call) -> None:
        try:
            rows = call.fetch()
        except BaseException as error:
            call.fail(error)
            rows = ()
        with self._lock:
            call.add(rows)
            call.fetching = False
            if not call.waiting:  # a window of texts that turned out to be unusable: the next one may say more
                self._tokenize_ahead()
            with suppress(RuntimeError):
                self._keep_turning()

    # -- passes: rows to vectors

    def _start(self, decoder: Decoder | Fallback, batch: Batch) -> _Started | None:
        begun = perf_counter()
        for call, _ in batch:
            if call.begins():
                self._meter.waited(begun - call.made)
        started = _Started(batch, [row for _, taken in batch for _, row in taken], begun)
        try:
            self._launch(decoder, started, range(len(started.rows)))
        except Exception as error:
            _fail(batch, error)
            return None
        return started

    def _launch(
        self, decoder: Decoder | Fallback, started: _Started, rows: Sequence[int], *, precise: bool = False
    ) -> None:
        """Begin to run some rows of a pass; if memory is not enough, in halves, down to single texts."""
        launched = _try_to_launch(decoder, [started.rows[row] for row in rows], precise)
        if launched:
            started.parts.append((rows, launched))
            return
        if self.placement.device.startswith("cuda"):
            torch.cuda.empty_cache()
        self._budget.did_not_fit(sum(len(started.rows[row].rest) for row in rows))
        if len(rows) == 1:
            started.too_large.update(rows)
            return
        self._meter.retried()
        half = len(rows) // 2
        self._launch(decoder, started, rows[:half], precise=precise)
        self._launch(decoder, started, rows[half:], precise=precise)

    def _finish(self, decoder: Decoder | Fallback, started: _Started) -> None:
        """Wait for the end of a pass, and hand out its vectors."""
        vectors = torch.full((len(started.rows), self._dimensions), torch.nan)
        try:
            bad = started.wait(vectors)
            if bad and self.placement.dtype in ("bfloat16", "float16"):
                self._meter.retried()
                self._launch(decoder, started, bad, precise=True)
                bad = started.wait(vectors)
        except Exception as error:
            _fail(started.batch, error)
            return
        seconds = self._meter.ran(started.rows, started.begun)
        self._budget.ran([len(row.rest) for row in started.rows], seconds)
        begin = 0
        for call, taken in started.batch:
            for row in started.too_large.intersection(range(begin, begin + len(taken))):
                call.fail(self._out_of_memory(call, *taken[row - begin]))
            call.put([number for number, _ in taken], vectors[begin : begin + len(taken)].numpy())
            begin += len(taken)

    def _out_of_memory(self, call: Call, number: int, row: Row) -> OutOfMemory:
        position = call.positions([number])[0]
        return OutOfMemory(
            f"text {position} has {len(row.ids):,} tokens with its prompt, for which {self.placement.device} has too "
            f"little memory even by itself (the longest that ran had {self._budget.longest:,}); split it",
            position,
        )


def _try_to_launch(
    decoder: Decoder | Fallback, rows: Sequence[Row], precise: bool
) -> Callable[[], torch.Tensor] | None:
    """Nothing, if memory is not enough; what was allocated is free again once the error has been handled."""
    try:
        return decoder.launch(rows, precise=precise)
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
    return None


def _fail(batch: Batch, error: Exception) -> None:
    for call, _ in batch:
        call.fail(error)  # and, being done, it is dropped before the next pass


def _is_out_of_memory(error: BaseException) -> bool:
    """GPUs have a class for it, Apple's and the CPU a RuntimeError with words."""
    said = str(error)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        words in said for words in ("out of memory", "can't allocate memory", "not enough memory")
    )


def _load(model: Model, placement: Placement) -> Decoder | Fallback:
    files = weight_files(model)
    try:
        architecture = read_architecture(model.config)
    except ModelUnsupported as reason:
        if placement.dtype == "int8":
            raise DeviceError(
                f"int8 is for models that the kit's own forward pass knows, and not {model.name}, for "
                f"{reason}; use dtype='float32'"
            ) from None
        fallback = Fallback(model.folder, placement)
        warnings.warn(
            f"{model.name} runs on plain transformers, which is slower: the kit's own forward pass does not know it, "
            f"for {reason}",
            ModelWarning,
            stacklevel=2,
        )
        return fallback
    if placement.dtype == "int8":
        warnings.warn(
            f"vectors of {model.name} in int8 may be noise: on trained weights of harrier-270m's shape their median "
            "cosine to float32 was 0.26; use dtype='float32', or compare the two on your own texts first",
            ModelWarning,
            stacklevel=2,
        )
    return Decoder(architecture, Checkpoint(files, architecture.weight_shapes()), placement)


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
