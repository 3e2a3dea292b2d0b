"""Judgements as files: BEIR's folders, TREC's topics and qrels, JSON lines."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harrier_core.errors import SettingError
from harrier_core.evaluation.question import Question, question_id
from harrier_core.plurals import counted

_QUERIES = "queries.jsonl"
_HEADER = "query-id\tcorpus-id\tscore"
_LINES = (".jsonl", ".ndjson")
_TOPIC = re.compile(r"<top>(.*?)</top>", re.DOTALL | re.IGNORECASE)
_NUMBER = re.compile(r"<num>\s*(?:Number:)?\s*([^\s<]+)", re.IGNORECASE)
_TITLE = re.compile(r"<title>\s*(?:Topic:)?(.*?)(?=<|\Z)", re.DOTALL | re.IGNORECASE)
_KEYS = ("id", "question", "answers", "texts", "metadata", "group")

Grades = dict[str, dict[str, int]]  # by the ids of questions, and then of records


def load(path: Path, split: str) -> tuple[list[Question], str]:
    """Return the questions of a folder or file, and its name; see `Judgements.load`."""
    if not path.exists():
        raise SettingError(f"there are no judgements at {path}; pass a folder in BEIR or TREC format, or a .jsonl file")
    if path.is_file():
        return list(_of_lines(path)), path.stem
    if (path / _QUERIES).exists():
        return _of_beir(path, split), path.name
    topics, qrels = _one_of(path, "topics*", "queries*"), _one_of(path, "qrels*")
    if topics is None or qrels is None:
        raise SettingError(
            f"{path} has neither {_QUERIES} and qrels/{split}.tsv, as BEIR's folders have, nor a file topics* or "
            "queries* and a file qrels*, as TREC's have"
        )
    return _joined(_topics(topics), _grades(qrels, "TREC"), qrels), path.name


def save(judgements: Sequence[Question], path: Path, split: str) -> None:
    """Write questions; see `Judgements.save`."""
    if path.suffix in _LINES:
        path.write_text("".join(line_of(each) for each in judgements), encoding="utf-8")
        return
    for each in judgements:
        if each.texts:
            raise SettingError(
                f"question {each.id!r} is answered by texts, which BEIR format cannot hold; save to a .jsonl file"
            )
        if any(mark in name for name in (each.id, *each.grades) for mark in "\t\n\r"):
            raise SettingError(f"question {each.id!r} has an id with a tab or a line break; save to a .jsonl file")
    (path / "qrels").mkdir(parents=True, exist_ok=True)
    lines = [{"_id": each.id, "text": each.text, "metadata": {**each.metadata, **_group(each)}} for each in judgements]
    (path / _QUERIES).write_text("".join(f"{_json(line)}\n" for line in lines), encoding="utf-8")
    rows = [f"{each.id}\t{record}\t{grade}" for each in judgements for record, grade in each.grades.items()]
    (path / "qrels" / f"{split}.tsv").write_text("\n".join([_HEADER, *rows, ""]), encoding="utf-8")


def line_of(question: Question) -> str:
    """Return a question as a line of JSON."""
    plain = all(grade == 1 for grade in question.grades.values())
    line: dict[str, Any] = {"id": question.id, "question": question.text}
    line["answers"] = list(question.grades) if plain else dict(question.grades)
    if question.texts:
        line["texts"] = list(question.texts)
    if question.metadata:
        line["metadata"] = dict(question.metadata)
    return f"{_json({**line, **_group(question)})}\n"


def _group(question: Question) -> dict[str, str]:
    return {} if question.group is None else {"group": question.group}


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


# -- JSON lines


def _of_lines(path: Path) -> Iterator[Question]:
    for number, line in _json_lines(path):
        where = f"{path}, line {number}"
        text = line.get("question")
        if not isinstance(text, str):
            raise SettingError(f"{where}: 'question' must be a string")
        if unknown := sorted(line.keys() - set(_KEYS)):
            raise SettingError(f"{where}: unknown key {unknown[0]!r}; a line has {', '.join(_KEYS)}")
        answers, texts = line.get("answers", []), line.get("texts", [])
        if not isinstance(answers, Mapping):
            answers = dict.fromkeys(_strings(answers, f"{where}: 'answers'"), 1)
        metadata = line.get("metadata", {})
        if not isinstance(metadata, Mapping):
            raise SettingError(f"{where}: 'metadata' must be an object")
        named = str(line["id"]) if "id" in line else question_id(text)
        group = str(line["group"]) if line.get("group") is not None else None
        yield Question(named, text, answers, tuple(_strings(texts, f"{where}: 'texts'")), metadata, group)


def _strings(value: object, what: str) -> list[str]:
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise SettingError(f"{what} must be a list of strings")
    return value


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(_text(path).split("\n"), 1):
        if line.strip():
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                value = None
            if not isinstance(value, dict):
                raise SettingError(f"{path}, line {number}: not a JSON object")
            yield number, value


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise SettingError(f"{path} is not UTF-8") from None
    except OSError as error:
        raise SettingError(f"{path} cannot be read: {(error.strerror or '').lower()}") from None


# -- BEIR


def _of_beir(path: Path, split: str) -> list[Question]:
    qrels = path / "qrels" / f"{split}.tsv"
    if not qrels.exists():
        others = ", ".join(sorted(each.stem for each in (path / "qrels").glob("*.tsv"))) or "none"
        raise SettingError(f"{path} has no qrels/{split}.tsv; it has these splits: {others}")
    return _joined(_beir_queries(path / _QUERIES), _grades(qrels, "BEIR"), qrels)


def _beir_queries(path: Path) -> Iterator[Question]:
    for number, line in _json_lines(path):
        name, text = line.get("_id"), line.get("text")
        if not isinstance(text, str) or name is None:
            raise SettingError(f"{path}, line {number}: a query must have '_id' and 'text'")
        given = line.get("metadata")
        metadata = dict(given) if isinstance(given, Mapping) else {}
        group = metadata.pop("group", None)
        yield Question(str(name), text, metadata=metadata, group=None if group is None else str(group))


# -- TREC


def _topics(path: Path) -> Iterator[Question]:
    text = _text(path)
    topics = _TOPIC.findall(text)
    if not topics:
        return _rows(path, text)
    return _marked_topics(path, topics)


def _marked_topics(path: Path, topics: Iterable[str]) -> Iterator[Question]:
    for topic in topics:
        number, title = _NUMBER.search(topic), _TITLE.search(topic)
        if number is None or title is None:
            raise SettingError(f"{path}: a topic must have <num> and <title>")
        yield Question(number[1], " ".join(title[1].split()))


def _rows(path: Path, text: str) -> Iterator[Question]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            name, tab, asked = line.rstrip("\r").partition("\t")
            if not tab:
                raise SettingError(f"{path}, line {number}: a topic must be an id, a tab and a text")
            yield Question(name.strip(), asked.strip())


# -- relevance


def _grades(path: Path, form: str) -> Grades:
    """Read the grades in a file with BEIR's three columns or TREC's four."""
    split: Callable[[str], list[str]] = (lambda line: line.split("\t")) if form == "BEIR" else str.split
    found: Grades = {}
    for number, line in enumerate(_text(path).split("\n"), 1):
        if not line.strip() or (form == "BEIR" and number == 1 and line.startswith("query-id")):
            continue
        try:
            question, *between, record, grade = split(line.rstrip("\r"))
            if len(between) != (form == "TREC"):
                raise ValueError  # noqa: TRY301
            found.setdefault(question, {})[record] = int(float(grade))
        except ValueError:
            fields = "a query, a record and a grade" if form == "BEIR" else "a question, 0, a record and a grade"
            raise SettingError(f"{path}, line {number}: a line in {form} format must have {fields}") from None
    return found


def _joined(questions: Iterable[Question], grades: Grades, qrels: Path) -> list[Question]:
    """Return the questions that were judged; others belong to another split."""
    kept = [
        Question(each.id, each.text, grades[each.id], metadata=each.metadata, group=each.group)
        for each in questions
        if each.id in grades
    ]
    if missing := grades.keys() - {each.id for each in kept}:
        raise SettingError(
            f"{qrels} judges {counted(len(missing), 'question')} without a text, such as {min(missing)!r}"
        )
    return kept


def _one_of(path: Path, *patterns: str) -> Path | None:
    files = [each for pattern in patterns for each in sorted(path.glob(pattern)) if each.is_file()]
    return files[0] if files else None
