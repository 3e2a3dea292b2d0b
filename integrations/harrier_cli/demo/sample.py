"""Short texts in twenty languages, and questions about them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from harrier_core import Record


@dataclass(frozen=True, slots=True)
class Question:
    """A question about the sample, and the ids of the passages that answer it, in any language."""

    text: str
    lang: str
    answers: tuple[str, ...]


def passages() -> list[Record]:
    """Return the sample: short texts in twenty languages; some say the same, and some only sound like answers."""
    return [Record(row["id"], row["text"], {"lang": row["lang"]}) for row in _rows("passages")]


def questions() -> list[Question]:
    """Return questions about the sample, with their answers."""
    return [Question(row["question"], row["lang"], tuple(row["answers"])) for row in _rows("questions")]


def _rows(name: str) -> Iterator[dict[str, Any]]:
    text = files("harrier_cli").joinpath("sample", f"{name}.jsonl").read_text(encoding="utf-8")
    return map(json.loads, text.splitlines())


def write_notes(folder: Path) -> None:
    """Write each passage as a Markdown file, named by its id."""
    folder.mkdir()
    for passage in passages():
        (folder / f"{passage.id}.md").write_text(f"{passage.text}\n", encoding="utf-8")


def write_rows(file: Path, number: int) -> None:
    """Write the given number of rows, each with its own id; their texts are the passages, repeated."""
    with file.open("w", encoding="utf-8") as rows:
        for place, passage in enumerate(islice(cycle(passages()), number), 1):
            rows.write(json.dumps({"id": f"row-{place}", "text": passage.text}) + "\n")


def recall(rankings: Sequence[Sequence[str]], asked: Sequence[Question], k: int) -> float:
    """Return the share of a question's answers among the first k, on average over the questions."""
    shares = [
        len(set(ranking[:k]) & set(question.answers)) / len(question.answers)
        for ranking, question in zip(rankings, asked, strict=True)
    ]
    return sum(shares) / len(shares)
