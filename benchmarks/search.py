"""Measure searches on a near and on a distant database, against langchain-postgres and LlamaIndex.

All use the same rows and vectors on one embedded PostgreSQL, through a proxy that delays each round trip by 0 or 5 ms.
Encoders cost nothing here. Rounds are interleaved; a figure is the median of all searches of all rounds.

    make bench-search
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harrier_pgvector import PgVectorStore
from langchain_postgres import PGEngine
from langchain_postgres import PGVectorStore as LangChainStore
from langchain_postgres.v2.indexes import HNSWIndex
from llama_index.core.vector_stores import VectorStoreQuery
from llama_index.vector_stores.postgres import PGVectorStore as LlamaIndexStore
from postgres import DIMENSIONS, SPACE, Listed, nodes_of
from psycopg.conninfo import conninfo_to_dict
from ready import Ready, rows

from harrier_core import Index

DELAYS = (0.0, 0.005)  # seconds per round trip
PROXY = Path(__file__).parents[1] / "tests" / "turnarounds.py"
K = 5

Search = Callable[[int], object]


def main() -> None:
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    records, vectors = rows(options.rows, DIMENSIONS)
    ready = Ready(vectors, (record.text for record in records))
    with tempfile.TemporaryDirectory() as folder, PgVectorStore.embedded(Path(folder, "data")) as server:
        server.open(SPACE, create=True)
        conninfo = server._reach()._conninfo
        fill(conninfo, records, vectors, ready)
        took: dict[tuple[str, float], list[float]] = {}
        with proxied(conninfo, DELAYS[0]) as near, proxied(conninfo, DELAYS[1]) as far:
            contestants = {
                DELAYS[0]: searches(near, records, vectors, ready),
                DELAYS[1]: searches(far, records, vectors, ready),
            }
            for number in range(options.rounds + 2):  # the first two connect, and are not counted
                for delay, own in contestants.items():
                    for name, search in own.items():
                        begin = time.perf_counter()
                        search(number * 37 % len(records))
                        if number > 1:
                            took.setdefault((name, delay), []).append(time.perf_counter() - begin)
    print(f"{len(records):,} rows of {DIMENSIONS} dimensions, {K} nearest, {options.rounds} rounds")
    for name in contestants[DELAYS[0]]:
        here, away = (statistics.median(took[name, delay]) for delay in DELAYS)
        delays = (away - here) / DELAYS[1]
        print(f"{name:44}{here * 1e3:9.2f} ms{away * 1e3:9.2f} ms  {delays:6.2f} additional delays")
    print("target: at most 1.3 additional delays for each search of Index")


@contextmanager
def proxied(conninfo: str, delay: float) -> Iterator[str]:
    """Yield a local port at which the server has this delay."""
    given = conninfo_to_dict(conninfo)
    command = [sys.executable, str(PROXY), f"{given['host']}/.s.PGSQL.{given['port']}", str(delay)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as proxy:
        assert proxy.stdin is not None
        assert proxy.stdout is not None
        yield proxy.stdout.readline().strip()
        proxy.stdin.close()


def fill(conninfo: str, records: list[Any], vectors: Any, ready: Ready) -> None:
    """Fill a table for each contestant with the same rows."""
    with Index(PgVectorStore(conninfo, table="ours"), ready) as index:
        index.ingest(records)
    given = conninfo_to_dict(conninfo)
    url = f"{given['user']}@/{given['dbname']}?host={given['host']}"
    engine = PGEngine.from_connection_string(f"postgresql+psycopg://{url}")
    engine.init_vectorstore_table("langchain", DIMENSIONS)
    store = LangChainStore.create_sync(engine, Listed(ready), "langchain")
    texts = [record.text for record in records]
    store.add_embeddings(texts, vectors.tolist(), [dict(record.metadata) for record in records])
    store.apply_vector_index(HNSWIndex())
    llama(f"postgresql+psycopg2://{url}").add(nodes_of(records, vectors))


def searches(port: str, records: list[Any], vectors: Any, ready: Ready) -> dict[str, Search]:
    """Return the timed calls; each takes the number of the row to search for."""
    index = Index(
        PgVectorStore(f"postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=disable", table="ours"), ready
    )
    url = f"postgres@127.0.0.1:{port}/postgres"
    engine = PGEngine.from_connection_string(f"postgresql+psycopg://{url}?sslmode=disable")
    langchain = LangChainStore.create_sync(engine, Listed(ready), "langchain")
    llama_index = llama(f"postgresql+psycopg2://{url}?sslmode=disable")

    def ten(number: int) -> object:
        return index.search_many([records[(number + each) % len(records)].text for each in range(10)], K)

    def by_llama_index(number: int) -> object:
        query = VectorStoreQuery(query_embedding=vectors[number].tolist(), similarity_top_k=K)
        return llama_index.query(query)

    return {
        "Index.search": lambda number: index.search(records[number].text, K),
        "Index.search, where 1 % meet a condition": lambda number: index.search(
            records[number].text, K, {"rare": True}
        ),
        "Index.search_many of ten": ten,
        "langchain-postgres": lambda number: langchain.similarity_search(records[number].text, K),
        "LlamaIndex PGVectorStore": by_llama_index,
    }


def llama(url: str) -> LlamaIndexStore:
    """Return LlamaIndex's own store, with an index like ours."""
    return LlamaIndexStore.from_params(
        connection_string=url,
        async_connection_string=url.replace("psycopg2", "asyncpg").partition("?")[0],
        table_name="llama_index",
        embed_dim=DIMENSIONS,
        use_halfvec=True,
        hnsw_kwargs={
            "hnsw_m": 16,
            "hnsw_ef_construction": 64,
            "hnsw_ef_search": 40,
            "hnsw_dist_method": "halfvec_cosine_ops",  # the default is L2, which its searches by cosine cannot use
        },
    )


if __name__ == "__main__":
    main()
