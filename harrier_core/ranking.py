"""Ranking of what a store found by vectors, by words or by both, as one list for each query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from harrier_core.errors import StoreUnsuitable
from harrier_core.fusion import fused
from harrier_core.lexical import has_code_of, query_terms
from harrier_core.options import Options
from harrier_core.query import BM25_DECIMALS, WordSearch
from harrier_core.records import Match
from harrier_core.store import OpenStore, Worded

if TYPE_CHECKING:
    from harrier_core.types import Vectors

# The weight of the list of words relative to that of vectors: half, as most queries are better matched by meaning than
# by spelling; four times for a query with a code, which vectors represent poorly. At three times, a near miss that is
# first by vector and second by word would rank above the code itself.
_WORDS, _CODES = 0.5, 4.0


Key = tuple[str, int]


def ranked(store: OpenStore, queries: Sequence[str], vectors: Vectors | None, options: Options) -> list[list[Match]]:
    """Return the matches of each query, best first, before `options` selects from them.

    vectors: those of the queries, if the mode needs them.
    """
    near = None if vectors is None else options.search(vectors)
    if options.mode == "dense":
        assert near is not None  # noqa: S101  # the caller's mode is the options'
        return store.search(near)
    terms = [query_terms(each) for each in queries]
    search = WordSearch(terms, options.depth, options.where, options.wants_vectors, near)
    by_word, by_vector = zip(*worded(store).search_words(search), strict=True) if terms else ((), ())
    if near is None:
        return [_ordered(each) for each in by_word]
    own = options.keyword_weight
    asked = zip(queries, by_word, strict=True)
    weights = [_weight(*each) if own is None else own for each in asked]
    return [_fused(*lists) for lists in zip(by_vector, by_word, weights, strict=True)]


def worded(store: OpenStore) -> Worded:
    """Return a store whose chunks have their words. Raise StoreUnsuitable if they do not."""
    if not isinstance(store, Worded):
        raise StoreUnsuitable(f"{type(store).__name__} cannot be searched by word; use mode='dense'")
    if problem := store.keywords_problem():
        raise StoreUnsuitable(f"{problem}; or use mode='dense'")
    return store


def _weight(query: str, by_word: Sequence[Match]) -> float:
    """Return the weight of words: high if the query has a code that the best match by word has as well."""
    if not by_word:
        return _WORDS
    best = max(by_word, key=lambda match: match.score)
    return _CODES if has_code_of(query, best.text) else _WORDS


def _fused(near: Sequence[Match], by_word: Sequence[Match], weight: float) -> list[Match]:
    """Merge two lists; a match's score is its share of the highest possible one."""
    dense, words = _ordered(near), _ordered(by_word)
    found = {_key(match): match for match in [*words, *dense]}  # a dense match has its cosine
    order = fused([_key(match) for match in dense], [_key(match) for match in words], weight)
    return [replace(found[key], score=share) for key, share in order]


def _ordered(matches: Sequence[Match]) -> list[Match]:
    """Sort best first, and equal scores by key, because each store has its own order for them."""
    return sorted(matches, key=lambda match: (-round(match.score, BM25_DECIMALS), _key(match)))


def _key(match: Match) -> Key:
    return match.record_id, match.number
