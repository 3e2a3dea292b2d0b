"""The loaded models of this process, each with the threads that run it.

One thread runs passes, one at a time: `lanes` says which rows are next, and `runner` computes their hidden states.
While a pass runs, a second thread tokenizes what comes next, and no more than that.
"""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter

from harrier_core.calls import Call
from harrier_core.device import FORKED, Placement, release_memory
from harrier_core.embedder import Encoded
from harrier_core.ending import refuse_at_end, watch
from harrier_core.errors import DeviceError, DeviceFailed, DeviceFull, EncoderClosed, ForkedModel, OutOfMemory
from harrier_core.lanes import Lanes, Pass
from harrier_core.models import Model
from harrier_core.runner import Launched, Runner, is_out_of_memory, load
from harrier_core.shared import Lease, Shared
from harrier_core.spreading import place
from harrier_core.stats import Meter, Stats
from harrier_core.token_rows import Row

log = logging.getLogger(__name__)

# Devices whose memory lives in a driver that a forked child cannot use.
_LOST_IN_FORK = ("cuda", "xpu", "mps")


@dataclass(frozen=True, slots=True)
class _UnderWay:
    """A pass that the runner has begun and not finished."""

    pass_: Pass
    launched: Launched


class Engine:
    """One loaded model and its threads."""

    def __init__(self, model: Model, placement: Placement) -> None:
        refuse_at_end()
        self.placement = placement
        self._lock = threading.Lock()
        self._lanes = Lanes()
        self._turning = False
        self._closed = False
        self._starting: Pass | None = None  # a pass that is being started: its calls are no longer in any lane
        self._under_way: _UnderWay | None = None
        self._tokenizing: ThreadPoolExecutor | None = ThreadPoolExecutor(1, thread_name_prefix="harrier-tokenizer")
        # This thread also loads the model. If the caller did, it would keep a pool of OpenMP threads, and a child that
        # it forks would wait for them forever.
        self._thread: ThreadPoolExecutor | None = ThreadPoolExecutor(1, thread_name_prefix="harrier-engine")
        network = self._thread.submit(load, model, placement).result()
        self._meter = Meter(model.name)
        self._runner: Runner | None = Runner(network, placement, model.dimensions, self._meter)
        watch(self)

    def submit(self, call: Call) -> Future[Encoded]:
        """Return a future of what the call reads from the hidden states of its texts, in their order.

        The first window of texts comes with the call. The future can be cancelled at any time, even while its passes
        run: it then ends after the one under way.
        """
        with self._lock:
            if self._closed:
                raise EncoderClosed("the model was closed during this call")
            refuse_at_end()
            self._lanes.add(call)
            if not call.waiting:  # a text of the first window is wrong, and no pass will fetch the next window
                self._tokenize_ahead()
            self._keep_turning()
        if self._thread is None:  # closed meanwhile; close may have looked before this call was added
            call.future.cancel()
        return call.future

    def waited_for(self) -> list[Future[Encoded]]:
        """Return the results of all calls that have not been answered yet."""
        with self._lock:
            starting = self._starting  # read before `_under_way`, which it becomes without a lock
            waiting = [*self._lanes.calls, *(starting.calls if starting else []), *self._calls_under_way()]
        return [call.future for call in waiting]

    def stats(self, truncations: int) -> Stats:
        """Return statistics of the work done since the model was loaded."""
        return self._meter.read(truncations)

    def close(self) -> None:
        """Drop the model once the pass under way is over; pending calls are cancelled.

        It takes no lock, neither ours nor the executors', because the garbage collector may call it on a thread that
        holds them. An executor that is no longer referenced ends its own thread.
        """
        self._closed = True
        for call in self._lanes.calls:
            call.future.cancel()
        self._runner = self._thread = self._tokenizing = None
        release_memory(self.placement.device)

    def _calls_under_way(self) -> list[Call]:
        under_way = self._under_way
        return under_way.pass_.calls if under_way else []

    # -- turns of the engine's thread

    def _keep_turning(self) -> None:
        """Make sure that the thread takes a turn. Each pass is a turn, so the executor can end between two of them."""
        thread = self._thread
        if thread is None or self._turning:
            return
        if self._under_way or self._lanes.has_work():
            self._turning = True
            thread.submit(self._turn)

    def _turn(self) -> None:
        runner = self._runner
        if runner is None:  # closed; no one else will cancel a call that arrived at this very moment
            for call in [*self._lanes.calls, *self._calls_under_way()]:
                call.future.cancel()
            self._under_way = None
            release_memory(self.placement.device)
            return
        try:
            self._run_next_pass(runner)
        except BaseException as error:  # the executor would drop it: no caller gets an answer, and no turn follows
            self._give_up(error)
        with self._lock:
            self._turning = False
            with suppress(RuntimeError):  # the process is ending, and no one waits for the rest
                self._keep_turning()
        if self._thread is None:  # closed meanwhile: there will be no other turn
            before, self._under_way = self._under_way, None
            if before:
                self._finish(runner, before)
        del runner  # whichever drops the last reference looks, or releases, afterwards: `close` if it comes later
        if self._thread is None:
            release_memory(self.placement.device)

    def _run_next_pass(self, runner: Runner) -> None:
        """Begin the next pass and finish the previous one; without overlap, finish both."""
        with self._lock:
            pass_ = self._starting = self._lanes.next_pass(runner.token_limit)
            self._tokenize_ahead()
        begun = self._begin(runner, pass_) if pass_ else None
        before, self._under_way = self._under_way, begun
        self._starting = None
        if before:
            self._finish(runner, before)
        if begun and not runner.overlaps:
            self._under_way = None
            self._finish(runner, begun)

    def _begin(self, runner: Runner, pass_: Pass) -> _UnderWay | None:
        now = perf_counter()
        for call in pass_.calls:
            if call.begins():
                self._meter.waited(now - call.made)
        try:
            return _UnderWay(pass_, runner.launch(pass_.rows))
        except Exception as error:
            pass_.fail(self._failed(error))
            return None

    def _finish(self, runner: Runner, under_way: _UnderWay) -> None:
        """Wait for the end of a pass, and hand out its hidden states."""
        pass_, launched = under_way.pass_, under_way.launched
        try:
            hidden = runner.finish(launched)
            for position in sorted(launched.too_large):
                call, number, row = pass_.entry(position)
                call.fail(self._out_of_memory(runner, call, number, row))
            for position in sorted(launched.crowded):
                call, _, row = pass_.entry(position)
                call.fail(self._full(runner, row))
            pass_.answer(hidden)  # the host may have no memory for the vectors
        except Exception as error:
            pass_.fail(self._failed(error))

    def _give_up(self, error: BaseException) -> None:
        """Fail the calls of a turn that ended with an unexpected error."""
        starting, under_way = self._starting, self._under_way
        self._starting = self._under_way = None
        calls = [*(starting.calls if starting else []), *(under_way.pass_.calls if under_way else [])]
        if starting is None:  # no pass was made: its rows may be lost to their calls, and it may fail again
            with self._lock:
                calls += self._lanes.calls
                self._lanes = Lanes()
        failed = self._failed(error)
        for call in calls:
            call.fail(failed)

    def _failed(self, error: BaseException) -> DeviceError:
        """Return the error of a pass that failed as a whole, and count it."""
        first = not self._meter.failing
        self._meter.failed()
        device = self.placement.device
        if is_out_of_memory(error):
            return _caused(DeviceFull(f"the memory of {device} is full; other programs may use it"), error)
        if first:  # of a device that keeps failing, all others say the same
            log.error("a forward pass failed on %s", device, exc_info=error)
        said = str(error).partition("\n")[0]  # the rest of torch's is about debugging torch
        return _caused(DeviceFailed(f"a forward pass failed on {device} ({type(error).__name__}: {said})"), error)

    def _full(self, runner: Runner, row: Row) -> DeviceFull:
        return DeviceFull(
            f"the memory of {self.placement.device} is full: a text of {len(row.ids):,} tokens did not fit, but one of "
            f"{runner.longest:,} did before; other programs may use it"
        )

    def _out_of_memory(self, runner: Runner, call: Call, number: int, row: Row) -> OutOfMemory:
        position = call.positions([number])[0]
        return OutOfMemory(
            f"text {position} has {len(row.ids):,} tokens with its prompt, which does not fit in the memory of "
            f"{self.placement.device} even alone (the longest that ran had {runner.longest:,}); split it",
            position,
        )

    # -- windows on the tokenizer's thread

    def _tokenize_ahead(self) -> None:
        """Have windows fetched for calls that will soon have no rows left."""
        tokenizing, runner = self._tokenizing, self._runner
        if tokenizing is None or runner is None:  # closed
            return
        for call in self._lanes.begin_fetches(runner.token_limit):
            with suppress(RuntimeError):  # the process is ending
                tokenizing.submit(self._fetch, call)

    def _fetch(self, call: Call) -> None:
        try:
            rows = call.fetch()
        except BaseException as error:
            call.fail(error)
            rows = ()
        with self._lock:
            self._lanes.end_fetch(call, rows)
            if not call.waiting:  # the texts of that window were unusable: the next one may be of use
                self._tokenize_ahead()
            with suppress(RuntimeError):
                self._keep_turning()


def _caused(error: DeviceError, cause: BaseException) -> DeviceError:
    error.__cause__ = cause
    return error


_engines: Shared[Engine] = Shared(Engine.close)


def use_engine(model: Model, device: str | None, dtype: str | None) -> Lease[Engine]:
    """Return a lease on the engine for this model, device or devices, and dtype; the first caller loads it."""
    placement = place(model, device, dtype)
    key = (model.folder, model.signature, placement.device, placement.dtype)
    return _engines.use(key, lambda: Engine(model, placement))


def refuse_inherited(lease: Lease[Engine]) -> None:
    """Raise if the engine was loaded before a fork, and its memory was not inherited."""
    device = lease.value.placement.device
    if lease.inherited and device.startswith(_LOST_IN_FORK):
        raise ForkedModel(FORKED)
