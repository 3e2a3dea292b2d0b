"""Measure ingestion into Postgres and search, against bare COPY, langchain-postgres and LlamaIndex, in one run.

All use the same rows and vectors on one embedded PostgreSQL. Encoders cost nothing here, so only the stores are
compared. Rounds are interleaved; a ratio is the median of the rounds' ratios. The rivals get only some of the rows, as
all would take them minutes; their rates are compared.

    make bench-pgvector
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import LiteralString

import numpy as np
import psycopg
from harrier_pgvector import PgVectorStore
from harrier_pgvector.rows import copy_blocks
from harrier_pgvector.schema import COLUMNS, Table
from langchain_core.embeddings import Embeddings
from langchain_postgres import PGEngine
from langchain_postgres import PGVectorStore as LangChainStore
from llama_index.core.schema import TextNode
from llama_index.vector_stores.postgres import PGVectorStore as LlamaIndexStore
from numpy.typing import NDArray
from psycopg import sql
from ready import Instant, Ready, rows, space_of

from harrier_core import Index, Record
from harrier_core.filters import parse
from harrier_core.ingest import Ingest
from harrier_core.query import Search
from harrier_core.records import Chunk
from harrier_core.testing import PROSE

DIMENSIONS = 640
SPACE = space_of(DIMENSIONS)
_numbers = itertools.count()

Vectors = NDArray[np.float32]


class Listed(Embeddings):
    """The same encoder for LangChain."""

    def __init__(self, ready: Ready) -> None:
        self._ready = ready

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Raise an error: vectors are passed in."""
        return [vector.tolist() for vector in self._ready.encode_queries(texts)]

    def embed_query(self, text: str) -> list[float]:
        """Not used."""
        return self.embed_documents([text])[0]


def main() -> None:
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = PgVectorStore.embedded(Path(folder, "data"))
        server.open(SPACE, create=True)
        conninfo = server._reach()._conninfo
        records, vectors = rows(options.rows, DIMENSIONS)
        ready = Ready(vectors, (record.text for record in records))
        print(f"{len(records):,} rows of {DIMENSIONS} dimensions, {options.rounds} rounds")
        compare(conninfo, records, vectors, ready, options.rounds)
        busy(conninfo, records, vectors)
        recall(conninfo, records, vectors, ready)
        # In its own process: the ingest would reuse memory that this process has freed.
        process = multiprocessing.get_context("spawn").Process(target=memory, args=[conninfo])
        process.start()
        process.join()
        server.close()


def compare(conninfo: str, records: list[Record], vectors: Vectors, ready: Ready, rounds: int) -> None:
    """Measure loads of new rows, and of rows that are stored already."""
    few = len(records) // 20
    replaced = [Record(record.id, records[-1 - place].text, record.metadata) for place, record in enumerate(records)]
    contestants: dict[str, tuple[int, Callable[[], float]]] = {
        "bare binary COPY, one primary key": (len(records), partial(bare_copy, conninfo, records, vectors)),
        "Index.ingest, new rows": (len(records), partial(ingest, conninfo, records, ready, records[:1])),
        "Index.ingest, all texts changed (upsert)": (len(records), partial(ingest, conninfo, records, ready, replaced)),
        "bare look-up of hashes, = ANY(list)": (len(records), partial(look_up, conninfo, records, ready)),
        "Index.ingest, nothing changed": (len(records), partial(ingest, conninfo, records, ready, records)),
        "the kit's own look-up": (len(records), partial(our_look_up, conninfo, records, ready)),
        "langchain-postgres PGVectorStore": (few, partial(langchain, conninfo, records[:few], vectors, ready)),
        "LlamaIndex PGVectorStore": (few, partial(llama_index, conninfo, records[:few], vectors)),
    }
    rates = [{name: number / run() for name, (number, run) in contestants.items()} for _ in range(rounds + 1)][1:]
    for name in contestants:
        print(f"{name:40}{statistics.median(each[name] for each in rates):12,.0f} rows/s")
    names = list(contestants)
    for one, other, aim in (
        (names[1], names[0], "at least 0.7"),
        (names[2], names[0], "at least 0.5"),
        (names[4], names[3], "at least 0.5"),
        (names[4], names[5], ""),
        (names[1], names[6], "at least 60"),
        (names[1], names[7], "at least 40"),
    ):
        ratios = sorted(each[one] / each[other] for each in rates)
        print(f"{one} / {other}: {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) {aim}")


