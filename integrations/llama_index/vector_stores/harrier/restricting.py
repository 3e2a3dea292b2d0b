"""Queries that name the nodes to be found."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from llama_index.vector_stores.harrier.nodes import is_listed

from harrier_core import Index, Match, SettingError
from harrier_core.options import Options

if TYPE_CHECKING:
    from llama_index.vector_stores.harrier.queries import Asked

_DEEPER = 4  # how much deeper the next search is, if the last one found too few of the nodes
# How deep a search by word looks for nodes that a query names. There, nodes cannot be compared alone, because only a
# store knows how rare a word is, and longer lists take seconds and gigabytes.
_DEEPEST = 10_000
_PART = 500  # nodes that are read at once, to learn their kinds

Search = Callable[[dict[str, Any]], list[Match]]


@dataclass(frozen=True, slots=True)
class Restriction:
    """The nodes that a query may find.

    A VectorStoreIndex sends ids with every query: those of its image and index nodes, because the objects of these are
    only in its docstore, or with `store_nodes_override` those of all its nodes. If all ids are of such nodes, they say
    nothing about nodes of other kinds, and exclude none of them.
    """

    ids: frozenset[str]
    others: bool  # whether nodes of kinds that a VectorStoreIndex does not list are found as well

    @classmethod
    def of(cls, node_ids: Sequence[str], index: Index, listed: set[str]) -> Self:
        """Return the restriction to these ids. listed: nodes known to be of the kinds listed; what is read is added."""
        ids = frozenset(node_ids)
        for part in _parts([id_ for id_ in node_ids if id_ not in listed]):
            for stored in index.read(part):
                if not is_listed(stored.chunk):
                    return cls(ids, others=False)
                listed.add(stored.chunk.record_id)
        return cls(ids, others=not ids.isdisjoint(listed))

    def matches(self, index: Index, query: Asked, search: Search) -> list[Match]:
        """Return the best of these nodes: of a search that is deep enough, or by comparing each, if they are few."""
        options = Options(where=None, **query.options)
        needed = replace(options, mode="dense", keyword_weight=None).depth
        all_of_them = {**query.options, "offset": 0, "rerank": None, "among": None}
        all_of_them |= {"with_vectors": options.wants_vectors}
        if options.rerank is not None:  # a Reranker has its own scores
            all_of_them["min_score"] = None
        alone = not self.others and options.mode == "dense" and not options.expand
        by_word = not self.others and options.mode != "dense"
        depth = needed
        if by_word and len(self.ids) < needed:
            needed = min(needed, sum(1 for _ in index.read(list(self.ids), query.where)))
            if not needed:
                return []
        while not (alone and depth >= len(self.ids)):
            found = search({**all_of_them, "k": depth})
            kept = [match for match in found if self._includes(match)]
            if len(kept) >= needed or len(found) < depth:
                return options.chosen(query.text or "", kept[:needed])
            if by_word and depth >= _DEEPEST:
                raise SettingError(
                    f"only {len(kept)} of {needed} nodes in node_ids are among the {depth:,} best by word for this "
                    "query; use the mode 'default', which compares these nodes only, or filters on metadata instead"
                )
            depth = max(depth, min(_DEEPER * depth, _DEEPEST)) if by_word else _DEEPER * depth
        return options.chosen(query.text or "", self._compared(index, query, needed))

    def _includes(self, match: Match) -> bool:
        return match.record_id in self.ids or (self.others and not is_listed(match))

    def _compared(self, index: Index, query: Asked, needed: int) -> list[Match]:
        vector = query.vector
        given = index.encoder.encode_queries([query.text or ""])[0] if vector is None else vector
        unit = np.asarray(given, dtype=np.float32)
        unit = unit / max(float(np.linalg.norm(unit)), 1e-12)
        cosines = ((each, float(each.vector @ unit)) for each in index.read(list(self.ids), query.where))
        found = (Match(each.chunk, cosine, cosine, each.vector) for each, cosine in cosines)
        return heapq.nlargest(needed, found, key=lambda match: match.score)


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield the ids in parts; the first is a single one, which usually decides."""
    yield from (ids[start : start + _PART if start else 1] for start in (0, *range(1, len(ids), _PART)) if ids)
