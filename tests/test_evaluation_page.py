"""The page docs/evaluation.md: its program runs, its options exist, and its comparisons are valid."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harrier_cli.app import app
from judging import Bag
from typer.testing import CliRunner

from harrier_core import Index, Record
from harrier_core.evaluation import Judgements, evaluate
from harrier_core.evaluation.systems import System, systems_of
from harrier_core.testing import MemoryStore

PAGE = (Path(__file__).parents[1] / "docs" / "evaluation.md").read_text(encoding="utf-8")
RECORDS = [Record(name, f"{name} is what it is about") for name in ("bread", "river", "vaccine", "sky")]


@pytest.fixture
def index() -> Iterator[Index]:
    with Index(MemoryStore(keywords=True), Bag()) as index:
        index.ingest(RECORDS)
        yield index


def test_the_program_runs(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Judgements.of({f"what is {each.id}": [each.id] for each in RECORDS}).save("questions.jsonl")
    [program] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(program, {"index": index})
    assert Path("report.html").stat().st_size > 5_000


def test_the_example_of_judgements(tmp_path: Path) -> None:
    [line] = re.findall(r'`(\{"question".*?\})`', PAGE)
    (tmp_path / "q.jsonl").write_text(line, encoding="utf-8")
    assert Judgements.load(tmp_path / "q.jsonl")[0].relevant == ["bread"]


def test_the_comparisons(index: Index, tmp_path: Path) -> None:
    """Each first cell of the table works, with PLACE as another index, and FILE as a run."""
    table = PAGE.partition("| `--compare` | is |\n")[2].partition("\n\n")[0]
    given = [each.strip("'") for row in table.splitlines()[1:] for each in re.findall(r"`(.*?)`", row.split("|")[1])]
    assert len(given) > 10
    judgements = Judgements.of({"bread": ["bread"]})
    evaluate(index, judgements, latency=0).results[0].run.save(tmp_path / "run.trec")
    opened: list[tuple[str, str | None]] = []

    def open_index(url: str, model: str | None) -> Any:
        opened.append((url, model))
        return index

    said = [each.replace("FILE", str(tmp_path / "run.trec")) for each in given]
    assert len(systems_of(said, System(), index, open_index)) >= len(given)
    assert opened == [("PLACE", None), ("PLACE", "NAME")]


def test_the_options_exist() -> None:
    told = CliRunner().invoke(app, ["eval", "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    for option in set(re.findall(r"--[a-z][a-z-]+", PAGE)):
        assert option in told.output, option
