"""Questions, with the records that answer them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, overload

from harrier_core.errors import SettingError
from harrier_core.evaluation.formats import line_of, load, save
from harrier_core.evaluation.question import Question, question_id
from harrier_core.texts import unusable

if TYPE_CHECKING:
    from typing import Self


class Judgements(Sequence[Question]):
    """Questions with their answers."""

    def __init__(self, questions: Iterable[Question], name: str = "judgements") -> None:
        """Take questions, each with its own id. name: their name in reports."""
        self._questions = tuple(questions)
        self.name = name
        _check(self._questions)

    @classmethod
    def of(cls, answers: Mapping[str, Iterable[str]], name: str = "judgements") -> Self:
        """Make judgements of questions by their texts, each with the ids of the records that answer it."""
        made = (
            Question(question_id(text), text, dict.fromkeys([records] if isinstance(records, str) else records, 1))
            for text, records in answers.items()
        )
        return cls(made, name)

    @classmethod
    def load(cls, path: str | Path, *, split: str = "test") -> Self:
        """Read a folder in BEIR's or TREC's form, or a file of JSON lines.

        BEIR: queries.jsonl and qrels/SPLIT.tsv. TREC: a file topics* or queries* and a file qrels*. JSON lines:
        {"question": ..., "answers": [ids] or {id: grade}}, or "texts" that answer instead of "answers"; "id",
        "metadata" and "group" are optional.
        """
        questions, name = load(Path(path), split)
        return cls(questions, name)

    def save(self, path: str | Path, *, split: str = "test") -> None:
        """Write them as JSON lines if the path ends in .jsonl, else as a folder in BEIR's form, without a corpus."""
        save(self, Path(path), split)

    def to_jsonl(self) -> str:
        """Return the questions as JSON lines, as `load` reads them."""
        return "".join(map(line_of, self))

    @property
    def digest(self) -> str:
        """A short string that is the same for the same questions and grades in the same order."""
        own = [[each.id, each.text, sorted(each.grades.items()), list(each.texts), each.group] for each in self]
        return blake2b(json.dumps(own).encode(), digest_size=16).hexdigest()

    @overload
    def __getitem__(self, at: int) -> Question: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Question]: ...
    def __getitem__(self, at: int | slice) -> Question | Sequence[Question]:
        return self._questions[at]

    def __len__(self) -> int:
        return len(self._questions)

    def __iter__(self) -> Iterator[Question]:
        return iter(self._questions)

    def __repr__(self) -> str:
        return f"Judgements({self.name!r}, {len(self)} questions)"


def _check(questions: Sequence[Question]) -> None:
    if not questions:
        raise SettingError("judgements must have at least one question, got none")
    for problem in unusable([each.text for each in questions]):
        raise SettingError(f"question {questions[problem.position].id!r} {problem.reason}")
    [(commonest, times)] = Counter(each.id for each in questions).most_common(1)
    if times > 1:
        raise SettingError(f"the ids of questions must be unique, got {commonest!r} {times} times")
    for each in questions:
        for record, grade in each.grades.items():
            if type(grade) is not int or not isinstance(record, str):
                raise SettingError(f"question {each.id!r}: grades must be integers by record ids")