def fresh_table() -> str:
    """Return an unused name."""
    return f"t{next(_numbers)}"


def bare_copy(conninfo: str, records: list[Record], vectors: Vectors) -> float:
    """Return the seconds of the lower bound: one COPY of prepared rows into a table with its primary key."""
    name = fresh_table()
    table = Table("public", name, DIMENSIONS, "halfvec")
    chunks = [Chunk.of(record, 0, 0, record.text) for record in records]
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for statement in table.create(SPACE):
            connection.execute(statement)
        begin = time.perf_counter()
        copy = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)")
        columns = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
        with connection.cursor() as cursor, cursor.copy(copy.format(table.name, columns)) as copying:
            for block in copy_blocks(chunks, vectors, "halfvec"):
                copying.write(block)
        took = time.perf_counter() - begin
        connection.execute(sql.SQL("DROP TABLE {}").format(table.name))
    return took


class Loaded:
    """A filled table without search indexes, because only the writing is compared with COPY."""

    def __init__(self, conninfo: str, ready: Ready, records: list[Record], *, analyze: bool = False) -> None:
        self.store = PgVectorStore(conninfo, table=fresh_table())
        self.table = self.store.open(SPACE, create=True)
        self.name = self.table._opened.table.name
        self.index = Index(self.store, ready)
        self.ingest(records)
        if analyze:  # otherwise the whole table would be searched for a list of ids
            self._run("ANALYZE {}")

    def ingest(self, records: list[Record]) -> None:
        """Write records."""
        self.index.ingest(records, build_indexes=False)

    def done(self) -> None:
        """Drop the table."""
        self._run("DROP TABLE {}")
        self.store.close()

    def _run(self, statement: LiteralString) -> None:
        query = sql.SQL(statement).format(self.name)
        self.store._reach().run(lambda connection: connection.execute(query))


def ingest(conninfo: str, records: list[Record], ready: Ready, before: list[Record]) -> float:
    """Return the seconds from records to committed rows, after storing `before`."""
    loaded = Loaded(conninfo, ready, before)
    begin = time.perf_counter()
    loaded.ingest(records)
    took = time.perf_counter() - begin
    loaded.done()
    return took


def look_up(conninfo: str, records: list[Record], ready: Ready) -> float:
    """Return the seconds of the minimum work for unchanged records, as written by hand with psycopg."""
    loaded = Loaded(conninfo, ready, records, analyze=True)
    query = sql.SQL("SELECT record_id, number, hash FROM {} WHERE record_id = ANY(%s)").format(loaded.name)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        begin = time.perf_counter()
        for first in range(0, len(records), 1_000):
            connection.execute(query, [[record.id for record in records[first : first + 1_000]]]).fetchall()
        took = time.perf_counter() - begin
    loaded.done()
    return took


def our_look_up(conninfo: str, records: list[Record], ready: Ready) -> float:
    """Return the seconds of the same look-up by the store."""
    loaded = Loaded(conninfo, ready, records, analyze=True)
    begin = time.perf_counter()
    for first in range(0, len(records), 1_000):
        loaded.table.known([record.id for record in records[first : first + 1_000]])
    took = time.perf_counter() - begin
    loaded.done()
    return took


def langchain(conninfo: str, records: list[Record], vectors: Vectors, ready: Ready) -> float:
    """Return the seconds of add_embeddings of LangChain's own store, in its newest interface, over psycopg."""
    settings = psycopg.conninfo.conninfo_to_dict(conninfo)
    url = f"postgresql+psycopg://{settings['user']}@/{settings['dbname']}?host={settings['host']}"
    engine, name = PGEngine.from_connection_string(url), fresh_table()
    engine.init_vectorstore_table(name, DIMENSIONS)
    store = LangChainStore.create_sync(engine, Listed(ready), name)
    texts, lists = [record.text for record in records], vectors[: len(records)].tolist()
    ids = [str(uuid.uuid4()) for _ in records]
    begin = time.perf_counter()
    store.add_embeddings(texts, lists, [dict(record.metadata) for record in records], ids)
    return time.perf_counter() - begin


