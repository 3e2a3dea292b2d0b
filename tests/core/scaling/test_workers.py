"""Ingests by several processes store what one process would store, whatever is killed."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fleets import CHUNKING, Noting, content, index_of, records, workers_of
from harrier_pgvector import PgVectorStore
from harrier_qdrant import QdrantStore

from harrier_core import Deferred, Index, IngestReport, Record, SettingError, Skipped, WorkersDied, ingest
from harrier_core.scaling import workers
from harrier_core.testing import MemoryStore

_numbers = itertools.count()


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use small blocks and windows, so that a few records fill many of them."""
    monkeypatch.setattr(workers, "BLOCK_RECORDS", 40)
    monkeypatch.setattr(ingest, "WINDOW_RECORDS", 40)


@pytest.fixture
def table() -> str:
    return f"fleet{next(_numbers)}"


@pytest.fixture
def noting(tmp_path: Path) -> Noting:
    return Noting(tmp_path / "notes")


def counts(report: IngestReport) -> IngestReport:
    return replace(report, seconds=0.0, pending=0)


def test_workers_equal_one_process(postgres: str, table: str, noting: Noting) -> None:
    """Reports agree for changed, rejected, repeated, missing and pruned records."""
    first = [*records(120), Record("gone", "is gone later"), Record("kept", "stays")]
    later: list[Any] = [
        *records(30),
        *records(60, 30, "second"),
        {"id": "r00000", "text": "comes again, much later, as something else", "metadata": {"again": True}},
        *records(200, 60),
        Record("r00001", "in the same block"),
        Record("r00001", "in the same block twice"),
        Record("", "without an id that can be"),
        Skipped("kept", "could not be read"),
        Skipped("blank", "is blank", blank=True),
    ]
    reports = []
    for name, number in ((f"{table}one", None), (table, 2)):
        with index_of(postgres, name, noting) as index:
            made = [counts(index.ingest(each, prune=True, workers=number)) for each in (first, later, later)]
            reports.append(made)
    assert content(postgres, table) == content(postgres, f"{table}one")
    assert reports[1] == reports[0]
    assert reports[0][1].rejected
    assert reports[0][1].repeated
    assert reports[0][1].deleted
    assert len(noting.processes() - {os.getpid()}) >= 2


def clean(postgres: str, tmp_path: Path, given: list[Record]) -> tuple[list[Any], list[str]]:
    """Return the content and the encoded texts of an ingest by one process."""
    name, encoder = f"clean{next(_numbers)}", Noting(tmp_path / f"clean{next(_numbers)}")
    with index_of(postgres, name, encoder) as index:
        index.ingest(given)
    return content(postgres, name), encoder.lines()


def test_killed_workers(postgres: str, table: str, tmp_path: Path) -> None:
    """Only the work of killed workers is repeated."""
    given = list(records(400))
    encoder = Noting(tmp_path / "notes", seconds=0.002)
    killed: list[int] = []

    def kill(report: IngestReport) -> None:
        alive = workers_of()
        if len(killed) < 3 and alive and report.encoded > 100 * (len(killed) + 1):
            killed.append(alive[0])
            os.kill(killed[-1], signal.SIGKILL)

    with index_of(postgres, table, encoder) as index:
        report = index.ingest(given, workers=2, on_progress=kill)
        again = index.ingest(given, workers=2)
    stored, encoded = clean(postgres, tmp_path, given)
    assert len(killed) == 3
    assert content(postgres, table) == stored
    assert not report.rejected
    assert report.records == len(given)
    assert report.written + report.unchanged == again.unchanged == len(stored)
    assert again.encoded == 0
    assert set(encoder.lines()) == set(encoded)
    assert len(encoder.lines()) <= len(encoded) + 3 * 4 * 40 * 4  # the work under way at three kills


