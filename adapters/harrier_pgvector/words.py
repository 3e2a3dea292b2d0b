"""The words of chunks as additional columns, for search by word. Pure.

terms int4[]                     the ids of a text's terms, ascending; a GIN index finds rows by them
lex sparsevec(1000000000)        the weight of each, whose inner product with a query's is the score of a row

The comment on `lex` says which words all rows have, as {"words": 2}. Without it, words are still being added: all
writers write them, and no one searches by them yet.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from harrier_core.lexical import VERSION, Terms, document_terms

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Words = tuple[NDArray[np.int32], NDArray[np.float32]]  # ids in ascending order, and the weight of each

COLUMNS = ("terms", "lex")

DIMENSIONS = 1_000_000_000  # as many as a sparsevec can have; ids beyond are taken modulo this
_MOST = 16_000  # non-zero numbers that a sparsevec can have

STAMP = json.dumps({"words": VERSION})


def words_of(text: str) -> Words:
    """Return what is stored of a text. If it has too many terms, those with the highest weights are kept."""
    import numpy as np

    terms = document_terms(text)
    ids = np.array(terms.ids, np.int64) % DIMENSIONS
    weights = np.array(terms.weights, np.float32)
    if len(ids) > _MOST:
        kept = np.sort(np.argsort(-weights, kind="stable")[:_MOST])
        ids, weights = ids[kept], weights[kept]
    order = np.argsort(ids)
    stored, weights = ids[order].astype(np.int32), weights[order]
    new = stored[1:] != stored[:-1]
    if new.all():
        return stored, weights
    first = np.flatnonzero(np.concatenate(([True], new)))  # ids that coincide become one
    return stored[first], np.add.reduceat(weights, first)


def asked(terms: Terms) -> tuple[list[int], list[float]]:
    """Return the ids of a query's terms, as they are stored, and the boost of each."""
    boosts: dict[int, float] = {}
    for id_, weight in zip(terms.ids, terms.weights, strict=True):
        boosts[id_ % DIMENSIONS] = max(weight, boosts.get(id_ % DIMENSIONS, 0.0))
    return list(boosts), list(boosts.values())


def are_there(columns: Mapping[str, str]) -> bool:
    """Return whether a table has the columns, by its columns and their types."""
    return columns.get("terms") == "integer[]" and columns.get("lex", "").endswith(f"sparsevec({DIMENSIONS})")


def version_in(comment: str | None) -> int | None:
    """Return the version of the words that all rows have, or None if some have none."""
    try:
        version = json.loads(comment or "null")["words"]
    except (ValueError, TypeError, KeyError):
        return None
    return version if isinstance(version, int) else None


def problem(table: str, words: int | None, version: int | None) -> str:
    """Return why a table cannot be searched by word, and what to do; words: None if it has no columns for them."""
    if words is None:
        return (
            f"table {table} was created without keywords=True; add words to its chunks with add_keywords() or "
            "`harrier keywords PLACE`, which need no model"
        )
    if version is None:
        return (
            f"some chunks of table {table} have no words yet; wait until add_keywords() is done, or "
            "call it again if it was interrupted"
        )
    cure = "renew them with add_keywords()" if version < VERSION else "update harrier-kit"
    return f"table {table} has words of version {version}, but this release reads version {VERSION}; {cure}"
