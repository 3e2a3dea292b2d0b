"""One caller's texts on their way through the engine: the rows that wait, and the results so far."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from harrier_core.embedder import Encoded
from harrier_core.errors import BadVectors
from harrier_core.token_rows import Row

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harrier_core.types import Vectors

_LEAST_LENGTH = 1e-12  # smallest length of a hidden state, as in torch's normalize

Reading = Callable[["Vectors"], "Vectors"]  # final hidden states, a row per text, to what the caller wants of them


def unit_vectors(hidden: Vectors) -> Vectors:
    """Return the hidden states at unit length; NaN for one that is not finite."""
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        lengths = np.linalg.norm(hidden, axis=1, keepdims=True)
        return hidden / np.maximum(lengths, _LEAST_LENGTH)  # type: ignore[no-any-return]


@dataclass(slots=True, eq=False)
class Call:
    """One caller's request. Rows arrive in windows, each tokenized when the ones before it have nearly run.

    Other threads than the engine's may use only `future` and `fetch`, unless they hold its lock.
    """

    windows: Iterator[Sequence[Row]]  # all rows, the texts in their order
    places: Sequence[int]  # for each of the caller's texts, the number of its row
    vectors: Vectors  # (rows, dimensions), or whatever else `read` makes of hidden states
    tokens: NDArray[np.int32]  # one count per row, known once its window has been fetched
    cut: set[int]  # rows of texts that were too long
    token_budget: int | None
    urgent: bool
    read: Reading = unit_vectors
    owner: object = None  # who asks: owners of urgent calls share the passes
    future: Future[Encoded] = field(default_factory=Future)
    fetching: bool = False
    waiting_tokens: int = 0
    made: float = field(default_factory=perf_counter)
    _begun: bool = False
    _waiting: deque[tuple[int, Row]] = field(default_factory=deque)
    _fetched: int = 0
    _ran: int = 0
    _bad: list[int] = field(default_factory=list)
    _infinite: bool = False

    @property
    def waiting(self) -> bool:
        """Whether there are rows to run."""
        return bool(self._waiting)

    @property
    def next_tokens(self) -> int:
        """The number of tokens of the next row, or 0."""
        return len(self._waiting[0][1].rest) if self._waiting else 0

    @property
    def complete(self) -> bool:
        """Whether all rows have come in."""
        return self._fetched == len(self.vectors)

    def fetch(self) -> Sequence[Row]:
        """Return the next window. It takes a while, and raises what is wrong with the texts."""
        return next(self.windows, ())

    def add(self, rows: Sequence[Row]) -> None:
        """Add the rows of a fetched window, the longest first, so that the texts of a pass have similar lengths."""
        numbered = list(enumerate(rows, self._fetched))
        self._waiting += sorted(numbered, key=lambda row: -len(row[1].rest))
        self._fetched += len(rows)
        self.waiting_tokens += sum(len(row.rest) for row in rows)

    def take(self, room: int, *, even_if_too_long: bool) -> list[tuple[int, Row]]:
        """Take rows to run now, with their numbers: as many as fit, or at least one if it may be too long."""
        taken: list[tuple[int, Row]] = []
        while self._waiting:
            length = len(self._waiting[0][1].rest)
            if length > room and not (even_if_too_long and not taken):
                break
            taken.append(self._waiting.popleft())
            room -= length
        self.waiting_tokens -= sum(len(row.rest) for _, row in taken)
        return taken

    def begins(self) -> bool:
        """Return whether these are its first rows to run."""
        first, self._begun = not self._begun, True
        return first

    def put(self, numbers: Sequence[int], hidden: Vectors) -> None:
        """Store the hidden states of rows that ran, and answer the caller once the last of them are in."""
        self.vectors[numbers] = self.read(hidden)
        bad = bad_rows(hidden)
        self._bad += [numbers[row] for row in bad]
        self._infinite |= not np.isfinite(hidden[bad]).all()
        self._ran += len(numbers)
        if self._ran < len(self.vectors):
            return
        if self._bad:
            self.fail(_bad_vectors(self.positions(self._bad), len(self.places), infinite=self._infinite))
            return
        with suppress(InvalidStateError):  # cancelled in the meantime
            self.future.set_result(self._encoded())

    def _encoded(self) -> Encoded:
        """Return the answer, in the caller's order."""
        cut = self.positions(list(self.cut)) if self.cut else ()
        if len(self.places) == len(self.vectors):
            return Encoded(self.vectors, self.tokens.tolist(), cut)
        return Encoded(self.vectors[self.places], self.tokens[self.places].tolist(), cut)

    def positions(self, numbers: Sequence[int]) -> list[int]:
        """Return where in the caller's list the texts of these rows stand."""
        return np.flatnonzero(np.isin(self.places, numbers)).tolist()

    def fail(self, error: BaseException) -> None:
        """Answer the caller with an error."""
        with suppress(InvalidStateError):  # cancelled in the meantime
            self.future.set_exception(error)


def bad_rows(hidden: Vectors) -> list[int]:
    """Return the rows that have no unit vector: not finite, or of zero length. NaN fails both comparisons."""
    with np.errstate(over="ignore"):
        lengths = np.linalg.norm(hidden, axis=1)
    return np.flatnonzero(~((lengths > _LEAST_LENGTH) & (lengths < np.inf))).tolist()


def _bad_vectors(positions: list[int], texts: int, *, infinite: bool) -> BadVectors:
    kind = "values that are not finite" if infinite else "no length"
    return BadVectors(
        f"the model's vector for text {positions[0]} has {kind} ({len(positions)} of this call's {texts} texts), in "
        "float32 as well; the weights are damaged: fetch the model again",
        positions,
    )