DRIVER = """
import sys, threading
from pathlib import Path
from fleets import Noting, index_of, records
from harrier_core.scaling import workers
workers.BLOCK_RECORDS = 40
conninfo, table, notes = sys.argv[1:]
with index_of(conninfo, table, Noting(Path(notes), seconds=0.002)) as index:
    index.ingest(records(400), workers=2, on_progress=lambda report: print(report.encoded, flush=True))
"""


@pytest.fixture
def driver(postgres: str, table: str, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a process that ingests with workers, and wait until something is stored."""
    command = [sys.executable, "-c", DRIVER, postgres, table, str(tmp_path / "notes")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) > 150:
                break
        yield process
        process.kill()


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_killed_driver(
    driver: subprocess.Popen[str], number: signal.Signals, postgres: str, table: str, tmp_path: Path
) -> None:
    """Its workers end with it, and a second run encodes only what is missing."""
    own = workers_of(driver.pid)
    assert len(own) == 2
    driver.send_signal(number)
    driver.wait(30)
    until = time.monotonic() + 30
    while left := set(own) & set(workers_of(None)):
        assert time.monotonic() < until, left
    before = len(content(postgres, table))
    encoder = Noting(tmp_path / "again")
    with index_of(postgres, table, encoder) as index:
        report = index.ingest(records(400), workers=2)
    stored, _ = clean(postgres, tmp_path, list(records(400)))
    assert content(postgres, table) == stored
    assert before > 0
    assert report.encoded == len(encoder.lines()) == len(stored) - before


def test_a_record_that_crashes_workers(postgres: str, table: str, tmp_path: Path) -> None:
    """The other records are stored, and this one is reported."""
    given = list(records(200))
    given[77] = Record("poison", "a text of which a process dies")
    encoder = Noting(tmp_path / "notes", poison="process dies")
    with index_of(postgres, table, encoder) as index:
        report = index.ingest(given, workers=2, prune=True)
    assert [name for name, _ in report.rejected] == ["poison"]
    assert "crashed the process that worked on it, 2 times" in report.rejected[0][1]
    assert report.records == 200
    assert content(postgres, table) == clean(postgres, tmp_path, [each for each in given if each.id != "poison"])[0]
    assert (tmp_path / "deaths").stat().st_size <= 2 * 5.3 + 2  # of 40 records


@pytest.mark.slow
def test_workers_that_always_crash(postgres: str, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "BLOCK_RECORDS", 2)
    encoder = Noting(tmp_path / "notes", poison="record")
    with index_of(postgres, table, encoder) as index, pytest.raises(WorkersDied, match="killed by SIGKILL"):
        index.ingest(records(400), workers=1)
    assert not workers_of()


class Unloadable(Noting):
    """An object that cannot be unpickled."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        os._exit(7)


def test_workers_that_do_not_start(postgres: str, table: str, tmp_path: Path) -> None:
    """The error is raised, and workers are not restarted forever."""
    encoder = Unloadable(tmp_path / "notes")
    with index_of(postgres, table, encoder) as index, pytest.raises(WorkersDied, match="exit status"):
        index.ingest(records(10), workers=2)


class Broken(Noting):
    """An encoder with a permanent error."""

    def submit_documents(self, texts: Any) -> Any:  # noqa: ARG002
        raise ZeroDivisionError("in a worker")


def test_an_error_of_a_worker_ends_the_ingest(postgres: str, table: str, tmp_path: Path) -> None:
    with index_of(postgres, table, Broken(tmp_path / "notes")) as index:
        with pytest.raises(ZeroDivisionError, match="in a worker"):
            index.ingest(records(10), workers=2)
        with pytest.raises(ZeroDivisionError, match="of the source"):
            index.ingest(_failing(), workers=1)
    assert not workers_of()


def _failing() -> Iterator[Record]:
    yield Record("a", "is fine")
    raise ZeroDivisionError("of the source")


def test_reading_is_bounded(postgres: str, table: str, tmp_path: Path) -> None:
    """Slow workers hold back the reader: two blocks per worker, and one waiting."""
    encoder = Noting(tmp_path / "notes", seconds=0.003)
    ahead = []
    read = 0

    def source() -> Iterator[Record]:
        nonlocal read
        for each in records(800):
            read += 1
            yield each

    def tell(_: IngestReport) -> None:
        done = len({line.split(" says")[0] for line in encoder.lines()})
        ahead.append(read - done)

    with index_of(postgres, table, encoder) as index:
        index.ingest(source(), workers=2, on_progress=tell)
    assert max(ahead) <= (2 * 2 + 1) * 40 + 40


def test_block_size_adapts_to_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks begin small, so that all workers get some, and grow if they take little time."""
    monkeypatch.setattr(workers, "BLOCK_RECORDS", 2_000)
    with index_of("host=nowhere", "t", Noting(tmp_path / "notes")) as index:
        run = workers.WorkerIngest(index, 2)
    sizes = []
    for seconds in (9.0, 1.0, 1.0, 40.0, 9.0, 0.5, *[1.0] * 6):
        [first, *_] = run._intake.windows(records(4_000))
        sizes.append(len(first.records))
        run._learn(sizes[-1], seconds)
    assert sizes == [32, 32, 64, 128, 64, 64, 256, 512, 1024, 2000, 2000, 2000]


@pytest.mark.parametrize("number", [1, 3])
def test_connections(postgres: str, table: str, tmp_path: Path, number: int) -> None:
    """There are at most two connections per worker, and two for the reading process."""
    name = f"fleet{next(_numbers)}"
    encoder = Noting(tmp_path / "notes", seconds=0.002)
    peak = 0

    def tell(_: IngestReport) -> None:
        nonlocal peak
        with psycopg.connect(postgres) as connection:
            query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
            row = connection.execute(query, [name]).fetchone()
            peak = max(peak, row[0] if row else 0)

    conninfo = psycopg.conninfo.make_conninfo(postgres, application_name=name)
    with index_of(conninfo, table, encoder) as index:
        index.ingest(records(500), workers=number, on_progress=tell)
    assert 0 < peak <= 2 * number + 2


def test_stores_that_cannot_be_shared(tmp_path: Path, noting: Noting) -> None:
    """The error gives the reason and what to do."""
    for store, why in (
        (MemoryStore(), "what is stored is in this process"),
        (QdrantStore.embedded(tmp_path / "q", collection="c"), "lets one process at a time"),
    ):
        with Index(store, noting) as index, pytest.raises(SettingError, match=why) as raised:
            index.ingest(records(3), workers=2)
        assert "omit workers, or use a store on a server" in str(raised.value)
    local = Noting(tmp_path / "notes")
    local.lock = threading.Lock()  # type: ignore[attr-defined]
    with index_of("host=nowhere", "t", local) as index, pytest.raises(SettingError, match="cannot pickle"):
        index.ingest(records(3), workers=2)


@pytest.mark.parametrize("workers", [0, -1, True, 2.0, "2"])
def test_invalid_numbers_of_workers(postgres: str, table: str, noting: Noting, workers: Any) -> None:
    with index_of(postgres, table, noting) as index, pytest.raises(SettingError, match="workers must be an integer"):
        index.ingest(records(3), workers=workers)


def test_vectors_are_not_computed_twice(postgres: str, table: str, noting: Noting) -> None:
    with index_of(postgres, table, noting) as index, pytest.raises(SettingError, match="omit workers"):
        index.ingest(records(1), vectors=[[1.0] * 16], workers=2)


def test_an_embedded_postgres(tmp_path: Path, noting: Noting) -> None:
    """Several processes may open its folder."""
    with Index(PgVectorStore.embedded(tmp_path / "db"), noting, chunking=CHUNKING) as index:
        assert index.ingest(records(100), workers=2).records == 100
        assert len(set(index.record_ids())) == 100


class Remembering(dict[str, bytes]):
    """A memory of file states."""

    def mget(self, keys: Any) -> list[bytes | None]:
        return [self.get(key) for key in keys]

    def mset(self, pairs: Any) -> None:
        self.update(pairs)


@pytest.mark.slow
def test_unchanged_files_are_not_read(postgres: str, table: str, noting: Noting) -> None:
    read: list[str] = []

    def deferred(stamp: bytes) -> Iterator[Deferred]:
        for each in records(100):
            yield Deferred(each.id, stamp, partial(reading, each))

    def reading(record: Record) -> Record:
        read.append(record.id)
        return record

    memory = Remembering()
    with index_of(postgres, table, noting) as index:
        index.ingest(deferred(b"1"), workers=2, memory=memory)
        assert len(read) == 100
        assert index.ingest(deferred(b"1"), memory=memory).unchanged == len(noting.lines())
        assert index.ingest(deferred(b"1"), workers=2, memory=memory).unchanged == len(noting.lines())
        assert len(read) == 100
        index.delete(["r00007"])
        assert index.ingest(deferred(b"1"), workers=2, memory=memory).records == 100
        assert read[100:] == ["r00007"]


def test_a_record_that_cannot_be_pickled(postgres: str, table: str, noting: Noting) -> None:
    """A reader that describes chunks with a local function is refused."""
    local = Record("local", "says something", {}, lambda start, end: {"page": start})
    with index_of(postgres, table, noting) as index:
        report = index.ingest([*records(5), local], workers=2)
    assert [name for name, _ in report.rejected] == ["local"]
    assert "cannot be sent to a worker process" in report.rejected[0][1]
    assert report.written > 5


async def test_a_cancelled_ingest(postgres: str, table: str, tmp_path: Path) -> None:
    encoder = Noting(tmp_path / "notes", seconds=0.01)
    begun = asyncio.Event()

    def tell(report: IngestReport) -> None:
        if report.encoded:
            begun.set()

    with index_of(postgres, table, encoder) as index:
        task = asyncio.ensure_future(index.aingest(records(4000), workers=2, on_progress=tell))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    until = time.monotonic() + 30
    while workers_of() and time.monotonic() < until:
        await asyncio.sleep(0.05)
    assert not workers_of()


class Settled(Noting):
    """A stand-in for loading a model."""

    settings = {"device": None}  # noqa: RUF012

    def submit_documents(self, texts: Any) -> Any:
        with self.notes.with_name("environments").open("a") as noted:
            noted.write(f"{os.environ['CUDA_VISIBLE_DEVICES']} {os.environ['OMP_NUM_THREADS']}\n")
        return super().submit_documents(texts)


def test_each_worker_has_a_gpu_and_cores(
    postgres: str, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-7")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with index_of(postgres, table, Settled(tmp_path / "notes", seconds=0.002)) as index:
        index.ingest(records(400), workers=2)
    noted = {tuple(line.split()) for line in (tmp_path / "environments").read_text().splitlines()}
    threads = str(max(1, len(os.sched_getaffinity(0)) // 2))
    assert noted == {("3", threads), ("GPU-7", threads)}


def test_workers_of_a_model_on_several_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each worker has as many GPUs as its model is spread over; it sees all of them if one is named."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,7,5,4,1")
    encoder = Settled(tmp_path / "notes")
    for device, expected in (
        (None, ["3", "7"]),
        ("cuda:1", [None, None]),
        ("cpu:0,cpu:1", [None, None]),
        ("cuda:0,cuda:1", ["3,7", "5,4"]),
    ):
        monkeypatch.setattr(Settled, "settings", {"device": device})
        assert [each.get("CUDA_VISIBLE_DEVICES") for each in workers.environments(2, encoder)] == expected
    with pytest.raises(SettingError, match="workers=3 need 6 GPUs, 2 for each model, but there are 5; lower workers"):
        workers.environments(3, encoder)
