"""A small form of benchmarks/evaluation.py with a trained model: `pytest -m slow --retriever FOLDER`."""

from __future__ import annotations

from pathlib import Path

import pytest

from harrier_core import Chunking, Index
from harrier_core.evaluation import Judgements, evaluate
from harrier_core.testing import MemoryStore

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def retriever(pytestconfig: pytest.Config) -> Path:
    folder = pytestconfig.getoption("--retriever")
    if not folder:
        pytest.skip("no trained model: give --retriever FOLDER, such as all-MiniLM-L6-v2 of sentence-transformers")
    return Path(folder)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_a_few_pages(retriever: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Descriptions find their English pages, and an untrained instruction is detected as harmful."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    from evaluation import Instructed
    from manual_pages import pages

    records, judgements = pages(tmp_path)
    some = [each for each in records if each.id.startswith("en/")][::4]
    ids = {each.id for each in some}
    own = Judgements(each for each in judgements if set(each.grades) <= ids)
    task = "instruction=Given a description, retrieve the manual page that it describes"
    with Index(MemoryStore(keywords=True), Instructed(retriever, tmp_path), chunking=Chunking(tokens=100)) as index:
        index.ingest(some)
        report = evaluate(index, own, k=10, compare=[task, "exact"], latency=0)
    assert len(own) > 200
    assert report["ndcg@10"].low > 0.5
    [instructed, exact] = report.comparisons
    assert instructed.significant
    assert instructed.difference.mean < 0
    assert exact.changed == 0
