"""Qdrant Edge: its process, its folder, and exclusive access."""

from __future__ import annotations

import gc
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import qdrant_edge
from filelock import FileLock
from harrier_qdrant import QdrantStore, edge_child, edge_process
from harrier_qdrant.edge_process import EdgeProcess

from harrier_core import (
    Embedder,
    Encoder,
    Hnsw,
    Index,
    Record,
    Search,
    SettingError,
    StoreError,
    StoreUnavailable,
    StoreUnsuitable,
    StoreWarning,
    WrongSpace,
)
from harrier_core.records import Chunk, chunk_id
from harrier_core.store import Write

RECORDS = [Record(f"r{number}", f"text number {number}", {"n": number}) for number in range(300)]


@pytest.fixture
def index(tmp_path: Path, encoder: Encoder) -> Iterator[Index]:
    with Index(QdrantStore.embedded(tmp_path, collection="docs"), encoder) as index:
        yield index


def test_unreadable_payloads_after_a_kill(tmp_path: Path, encoder: Encoder) -> None:
    """Half-written payloads are removed when the folder is opened, and written again by an ingest."""
    with Index(QdrantStore.embedded(tmp_path, collection="docs"), encoder) as index:
        index.ingest(RECORDS)
    [payloads] = (tmp_path / "docs").glob("edge/segments/*/payload_storage/page_0.dat")
    with payloads.open("r+b") as file:
        file.seek(300)
        file.write(b"\xff" * 500)
    with Index(QdrantStore.embedded(tmp_path, collection="docs"), encoder) as index:
        with pytest.raises(StoreError, match="decompress"):
            list(index.read())
        os.kill(process_of(index.store), signal.SIGKILL)
        with pytest.warns(StoreWarning, match="[0-9]+ chunks in .* could not be read, because their writer"):
            kept = {stored.chunk.record_id for stored in index.read()}
        assert 280 < len(kept) < 300
        assert index.ingest(RECORDS).encoded == 300 - len(kept)
        assert {stored.chunk.record_id for stored in index.read()} == {record.id for record in RECORDS}
        assert index.verify().sound


def process_of(store: Any) -> int:
    number: int = store._backend._process._process.pid
    return number


def test_data_persists(index: Index, tmp_path: Path, encoder: Encoder) -> None:
    """Data persists, and the process ends with the last store that has the folder open."""
    index.ingest(RECORDS)
    process = process_of(index.store)
    again = QdrantStore.embedded(tmp_path, collection="docs")
    other = Index(QdrantStore.embedded(tmp_path, collection="more"), encoder)
    assert Index(again, encoder).count() == 300
    assert process_of(again) == process
    assert other.ingest(RECORDS[:3]).written == 3
    assert process_of(other.store) != process
    index.close()
    index.close()
    os.kill(process, 0)
    again.close()
    other.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    with Index(QdrantStore.embedded(tmp_path, collection="docs"), encoder) as later:
        assert later.ingest(RECORDS).unchanged == 300


def test_a_killed_process(index: Index) -> None:
    """A new process takes over, and acknowledged data is there."""
    index.ingest(RECORDS[:100])
    for number in range(3):
        os.kill(process_of(index.store), signal.SIGKILL)
        assert index.count() == 100 * (1 + number)
        os.kill(process_of(index.store), signal.SIGKILL)
        index.ingest(RECORDS[: 100 * (2 + number)])
        assert len(index.search("text number 7", k=9)) == 9


def test_killed_repeatedly_during_an_ingest(index: Index) -> None:
    """The ingest continues, and everything is stored once."""
    index.ingest(RECORDS[:1])

    def records() -> Iterator[Record]:
        for number in range(9_000):
            if number % 2_500 == 2_000:
                os.kill(process_of(index.store), signal.SIGKILL)
            yield Record(f"m{number}", f"text number {number}")

    assert index.ingest(records()).written == 9_000
    assert index.count() == 9_001
    assert index.ingest(Record(f"m{n}", f"text number {n}") for n in range(9_000)).unchanged == 9_000


