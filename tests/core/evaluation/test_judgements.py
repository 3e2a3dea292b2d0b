"""Judgements in files of three formats, and invalid ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from judging import Bag

from harrier_core import Chunking, Index, Record, SettingError
from harrier_core.evaluation import Judgements, Question, evaluate
from harrier_core.testing import MemoryStore


@pytest.fixture
def beir(tmp_path: Path) -> Path:
    """Return a BEIR folder with a query of another split."""
    (tmp_path / "qrels").mkdir()
    queries = [
        {"_id": "q1", "text": "why does bread rise", "metadata": {"lang": "en"}},
        {"_id": "q2", "text": "où va le sable", "metadata": {}},
        {"_id": "q3", "text": "of the training split"},
    ]
    (tmp_path / "queries.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in queries), encoding="utf-8")
    rows = "query-id\tcorpus-id\tscore\nq1\tbread rises\t2\nq1\tsea\t0\nq2\tsea\t1\n"
    (tmp_path / "qrels" / "test.tsv").write_text(rows, encoding="utf-8")
    return tmp_path


def test_a_beir_folder(beir: Path) -> None:
    judgements = Judgements.load(beir)
    assert [each.id for each in judgements] == ["q1", "q2"]
    assert judgements[0] == Question("q1", "why does bread rise", {"bread rises": 2, "sea": 0}, metadata={"lang": "en"})
    assert judgements[0].relevant == ["bread rises"]
    assert judgements.name == beir.name


def test_a_saved_folder_is_equal(beir: Path, tmp_path: Path) -> None:
    """Groups are kept; the digest identifies judgements regardless of the format."""
    judgements = Judgements([*Judgements.load(beir), Question("q4", "more", {"a": 1}, group="g")])
    judgements.save(tmp_path / "again", split="dev")
    loaded = Judgements.load(tmp_path / "again", split="dev")
    assert list(loaded) == list(judgements)
    judgements.save(tmp_path / "lines.jsonl")
    assert list(Judgements.load(tmp_path / "lines.jsonl")) == list(judgements)
    assert loaded.digest == judgements.digest != Judgements.load(beir).digest


@pytest.mark.parametrize(
    "topics",
    [
        "1\twhy does bread rise\n2\twhere does sand go\n",
        """<top>
<num> Number: 1
<title> why does
bread rise
<desc> Description: long
</top>
<top><num>2</num><title>where does sand go</title></top>""",
    ],
)
def test_a_trec_folder(tmp_path: Path, topics: str) -> None:
    """Topics are one per line, or in TREC's own format."""
    (tmp_path / "topics.txt").write_text(topics, encoding="utf-8")
    (tmp_path / "qrels.txt").write_text("1 0 bread 1\n1 0 sea -1\n2 0 sea 3\n", encoding="utf-8")
    judgements = Judgements.load(tmp_path)
    assert [(each.id, each.text) for each in judgements] == [("1", "why does bread rise"), ("2", "where does sand go")]
    assert [each.grades for each in judgements] == [{"bread": 1, "sea": -1}, {"sea": 3}]
    assert judgements[0].relevant == ["bread"]


def test_json_lines(tmp_path: Path) -> None:
    """Ids, grades and texts are accepted; a question without an id always gets the same one."""
    lines = [
        {"question": "why does bread rise", "answers": ["bread"]},
        {"id": 7, "question": "graded", "answers": {"a": 2, "b": 0}, "metadata": {"lang": "en"}, "group": "g"},
        {"question": "by text", "texts": ["yeast makes gas"]},
    ]
    (tmp_path / "q.jsonl").write_text("\ufeff" + "\n\n".join(map(json.dumps, lines)), encoding="utf-8")
    first, second, third = Judgements.load(tmp_path / "q.jsonl")
    assert first.grades == {"bread": 1}
    assert first.id == Judgements.of({"why does bread rise": ["bread"]})[0].id
    assert second == Question("7", "graded", {"a": 2, "b": 0}, metadata={"lang": "en"}, group="g")
    assert (third.grades, third.texts) == ({}, ("yeast makes gas",))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("nonsense", "line 1: not a JSON object"),
        ("[]", "line 1: not a JSON object"),
        ('{"answers": []}', "line 1: 'question' must be a string"),
        ('{"question": "a", "answers": [1]}', "line 1: 'answers' must be a list of strings"),
        ('{"question": "a", "answers": {"b": "high"}}', "grades must be integers"),
        ('{"question": "a", "answer": ["b"]}', "line 1: unknown key 'answer'"),
        ('{"question": "a", "metadata": 1}', "line 1: 'metadata' must be an object"),
        ('{"question": " ", "answers": ["b"]}', "is empty or blank"),
        ("", "judgements must have at least one question, got none"),
        ('{"question": "a"}\n{"question": "a"}', "the ids of questions must be unique"),
    ],
)
def test_invalid_lines(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "q.jsonl").write_text(line, encoding="utf-8")
    with pytest.raises(SettingError, match=said):
        Judgements.load(tmp_path / "q.jsonl")


def test_invalid_folders(beir: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"has no qrels/dev.tsv; it has these splits: test"):
        Judgements.load(beir, split="dev")
    with pytest.raises(SettingError, match="there are no judgements at"):
        Judgements.load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingError, match=r"has neither queries.jsonl and qrels/test.tsv, .* nor a file topics"):
        Judgements.load(tmp_path / "empty")
    (beir / "qrels" / "test.tsv").write_text("q1\tbread\n", encoding="utf-8")
    with pytest.raises(
        SettingError, match=r"test.tsv, line 1: a line in BEIR format must have a query, a record and a"
    ):
        Judgements.load(beir)
    (beir / "qrels" / "test.tsv").write_text("q9\tbread\t1\n", encoding="utf-8")
    with pytest.raises(SettingError, match="judges 1 question without a text, such as 'q9'"):
        Judgements.load(beir)
    with pytest.raises(SettingError, match="save to a .jsonl file"):
        Judgements([Question("q", "text", texts=("answer",))]).save(tmp_path / "out")
    with pytest.raises(SettingError, match="an id with a tab or a line break"):
        Judgements.of({"text": ["a\tb"]}).save(tmp_path / "out")


def test_answers_by_their_texts() -> None:
    """A text may span chunks, differ in white space and case, and occur in several records."""
    long = " ".join(f"word{number}" for number in range(60))
    records = [
        Record("long", long),
        Record("bread", "Bread rises because\nYEAST makes  gas."),
        Record("copy", "They say that yeast makes gas. Indeed."),
        Record("other", "nothing of it"),
    ]
    judgements = Judgements(
        [
            Question("a", "why does bread rise", texts=("yeast makes gas",)),
            Question("b", "word30 word31", texts=(" ".join(f"word{number}" for number in range(5, 55)),)),
            Question("c", "nowhere", texts=("this is not there",)),
        ]
    )
    with Index(MemoryStore(), Bag(), chunking=Chunking(tokens=16)) as index:
        index.ingest(records)
        assert index.count() > 4
        report = evaluate(index, judgements, latency=0)
    assert [(each.id, each.relevant) for each in report.questions] == [("a", ["bread", "copy"]), ("b", ["long"])]
    assert report.notes[:2] == [
        "1 question without a record that answers is left out",
        "1 question with a text that no record of the index holds",
    ]
