"""Measure hybrid and keyword search, in Postgres and in Qdrant Edge, against the hybrid stores of other libraries.

The passages are those of LibreOffice's help in eleven languages, recombined if more are needed; the questions are its
English index entries. Vectors are noise that costs nothing, so all results are found by word. Rounds are interleaved; a
time is the median of all searches. Debian's packages are downloaded once.

    make bench-hybrid CORPUS=folder
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from harrier_pgvector import PgVectorStore
from harrier_qdrant import QdrantStore
from langchain_postgres import PGEngine
from langchain_postgres import PGVectorStore as LangChainStore
from langchain_postgres.v2.hybrid_search_config import HybridSearchConfig, reciprocal_rank_fusion
from langchain_postgres.v2.indexes import HNSWIndex
from llama_index.core.vector_stores import VectorStoreQuery
from llama_index.core.vector_stores.types import VectorStoreQueryMode
from llama_index.vector_stores.postgres import PGVectorStore as LlamaIndexStore
from manuals import LANGUAGES, Query, fetch, index_entries
from postgres import DIMENSIONS, SPACE, Listed, nodes_of
from psycopg.conninfo import conninfo_to_dict
from ready import Ready, rows

from harrier_core import Index, Record

K = 10
SHARES = {"half": 0.5, "hundredth": 0.01, "thousandth": 0.001}
PAGE = "page"  # in the metadata: the page of a passage

Search = Callable[[Query], Sequence[str]]  # the pages found, best first


def main() -> None:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rivals", type=int, default=20_000, help="rows in the stores of other libraries")
    parser.add_argument("--rounds", type=int, default=100)
    options = parser.parse_args()
    fetch(options.corpus)
    records, queries = passages(options.corpus, options.rows)
    _, vectors = rows(len(records), DIMENSIONS)
    asked = [query.text for query in queries]
    noise = np.random.default_rng(1).normal(size=(len(asked), DIMENSIONS)).astype(np.float32)
    every = np.concatenate([vectors, noise / np.linalg.norm(noise, axis=1, keepdims=True)])
    texts = [*(record.text for record in records), *asked]
    with tempfile.TemporaryDirectory() as folder, PgVectorStore.embedded(Path(folder, "data")) as server:
        server.open(SPACE, create=True)
        conninfo = server._reach()._conninfo
        ready = Ready(every, texts)
        loads(conninfo, records[: options.rivals], every, texts)
        with Index(PgVectorStore(conninfo, table="all", keywords=True), ready) as index:
            index.ingest(records)
            report(f"Postgres, {len(records):,} rows", ours(index), queries, options.rounds)
        with Index(
            QdrantStore.embedded(Path(folder, "qdrant"), keywords=True, indexes=dict.fromkeys(SHARES, "bool")), ready
        ) as index:
            index.ingest(records)
            report(f"Qdrant Edge, {len(records):,} points", ours(index), queries, options.rounds)
        there = {str(each.metadata[PAGE]) for each in records[: options.rivals]}
        few = [query for query in queries if query.pages <= there]
        with Index(PgVectorStore(conninfo, table="few", keywords=True), ready) as index:
            index.ingest(records[: options.rivals])
            contestants = {"Index, hybrid": ours(index)["hybrid"], "Index, keyword": ours(index)["keyword"]}
            contestants |= rivals(conninfo, records[: options.rivals], vectors, ready)
            report(f"Postgres, {options.rivals:,} rows, with others", contestants, few, options.rounds)


def passages(corpus: Path, number: int) -> tuple[list[Record], list[Query]]:
    """Return that many passages of all languages, the English ones first, and the index entries of the English help."""
    chance = random.Random(0)
    helps = [index_entries(corpus, language, 10_000 if language == LANGUAGES[0] else 0, 0) for language in LANGUAGES]
    found = [passage for each in helps for passage in each.passages]
    english = len(helps[0].passages)
    records = [
        Record(f"p{at}", f"{passage.text}\n{at}", _metadata(passage.page if at < english else "", chance))
        for at, passage in enumerate(found[:number])
    ]
    sentences = [line for passage in found for line in passage.text.splitlines() if len(line) > 40]
    while len(records) < number:
        text = "\n".join(chance.choices(sentences, k=7))[:900]
        records.append(Record(f"p{len(records)}", f"{text}\n{len(records)}", _metadata("", chance)))
    queries = list(helps[0].queries)
    chance.shuffle(queries)
    return records, queries


def _metadata(page: str, chance: random.Random) -> dict[str, Any]:
    draw = chance.random()
    return {PAGE: page, **{name: draw < share for name, share in SHARES.items()}}


# -- loads


def loads(conninfo: str, records: list[Record], vectors: Any, texts: list[str]) -> None:
    """Print the cost of words to an ingest: its time with the indexes, the encoder's busy share, and bytes."""
    took: dict[bool, list[float]] = {False: [], True: []}
    size: dict[bool, float] = {}
    for round_ in range(4):
        for keywords, times in sorted(took.items(), reverse=bool(round_ % 2)):
            store = PgVectorStore(conninfo, table=f"load {round_} {keywords}", keywords=keywords)
            with Index(store, Ready(vectors, texts)) as index:
                begin = time.perf_counter()
                index.ingest(records)
                times.append(time.perf_counter() - begin)
                size[keywords] = (store.describe().bytes or 0) / len(records)
                index.drop()
    ratios = sorted(with_ / without for with_, without in list(zip(took[True], took[False], strict=True))[1:])
    print(f"{len(records):,} rows: time with words and their index / without {statistics.median(ratios):.2f}", end=" ")
    print(f"({ratios[0]:.2f} to {ratios[-1]:.2f}), target 1.35; {size[True] - size[False]:,.0f} more bytes per row")
    for rate in (500, 3_000):
        busy = []
        for keywords in (False, True):
            ready = Ready(vectors, texts, rate=rate)
            with Index(PgVectorStore(conninfo, table=f"busy {rate} {keywords}", keywords=keywords), ready) as index:
                begin = time.perf_counter()
                index.ingest(records, build_indexes=False)
                busy.append(ready.busy / (time.perf_counter() - begin))
                index.drop()
        print(f"an encoder of {rate:,} chunks a second is busy {busy[0]:.1%} without and {busy[1]:.1%} with words")


