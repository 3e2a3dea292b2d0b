"""The words of an open collection's chunks: searched, added to existing chunks, and compared with the texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice

from harrier_core.errors import StoreUnsuitable
from harrier_core.lexical import VERSION, Terms, document_terms
from harrier_core.query import WordSearch
from harrier_core.records import Chunk
from harrier_core.store import Lists
from harrier_qdrant.checked import CheckedCollection
from harrier_qdrant.filters import CHUNKS, WITH_WORDS, WITHOUT_WORDS, both
from harrier_qdrant.schema import WORDS, Shape
from harrier_qdrant.search_loop import SearchLoop, WordLoop

_SAME = 1e-3  # the tolerance for a weight and the same one as stored


class WordedCollection(CheckedCollection):
    """An open collection's operations on words."""

    def keywords_problem(self) -> str | None:
        """Return why its chunks cannot be found by their words, or None; if they had none before, check again."""
        return None if self._has_words else self._check_now().words_problem(str(self._backend))

    def search_words(self, search: WordSearch) -> list[Lists]:
        """Return for each query the k chunks with the highest BM25 of its terms, and those that `near` asks for.

        Both kinds of queries share a request.
        """
        words = WordLoop(search)
        near = None if search.near is None else SearchLoop(search.near)
        go_on = True
        while go_on:
            queries = [*words.queries, *(near.queries if near else ())]
            answers = iter(self._checked(partial(self._backend.search, queries), self._check_words))
            go_on = words.goes_on(list(islice(answers, len(words.queries))))
            go_on = (near is not None and near.goes_on(list(answers))) or go_on
        for loop in (words, near):
            if loop is not None:
                self._finish(loop, self._check_words)
        found = near.matches if near else [[] for _ in search.terms]
        return list(zip(words.matches, found, strict=True))

    def _check_words(self, shape: Shape | None) -> None:
        self.check(shape)
        self._last.check_words(str(self._backend))

    # -- adding them

    def add_keywords(self, tell: Callable[[int], None]) -> None:
        """Store the words of all chunks, while others read and write; after a crash, a new call resumes.

        From now on, writers write words as well. So chunks without words were there before, or are being written by a
        writer that checked earlier, and that checks once more after writing. The collection is marked as having words
        at the end, and can be searched by word only then.
        """
        self._prepare()
        self._fill(tell)
        with self._backend.writing():
            self._checked(lambda: self._backend.words.mark(VERSION))
        self._fill(tell)
        self._check_now()

    def _prepare(self) -> None:
        """Prepare an empty vector for words, or the one that an earlier call has begun to fill."""
        words = self._backend.words
        with self._backend.writing():
            shape = self._check_now()
            if shape.has_later_words:
                shape.check_words(str(self._backend))
            if shape.words not in (None, VERSION):
                # In this order: wherever it is interrupted, the next call does not take old words for new ones.
                if shape.sparse:
                    self._checked(words.remove)
                self._checked(lambda: words.mark(None))
            if not self._last.sparse:
                self._checked(words.create)
            if not self._check_now().sparse:
                raise StoreUnsuitable(
                    f"collection {self._backend} has a vector {WORDS!r} that is not sparse with the IDF modifier; "
                    "remove that vector, or use another collection"
                )

    def _fill(self, tell: Callable[[int], None]) -> None:
        number = self._checked(lambda: self._backend.count(both(CHUNKS, WITH_WORDS)))
        tell(number)
        for request in self._backend.scroll(both(CHUNKS, WITHOUT_WORDS), None, with_vectors=False):
            with self._backend.writing():
                chunks = [each.chunk() for each in self._checked(request) if not each.alien()]
                if chunks:
                    self._checked(partial(self._backend.words.write, chunks))
            number += len(chunks)
            tell(number)

    # -- checking them

    def wrong_keywords(self) -> Iterator[Chunk]:
        """Yield the chunks whose words are not those of their texts."""
        self._check_words(self._backend.shape())
        for each in self._scrolled(CHUNKS, None, with_vectors=False, with_words=True):
            if not each.alien() and not _same(each.words, document_terms(each.chunk().text)):
                yield each.chunk()


def _same(stored: Terms | None, own: Terms) -> bool:
    if stored is None:
        return False
    weights = dict(zip(stored.ids, stored.weights, strict=True))
    return weights.keys() == set(own.ids) and all(
        abs(weights[term] - weight) <= _SAME for term, weight in zip(own.ids, own.weights, strict=True)
    )
