"""`harrier ingest --ray`: the table, the report and the errors are those of the command without it."""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from databases import url_of
from fleets import content
from harrier_cli import main

psutil: Any = pytest.importorskip("psutil", reason="psutil is not installed: it comes with ipykernel")

Call = Callable[..., tuple[str, str]]
COLUMNS = ("--id", "sku", "--text", "said", "--metadata", "n")


@pytest.fixture
def goods(tmp_path: Path) -> Path:
    """Return a folder and a subfolder with rows in three formats, some of them bad."""
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    folder = tmp_path / "goods"
    (folder / "more").mkdir(parents=True)
    rows = [{"sku": f"s{number}", "said": f"Bread number {number} rises.", "n": number} for number in range(90)]
    pq.write_table(pa.Table.from_pylist(rows[:30]), folder / "a.parquet")
    lines = [json.dumps(each) for each in rows[30:60]]
    (folder / "more" / "b.jsonl").write_text(
        "\n".join([*lines, "no JSON", '{"sku": "x"}', '{"sku": "y", "said": " ", "n": 1}'])
    )
    csv = [f"{each['sku']},{each['said']},{each['n']}" for each in rows[60:]]
    (folder / "c.csv").write_text("\n".join(["sku,said,n", *csv]))
    return folder


@pytest.fixture(scope="module")
def environment(built: Callable[..., Path], cache: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HARRIER_")}
    return {**kept, "HARRIER_MODEL": str(built("qwen3", vectors="words")), "HARRIER_CACHE": str(cache)}


@pytest.fixture
def call(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Call:
    """Return a function that runs the command in this process, which is connected to the tests' cluster."""
    for name in ("HARRIER_MODEL", "HARRIER_CACHE"):
        monkeypatch.setenv(name, environment[name])
    monkeypatch.setattr("harrier_cli.progress._EVERY", 1e9)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, code: int = 0) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["harrier", "ingest", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        told = capfd.readouterr()
        assert (end.value.code or 0) == code, told
        return told.out, told.err

    return call


def without_metadata_order(rows: list[Any]) -> list[Any]:
    return [tuple(dict(sorted(each.items())) if isinstance(each, dict) else each for each in row) for row in rows]


def test_the_same_as_without(call: Call, goods: Path, postgres: str) -> None:
    """Rows, vectors, origins, the report and the rejected records are the same. PATHs may be patterns."""
    places = {name: f"{url_of(postgres)}&table={name}" for name in ("raysame", "rayone")}
    said, amiss = call("goods", *COLUMNS, "--to", places["rayone"], "--json", code=1)
    said_by_ray, amiss_by_ray = call(
        "--ray", "goods", *COLUMNS, "--to", places["raysame"], "--workers", "2", "--json", code=1
    )
    expected, report = json.loads(said), json.loads(said_by_ray)
    for each in (expected, report):
        each["rejected"].sort(key=str)
        assert each.pop("seconds") > 0
    assert report == expected
    assert len(report["rejected"]) == 2
    assert (report["records"], report["written"], report["blank"]) == (90, 90, ["y"])
    assert content(postgres, "raysame") == content(postgres, "rayone")
    assert amiss == amiss_by_ray

    (goods / "c.csv").write_text("sku,said,n\ns60,Bread number 60 rises.,60\n")
    options = ("--to", places["raysame"], "--workers", "1", "--prune", "--json")
    out, _ = call("--ray", "goods/*.csv", "goods/*.parquet", *COLUMNS, *options)
    report = json.loads(out)
    assert (report["records"], report["written"], report["deleted"], report["pruned"]) == (31, 0, 29, True)


@pytest.mark.slow
def test_a_file_that_cannot_be_read(call: Call, goods: Path, postgres: str) -> None:
    """Nothing is removed, and the exit code reports the file; a repeated id is named."""
    place = f"{url_of(postgres)}&table=raybroken"
    call("--ray", "goods", *COLUMNS, "--to", place, "--workers", "1", "--allow-rejected", "2")
    (goods / "a.parquet").write_bytes(b"PAR1 and no more")
    (goods / "more" / "b.jsonl").write_text('{"sku": "s30", "said": "Bread number 30 rises.", "n": 30}\n' * 2)
    options = (*COLUMNS, "--to", place, "--workers", "1", "--prune")
    out, told = call("--ray", "goods", *options, "--source", "goods", "--moved", code=1)
    assert "rejected: goods/a.parquet: cannot be read as Parquet" in told
    assert "repeated: s30: occurred more than once; any of them may be the one that is stored" in told
    assert "not pruned: the unreadable records cannot be identified" in told
    assert "0 deleted" in out
    assert len(content(postgres, "raybroken")) == 90


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["."], "--ray reads rows, .* and not .*notes.pdf and 1 more; choose files with --include"),
        (["notes.pdf", "--format", "pdf"], "--ray reads rows"),
        (["-"], "standard input cannot be read by other machines; write it to a file"),
        (["https://example.com/a.csv"], "web pages are read by one process"),
        (["--from", "postgresql://nowhere/db", "--table", "t"], "--ray reads files, but --from reads one cursor"),
        (["rows.jsonl", "--dry-run"], "--dry-run counts in one process; omit --ray"),
        (
            ["rows.jsonl", "--to", "qdrant:q?collection=c"],
            "Qdrant Edge lets one process at a time .* ingest without Ray",
        ),
        (["rows.jsonl", "--to", "postgresql://me:hush@nowhere/db?table=t"], "the index holds a secret, a password"),
        (["rows.jsonl"], "workers must be given if no worker has a GPU"),
        (["nothing/*.parquet"], "there is no nothing/\\*.parquet"),
    ],
)
def test_refusals(call: Call, tmp_path: Path, postgres: str, arguments: list[str], why: str) -> None:
    """The error is one line that says what to do instead."""
    (tmp_path / "notes.pdf").write_bytes(b"%PDF-")
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    to = [] if "--to" in arguments else ["--to", f"{url_of(postgres)}&table=rayrefused"]
    _, told = call("--ray", *arguments, *to, code=2)
    [line] = told.splitlines()
    assert line.startswith("error: ")
    assert "hush" not in line
    import re

    assert re.search(why, line), line


