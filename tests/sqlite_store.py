"""Somebody else's store, in under a hundred lines: chunks in a file of SQLite, compared one by one."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harrier_core import (
    Chunk,
    EmbeddingSpace,
    Facts,
    Hashes,
    Match,
    Search,
    Stored,
    StoreMissing,
    Write,
    Written,
    WrongSpace,
)
from harrier_core.filters import Condition, meets

_CHUNKS = "record_id TEXT, number INT, text TEXT, metadata TEXT, start INT, end INT, hash BLOB, vector BLOB"


class SqliteStore:
    """A file. What is opened is the file as well: there is no connection to keep."""

    def __init__(self, file: str) -> None:
        self._file = file

    @classmethod
    def of_url(cls, url: str) -> SqliteStore:
        return cls(url.removeprefix("sqlite:"))

    def _run(self, sql: str, rows: Sequence[Sequence[Any]] = ((),)) -> list[Any]:
        with _lock, sqlite3.connect(self._file) as connection:
            found = [row for bound in rows for row in connection.execute(sql, bound).fetchall()]
        connection.close()
        return found

    def open(self, space: EmbeddingSpace, *, create: bool = False) -> SqliteStore:
        with _writing:
            stored = self.space()
            if stored is None and create:
                self._run("CREATE TABLE space AS SELECT ? AS space", [[space.to_json()]])
                self._run(f"CREATE TABLE chunks ({_CHUNKS}, PRIMARY KEY (record_id, number))")
            elif stored is None:
                raise StoreMissing(f"there is no {self._file}; ingest something into it first")
            elif stored != space:
                raise WrongSpace(f"{self._file} is of another space: {stored.explain(space)}; use another file")
        return self

    def space(self) -> EmbeddingSpace | None:
        return EmbeddingSpace.from_json(self._run("SELECT * FROM space")[0][0]) if Path(self._file).exists() else None

    def describe(self) -> Facts:
        if (space := self.space()) is None:
            raise StoreMissing(f"there is no {self._file}; ingest something into it first")
        return Facts(space, self.count())

    def close(self) -> None:
        pass

    def known(self, record_ids: Sequence[str]) -> dict[str, Hashes]:
        known: dict[str, Hashes] = {}
        query = "SELECT record_id, number, hash FROM chunks WHERE record_id = ?"
        for record_id, number, hash_ in self._run(query, [[each] for each in record_ids]):
            known.setdefault(record_id, {})[number] = hash_
        return known

    def write(self, write: Write) -> Written:
        with _writing:
            split = write.split(self.known(list(write.sizes)))
            now = [(c, v.tobytes()) for c, v in zip(split.write.encoded, split.write.vectors, strict=True)]
            rows = [
                (c.record_id, c.number, c.text, c.metadata_json.decode(), c.start, c.end, c.hash, v) for c, v in now
            ]
            self._run("INSERT OR REPLACE INTO chunks VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
            update = "UPDATE chunks SET metadata = ?, start = ?, end = ?, hash = ? WHERE record_id = ? AND number = ?"
            described = split.write.described
            parts = [(c.metadata_json.decode(), c.start, c.end, c.hash, c.record_id, c.number) for c in described]
            self._run(update, parts)
            self._run("DELETE FROM chunks WHERE record_id = ? AND number = ?", split.stale)
        return Written(len(split.stale), split.changed)

    def delete(self, record_ids: Sequence[str]) -> int:
        before = self.count()
        self._run("DELETE FROM chunks WHERE record_id = ?", [[each] for each in record_ids])
        return before - self.count()

    def build_indexes(self) -> None:
        pass

    def record_ids(self) -> Iterator[str]:
        return (record_id for (record_id,) in self._run("SELECT DISTINCT record_id FROM chunks"))

    def count(self) -> int:
        return int(self._run("SELECT count(*) FROM chunks")[0][0])

    def read(self, record_ids: Sequence[str] | None = None, where: Condition | None = None) -> Iterator[Stored]:
        every = "SELECT * FROM chunks"
        some = "SELECT * FROM chunks WHERE record_id = ?"
        rows = self._run(every) if record_ids is None else self._run(some, [[each] for each in record_ids])
        for record_id, number, text, metadata, start, end, hash_, vector in rows:
            chunk = Chunk(record_id, number, text, json.loads(metadata), start, end, hash_)
            if meets(chunk.metadata, where):
                yield Stored(chunk, np.frombuffer(vector, np.float32))

    def search(self, search: Search) -> list[list[Match]]:
        stored = list(self.read(None, search.where))
        found = [[(float(each.vector @ vector), each) for each in stored] for vector in search.vectors]
        best = [sorted(each, key=lambda pair: -pair[0])[: search.k] for each in found]
        return [[Match(s.chunk, c, c, s.vector if search.with_vectors else None) for c, s in each] for each in best]


_lock, _writing = threading.Lock(), threading.RLock()
