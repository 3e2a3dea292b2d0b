"""Measure the cost of a condition to a vector search, by the share of matching rows, with and without the kit's limit.

There is one table in an embedded PostgreSQL, with its vectors in a thousand clusters. Random rows meet the first
conditions. The others are met by the rows of some clusters, and the query is near other clusters: a language, or a
customer, that the question is not about. "Unbounded" uses pgvector's own limit of visited rows, 20,000. "Exact"
compares all rows that meet the condition, and the planner decides how to find them. Rounds are interleaved.

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
                own = int(HEAPS * 0.9) if place == "elsewhere" else 0  # clusters in which no such condition is met
                queries = beside(heaps[own + chance.integers(0, HEAPS - own, options.rounds)], chance)
                for k in KS:
                    compare(opened, queries, f"{place} {share:g}", k)


def write(opened: OpenTable, begin: int, chance: np.random.Generator, heaps: Any) -> None:
    """Write two thousand rows, one per record."""
    number, draws = 2_000, chance.random(2_000)
    of = chance.integers(0, len(heaps), number)
    vectors = beside(heaps[of], chance)
    chunks = []
    for row, (draw, heap) in enumerate(zip(draws, of.tolist(), strict=True)):
        met = {f"anywhere {share:g}": bool(draw < share) for share in SHARES}
        # All rows of the first clusters meet these conditions, and no row of the last tenth does.
        met |= {f"elsewhere {share:g}": bool(heap < min(0.9, share) * len(heaps)) for share in SHARES}
        record = Record(f"r{begin + row}", "a text", met)
        chunks.append(Chunk.of(record, 0, 0, record.text))
    new: dict[str, dict[int, bytes]] = {chunk.record_id: {} for chunk in chunks}
    opened.write(Write(dict.fromkeys(new, 1), chunks, vectors, [], new))


def beside(centres: Any, chance: np.random.Generator) -> Any:
    """Return a vector of unit length near each of them."""
    vectors = (centres + chance.normal(size=centres.shape)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def compare(opened: OpenTable, queries: Any, field: str, k: int) -> None:
    """Measure one condition, and print its row of the table."""
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


def unbounded(opened: Opened, search: Search) -> bool:  # noqa: ARG001  # replaces near.is_bounded
    """Leave the limit to pgvector."""
    return False


if __name__ == "__main__":
    main()
