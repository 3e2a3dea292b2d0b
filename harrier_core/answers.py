"""Searches of an open store: checks before the search, and the processing of its results."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harrier_core.errors import raise_problems
from harrier_core.filters import parse
from harrier_core.options import Options
from harrier_core.passages import expanded
from harrier_core.ranking import ranked, worded
from harrier_core.texts import listed, unusable

if TYPE_CHECKING:
    from harrier_core.records import Match
    from harrier_core.store import OpenStore
    from harrier_core.types import Vectors

log = logging.getLogger(__name__)

Where = Mapping[str, Any]


def options_of(k: int, where: Where | None, given: Mapping[str, Any], taken: type, **own: Any) -> Options:  # noqa: ANN401
    """Return the options of a search: the keywords of the TypedDict `taken`, plus its own."""
    if unknown := given.keys() - taken.__annotations__:
        raise TypeError(f"a search got an unexpected keyword argument {min(unknown)!r}")
    return Options(k, parse(where), **given, **own)


def texts_of(queries: Iterable[str], store: OpenStore, options: Options) -> Sequence[str]:
    """Return the queries, checked unless the search is dense: then the encoder checks them."""
    texts = listed(queries)
    if options.mode != "dense":
        raise_problems(list(unusable(texts)))
        worded(store)
    return texts


def matches_of(store: OpenStore, texts: Sequence[str], vectors: Vectors | None, options: Options) -> list[list[Match]]:
    """Return each query's matches, best first, as the options ask."""
    found = [
        options.chosen(query, each) for query, each in zip(texts, ranked(store, texts, vectors, options), strict=True)
    ]
    log.debug("%d queries answered with %d matches", len(found), sum(map(len, found)))
    return expanded(found, options.expand, store)
