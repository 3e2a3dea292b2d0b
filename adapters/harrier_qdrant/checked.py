"""The base of an open collection: each request is checked against the collection that is there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

from harrier_core.errors import StoreError, StoreUnavailable
from harrier_core.space import EmbeddingSpace
from harrier_qdrant.backend import Backend
from harrier_qdrant.filters import Filter
from harrier_qdrant.points import Found
from harrier_qdrant.scanning import scan
from harrier_qdrant.schema import Layout, Shape, missing
from harrier_qdrant.search_loop import Loop

T = TypeVar("T")


class CheckedCollection:
    """A collection that is opened for the vectors of one space, and checked with each request."""

    def __init__(self, backend: Backend, layout: Layout, space: EmbeddingSpace) -> None:
        self._backend = backend
        self._layout = layout
        self._vector = layout.vector
        self._space = space
        self._has_words = False  # as of the last check
        self._seen = threading.local()  # per thread: the collection as of its last check

    def check(self, shape: Shape | None) -> None:
        """Raise StoreMissing, WrongSpace or StoreUnsuitable if the collection found does not fit this space."""
        if shape is None:
            raise missing(str(self._backend))
        shape.check(str(self._backend), self._vector, self._space)
        self._seen.shape = shape
        self._has_words = shape.has_words

    def __repr__(self) -> str:
        return f"OpenCollection({self._backend}, {self._space})"

    def _check_now(self) -> Shape:
        self.check(self._backend.shape())
        return self._last

    @property
    def _last(self) -> Shape:
        """The collection as of this thread's last check."""
        shape: Shape | None = getattr(self._seen, "shape", None)
        return self._check_now() if shape is None else shape

    def _checked(self, request: Callable[[], T], check: Callable[[Shape | None], None] | None = None) -> T:
        """Make one request, and raise if the collection was replaced or removed, or else the request's own error.

        check: used instead of the method. See the class for what a check of a server's collection can miss.
        """
        check = check or self.check
        looking = self._backend.look()
        try:
            answer = request()
        except StoreError as error:
            # If the server answers, it is checked again: the first check may have been too early.
            check(looking.result() if isinstance(error, StoreUnavailable) else self._backend.shape())
            raise
        else:
            check(looking.result())
            return answer
        finally:
            looking.stop()  # it must not keep retrying after an interrupted call

    def _finish(self, loop: Loop, check: Callable[[Shape | None], None] | None = None) -> None:
        """Find the matches of the queries that a loop has left."""
        scan(
            loop,
            partial(self._scrolled, with_vectors=False),
            lambda queries: self._checked(partial(self._backend.search, queries), check),
        )

    def _scrolled(
        self, where: Filter | None, fields: Sequence[str] | None, *, with_vectors: bool, with_words: bool = False
    ) -> Iterator[Found]:
        for request in self._backend.scroll(where, fields, with_vectors=with_vectors, with_words=with_words):
            yield from self._checked(request)
