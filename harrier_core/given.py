"""Vectors that were made before, used instead of those that an embedder would make now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

from harrier_core.embedder import Embedder, Encoded, refuse_too_long
from harrier_core.errors import SettingError, WrongSpace, positions_of_all
from harrier_core.records import Unstorable

if TYPE_CHECKING:
    from harrier_core.types import Vector, Vectors

T = TypeVar("T")

_SAMPLED = 100  # one text in this many, and at least one per window, is encoded again

# Two dtypes of one model agree to this cosine for each text: of 650 on trained weights, bfloat16 against float32, two
# were below 0.99, and none below 0.985. The vectors of a different text are usually below it. An instruction before a
# long document is not always: so among several texts, most must agree more closely, as they do between all dtypes.
SIMILAR, _MOSTLY = 0.95, 0.99
_SEVERAL = 3

_NONE = object()


class GivenVectors:
    """Accepts vectors as those of documents, once a sample has proved to match what an embedder makes of the texts."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder
        self._dimensions = embedder.dimensions
        self._fits = False  # one of the vectors had the right dimensions

    def sound(self, vector: object) -> Vector:
        """Return a vector at unit length: Harrier compares directions, and half precision changes lengths.

        Raise Unstorable if it has no direction, or another number of dimensions than those before it, and WrongSpace if
        the very first one does.
        """
        import numpy as np

        try:
            with np.errstate(over="ignore"):
                row = np.asarray(vector, dtype=np.float32)
        except (TypeError, ValueError):
            row = np.empty((), dtype=np.float32)
        if row.ndim != 1:
            raise Unstorable("was given a vector that is not a row of numbers")
        if len(row) != self._dimensions and not self._fits:
            raise self.wrong(f"have {len(row)} dimensions instead of {self._dimensions}")
        if len(row) != self._dimensions:
            raise Unstorable(f"was given a vector of {len(row)} dimensions, and the encoder's have {self._dimensions}")
        self._fits = True
        length = float(np.linalg.norm(row.astype(np.float64)))
        if not (np.isfinite(length) and length):
            raise Unstorable("was given a vector that is zero or not finite")
        return np.asarray(row.astype(np.float64) / length, dtype=np.float32)

    def submit(self, texts: Sequence[str], vectors: Sequence[Vector]) -> Future[Encoded]:
        """Answer as an embedder's `submit_documents` would, with these vectors, each as returned by `sound`.

        Raise WrongSpace if the sample does not match, and whatever the embedder raises for texts that cannot be
        encoded.
        """
        import numpy as np

        refuse_too_long(self.embedder, texts)
        made = np.array(vectors, dtype=np.float32).reshape(len(texts), self._dimensions)
        if texts:
            sampled = texts[::_SAMPLED]
            with positions_of_all(lambda position: position * _SAMPLED):
                self.compare(sampled, made[::_SAMPLED], self.embedder.encode_documents(sampled))
        done: Future[Encoded] = Future()
        done.set_result(Encoded(made, [0] * len(texts)))
        return done

    def compare(self, texts: Sequence[str], given: Vectors, made: Vectors) -> None:  # noqa: ARG002  # for subclasses
        """Raise WrongSpace unless the given vectors match those that were made from the texts."""
        if not are_alike(given, made):
            raise self.wrong(f"have a cosine of {least_cosine(given, made):.3f} to its own for the same text")

    def wrong(self, how: str) -> WrongSpace:
        """Return the error that says how the vectors differ from the embedder's own."""
        return WrongSpace(
            f"the given vectors were not made by this index's encoder: they {how}; make them with the encoder's "
            "encode_documents, in the order of the records, or omit vectors"
        )


def are_alike(given: Vectors, made: Vectors) -> bool:
    """Return whether pairs of unit vectors, one per row, may belong to the same texts and the same model."""
    cosines = sorted((given * made).sum(axis=1).tolist())
    return cosines[0] >= SIMILAR and (len(cosines) < _SEVERAL or cosines[len(cosines) // 2] >= _MOSTLY)


def least_cosine(given: Vectors, made: Vectors) -> float:
    """Return the cosine of the least similar pair of unit vectors."""
    return float((given * made).sum(axis=1).min())


def paired(items: Iterable[T], vectors: object) -> Iterator[tuple[T, object]]:
    """Yield each item with its vector. Raise SettingError if either of the two runs out first."""
    if vectors is None:
        return ((item, None) for item in items)
    rows = _rows(vectors)
    if isinstance(items, Sized) and isinstance(rows, Sized) and len(items) != len(rows):
        raise _unequal(f"{len(items):,} records", f"{len(rows):,} vectors")
    return _paired(items, iter(rows))


def _rows(vectors: object) -> Iterable[object]:
    if hasattr(vectors, "__array__"):
        import numpy as np

        array = np.asarray(vectors)
        if array.ndim != 2:
            raise SettingError(f"vectors must be rows, one for each record, got an array of shape {array.shape}")
        return array
    if isinstance(vectors, Iterable) and not isinstance(vectors, str | bytes | Mapping):
        return vectors
    raise SettingError(f"vectors must be rows, one for each record, got {type(vectors).__name__}")


def _paired(items: Iterable[T], rows: Iterator[object]) -> Iterator[tuple[T, object]]:
    number = 0
    for item in items:
        if (row := next(rows, _NONE)) is _NONE:
            raise _unequal("more records", f"{number:,} vectors")
        number += 1
        yield item, row
    if next(rows, _NONE) is not _NONE:
        raise _unequal(f"{number:,} records", "more vectors")


def _unequal(records: str, vectors: str) -> SettingError:
    return SettingError(
        f"vectors must have one row for each record, got {records} and {vectors}; pass one for each, in order"
    )
