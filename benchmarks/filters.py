"""Measure what a condition costs a vector search, by how many rows meet it: as the kit bounds the index, and unbounded.

One table of an embedded PostgreSQL, whose vectors lie in a thousand heaps. Chances meet the first conditions, so that
those rows lie everywhere; the others are met by the rows of some heaps, and the query is near other ones: a language,
or a customer, that the question is not about. "Unbounded" is pgvector's own limit for what its index looks at, 20,000
rows. "Exact" compares all rows that meet the condition, found as the planner likes. Rounds are interleaved.

    make bench-filters
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from harrier_pgvector import PgVectorStore, near
from harrier_pgvector.opened import OpenTable
from harrier_pgvector.opening import Opened

from harrier_core import EmbeddingSpace, Record, Search
from harrier_core.filters import parse
from harrier_core.records import Chunk
from harrier_core.store import Write

SPACE = EmbeddingSpace("made", None, "w", "t", 256, "last token", "l2", "{text}")
HEAPS = 1_000
SHARES = (0.5, 0.05, 0.01, 0.001, 0.0001)
KS = (5, 50)


def main() -> None:
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    chance = np.random.default_rng(0)
    heaps = chance.normal(size=(HEAPS, SPACE.dimensions))
    with tempfile.TemporaryDirectory() as folder, PgVectorStore.embedded(Path(folder, "data")) as store:
        opened = store.open(SPACE, create=True)
        for begin in range(0, options.rows, 2_000):
            write(opened, begin, chance, heaps)
        opened.build_indexes()
        print(f"{options.rows:,} rows of {SPACE.dimensions} dimensions, {options.rounds} rounds")
        for place in ("anywhere", "elsewhere"):
            for share in SHARES:
                own = int(HEAPS * 0.9) if place == "elsewhere" else 0  # heaps that no condition of this kind is met in
                queries = beside(heaps[own + chance.integers(0, HEAPS - own, options.rounds)], chance)
                for k in KS:
                    compare(opened, queries, f"{place} {share:g}", k)


def write(opened: OpenTable, begin: int, chance: np.random.Generator, heaps: Any) -> None:
    """Two thousand rows, a record each."""
    number, draws = 2_000, chance.random(2_000)
    of = chance.integers(0, len(heaps), number)
    vectors = beside(heaps[of], chance)
    chunks = []
    for row, (draw, heap) in enumerate(zip(draws, of.tolist(), strict=True)):
        met = {f"anywhere {share:g}": bool(draw < share) for share in SHARES}
        # The last tenth of the heaps meets none of these, and each of the others as many as it must.
        met |= {f"elsewhere {share:g}": bool(heap < min(0.9, share) * len(heaps)) for share in SHARES}
        record = Record(f"r{begin + row}", "a text", met)
        chunks.append(Chunk.of(record, 0, 0, record.text))
    new: dict[str, dict[int, bytes]] = {chunk.record_id: {} for chunk in chunks}
    opened.write(Write(dict.fromkeys(new, 1), chunks, vectors, [], new))


def beside(centres: Any, chance: np.random.Generator) -> Any:
    """A vector near each of them, at unit length."""
    vectors = (centres + chance.normal(size=centres.shape)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def compare(opened: OpenTable, queries: Any, field: str, k: int) -> None:
    """One condition's row of the table."""
    where = parse({field: True})
    took: dict[str, list[float]] = {"kit": [], "unbounded": [], "exact": []}
    found = dict.fromkeys(took, 0)
    bounded = near.is_bounded
    for number, query in enumerate([queries[0], *queries]):  # the first round is not counted
        best: set[str] = set()
        for name in ("exact", "kit", "unbounded") if number % 2 else ("exact", "unbounded", "kit"):
            near.is_bounded = bounded if name == "kit" else unbounded
            begin = time.perf_counter()
            [matches] = opened.search(Search(query[None], k, where, exact=name == "exact"))
            if number:
                took[name].append(time.perf_counter() - begin)
            ids = {match.id for match in matches}
            best = best or ids
            found[name] += len(ids & best) if number else 0
    near.is_bounded = bounded
    kit, other, exact = (statistics.median(took[name]) * 1e3 for name in took)
    ratios = [one / two for one, two in zip(took["kit"], took["unbounded"], strict=True)]
    recall = " and ".join(f"{found[name] / max(1, found['exact']):.2f}" for name in ("kit", "unbounded"))
    print(
        f"{field:18}{k:4}{kit:9.1f} ms, unbounded {other:7.1f} ms, exact {exact:7.1f} ms; kit / unbounded "
        f"{statistics.median(ratios):5.2f}; recall {recall}"
    )


def unbounded(opened: Opened, search: Search) -> bool:  # noqa: ARG001  # in the place of near.is_bounded
    """Leave the limit to pgvector."""
    return False


if __name__ == "__main__":
    main()