def test_it_gives_up_eventually(index: Index, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A process that dies on every request is not restarted forever."""
    index.ingest(RECORDS[:1])
    os.kill(process_of(index.store), signal.SIGKILL)
    dying = tmp_path / "dying.py"
    dying.write_text("raise SystemExit(1)")
    monkeypatch.setattr(edge_process, "_CHILD", dying)
    with pytest.raises(StoreUnavailable, match="died 3 times in a row"):
        index.count()
    monkeypatch.undo()
    assert index.count() == 1


OPEN = """
import sys
from harrier_core import Encoder, Index
from harrier_qdrant import QdrantStore
with Index(QdrantStore.embedded(sys.argv[1], collection="docs"), Encoder(sys.argv[2])) as index:
    print(index.count(), flush=True)
    sys.stdin.read()
"""


def test_one_process_at_a_time(index: Index, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process gets an error; once the first has ended or was killed, the folder is free."""
    index.ingest(RECORDS)
    index.close()
    command = [sys.executable, "-W", "ignore", "-c", OPEN, str(tmp_path), encoder.space.model]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "300\n"
        monkeypatch.setattr(edge_process, "_PATIENCE", 0.3)
        with (
            Index(QdrantStore.embedded(tmp_path, collection="docs"), encoder) as mine,
            pytest.raises(StoreUnavailable, match="is open in another process, and Qdrant Edge allows one at a time"),
        ):
            mine.count()
        monkeypatch.undo()
        other.kill()
        with Index(QdrantStore.embedded(tmp_path, collection="docs"), encoder) as mine:
            assert mine.count() == 300


ALIEN = """
import sys
import qdrant_edge
shard = qdrant_edge.EdgeShard.load(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""


def test_open_in_another_program(index: Index, encoder: Encoder, tmp_path: Path) -> None:
    """A folder opened by a program outside the kit is refused."""
    index.ingest(RECORDS[:3])
    index.close()
    command = [sys.executable, "-c", ALIEN, str(tmp_path / "docs" / "edge")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with (
            Index(QdrantStore.embedded(tmp_path, collection="docs"), encoder) as mine,
            pytest.raises(StoreUnavailable, match="is open in another process"),
        ):
            mine.count()


def test_nothing_is_read_before_it_is_free(index: Index, encoder: Encoder, tmp_path: Path) -> None:
    """A waiting process sees everything that the previous one wrote."""
    index.ingest(RECORDS[:1])
    index.close()
    waiting = QdrantStore.embedded(tmp_path, collection="docs")
    with Index(waiting, encoder) as mine, ThreadPoolExecutor() as pool:
        with FileLock(tmp_path / ".harrier" / "docs" / "lock"):
            counted = pool.submit(mine.count)
            with pytest.raises(TimeoutError):
                counted.result(1)
            with Index(QdrantStore.embedded(tmp_path, collection="more"), encoder) as more:
                more.ingest(RECORDS[:7])
            shutil.rmtree(tmp_path / "docs" / "edge")
            (tmp_path / "more" / "edge").rename(tmp_path / "docs" / "edge")
        assert counted.result() == 7


MAKE = """
import sys
from harrier_core import EmbeddingSpace
from harrier_qdrant import QdrantStore
space = EmbeddingSpace.from_json(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
with QdrantStore.embedded(sys.argv[1], collection="docs") as store:
    print(store.open(space, create=True).count())
"""


def test_created_by_several_processes(encoder: Encoder, tmp_path: Path) -> None:
    """One of several processes creates the collection, and each gets access."""
    command = [sys.executable, "-c", MAKE, str(tmp_path), encoder.space.to_json()]
    with ExitStack() as stack:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
        started: list[Any] = [stack.enter_context(subprocess.Popen(command, **pipes)) for _ in range(4)]
        assert [process.stdout.readline() for process in started] == ["ready\n"] * 4
        for process in started:
            process.stdin.write("go\n")
        assert [process.communicate()[0] for process in started] == ["0\n"] * 4
        assert [process.returncode for process in started] == [0] * 4


def test_interrupted(index: Index) -> None:
    """After Ctrl-C between a request and its answer, the next request gets its own answer."""
    index.ingest(RECORDS)
    engine = process_of(index.store)
    os.kill(engine, signal.SIGSTOP)
    interrupt = threading.Timer(0.2, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
    go_on = threading.Timer(0.4, os.kill, (engine, signal.SIGCONT))
    interrupt.start()
    go_on.start()
    with pytest.raises(KeyboardInterrupt):
        index.count()
    assert [match.record_id for match in index.search("text", where={"n": 7})] == ["r7"]
    go_on.join()


def test_half_a_request(index: Index, tmp_path: Path) -> None:
    """If a client is killed during a request, the engine flushes its data and exits."""
    index.ingest(RECORDS[:3])
    process = index.store._backend._process._process  # type: ignore[attr-defined]
    process.stdin.write(pickle.dumps(("count", (None,)))[:-5])
    index.close()
    assert process.returncode == 0
    assert not (tmp_path / "docs" / "harrier_open").exists()


def test_terminated(index: Index) -> None:
    """A SIGTERM to the whole process group leaves it to the store to end the engine."""
    index.ingest(RECORDS[:3])
    engine = process_of(index.store)
    os.kill(engine, signal.SIGTERM)
    assert index.count() == 3
    assert process_of(index.store) == engine


def test_a_fork_does_not_keep_the_engine(index: Index) -> None:
    """The engine ends when the store is closed, even if a forked process lives on."""
    index.ingest(RECORDS[:3])
    child = os.fork()
    if child == 0:
        time.sleep(20)
        os._exit(0)
    index.close()
    assert os.waitpid(child, os.WNOHANG) == (0, 0)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_closed(index: Index) -> None:
    """A closed store stays closed, also for a read in progress."""
    index.ingest(Record(f"m{number}", "more") for number in range(600))
    reading = index.read()
    next(reading)
    index.close()
    with pytest.raises(StoreUnavailable, match="this store is closed; create a new one"):
        list(reading)
    with pytest.raises(StoreUnavailable, match="this store is closed; create a new one"):
        index.count()


def test_another_vector(index: Index, encoder: Encoder, tmp_path: Path) -> None:
    """A store with another vector name writes nothing, and does not disturb the right one."""
    index.ingest(RECORDS[:3])
    wrong = Index(QdrantStore.embedded(tmp_path, collection="docs", vector="dense"), encoder)
    with wrong, pytest.raises(StoreUnsuitable, match="has no vector 'dense' .it has 'text-dense'.; pass vector="):
        wrong.ingest(RECORDS)
    os.kill(process_of(index.store), signal.SIGKILL)
    assert index.search("text", where={"n": 2})[0].record_id == "r2"
    assert index.ingest(RECORDS).unchanged == 3


def test_a_restored_backup(index: Index, encoder: Encoder, tmp_path: Path) -> None:
    """An open store notices it, does not write into it, and continues with the restored data."""
    index.ingest(RECORDS[:100])
    index.close()
    shutil.copytree(tmp_path / "docs", tmp_path / "backup")

    def put_back() -> None:
        shutil.rmtree(tmp_path / "docs")
        shutil.copytree(tmp_path / "backup", tmp_path / "docs")

    with Index(QdrantStore.embedded(tmp_path, collection="docs"), encoder) as mine:
        mine.ingest(Record(f"m{number}", "more") for number in range(600))
        reading = mine.read()
        next(reading)
        put_back()
        with pytest.raises(StoreUnavailable, match="was removed or replaced while it was open here; try again"):
            list(reading)
        assert mine.count() == 100
        mine.ingest(RECORDS)
        put_back()
        assert mine.ingest(RECORDS[200:]).written == 100
    with Index(QdrantStore.embedded(tmp_path, collection="docs"), encoder) as mine:
        assert mine.count() == 200
        assert mine.verify().sound


def test_after_a_fork(index: Index) -> None:
    """A forked child does not use the pipes to the engine."""
    index.ingest(RECORDS[:3])
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            index.count()
            os.write(writing, b"answered")
        except StoreUnavailable as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert b"was opened before this process was forked" in os.read(reading, 1_000)
    assert index.count() == 3


def test_a_foreign_folder(encoder: Encoder, tmp_path: Path) -> None:
    """A foreign folder is refused, and an empty one is used."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "letter.txt").write_text("dear")
    with (
        Index(QdrantStore.embedded(tmp_path, collection="docs"), encoder) as index,
        pytest.raises(StoreUnsuitable, match="was not created by Harrier Kit: it has no harrier_space.json"),
    ):
        index.ingest(RECORDS)
    assert (tmp_path / "docs" / "letter.txt").read_text() == "dear"
    (tmp_path / "empty").mkdir()
    making = tmp_path / ".harrier" / "empty" / "making"
    making.mkdir(parents=True)
    (making / "half").write_text("")  # left by one that was killed while it made it
    with Index(QdrantStore.embedded(tmp_path, collection="empty"), encoder) as index:
        assert index.ingest(RECORDS[:2]).written == 2
    assert not making.exists()
    assert not (tmp_path / "empty" / "half").exists()
    with pytest.raises(SettingError, match=r"a collection cannot be named \.harrier"):
        QdrantStore.embedded(tmp_path, collection=".harrier")


def test_a_folder_that_was_replaced(index: Index, encoder: Encoder, tmp_path: Path) -> None:
    """A replacement by a collection of another space is noticed at the next use."""
    index.ingest(RECORDS[:3])
    file = tmp_path / "docs" / "harrier_space.json"
    file.write_text(file.read_text().replace(encoder.space.weights, "others"))
    for use in (lambda: index.search("text"), lambda: index.ingest(RECORDS)):
        with pytest.raises(WrongSpace, match="the weights differ"):
            use()


@pytest.mark.parametrize("look", ["space", "count"])
def test_replaced_between_two_batches(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look: str) -> None:
    """If the collection is replaced during a write, the write continues in neither collection."""
    index.ingest(RECORDS[:1])
    opened = index.store.open(index.encoder.space)
    write = write_of([Record(f"m{number}", "more") for number in range(600)], index.encoder)
    other = replace(index.encoder.space, weights="others")
    ask, batches = EdgeProcess.ask, [0]

    def asking(process: EdgeProcess, name: str, *arguments: Any, **pin: Any) -> Any:
        batches[0] += name == "upsert"
        if name == "upsert" and batches[0] == 2:
            shutil.rmtree(tmp_path)
            command = [sys.executable, "-W", "ignore", "-c", MAKE, str(tmp_path), other.to_json()]
            assert subprocess.run(command, input=b"go\n", stdout=subprocess.PIPE, check=True).stdout == b"ready\n0\n"
            with ThreadPoolExecutor() as pool:
                if look == "space":
                    assert pool.submit(index.store.space).result() == other
                else:
                    with pytest.raises(WrongSpace):
                        pool.submit(opened.count).result()
        return ask(process, name, *arguments, **pin)

    monkeypatch.setattr(EdgeProcess, "ask", asking)
    with pytest.raises(WrongSpace, match="the weights differ"):
        opened.write(write)
    assert batches == [2]
    assert index.store.open(other).count() == 0


def write_of(records: list[Record], embedder: Embedder) -> Write:
    chunks = [Chunk.of(record, 0, 0, record.text) for record in records]
    vectors = embedder.encode_documents([chunk.text for chunk in chunks])
    known: dict[str, dict[int, bytes]] = {chunk.record_id: {} for chunk in chunks}
    return Write(dict.fromkeys(known, 1), chunks, vectors, [], known)


def test_bad_vectors(index: Index, encoder: Encoder) -> None:
    """NaN vectors are refused, because Edge would store them and return them for every query."""
    index.ingest(RECORDS[:1])
    chunks = [Chunk.of(record, 0, 0, record.text) for record in RECORDS[1:3]]
    vectors = encoder.encode_documents([chunk.text for chunk in chunks])
    vectors[0, 0] = np.nan
    known: dict[str, dict[int, bytes]] = {chunk.record_id: {} for chunk in chunks}
    opened = index.store.open(encoder.space)
    written = opened.write(Write(dict.fromkeys(known, 1), chunks, vectors, [], known))
    assert dict(written.rejected) == {"r1": "got a vector that is not finite"}
    with pytest.raises(StoreError, match="Vector dimension error: expected dim"):
        opened.write(Write({"r2": 1}, chunks[1:], np.ones((1, 3), np.float32), [], {"r2": {}}))
    assert index.count() == 2


def test_settings(tmp_path: Path, encoder: Encoder) -> None:
    """Server settings are refused; half precision and indexes work."""
    wrongs: list[dict[str, Any]] = [{"shards": 2}, {"quantization": "int8"}, {"on_disk": True}, {"replicas": 2}]
    for wrong in wrongs:
        with pytest.raises(TypeError, match="unexpected keyword argument"):
            QdrantStore.embedded(tmp_path, **wrong)
    layout: dict[str, Any] = {"precision": "float16", "indexes": {"n": "integer"}, "vector": "dense"}
    with Index(QdrantStore.embedded(tmp_path, **layout), encoder) as index:
        index.ingest(RECORDS)
        assert len(index.search("text", k=300, where={"n": {"$gte": 100}})) == 200


@pytest.mark.parametrize(
    ("hnsw", "made"),
    [
        (None, None),
        (Hnsw(m=8), (8, 100)),
        (Hnsw(ef_construction=32), (16, 32)),
        (Hnsw(m=8, ef_construction=32), (8, 32)),
    ],
)
def test_hnsw_settings(index: Index, tmp_path: Path, hnsw: Hnsw | None, made: tuple[int, int] | None) -> None:
    """The index has the given settings or Edge's defaults; an existing one keeps its own."""
    for setting in (hnsw, Hnsw(m=99)):
        with QdrantStore.embedded(tmp_path, collection="docs", hnsw=setting) as store:
            Index(store, index.encoder).ingest(RECORDS)
    config = json.loads((tmp_path / "docs" / "edge" / "edge_config.json").read_text(encoding="utf-8"))
    said = config["vectors"]["text-dense"].get("hnsw_config")
    assert said == (made and {**said, "m": made[0], "ef_construct": made[1], "full_scan_threshold": 10_000})


def test_the_number_of_candidates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a poor index, more candidates find more; the store passes the number on."""
    monkeypatch.setattr(edge_child, "_UNINDEXED", 0)
    shard, dimensions, rows = edge_child.Shard(), 512, 6_000  # with fewer bytes Edge compares all of them
    new: dict[str, Any] = {"files": {}, "vector": "v", "sparse": None, "dimensions": dimensions, "precision": "float32"}
    new |= {"indexes": {}, "hnsw": (4, 8)}
    shard.open(str(tmp_path / "docs"), str(tmp_path / "beside"), "edge", "mark", 5.0, new, None)
    chance = np.random.default_rng(0)
    vectors = chance.normal(size=(rows, dimensions)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = [chunk_id("r", number) for number in range(rows)]
    for begin in range(0, rows, 500):
        own = ids[begin : begin + 500]
        shard.upsert("v", own, vectors[begin : begin + 500], [{}] * len(own), "w", None)
    shard.build_indexes()
    queries = vectors[:30] + chance.normal(size=(30, dimensions)).astype(np.float32) * 0.05
    right = [{ids[at] for at in row} for row in np.argsort(-(queries @ vectors.T), axis=1)[:, :10]]

    def hits(ef: int) -> int:
        found = shard.search("v", "w", [(query.tolist(), 10, None, False, ef, False) for query in queries])
        return sum(len({id_ for id_, *_ in each} & best) for each, best in zip(found, right, strict=True))

    assert 2 * hits(10) < hits(500)
    shard.close()


def test_the_number_of_candidates_reaches_the_engine(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine's process gets the number of candidates."""
    index.ingest(RECORDS[:3])
    asked: list[Any] = []
    ask = EdgeProcess.ask

    def asking(self: EdgeProcess, name: str, *arguments: Any, pin: Any = None) -> Any:
        asked.append((name, arguments))
        return ask(self, name, *arguments, pin=pin)

    monkeypatch.setattr(EdgeProcess, "ask", asking)
    opened = index.store.open(index.encoder.space)
    opened.search(Search(index.encoder.encode_queries(["text", "number"]), 2, ef=7))
    [(name, (_, _, queries))] = asked
    assert (name, [(exact, ef) for *_, exact, ef, _ in queries]) == ("search", [(False, 7)] * 2)


def test_a_store_that_was_garbage_collected(encoder: Encoder, tmp_path: Path) -> None:
    """A store that was never closed does not keep the folder locked."""
    index = Index(QdrantStore.embedded(tmp_path, collection="docs"), encoder)
    index.ingest(RECORDS[:3])
    process = process_of(index.store)
    del index
    gc.collect()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_many_queries_are_one_request(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several queries are one request to the engine's process."""
    index.ingest(RECORDS)
    asked: list[str] = []
    ask = EdgeProcess.ask

    def asking(process: EdgeProcess, name: str, *arguments: Any, **pin: Any) -> Any:
        asked.append(name)
        return ask(process, name, *arguments, **pin)

    monkeypatch.setattr(EdgeProcess, "ask", asking)
    found = index.search_many([f"text number {n}" for n in range(10)], k=1, where={"n": {"$lt": 10}})
    assert [len(matches) for matches in found] == [1] * 10
    assert asked == ["search"]


def test_a_space_file_that_was_changed(index: Index, tmp_path: Path) -> None:
    """A space file that was changed or is from a newer release prevents reads and writes."""
    index.ingest(RECORDS[:3])
    file = tmp_path / "docs" / "harrier_space.json"
    for text, said in (
        (file.read_text().replace('"harrier_layout": 1', '"harrier_layout": 2'), "has layout 2, .* update harrier-kit"),
        ("half", "is damaged: its harrier_space.json cannot be read"),
        ("[]", "is damaged: its harrier_space.json cannot be read"),
    ):
        file.write_text(text)
        for use in (index.count, lambda: index.ingest(RECORDS)):
            with pytest.raises(StoreUnsuitable, match=said):
                use()


def test_edge_still_takes_true_for_one() -> None:
    """If this fails, Edge distinguishes true from 1: remove `_Truth` from edge_child.py."""
    assert type(qdrant_edge.MatchValue(True).value) is int


def test_other_threads_are_not_blocked(index: Index, encoder: Encoder) -> None:
    """While the engine writes and builds, other threads of this process run."""
    index.ingest(RECORDS[:1])
    stop, ticks = threading.Event(), [0]

    def tick() -> None:
        while not stop.wait(0.001):
            ticks[0] += 1

    thread = threading.Thread(target=tick)
    thread.start()
    vectors = np.random.default_rng(0).normal(size=(4_000, encoder.dimensions)).astype(np.float32)
    chunks = [Chunk.of(Record(f"b{number}", "x"), 0, 0, "x") for number in range(4_000)]
    known: dict[str, dict[int, bytes]] = {chunk.record_id: {} for chunk in chunks}
    index.store.open(encoder.space).write(Write(dict.fromkeys(known, 1), chunks, vectors, [], known))
    stop.set()
    thread.join()
    assert ticks[0] > 20
