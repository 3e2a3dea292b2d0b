"""An ingest on Ray stores what one process would store, whatever is killed."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import signal
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fleets import Noting, content, index_of, records
from ingesting import Hashing

from harrier_core import Index, IngestReport, Record, RemoteEncoder, SettingError
from harrier_core.testing import MemoryStore

ray: Any = pytest.importorskip("ray", reason="ray is not installed: pip install 'harrier-kit[ray]'")
harrier_ray: Any = pytest.importorskip("harrier_ray", reason="ray is not installed: pip install 'harrier-kit[ray]'")

_numbers = itertools.count()


@pytest.fixture
def table() -> str:
    return f"ray{next(_numbers)}"


def rows(given: list[Record]) -> list[dict[str, Any]]:
    return [{"sku": each.id, "said": each.text, **each.metadata} for each in given]


COLUMNS: dict[str, Any] = {"id": "sku", "text": "said", "metadata": ["n"], "workers": 2, "block": 40}


def clean(postgres: str, tmp_path: Path, given: list[Record]) -> list[Any]:
    name = f"cleanray{next(_numbers)}"
    with index_of(postgres, name, Noting(tmp_path / name)) as index:
        index.ingest(given)
    return content(postgres, name)


@pytest.mark.timeout(300)  # it starts ten processes, each of which imports much
def test_killed_workers_and_a_record_that_crashes(postgres: str, table: str, tmp_path: Path) -> None:
    """All other records are stored, and a second run encodes nothing again."""
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow comes with ray")
    pa = pytest.importorskip("pyarrow")
    given = list(records(160))
    given[77] = Record("poison", "a text of which a process dies", {"n": 1})
    pq.write_table(pa.Table.from_pylist(rows(given)), tmp_path / "rows.parquet")
    encoder = Noting(tmp_path / "notes", seconds=0.002, poison="process dies")
    told: list[IngestReport] = []
    killed: list[int] = []

    def kill(report: IngestReport) -> None:
        told.append(report)
        for process in () if killed else encoder.processes() - {os.getpid()}:
            with suppress(ProcessLookupError):  # the poison has ended that process itself
                os.kill(process, signal.SIGKILL)
                killed.append(process)
                break

    with index_of(postgres, table, encoder) as index:
        index.ingest([Record("gone", "was there before")])
        report = harrier_ray.ingest(
            ray.data.read_parquet(str(tmp_path / "rows.parquet")), index, prune=True, on_progress=kill, **COLUMNS
        )
    assert content(postgres, table) == clean(postgres, tmp_path, [each for each in given if each.id != "poison"])
    assert [name for name, _ in report.rejected] == ["poison"]
    assert (tmp_path / "deaths").stat().st_size <= 2 * np.log2(160) + 2
    assert (report.records, report.deleted) == (160, 1)
    assert told[-1] == report
    again = Noting(tmp_path / "again")
    with index_of(postgres, table, again) as index:
        others = ray.data.from_items(rows([each for each in given if each.id != "poison"]))
        report = harrier_ray.ingest(others, index, **COLUMNS)
    assert (report.records, report.encoded, report.written) == (159, 0, 0)
    assert not again.notes.exists()


def test_duplicate_ids(postgres: str, table: str, tmp_path: Path) -> None:
    """Different texts with one id in two blocks are reported, also for numeric ids."""
    given = [{"id": number % 50, "text": f"says {number % 50 + number // 50 * (number == 50)}"} for number in range(80)]
    with index_of(postgres, table, Noting(tmp_path / "notes")) as index:
        report = harrier_ray.ingest(ray.data.from_items(given, override_num_blocks=1), index, workers=1, block=10)
        assert len(report.repeated) == 30
        assert report.differing == ["0"]
        assert set(index.record_ids()) == {str(number) for number in range(50)}


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"workers": None}, "workers must be given if no worker has a GPU"),
        ({"workers": 4}, "leave less than one of the 4 CPUs .* use at most 3"),
        ({"workers": (3, 2)}, "workers must be a positive integer"),
        ({"workers": 0}, "workers must be a positive integer"),
        ({"workers": 1, "text": "body"}, "the dataset has no column 'body'; it has id, text"),
        ({"workers": 1, "block": 0}, "block must be an integer"),
    ],
)
def test_refusals(postgres: str, table: str, tmp_path: Path, options: dict[str, Any], why: str) -> None:
    """They come before anything is read, because Ray would wait forever."""
    dataset = ray.data.from_items([{"id": "a", "text": "b"}])
    with index_of(postgres, table, Noting(tmp_path / "notes")) as index, pytest.raises(SettingError, match=why):
        harrier_ray.ingest(dataset, index, **options)


def test_secrets_are_not_sent(tmp_path: Path) -> None:
    """Secrets and process-local objects do not reach the cluster."""
    dataset = ray.data.from_items([{"id": "a", "text": "b"}])
    noting = Noting(tmp_path / "notes")
    with index_of("postgresql://me:hush@nowhere/db", "t", noting) as index:
        with pytest.raises(SettingError, match="holds a secret, a password, and Ray keeps") as raised:
            harrier_ray.ingest(dataset, index, workers=1)
        assert "hush" not in str(raised.value)
    with Index(MemoryStore(), noting) as index, pytest.raises(SettingError, match="is in this process"):
        harrier_ray.ingest(dataset, index, workers=1)
    remote = RemoteEncoder("http://127.0.0.1:9", api_key="hush")
    with index_of("host=nowhere", "t", remote) as index, pytest.raises(SettingError, match="a secret, api_key"):  # type: ignore[arg-type]
        harrier_ray.ingest(dataset, index, workers=1)


def test_errors_of_workers(postgres: str, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are the kit's own errors, with its messages."""
    monkeypatch.setattr("harrier_core.__version__", "0.0.1")
    dataset = ray.data.from_items([{"id": "a", "text": "b"}])
    with index_of(postgres, table, Noting(tmp_path / "notes")) as index:
        with pytest.raises(SettingError, match="^this worker has harrier-kit .*, and the driver has 0.0.1"):
            harrier_ray.ingest(dataset, index, workers=1)
        assert index.count() == 0


