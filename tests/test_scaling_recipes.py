"""The programs of docs/scaling.md for Spark, Dask and Daft: the table is that of one process, vectors included.

Spark is half a gigabyte and Daft a third of that, so that neither is installed with the other packages for tests.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from fleets import Noting, content, index_of

from harrier_core import Record

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs" / "scaling.md").read_text(encoding="utf-8")
RECORDS = [Record(f"s{at}", f"Bread number {at} rises. " * (1 + at % 3), {"lang": "en"}) for at in range(60)]


def program(engine: str) -> str:
    """Return the code block that follows the engine's name."""
    [found] = re.findall(rf"^\*\*{engine}\.\*\*.*?```python\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)
    return str(found)


@pytest.fixture
def products(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of Parquet files that contain the records as rows."""
    folder = tmp_path / "products"
    folder.mkdir()
    rows = [{"sku": each.id, "text": each.text, "lang": each.metadata["lang"]} for each in RECORDS]
    for number in range(4):
        pq.write_table(pa.Table.from_pylist(rows[number::4]), folder / f"{number}.parquet")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))  # for the processes that are started
    return folder


@pytest.fixture
def spark(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Yield a Spark session with two local threads."""
    sql = pytest.importorskip("pyspark.sql", reason="pyspark is not installed: it is half a gigabyte")
    if not shutil.which("java"):
        pytest.skip("java is not installed, and Spark runs on it")
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    builder = sql.SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    session = builder.config("spark.driver.bindAddress", "127.0.0.1").getOrCreate()
    yield session
    session.stop()


def run(engine: str, postgres: str, tmp_path: Path, **names: Any) -> None:
    """Run a program, and compare its table with that of a plain ingest."""
    table = f"recipe{engine.lower()}"
    encoder = Noting(tmp_path / "notes")
    with index_of(postgres, f"{table}clean", Noting(tmp_path / "clean")) as index:
        index.ingest(RECORDS)
    with index_of(postgres, table, encoder) as index:
        names |= {"index": index, "__name__": "__main__"}
        exec(compile(program(engine), engine, "exec"), names)
    report = names["report"]
    assert (report.records, report.rejected) == (len(RECORDS), [])
    assert content(postgres, table) == content(postgres, f"{table}clean")
    assert len(encoder.lines()) == report.written
    assert os.getpid() not in encoder.processes()


def test_dask(postgres: str, products: Path, tmp_path: Path) -> None:  # noqa: ARG001
    config: Any = dask.config  # untyped
    with config.set(temporary_directory=str(tmp_path)):
        run("Dask", postgres, tmp_path)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it leaves files open
def test_daft(postgres: str, products: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    monkeypatch.setenv("DO_NOT_TRACK", "true")
    pytest.importorskip("daft", reason="daft is not installed: it is 150 MB")
    run("Daft", postgres, tmp_path)


@pytest.mark.filterwarnings("ignore")  # Spark's, of pandas 3
def test_spark(postgres: str, products: Path, tmp_path: Path, spark: Any) -> None:  # noqa: ARG001
    run("Spark", postgres, tmp_path, spark=spark)
