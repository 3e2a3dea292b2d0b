"""The HNSW index: how it is built, and how many candidates a search considers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from harrier_pgvector import PgVectorStore
from harrier_pgvector.opened import OpenTable
from ingesting import Hashing
from psycopg import Connection
from psycopg_pool import ConnectionPool

from harrier_core import EmbeddingSpace, Hnsw, Index, Record, Search, SettingError
from harrier_core.records import Chunk
from harrier_core.store import Write

Vectors = np.ndarray[Any, np.dtype[np.float32]]

DIMENSIONS = 64
SPACE = EmbeddingSpace("model", None, "w", "t", DIMENSIONS, "last token", "l2", "{text}")


def fill(store: PgVectorStore, rows: int) -> tuple[OpenTable, Vectors]:
    """Store random unit vectors, the hardest case for an index, under records r0, r1, ..."""
    opened = store.open(SPACE, create=True)
    vectors = np.random.default_rng(0).normal(size=(rows, DIMENSIONS)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    chunks = [Chunk.of(Record(f"r{number}", "text"), 0, 0, "text") for number in range(rows)]
    known: dict[str, dict[int, bytes]] = {chunk.record_id: {} for chunk in chunks}
    opened.write(Write(dict.fromkeys(known, 1), chunks, vectors, [], known))
    opened.build_indexes()
    return opened, vectors


def definition(postgres: str, table: str) -> str:
    query = "SELECT indexdef FROM pg_indexes WHERE tablename = %s AND indexdef LIKE '%%hnsw%%'"
    with psycopg.connect(postgres) as connection:
        [[found]] = connection.execute(query, [table]).fetchall()
    return str(found)


@pytest.mark.parametrize(
    ("hnsw", "said"),
    [
        (None, None),
        (Hnsw(), None),
        (Hnsw(m=8), "WITH (m='8')"),
        (Hnsw(ef_construction=100), "WITH (ef_construction='100')"),
        (Hnsw(m=32, ef_construction=128), "WITH (m='32', ef_construction='128')"),
    ],
)
def test_build_settings(postgres: str, table: str, hnsw: Hnsw | None, said: str | None) -> None:
    """The index is built with the given settings, or with pgvector's defaults."""
    with PgVectorStore(postgres, table=table, hnsw=hnsw) as store:
        fill(store, 1_000)
    made = definition(postgres, table)
    assert made.endswith(said or "halfvec_cosine_ops)")


def test_sign_indexes_use_the_settings(postgres: str, table: str) -> None:
    """Vectors too long for an index are indexed by their signs, with the same settings."""
    with PgVectorStore(postgres, table=table, hnsw=Hnsw(m=4, ef_construction=16)) as store:
        opened = store.open(EmbeddingSpace("model", None, "w", "t", 4_100, "last token", "l2", "{text}"), create=True)
        for statement in opened._opened.table.indexes(store._name.hnsw).values():
            opened._connections.run(lambda connection, each=statement: connection.execute(each, []))  # type: ignore[misc]
    assert definition(postgres, table).endswith("bit_hamming_ops) WITH (m='4', ef_construction='16')")


def test_an_existing_index_keeps_its_settings(postgres: str, table: str) -> None:
    """Other settings are not an error for an existing index."""
    with PgVectorStore(postgres, table=table, hnsw=Hnsw(m=4)) as store:
        fill(store, 1_000)
    made = definition(postgres, table)
    with PgVectorStore(postgres, table=table, hnsw=Hnsw(m=40, ef_construction=80)) as store:
        opened = store.open(SPACE)
        opened.build_indexes()
        assert opened.count() == 1_000
    assert definition(postgres, table) == made


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Hnsw(m=0), "m of an HNSW index must be a positive integer, got 0"),
        (lambda: Hnsw(m=True), "m of an HNSW index must be a positive integer, got True"),
        (
            lambda: Hnsw(ef_construction=64.0),  # type: ignore[arg-type]
            "ef_construction of an HNSW index must be a positive integer",
        ),
        (lambda: PgVectorStore("host=h", hnsw=Hnsw(m=1)), "m of .* must be from 2 to 100, got 1"),
        (lambda: PgVectorStore("host=h", hnsw=Hnsw(m=101, ef_construction=500)), "must be from 2 to 100, got 101"),
        (lambda: PgVectorStore("host=h", hnsw=Hnsw(ef_construction=3)), "must be from 4 to 1000, got 3"),
        (lambda: PgVectorStore("host=h", hnsw=Hnsw(ef_construction=1_001)), "must be from 4 to 1000, got 1001"),
        (lambda: PgVectorStore("host=h", hnsw=Hnsw(m=33)), "at least twice m, got 64 and an m of 33; the defaults are"),
        (lambda: PgVectorStore("host=h", hnsw=Hnsw(ef_construction=31)), "got 31 and an m of 16"),
        (lambda: PgVectorStore.embedded("folder", hnsw=Hnsw(m=1)), "must be from 2 to 100, got 1"),
        (
            lambda: PgVectorStore("host=h", hnsw={"m": 16}),  # type: ignore[arg-type]
            r"hnsw must be Hnsw\(m=..., ef_construction=...\), got dict",
        ),
    ],
)
def test_settings_out_of_bounds(make: Callable[[], object], said: str) -> None:
    """Settings beyond pgvector's bounds are refused when the store is created."""
    with pytest.raises(SettingError, match=said):
        make()