# -- searches


def ours(index: Index) -> dict[str, Search]:
    """Return a search for each mode of an Index."""

    def search(query: Query, **options: Any) -> list[str]:
        return [str(match.metadata[PAGE]) for match in index.search(query.text, K, **options)]

    found: dict[str, Search] = {
        "dense": search,
        "keyword": lambda query: search(query, mode="keyword"),
        "hybrid": lambda query: search(query, mode="hybrid"),
    }
    for name, share in SHARES.items():
        where = {name: True}
        found[f"dense, {share:.1%} meet it"] = partial(search, where=where)
        found[f"hybrid, {share:.1%} meet it"] = partial(search, where=where, mode="hybrid")
    return found


def report(name: str, contestants: dict[str, Search], queries: list[Query], rounds: int) -> None:
    """Print the time of each search, and how often its results include the right page."""
    took: dict[str, list[float]] = {each: [] for each in contestants}
    right = dict.fromkeys(contestants, 0)
    for number in range(rounds + 3):  # the first ones connect, and read pages
        query = queries[number % len(queries)]
        first = number % len(contestants)  # later searches find pages in memory
        for each, search in [*list(contestants.items())[first:], *list(contestants.items())[:first]]:
            begin = time.perf_counter()
            pages = search(query)
            if number >= 3:
                took[each].append(1e3 * (time.perf_counter() - begin))
                right[each] += not query.pages.isdisjoint(pages)
    print(f"\n{name}: median, 95th percentile; right page among {K}")
    for each, times in took.items():
        print(f"{each:34}{np.median(times):9.1f} ms{np.quantile(times, 0.95):9.1f} ms{right[each] / rounds:8.2f}")


def rivals(conninfo: str, records: list[Record], vectors: Any, ready: Ready) -> dict[str, Search]:
    """Fill the hybrid stores of LangChain and LlamaIndex with the same rows, as their documentation sets them up."""
    given = conninfo_to_dict(conninfo)
    url = f"{given['user']}@/{given['dbname']}?host={given['host']}"
    engine = PGEngine.from_connection_string(f"postgresql+psycopg://{url}")
    config = partial(
        HybridSearchConfig,
        tsv_column="content_tsv",
        fusion_function=reciprocal_rank_fusion,
        primary_top_k=K,
        secondary_top_k=K,
    )
    hybrid = config()
    engine.init_vectorstore_table("langchain", DIMENSIONS, hybrid_search_config=hybrid)
    langchain = LangChainStore.create_sync(engine, Listed(ready), "langchain", hybrid_search_config=hybrid)
    texts = [record.text for record in records]
    langchain.add_embeddings(texts, vectors.tolist(), [dict(record.metadata) for record in records])
    langchain.apply_vector_index(HNSWIndex())
    langchain.apply_hybrid_search_index()
    llama = LlamaIndexStore.from_params(
        connection_string=f"postgresql+psycopg2://{url}",
        async_connection_string=f"postgresql+asyncpg://{url}",
        table_name="llama_index",
        embed_dim=DIMENSIONS,
        hybrid_search=True,
        use_halfvec=True,
        hnsw_kwargs={
            "hnsw_m": 16,
            "hnsw_ef_construction": 64,
            "hnsw_ef_search": 40,
            "hnsw_dist_method": "halfvec_cosine_ops",
        },
    )
    llama.add(nodes_of(records, vectors))
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("ANALYZE")  # as our ingest does at its end

    def by_langchain(query: Query) -> list[str]:
        # The store's config keeps the words of its first search for all later ones (langchain-postgres 0.0.19).
        own = config(fts_query=query.text)
        found = langchain.similarity_search(query.text, K, hybrid_search_config=own)
        return [str(each.metadata[PAGE]) for each in found]

    def by_llama_index(query: Query) -> list[str]:
        [vector] = ready.encode_queries([query.text])
        asked = VectorStoreQuery(
            query_embedding=vector.tolist(),
            query_str=query.text,
            mode=VectorStoreQueryMode.HYBRID,
            similarity_top_k=K // 2,  # it returns both lists, one after the other
            sparse_top_k=K // 2,
        )
        return [str(each.metadata[PAGE]) for each in llama.query(asked).nodes or ()]

    return {"langchain-postgres, hybrid": by_langchain, "LlamaIndex PGVectorStore, hybrid": by_llama_index}


if __name__ == "__main__":
    main()
