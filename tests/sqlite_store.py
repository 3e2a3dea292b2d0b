"""A third-party store in under a hundred lines: chunks in an SQLite file, compared one by one."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from harrier_core import Chunk, EmbeddingSpace, Facts, Hashes, Match, Search, Stored, Write, Written, errors
from harrier_core.filters import meets
from harrier_core.query import COSINE_DECIMALS

_CHUNKS = "record_id TEXT, number INT, text TEXT, metadata TEXT, start INT, end INT, hash BLOB, vector BLOB"
_PUT = "INSERT OR REPLACE INTO chunks VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_DESCRIBE = "UPDATE chunks SET metadata = ?, start = ?, end = ?, hash = ? WHERE record_id = ? AND number = ?"


def _order(found: tuple[float, Stored]) -> tuple[float, str, int]:
    """Return what orders matches: the best first, and equal ones by their keys."""
    return -round(found[0], COSINE_DECIMALS), found[1].chunk.record_id, found[1].chunk.number


class SqliteStore:
    """A store in a file, which checks its space at the beginning of each transaction."""

    def __init__(self, file: str, opened_for: EmbeddingSpace | None = None) -> None:
        self._file = file
        self._opened_for = opened_for

    @classmethod
    def of_url(cls, url: str) -> SqliteStore:
        return cls(url.removeprefix("sqlite:"))

    @contextmanager
    def _transaction(
        self, space: EmbeddingSpace | None = None, *, create: bool = False
    ) -> Iterator[sqlite3.Connection]:
        wanted = space or self._opened_for
        if not (create or Path(self._file).exists()):
            raise errors.StoreMissing(f"there is no {self._file}; ingest something into it first")
        with closing(sqlite3.connect(self._file, timeout=60, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = OFF")  # in a test, nothing has to survive a crash of the machine
            connection.execute("BEGIN IMMEDIATE")
            if not connection.execute("SELECT * FROM sqlite_master WHERE name = 'space'").fetchone():
                connection.execute("CREATE TABLE space AS SELECT ? AS space", [wanted.to_json() if wanted else ""])
                connection.execute(f"CREATE TABLE chunks ({_CHUNKS}, PRIMARY KEY (record_id, number))")
            stored = EmbeddingSpace.from_json(connection.execute("SELECT space FROM space").fetchone()[0])
            if wanted and stored != wanted:
                raise errors.WrongSpace(f"{self._file} is of another space: {stored.explain(wanted)}; use another file")
            yield connection
            connection.execute("COMMIT")

    def _rows(self, sql: str, bound: Sequence[Any] = ()) -> list[Any]:
        with self._transaction() as connection:
            return connection.execute(sql, bound).fetchall()

    def open(self, space: EmbeddingSpace, *, create: bool = False) -> SqliteStore:
        with self._transaction(space, create=create):
            return SqliteStore(self._file, space)

    def space(self) -> EmbeddingSpace | None:
        return EmbeddingSpace.from_json(self._rows("SELECT * FROM space")[0][0]) if Path(self._file).exists() else None

    def describe(self) -> Facts:
        [[chunks]] = self._rows("SELECT count(*) FROM chunks")
        return Facts(self.space(), chunks)

    def drop(self) -> None:
        Path(self._file).unlink(missing_ok=True)

    def close(self) -> None:
        pass

    def known(self, record_ids: Sequence[str]) -> dict[str, Hashes]:
        with self._transaction() as connection:
            return _known(connection, record_ids)

    def write(self, write: Write) -> Written:
        with self._transaction() as connection:
            split = write.split(_known(connection, list(write.sizes)))
            new = zip(split.write.encoded, split.write.vectors, strict=True)
            connection.executemany(_PUT, [(c.record_id, c.number, c.text, *_rest(c), v.tobytes()) for c, v in new])
            connection.executemany(_DESCRIBE, [(*_rest(c), c.record_id, c.number) for c in split.write.described])
            connection.executemany("DELETE FROM chunks WHERE record_id = ? AND number = ?", split.stale)
        return Written(len(split.stale), split.changed)

    def delete(self, record_ids: Sequence[str]) -> int:
        with self._transaction() as connection:
            return connection.executemany("DELETE FROM chunks WHERE record_id = ?", [[i] for i in record_ids]).rowcount

    def build_indexes(self) -> None:
        pass

    def record_ids(self) -> Iterator[str]:
        return (record_id for (record_id,) in self._rows("SELECT DISTINCT record_id FROM chunks"))

    def count(self) -> int:
        return int(self._rows("SELECT count(*) FROM chunks")[0][0])

    def read(self, record_ids: Any = None, where: Any = None, numbers: Any = None) -> Iterator[Stored]:
        wanted = None if record_ids is None else set(record_ids)
        for record_id, number, text, metadata, start, end, hash_, vector in self._rows("SELECT * FROM chunks"):
            chunk = Chunk(record_id, number, text, json.loads(metadata), start, end, hash_)
            asked = (wanted is None or record_id in wanted) and (numbers is None or number in numbers)
            if asked and meets(chunk.metadata, where):
                yield Stored(chunk, np.frombuffer(vector, np.float32))

    def search(self, search: Search) -> list[list[Match]]:
        stored = list(self.read(None, search.where))
        found = [[(float(each.vector @ vector), each) for each in stored] for vector in search.vectors]
        best = [sorted(each, key=_order)[: search.k] for each in found]
        return [[Match(s.chunk, c, c, s.vector if search.with_vectors else None) for c, s in each] for each in best]


def _rest(chunk: Chunk) -> tuple[Any, ...]:
    return chunk.metadata_json.decode(), chunk.start, chunk.end, chunk.hash


def _known(connection: sqlite3.Connection, record_ids: Sequence[str]) -> dict[str, Hashes]:
    known: dict[str, Hashes] = {}
    for record_id in record_ids:
        for number, hash_ in connection.execute("SELECT number, hash FROM chunks WHERE record_id = ?", [record_id]):
            known.setdefault(record_id, {})[number] = hash_
    return known