def llama_index(conninfo: str, records: list[Record], vectors: Vectors) -> float:
    """Return the seconds of `add` of LlamaIndex's own store."""
    settings = psycopg.conninfo.conninfo_to_dict(conninfo)
    url = f"postgresql+psycopg2://{settings['user']}@/{settings['dbname']}?host={settings['host']}"
    store = LlamaIndexStore.from_params(
        connection_string=url,
        async_connection_string=url.replace("psycopg2", "asyncpg"),
        table_name=fresh_table(),
        embed_dim=DIMENSIONS,
        use_halfvec=True,
    )
    nodes = nodes_of(records, vectors)
    store.add(nodes[:1])  # which creates the table
    begin = time.perf_counter()
    store.add(nodes[1:])
    return time.perf_counter() - begin


def nodes_of(records: list[Record], vectors: Vectors) -> list[TextNode]:
    """Return the records as LlamaIndex nodes."""
    return [
        TextNode(id_=str(uuid.uuid4()), text=record.text, metadata=dict(record.metadata), embedding=vector)
        for record, vector in zip(records, vectors[: len(records)].tolist(), strict=True)
    ]


def busy(conninfo: str, records: list[Record], vectors: Vectors) -> None:
    """Print for how much of an ingest an encoder of 3,000 chunks a second is busy."""
    ready = Ready(vectors, (record.text for record in records), rate=3_000)
    loaded = Loaded(conninfo, ready, [])
    begin = time.perf_counter()
    loaded.ingest(records)
    took = time.perf_counter() - begin
    loaded.done()
    print(f"an encoder of 3,000 chunks a second is busy {ready.busy / took:.1%} of an ingest (at least 95 %)")


def recall(conninfo: str, records: list[Record], vectors: Vectors, ready: Ready) -> None:
    """Print the recall of the ten nearest rows, with and without a filter that one row in a hundred meets."""
    store = PgVectorStore(conninfo, table=fresh_table())
    Index(store, ready).ingest(records)
    opened = store.open(SPACE)
    chance = np.random.default_rng(1)
    asked = vectors[chance.integers(len(vectors), size=200)] + chance.normal(size=(200, DIMENSIONS)) * 0.01
    similar = asked.astype(np.float32) @ vectors.T
    for name, where, meant in (
        ("all rows", None, np.ones(len(records), dtype=bool)),
        ("1 % of them", {"rare": True}, np.arange(len(records)) % 100 == 0),
    ):
        own = np.where(meant, similar, -9)
        expected = [{records[row].id for row in best} for best in np.argsort(-own, axis=1)[:, :10].tolist()]
        begin = time.perf_counter()
        found = [opened.search(Search(vector[None], 10, parse(where)))[0] for vector in asked.astype(np.float32)]
        took = (time.perf_counter() - begin) / len(asked)
        hits = [
            len({match.record_id for match in each} & right) / 10 for each, right in zip(found, expected, strict=True)
        ]
        print(f"recall at 10 of {name}: {statistics.mean(hits):.3f} (at least 0.99), {took * 1_000:.1f} ms a search")
    store.close()


def memory(conninfo: str) -> None:
    """Print the peak memory that an ingest from a generator adds to the process."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak is from here on
    before = peak()
    for number in (10_000, 200_000):
        records = (Record(str(each), f"{each} {' '.join(PROSE)[:550]}", {"n": each}) for each in range(number))
        with PgVectorStore(conninfo, table=fresh_table()) as store:
            opened = store.open(SPACE, create=True)
            # No indexes are built, because the server's memory is not measured.
            Ingest(Instant(DIMENSIONS)).run(opened, records, build_indexes=False)
        print(f"an ingest of {number:,} records adds at most {peak() - before:,.0f} MiB (within 100 of each other)")


def peak() -> float:
    """Return the peak memory of this process, in MiB."""
    [line] = [each for each in Path("/proc/self/status").read_text("ascii").splitlines() if each.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
