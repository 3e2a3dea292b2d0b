"""Encode the texts of requests, which are admitted, take turns, and are dropped when their caller goes away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

from harrier_core.callers import CALLER
from harrier_core.embedder import Embedder, Encoded
from harrier_core.errors import DeviceFailed, EncoderClosed, HarrierError
from harrier_core.pacing import Pace
from harrier_core.portions import encoded_in_parts
from harrier_core.threads import THREADS
from harrier_core.tracing import span
from harrier_server.metrics import Metrics
from harrier_server.naming import Role
from harrier_server.threads import IndexThreads
from harrier_server.turns import Turns

if TYPE_CHECKING:
    from concurrent.futures import Future

    from harrier_core.encoder import Encoder

log = logging.getLogger(__name__)

# Seconds of work in one part of a request.
_SECONDS = 0.25

_FAILURES = 3  # consecutive passes that failed, after which a server reports that it is unhealthy
_TRY_EVERY = 1.0  # seconds after which it tests whether a device that failed works again
_TRIES = 3  # of those in a row that fail, though not for lack of memory: a GPU's driver may need a new process

_QUICK = 50_000  # characters of queries that overtake; longer ones take turns like documents
_FEW, _SHORT = 16, 2_000  # up to these, texts and characters are tokenized faster than another thread is woken
_SUBMITTING = 8  # threads for tokenizing; encoders of indexes, which may wait for a cache, have the indexes' threads


class Service:
    """One model for all requests of an event loop."""

    def __init__(self, encoder: Encoder, truncating: Encoder, turns: Turns, metrics: Metrics) -> None:
        """Take an encoder that refuses texts that are too long, and one that truncates them."""
        self.encoder = encoder
        self._turns = turns
        self._truncating = truncating
        self._metrics = metrics
        self._pace = Pace(_SECONDS)
        self._loop = asyncio.get_running_loop()
        self._closed = False
        # Its own threads, because all the shared ones may be waiting for a database.
        self._submitting = ThreadPoolExecutor(_SUBMITTING, thread_name_prefix="harrier-submit")

    @property
    def is_well(self) -> bool:
        """Whether the device runs passes, of this service or of anything else that shares the model."""
        return self.encoder.stats.failing < _FAILURES

    async def encode(self, texts: Sequence[Any], role: Role, caller: str, *, truncate: bool = False) -> Encoded:
        """Return the vectors of texts in their role. If it is cancelled, work that has not begun is dropped."""
        sizes = _sizes(texts)
        encoder = self._truncating if truncate else self.encoder
        with self._turns.admitted(sum(sizes), caller):
            return await self._encoded(texts, sizes, role, encoder, caller)

    async def encoded(self, texts: Sequence[Any], role: Role, encoder: Embedder) -> Encoded:
        """Return what `encode` does, for a request that was admitted, and for the caller of this context."""
        return await self._encoded(texts, _sizes(texts), role, encoder, str(CALLER.get()))

    def submit(self, texts: Sequence[Any], role: Role, encoder: Embedder) -> Future[Encoded]:
        """Do what `encoded` does, from any thread; the future can be cancelled."""
        if self._closed:  # nothing would run on the event loop
            raise EncoderClosed("the server is shutting down")
        return asyncio.run_coroutine_threadsafe(self.encoded(texts, role, encoder), self._loop)

    async def _encoded(
        self, texts: Sequence[Any], sizes: Sequence[int], role: Role, encoder: Embedder, caller: str
    ) -> Encoded:
        begun = perf_counter()
        if role.kind == "query" and sum(sizes) <= _QUICK:
            # The engine lets queries overtake, and shares passes between callers.
            encoded = await self._result(encoder, texts, role)
        else:
            part = partial(self._part, encoder, role, caller)
            encoded = await encoded_in_parts(texts, sizes, self._pace.most, part)
        self._metrics.took(role.kind, perf_counter() - begun)
        return encoded

    async def _part(self, encoder: Embedder, role: Role, caller: str, texts: Sequence[Any]) -> Encoded:
        size = sum(_sizes(texts))
        async with self._turns.turn(caller, size / self._pace.most):
            begun = perf_counter()
            encoded = await self._result(encoder, texts, role)
            self._pace.encoded(size, begun)
        return encoded

    async def _result(self, encoder: Embedder, texts: Sequence[Any], role: Role) -> Encoded:
        def submit() -> Future[Encoded]:
            if role.kind == "query":
                return encoder.submit_queries(texts, task=role.task)
            return encoder.submit_documents(texts)

        own = encoder is self.encoder or encoder is self._truncating
        short = own and len(texts) <= _FEW and sum(_sizes(texts)) <= _SHORT
        with span(role.kind, encoder.name) as tell:
            future = submit() if short else await _submitted(await self._begin(submit, own=own))
            encoded = await asyncio.wrap_future(future)
            tell(len(texts))
        self._metrics.encoded(role.kind, len(texts), sum(encoded.tokens))
        return encoded

    async def _begin(self, submit: Callable[[], Future[Encoded]], *, own: bool) -> asyncio.Future[Future[Encoded]]:
        """Begin to submit on a thread: texts are tokenized there, and an index's encoder may wait for its cache."""
        threads = None if own else THREADS.get()
        if isinstance(threads, IndexThreads):
            return await threads.begin_to_look_up(submit)
        return asyncio.get_running_loop().run_in_executor(self._submitting, copy_context().run, submit)

    async def watch(self) -> None:
        """Test a device on which a pass failed until one runs; return once it has failed too often."""
        failed, well = 0, True
        while failed < _TRIES:
            await asyncio.sleep(_TRY_EVERY)
            failed = failed + 1 if self.encoder.stats.failing and await self._fails() else 0
            if self.is_well != well:
                well = not well
                log.warning("the device works again" if well else "the device fails, and requests get a 503")

    async def _fails(self) -> bool:
        """Encode a word; return whether the device fails for another reason than lack of memory."""
        try:
            await self._result(self.encoder, ["ready"], Role("query"))
        except DeviceFailed:
            return True
        except HarrierError as error:
            log.info("the device still fails: %s", error)
        return False

    def close(self) -> None:
        """End its threads, and close the encoder that was made for it."""
        self._closed = True
        self._submitting.shutdown(wait=False, cancel_futures=True)
        self._truncating.close()


def _sizes(texts: Sequence[Any]) -> list[int]:
    """Return the number of characters of each text; the encoder reports values that are not texts."""
    return [len(each) if isinstance(each, str) else 0 for each in texts]


def _drop(submitting: asyncio.Future[Future[Encoded]]) -> None:
    if not submitting.cancelled() and submitting.exception() is None:
        submitting.result().cancel()


async def _submitted(submitting: asyncio.Future[Future[Encoded]]) -> Future[Encoded]:
    """Wait until a thread has submitted texts; if this is cancelled, so is their future."""
    try:
        return await asyncio.shield(submitting)
    except asyncio.CancelledError:
        submitting.add_done_callback(_drop)
        raise
