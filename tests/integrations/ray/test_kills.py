"""A node or a driver of an ingest on Ray is killed: run again, the table is that of a clean run.

Nothing is encoded that was stored. Workers are killed in test_ingest.py.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from fleets import Noting, content, index_of, records

ray: Any = pytest.importorskip("ray", reason="ray is not installed: pip install 'harrier-kit[ray]'")
harrier_ray: Any = pytest.importorskip("harrier_ray", reason="ray is not installed: pip install 'harrier-kit[ray]'")
psutil: Any = pytest.importorskip("psutil", reason="psutil is not installed: it comes with ipykernel")

NUMBER = 200
OPTIONS: dict[str, Any] = {"id": "id", "text": "text", "metadata": ["n"], "block": 10}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("source") / "rows.parquet"
    rows = [{"id": each.id, "text": each.text, **each.metadata} for each in records(NUMBER)]
    pq.write_table(pa.Table.from_pylist(rows), file)
    return str(file)


@pytest.fixture(scope="module")
def clean(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Return the content of a table into which one process ingested the records."""
    with index_of(postgres, "raykillsclean", Noting(tmp_path_factory.mktemp("clean") / "notes")) as index:
        index.ingest(records(NUMBER))
    return content(postgres, "raykillsclean")


def stored(postgres: str, table: str) -> list[Any]:
    try:
        return content(postgres, table)
    except Exception:  # there is no table yet
        return []


def again(postgres: str, table: str, source: str, notes: Path) -> list[str]:
    """Run the ingest again, and return the texts that it encodes."""
    before = {row[2] for row in content(postgres, table)}
    encoder = Noting(notes)
    with index_of(postgres, table, encoder) as index:
        report = harrier_ray.ingest(ray.data.read_parquet(source), index, workers=2, **OPTIONS)
    assert report.records == NUMBER
    encoded = encoder.lines()
    assert len(encoded) == report.encoded
    assert not before & set(encoded)
    return encoded


def wait(what: Callable[[], Any], seconds: float = 120.0) -> Any:
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.1)
    return found


class Occupying:
    """An actor that occupies the CPUs of a node, so that no workers start there."""

    def begin(self) -> None:
        pass


@pytest.mark.slow  # a node and its workers are started, and take seconds to be declared dead
@pytest.mark.timeout(400)
def test_a_node_is_killed(cluster: Any, postgres: str, source: str, clean: list[Any], tmp_path: Path) -> None:
    """The node dies with all workers in the middle of blocks, as in a power failure; others take their place."""
    node = cluster.add_node(num_cpus=3, object_store_memory=80 * 2**20)
    head = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
    occupied = ray.remote(Occupying).options(num_cpus=4, label_selector=head).remote()
    ray.get(occupied.begin.remote())
    [raylet] = [each.process.pid for each in node.all_processes["raylet"]]
    encoder = Noting(tmp_path / "notes", seconds=0.02)
    killed: set[int] = set()

    def kill(_: Any) -> None:
        own = {each.pid for each in psutil.Process(raylet).children(recursive=True)} if not killed else set()
        if own & encoder.processes():
            killed.update(own)
            for process in (raylet, *own):
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            ray.kill(occupied)

    try:
        with index_of(postgres, "raynode", encoder) as index:
            report = harrier_ray.ingest(ray.data.read_parquet(source), index, workers=2, on_progress=kill, **OPTIONS)
    finally:
        cluster.remove_node(node, allow_graceful=False)
    assert killed
    assert report.records == NUMBER
    assert content(postgres, "raynode") == clean
    assert again(postgres, "raynode", source, tmp_path / "again") == []


@pytest.mark.slow  # the driver and its workers are started again
@pytest.mark.timeout(400)
def test_the_driver_is_killed(cluster: Any, postgres: str, source: str, clean: list[Any], tmp_path: Path) -> None:
    """Its workers end, and the second run encodes only the texts that were not stored."""
    given = {
        "address": cluster.address,
        "postgres": postgres,
        "table": "raydriver",
        "source": source,
        "notes": str(tmp_path / "notes"),
        "seconds": 0.02,
        "options": {**OPTIONS, "workers": 2},
    }
    command = [sys.executable, str(Path(__file__).with_name("driving.py")), json.dumps(given)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline()  # a block is done, and others are under way
        driver.kill()
    noted = Noting(tmp_path / "notes")
    wait(lambda: not any(map(psutil.pid_exists, noted.processes())))
    number = len(stored(postgres, "raydriver"))
    assert 0 < number < len(clean)
    encoded = again(postgres, "raydriver", source, tmp_path / "again")
    assert len(encoded) == len(clean) - number
    assert content(postgres, "raydriver") == clean