def test_vectors_for_other_sinks() -> None:
    """Ray tasks return the encoder's vectors."""
    dataset = ray.data.from_items([{"text": f"text {number}"} for number in range(20)])
    batch = harrier_ray.EncodeBatch(Hashing(), into="vector")
    found = dataset.map_batches(batch, batch_size=10, num_cpus=0.5).take_all()
    expected = Hashing().encode_documents([each["text"] for each in found])
    assert np.array_equal(np.stack([each["vector"] for each in found]), expected)
    first, second = (pickle.loads(pickle.dumps(batch)) for _ in range(2))
    assert first.encoder is second.encoder


class Loaded(Hashing):
    """A stand-in for a model in this process."""

    settings = {"device": None}  # noqa: RUF012


class Spread(Hashing):
    """A stand-in for a model whose layers lie on two GPUs."""

    settings = {"device": "cuda:0,cuda:1"}  # noqa: RUF012


def test_plans_for_gpus() -> None:
    """A worker has a GPU, or as many as its model is spread over, and no CPU; a remote model needs no GPU."""
    from harrier_ray.planning import Plan

    cluster = [{"GPU": 8.0, "CPU": 16.0}]
    assert Plan.of(None, Loaded(), cluster) == Plan(8, 8, cpus=0.0, gpus=1.0)
    assert Plan.of((2, 64), Loaded(), cluster) == Plan(2, 64, cpus=0.0, gpus=1.0)
    assert Plan.of(15, Hashing(), cluster) == Plan(15, 15, cpus=1.0, gpus=0.0)
    assert Plan.of(None, Spread(), cluster) == Plan(4, 4, cpus=0.0, gpus=2.0)
    for workers, embedder, there, why in (
        (9, Loaded(), cluster, "workers=9 is more than the 8 that the GPUs of the cluster have room for"),
        (5, Spread(), cluster, "workers=5 is more than the 4"),
        (3, Spread(), [{"GPU": 3.0, "CPU": 8.0}] * 2, "workers=3 is more than the 2"),
        (None, Spread(), [{"GPU": 1.0, "CPU": 16.0}] * 8, "spread over 2 GPUs, and no machine of the cluster has"),
        (None, Hashing(), cluster, "workers must be given if no worker has a GPU"),
        (2, Loaded(), [{"GPU": 2.0, "CPU": 0.5}], "leave less than one"),
    ):
        with pytest.raises(SettingError, match=why):
            Plan.of(workers, embedder, there)


def test_a_block_that_may_crash_runs_alone() -> None:
    from harrier_ray.working import Turns

    turns = Turns()
    order: list[str] = []
    with turns.turn(False), turns.turn(False):
        thread = threading.Thread(target=lambda: _noted(turns, order))
        thread.start()
        order.append("two")
    thread.join(10)
    assert order == ["two", "alone"]


def _noted(turns: Any, order: list[str]) -> None:
    with turns.turn(True):
        order.append("alone")


def test_no_telemetry() -> None:
    """Telemetry is off if the package is imported before Ray is started."""
    assert json.loads(json.dumps(os.environ["RAY_USAGE_STATS_ENABLED"])) == "0"
