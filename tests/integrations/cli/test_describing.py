"""Listings of indexes and models, and help texts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

import harrier_core

Run = Callable[..., subprocess.CompletedProcess[str]]

COMMANDS = [
    "ingest",
    "search",
    "info",
    "ls",
    "verify",
    "keywords",
    "delete",
    "drop",
    "models",
    "prompt",
    "embed",
    "demo",
]


def test_ls(call: Run, tmp_path: Path) -> None:
    """Each collection of a folder is listed with its size; a foreign folder is not."""
    for name in ("b", "a"):
        call("ingest", "-", "--to", f"qdrant:{tmp_path}/q?collection={name}", given="a text")
    (tmp_path / "q" / "other").mkdir()
    head, *lines = call("ls", f"qdrant:{tmp_path}/q").stdout.splitlines()
    assert head.split() == ["place", "records", "chunks", "size", "model"]
    assert [line.split()[:3] for line in lines] == [
        [f"qdrant:{tmp_path}/q?collection={name}", "1", "1"] for name in ("a", "b")
    ]
    found = json.loads(call("ls", f"qdrant:{tmp_path}/q", "--json").stdout)
    assert [each["space"]["dimensions"] for each in found] == [256, 256]


def test_defaults_of_a_file(call: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below a folder with a harrier.toml, no options are needed."""
    model = os.environ["HARRIER_MODEL"]
    (tmp_path / "harrier.toml").write_text(
        f'index = "qdrant:index"\nmodel = "{model}"\ntask = "sts_query"\ndevice = "cpu"\n', encoding="utf-8"
    )
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    monkeypatch.delenv("HARRIER_MODEL")
    call("ingest", "-", given="bread rises")
    assert (tmp_path / "index").is_dir()
    assert call("search", "bread").stdout.startswith("stdin/-:1  ")
    assert "records  1\n" in call("info").stdout
    assert "semantically similar" in call("prompt", "bread").stdout
    assert "semantically similar" not in call("prompt", "bread", "--instruction", "Find bread").stdout
    assert call("search", "bread", "--device", "nonsense", code=3).stderr.startswith("error: unknown device 'nonsense'")


def test_an_unknown_task(call: Run) -> None:
    """The remedy is an option of the command, not Python code."""
    told = call("prompt", "x", "--task", "foo", code=2)
    assert (
        "unknown task 'foo'; this model knows bitext_query, sts_query, web_search_query; pass your own" in told.stderr
    )
    assert "Task(" not in told.stderr


def test_rejected_records_that_are_allowed(call: Run, tmp_path: Path) -> None:
    """A few rejected records can be allowed, and are still reported."""
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("a text", encoding="utf-8")
    (tmp_path / "notes" / "bad.txt").write_bytes(b"caf\xe9")
    to = ("notes", "--to", f"qdrant:{tmp_path}/q")
    assert call("ingest", *to, code=1).stdout.endswith("1 rejected\n")
    told = call("ingest", *to, "--allow-rejected", "1", "--quiet")
    assert (told.stdout, told.stderr.count("rejected: notes/bad.txt")) == ("", 1)
    told = call("ingest", *to, "--allow-rejected", "1", "--verbose")
    assert "harrier_core.index: ingest: 1 record in" in told.stderr
    assert "harrier_core.index" not in call("ingest", *to, "--allow-rejected", "1").stderr


def test_a_dry_run_reports_no_speed(call: Run, tmp_path: Path) -> None:
    told = call("ingest", "-", "--to", f"qdrant:{tmp_path}/q", "--dry-run", given="a text")
    assert told.stdout == ("would be: 1 record; 1 chunk written (1 encoded); 0 unchanged, 0 deleted; 0 rejected\n")


def test_version(call: Run) -> None:
    assert call("--version").stdout == f"harrier-kit {harrier_core.__version__}\n"
    assert re.fullmatch(r"\d+\.\d+\.\d+", harrier_core.__version__)
    with pytest.raises(AttributeError, match="no attribute 'versoin'"):
        _ = harrier_core.versoin  # type: ignore[attr-defined]


def test_models_that_do_not_fit(call: Run) -> None:
    """A model that exceeds this machine's memory is marked, with the missing amount."""
    large = json.loads(call("models", "--json").stdout)[2]
    if large["fits"]:
        pytest.skip(f"this machine has {large['memory']} GB, which is enough for all models")
    assert large["memory"] < large["gigabytes"]
    assert re.search(r"does not fit: needs [\d,]+ GB, .* has [\d,]+ GB\n", call("models").stdout)


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("name", [*COMMANDS, "sync create", "sync run", ""])
def test_help_fits(call: Run, monkeypatch: pytest.MonkeyPatch, name: str, columns: int) -> None:
    """Help fits in 80 columns, shows no type for flags, and has an example for each command."""
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = call(*name.split(), "--help").stdout
    lines = [line.rstrip() for line in shown.splitlines()]
    assert max(map(len, lines)) <= columns
    assert "<bool>" not in shown
    prose = [line for line in lines if line.startswith(" ") and not line.startswith(("   ", " Usage", " Example"))]
    for line, following in pairwise(prose):
        if lines[lines.index(line) + 1] == following:  # of one paragraph: the next word did not fit
            assert len(line) + 1 + len(following.split()[0]) >= columns - 1
    if name in COMMANDS:
        assert f"  harrier {name}" in shown
    if name:
        assert "--quiet" in shown


def test_help_with_a_broken_pipe(command: list[str], environment: dict[str, str]) -> None:
    """`harrier --help | true` has the exit code of a broken pipe."""
    child = subprocess.Popen([*command, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    assert child.stdout is not None
    child.stdout.close()
    assert child.stderr is not None
    assert child.stderr.read() == b""
    child.stderr.close()
    assert child.wait(30) == 141


LEAN = """
import sys
from harrier_cli import main
sys.argv = ["harrier", "search", "bread", "--in", sys.argv[1], "--device", "cpu"]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
heavy = ("transformers", "torch._dynamo", "torch._inductor", "qdrant_client", "grpc", "psycopg", "pypdfium2", "lxml")
print([name for name in heavy if name in sys.modules])
"""


def test_a_search_imports_what_it_needs(call: Run, environment: dict[str, str], tmp_path: Path) -> None:
    """With Qdrant Edge on a CPU, transformers, torch's compiler and server clients are not imported."""
    place = f"qdrant:{tmp_path}/q"
    call("ingest", "-", "--to", place, given="bread rises")
    done = subprocess.run(
        [sys.executable, "-c", LEAN, place], check=True, capture_output=True, text=True, env=environment
    )
    assert done.stdout.endswith("[]\n")