def test_the_bounds_are_pgvectors(postgres: str, table: str) -> None:
    """pgvector accepts the smallest and largest settings that the kit accepts."""
    for hnsw in (Hnsw(m=2, ef_construction=4), Hnsw(m=100, ef_construction=1_000)):
        with PgVectorStore(postgres, table=f"{table} {hnsw.m}", hnsw=hnsw) as store:
            opened = store.open(SPACE, create=True)
            [nearest, _] = opened._opened.table.indexes(hnsw).values()
            opened._connections.run(lambda connection, each=nearest: connection.execute(each, []))  # type: ignore[misc]


class Told(Connection[Any]):
    """A connection that records the parameters of its statements."""

    bound: list[list[object]]

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        Told.bound.append(list(params or []))
        return super().execute(query, params, **options)


@pytest.fixture
def told(postgres: str) -> Iterator[ConnectionPool[Told]]:
    Told.bound = []
    with ConnectionPool(postgres, connection_class=Told, min_size=0, max_size=2, open=True) as pool:
        yield pool


def test_the_number_of_candidates(told: ConnectionPool[Told], table: str) -> None:
    """It is the given number, at least k and at most pgvector's limit; exact searches set none."""
    with PgVectorStore(told, table=table) as store:
        opened, vectors = fill(store, 1_000)
        for k, ef, width in ((3, None, "100"), (3, 7, "7"), (3, 1, "3"), (3, 5_000, "1000"), (200, None, "400")):
            Told.bound.clear()
            assert len(opened.search(Search(vectors[:1], k, ef=ef))[0]) == k
            assert width in next(filter(None, Told.bound)), (k, ef)  # BEGIN binds nothing
        Told.bound.clear()
        opened.search(Search(vectors[:1], 3, ef=7, exact=True))
        assert not any("7" in each for each in Told.bound)


def test_the_setting_is_local_to_a_search(postgres: str, table: str) -> None:
    """A shared session has its own setting again after the search."""
    with (
        ConnectionPool(postgres, min_size=1, max_size=1, open=True) as pool,
        PgVectorStore(pool, table=table) as store,
    ):
        opened, vectors = fill(store, 1_000)
        opened.search(Search(vectors[:1], 3, ef=7))
        with pool.connection() as connection:
            assert connection.execute("SHOW hnsw.ef_search").fetchone() == ("40",)


def recall(opened: OpenTable, vectors: Vectors, ef: int | None) -> float:
    queries = vectors[:50] + np.random.default_rng(1).normal(size=(50, DIMENSIONS)).astype(np.float32) * 0.1
    expected = [{f"r{number}" for number in row} for row in np.argsort(-(queries @ vectors.T), axis=1)[:, :10]]
    found = [{match.record_id for match in each} for each in opened.search(Search(queries, 10, ef=ef))]
    return sum(len(each & right) for each, right in zip(found, expected, strict=True)) / 500


@pytest.mark.slow
def test_the_settings_affect_recall(postgres: str, table: str) -> None:
    """Fewer candidates find less; a better index finds more with the same number."""
    with PgVectorStore(postgres, table=table, hnsw=Hnsw(m=4, ef_construction=16)) as store:
        opened, vectors = fill(store, 4_000)
        narrow, wide = recall(opened, vectors, 10), recall(opened, vectors, 1_000)
    with PgVectorStore(postgres, table=f"{table} better", hnsw=Hnsw(m=32, ef_construction=200)) as store:
        opened, _ = fill(store, 4_000)
        better = recall(opened, vectors, 10)
    assert narrow < wide - 0.1
    assert narrow < better - 0.1


def test_embedded(tmp_path: Path) -> None:
    """Embedded stores take the same settings."""
    with PgVectorStore.embedded(tmp_path / "data", hnsw=Hnsw(m=5), indexes={"n": "integer"}) as store:
        Index(store, Hashing()).ingest(Record(f"r{n}", f"text {n}", {"n": n}) for n in range(1_000))
        opened = store.open(Hashing.space)
        query = "SELECT count(*) FROM pg_indexes WHERE indexdef LIKE '%m=''5''%' OR indexname LIKE 'harrier_number_%'"
        assert opened._connections.run(lambda connection: connection.execute(query).fetchone()) == (2,)
