"""What the README says holds: its examples run as they stand, and what it names is there."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from harrier_pgvector import PgVectorStore
from loopback_hub import Hub

from harrier_core import Encoder, Index, Record

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.timeout(500)
def test_every_example_runs(hub: Hub, built: Callable[..., Path], tmp_path: Path) -> None:
    """Stand-ins take the places of the published models; no example fails, and the first prints what it says."""
    hub.push("microsoft/harrier-oss-v1-270m", built("gemma3", vectors="words"))
    hub.push("microsoft/harrier-oss-v1-0.6b", built("qwen3", vectors="words"))
    script = tmp_path / "readme.py"
    script.write_text("\n".join(re.findall(r"```python\n(.*?)```", README, re.DOTALL)), encoding="utf-8")
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-X", "utf8", str(script)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=500)
    assert done.returncode == 0, done.stderr
    [shown] = re.findall(r"\n((?:    Instruct: .*\n    Query: .*\n))", README)
    assert re.sub(r"^    ", "", shown, flags=re.MULTILINE) in done.stdout


def test_a_table_in_partitions_is_filled_and_searched(postgres: str, encoder: Encoder) -> None:
    """By the SQL of the README, over a table that an ingest of nothing made."""
    [statements] = [sql for sql in re.findall(r"```sql\n(.*?)```", README, re.DOTALL) if "PARTITION" in sql]
    records = [Record(str(number), f"text {number}") for number in range(1_050)]
    with Index(PgVectorStore(postgres), encoder) as index, psycopg.connect(postgres, autocommit=True) as connection:
        index.ingest([])
        connection.execute(statements)
        assert index.ingest(records).written == 1_050
        assert index.ingest([Record("0", "another text"), *records[1:]]).unchanged == 1_049
        assert index.ingest(records[:1_040], prune=True).deleted == 10
        assert len(index.search("text", k=30)) == 30
        indexed = "SELECT tablename FROM pg_indexes WHERE tablename ~ '^documents(_.)?$' AND indexdef ~ 'hnsw'"
        assert connection.execute(indexed).rowcount == 3  # the table's own, which is none, and one a partition
        connection.execute("DROP TABLE documents")


def test_its_commands_files_and_headings_are_there() -> None:
    """Links lead somewhere, and every target of the Makefile that is named can be made."""
    headings = re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    defined = dict(re.findall(r"^\[(.*)\]: (.*)$", README, re.MULTILINE))
    assert set(re.findall(r"\]\[([^]]+\.md)\]", README)) == set(defined)
    # PyPI shows this file as well, where a path would lead nowhere.
    for link in [*re.findall(r"\]\(([^)]*)\)", README), *defined.values()]:
        path = re.sub(r"^https://(github\.com/(.*)/blob|raw\.githubusercontent\.com/(.*))/main/", r"\2\3:", link)
        here = path.startswith("harrier-kit/harrier-kit:") and (ROOT / path.partition(":")[2]).is_file()
        assert link[1:] in anchors if link.startswith("#") else here, link
    for path in re.findall(r"`((?:tests|harrier_core|notebooks)/[\w/.]*|docker-compose.yml)`", README):
        assert (ROOT / path).exists(), path
    targets = re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = re.findall(r"(?:`|    )make ([a-z][\w-]*)|`(bench-[\w-]+)`", README)
    assert {one or other for one, other in named} <= set(targets)
    assert all(f"make {target}" in README for target in targets if re.fullmatch(r"test[\w-]*|check|demo", target))


def test_its_figures_are_those_of_the_benchmarks() -> None:
    """Every figure with a command stands in the notes of the benchmarks as well."""
    notes = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| .* \| ([\d. to]+) \|.*\| `bench-[\w-]+` \|$", README, re.MULTILINE)
    assert len(rows) > 10
    for figure in " ".join(rows).replace("to", "").split():
        assert re.search(rf"(?<![\d.]){re.escape(figure)}(?![\d.]*\d)", notes), figure


def test_its_messages_are_those_that_the_kit_says() -> None:
    """Whoever looks for an error finds the words that they saw."""
    section = README.partition("## Troubleshooting")[2].partition("\n## ")[0]
    messages = re.findall(r"^\| `(.*?)` \|", section, re.MULTILINE)
    assert len(messages) >= 10
    said = list(_said())
    for message in messages:
        pattern = ".*".join(re.escape(part.strip()) for part in message.split("…"))
        assert any(re.search(pattern, each) for each in said), message


def _said() -> Iterator[str]:
    """All strings of the kit's sources, with … for what is filled in."""
    for folder in ("harrier_core", "adapters", "integrations"):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value
