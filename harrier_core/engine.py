"""The loaded models of this process, each with the one thread that runs it. Work goes in, vectors come out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import torch

from harrier_core.decoder import Decoder
from harrier_core.device import Placement, place
from harrier_core.errors import BadVectors, EncoderClosed, ForkedModel
from harrier_core.models import Model, weight_files
from harrier_core.packing import pack, unique
from harrier_core.shared import Lease, Shared

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

# Past these many tokens a pass gains no more speed: on a CPU its activations leave the caches, on a GPU it is full.
_CPU_TOKEN_BUDGET = 2_048
_GPU_TOKEN_BUDGET = 16_384

# Where memory lives in a driver that a forked child cannot use.
_LOST_IN_FORK = ("cuda", "xpu", "mps")


class Engine:
    """One loaded model and its thread: passes run one at a time, in the order they were asked for."""

    def __init__(self, model: Model, placement: Placement) -> None:
        weight_files(model)
        self.placement = placement
        self._dimensions = model.dimensions
        self._waiting: set[Future[Vectors]] = set()
        # Loading is this thread's as well. Were it the caller's, the caller would keep a pool of OpenMP threads, and
        # a child that it forks would wait for them for ever.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="harrier-engine")
        try:
            self._decoder: Decoder | None = self._thread.submit(Decoder, model.folder, placement).result()
        except BaseException:
            self._thread.shutdown(wait=False)
            raise

    def submit(self, rows: Sequence[Sequence[int]], token_budget: int | None) -> Future[Vectors]:
        """Unit vectors of these rows of tokens, float32 (rows, dimensions), in their order.

        The future can be cancelled at any time, also while its passes run: it ends after the one under way.
        """
        future: Future[Vectors] = Future()
        self._waiting.add(future)
        future.add_done_callback(self._waiting.discard)
        budget = token_budget or (_CPU_TOKEN_BUDGET if self.placement.device == "cpu" else _GPU_TOKEN_BUDGET)
        try:
            self._thread.submit(self._run, future, rows, budget)
        except RuntimeError:  # the executor's word for a pool that was shut down
            raise EncoderClosed("the model was closed while this call was on its way") from None
        return future

    def close(self) -> None:
        """Drop the model once the pass under way is over; whoever waits has its call cancelled."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        for future in list(self._waiting):
            future.cancel()
        self._decoder = None
        if self.placement.device.startswith("cuda"):
            torch.cuda.empty_cache()

    def _run(self, future: Future[Vectors], rows: Sequence[Sequence[int]], token_budget: int) -> None:
        decoder = self._decoder
        with suppress(InvalidStateError):  # of a future that was cancelled meanwhile
            try:
                if decoder is not None:
                    future.set_result(self._encode(decoder, rows, token_budget, future.cancelled))
            except Exception as error:
                future.set_exception(error)

    def _encode(
        self, decoder: Decoder, rows: Sequence[Sequence[int]], token_budget: int, cancelled: Callable[[], bool]
    ) -> Vectors:
        firsts, places = unique(rows)
        vectors = np.empty((len(firsts), self._dimensions), dtype=np.float32)
        for batch in pack([len(rows[first]) for first in firsts], token_budget):
            if cancelled():
                raise InvalidStateError
            hidden = decoder.last_hidden([rows[firsts[row]] for row in batch])
            vectors[batch] = torch.nn.functional.normalize(hidden, dim=-1).numpy()
        result: Vectors = vectors[places]
        _check(result)
        return result


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
    key = (model.folder, placement.device, placement.dtype)
    return _engines.use(key, lambda: Engine(model, placement))


def refuse_inherited(lease: Lease[Engine]) -> None:
    """Raise if the engine was loaded before a fork and its memory did not come along."""
    device = lease.value.placement.device
    if lease.inherited and device.startswith(_LOST_IN_FORK):
        raise ForkedModel(
            f"this process was forked from one that had loaded the model on {device}, and GPU memory does not survive "
            "a fork; start processes with multiprocessing's 'spawn' method, or encode before forking on the CPU"
        )
