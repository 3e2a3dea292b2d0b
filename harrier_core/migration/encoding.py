"""Encode stored texts with another model, no faster than a given rate."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError

import numpy as np
from numpy.typing import NDArray

from harrier_core.embedder import Embedder, closed, refuse_too_long
from harrier_core.errors import BadVectors, InputError, OutOfMemory, positions_of_all
from harrier_core.planning import Plan

_PART = 16  # texts that are encoded together if the rate is limited, so that a search does not wait for more


class Pace:
    """A limit on the texts per second, for all threads together."""

    def __init__(self, rate: float | None) -> None:
        self.rate = rate
        self._lock = threading.Lock()
        self._next = 0.0
        self._stopped = threading.Event()

    @property
    def part(self) -> int | None:
        """How many texts to encode together; None means any number."""
        return None if self.rate is None else max(1, min(_PART, int(self.rate)))

    def wait(self, texts: int) -> None:
        """Wait until that many texts may be encoded. Raise CancelledError after `stop`."""
        pause = 0.0
        if self.rate is not None:
            with self._lock:
                now = time.monotonic()
                begin = max(now, self._next)
                self._next = begin + texts / self.rate
                pause = begin - now
        if self._stopped.wait(pause) if pause else self._stopped.is_set():
            raise CancelledError

    def stop(self) -> None:
        """Make all threads stop waiting and encoding."""
        self._stopped.set()

    def resume(self) -> None:
        """Allow encoding again, once all threads have stopped."""
        self._stopped.clear()


class Encoding:
    """Encodes what plans need. Any thread may use it."""

    def __init__(self, embedder: Embedder, pace: Pace, tell: Callable[[int, int], None]) -> None:
        """Take an embedder and a pace. tell: called with the numbers of encoded texts and of their tokens."""
        self._embedder = embedder
        self._pace = pace
        self._tell = tell

    @property
    def dimensions(self) -> int:
        """The length of a vector."""
        return self._embedder.dimensions

    def stop(self) -> None:
        """Make all encoding threads stop."""
        self._pace.stop()

    def resume(self) -> None:
        """Allow encoding again, once all threads have stopped."""
        self._pace.resume()

    def vectors(self, planned: Plan) -> tuple[Plan, NDArray[np.float32], dict[str, str]]:
        """Return the plan without records that cannot be encoded, its vectors, and why those records cannot be."""
        rejected: dict[str, str] = {}
        while True:
            try:
                refuse_too_long(self._embedder, planned.texts)
                return planned, self._encoded(planned.texts), rejected
            except (InputError, BadVectors, OutOfMemory) as error:
                owners = [chunk.record_id for chunk in planned.encoded]
                rejected |= {owners[at]: reason for at, reason in _reasons(error).items()}
                planned = planned.without(rejected)

    def _encoded(self, texts: Sequence[str]) -> NDArray[np.float32]:
        size = self._pace.part or max(1, len(texts))
        rows = [np.empty((0, self._embedder.dimensions), np.float32)]
        for begin in range(0, len(texts), size):
            part = texts[begin : begin + size]
            self._pace.wait(len(part))
            with positions_of_all(range(begin, begin + len(part)).__getitem__):
                try:
                    encoded = self._embedder.submit_documents(part).result()
                except CancelledError:
                    raise closed() from None
            rows.append(encoded.vectors)
            self._tell(len(part), sum(encoded.tokens))
        return np.concatenate(rows)


def _reasons(error: InputError | BadVectors | OutOfMemory) -> Mapping[int, str]:
    """Return why texts get no vectors, by position."""
    if isinstance(error, InputError):
        return {each.position: each.reason for each in error.problems}
    if isinstance(error, BadVectors):
        return dict.fromkeys(error.positions, "gets an invalid vector from the model")
    return {error.position: "is too long for the available memory"}