def test_a_folder_on_several_machines(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused, because each machine would have its own database in it."""
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    nodes = [{"Alive": alive, "NodeManagerHostname": name} for name, alive in (("a", 1), ("b", 1), ("c", 0))]
    monkeypatch.setattr("ray.nodes", lambda: nodes)
    _, told = call("--ray", "rows.jsonl", "--workers", "1", "--to", "pgvector:db?table=t", code=2)
    assert "is in a folder of this machine, and the cluster has 2 machines; use a server" in told


@pytest.mark.slow
def test_addresses(environment: dict[str, str], postgres: str, tmp_path: Path) -> None:
    """An address where nothing listens fails quickly, and an address of Ray Client is refused."""
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    arguments = ["rows.jsonl", "--to", f"{url_of(postgres)}&table=raynowhere", "--workers", "1"]
    for address, code, why in (
        ("127.0.0.1:9", 3, "no Ray cluster can be reached at 127.0.0.1:9 (ConnectionRefusedError)"),
        ("ray://127.0.0.1:9", 2, "ray job submit -- harrier ingest --ray auto"),
    ):
        command = [sys.executable, "-m", "harrier_cli", "ingest", "--ray", address, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
        assert done.returncode == code, done.stderr
        assert why in done.stderr.splitlines()[-1]


def test_without_ray(environment: dict[str, str], tmp_path: Path) -> None:
    """The error says what to install."""
    program = "import sys; sys.modules['ray'] = None; from harrier_cli import main; main()"
    command = [sys.executable, "-c", program, "ingest", "--ray", "rows.jsonl", "--to", "postgresql://nowhere/db"]
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    [line] = done.stderr.splitlines()
    assert (done.returncode, "pip install 'harrier-kit[ray]'" in line) == (3, True), done.stderr


def test_a_cluster_for_one_command(environment: dict[str, str], goods: Path, postgres: str, tmp_path: Path) -> None:
    """The command starts and ends it; it listens only on loopback, and sends no statistics."""
    command = [sys.executable, "-m", "harrier_cli", "ingest", "--ray", str(goods / "c.csv"), *COLUMNS]
    own = {name: value for name, value in environment.items() if not name.startswith("RAY_")}
    own |= {"HOME": str(tmp_path)}
    listening: set[str] = set()
    environments: dict[str, dict[str, str]] = {}
    with subprocess.Popen(
        [*command, "--workers", "1", "--to", f"{url_of(postgres)}&table=rayown"],
        env=own,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while process.poll() is None:
            for each in _started_by(process.pid):
                addresses = _listens(each)
                listening |= addresses
                with suppress(psutil.Error):
                    if addresses and (name := each.name()) in ("gcs_server", "raylet"):
                        environments[name] = each.environ()
            time.sleep(0.3)
        out, told = process.communicate()
    assert process.returncode == 0, told
    assert "30 records" in out
    usual = ("ingesting: ", "RAY_BACKEND_LOG_LEVEL")  # Ray reports this variable
    assert all(any(each in line for each in usual) for line in told.splitlines()), told
    assert [each["RAY_USAGE_STATS_ENABLED"] for each in environments.values()] == ["0", "0"]
    assert all(ipaddress.ip_address(each.removeprefix("::ffff:")).is_loopback for each in listening), listening
    assert not (tmp_path / ".ray").exists()  # it would hold a token that others could read


def _started_by(process: int) -> Iterator[Any]:
    with suppress(psutil.Error):
        yield from psutil.Process(process).children(recursive=True)


def _listens(process: Any) -> set[str]:
    with suppress(psutil.Error):
        return {each.laddr.ip for each in process.net_connections("inet") if each.status == psutil.CONN_LISTEN}
    return set()
