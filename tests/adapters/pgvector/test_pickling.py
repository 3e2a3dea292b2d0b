"""Pickling an index transfers its settings, but not its connections."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from harrier_pgvector import PgVectorStore
from ingesting import Hashing
from psycopg_pool import ConnectionPool

from harrier_core import Chunking, Index, Record, SettingError, StoreMissing

METHODS: list[Any] = ["spawn", *(["fork"] if hasattr(os, "fork") else [])]


def ingest(index: Index, name: str) -> int:
    """Ingest in another process."""
    with index:
        return index.ingest(Record(f"{name} {number}", f"text {number} of {name}") for number in range(20)).written


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
@pytest.mark.parametrize("method", METHODS)
def test_other_processes(postgres: str, table: str, method: str) -> None:
    """Spawned and forked processes work, one at a time or in a pool."""
    with Index(PgVectorStore(postgres, table=table), Hashing(), chunking=Chunking(tokens=16)) as index:
        index.ingest([Record("first", "first")])
        context: Any = multiprocessing.get_context(method)
        process = context.Process(target=ingest, args=[pickle.loads(pickle.dumps(index)), "one"])
        process.start()
        process.join(100)
        assert process.exitcode == 0
        with ProcessPoolExecutor(2, context) as pool:
            assert list(pool.map(ingest, [index] * 3, ["two", "three", "four"])) == [20, 20, 20]
        assert index.count() == 81


def test_settings(postgres: str, table: str) -> None:
    """All settings survive pickling."""
    store = PgVectorStore(postgres, table=table, schema="a schema", precision="float32", retry_for=3.0)
    again = pickle.loads(pickle.dumps(Index(store, Hashing(), chunking=Chunking(tokens=9))))
    assert isinstance(again, Index)
    assert repr(again.store) == repr(store)
    assert again.store.__getstate__() == store.__getstate__()
    assert again.chunking == Chunking(tokens=9)


def test_a_pool(postgres: str) -> None:
    """A store over a connection pool cannot be pickled."""
    pool = ConnectionPool(postgres, min_size=0, max_size=1, open=False)
    with pytest.raises(SettingError, match="a store over a pool cannot be pickled.*with a connection string"):
        pickle.dumps(Index(PgVectorStore(pool), Hashing()))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_copies_share_a_pool(postgres: str, table: str, copied: Callable[[Index], Index]) -> None:
    """Copies within a process share the pool, the store and the encoder."""
    with ConnectionPool(postgres, min_size=0, max_size=2, open=True) as pool:
        index = Index(PgVectorStore(pool, table=table), Hashing(), chunking=Chunking(tokens=9))
        assert copied(index).ingest([Record("first", "first")]).written == 1
        assert (copied(index).store, copied(index).chunking) == (index.store, index.chunking)
        assert index.count() == 1


def test_an_embedded_server(tmp_path: Path) -> None:
    """Other processes can use the folder; searching a missing one creates nothing."""
    folder = tmp_path / "data"
    with Index(PgVectorStore.embedded(folder), Hashing()) as index:
        assert not folder.exists()
        with pytest.raises(StoreMissing):
            index.count()
        assert not folder.exists()
        index.ingest([Record("first", "first")])
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            assert pool.submit(ingest, index, "one").result(100) == 20
        assert index.count() == 21


def test_a_relative_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative folder is resolved when the store is created."""
    monkeypatch.chdir(tmp_path)
    store = PgVectorStore.embedded("data")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with Index(pickle.loads(pickle.dumps(store)), Hashing()) as index:
        index.ingest([Record("first", "first")])
    assert (tmp_path / "data").is_dir()
    assert not (tmp_path / "elsewhere" / "data").exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_a_fork_while_a_server_starts(tmp_path: Path) -> None:
    """The forked child has its own lock."""
    store = PgVectorStore.embedded(tmp_path / "data")
    with store._lock:  # as another thread has it at the fork
        child = os.fork()
        if child == 0:
            try:
                os._exit(0 if store.space() is None else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
