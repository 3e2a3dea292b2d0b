"""Questions generated from an index's own records, as a start: from titles and rare codes, without a model."""

from __future__ import annotations

import random
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from harrier_core.checks import check_integer
from harrier_core.contents import Contents
from harrier_core.errors import SettingError
from harrier_core.evaluation.judgements import Judgements
from harrier_core.evaluation.question import Question, Tell, ignore, question_id
from harrier_core.lexical import has_code
from harrier_core.records import Chunk

if TYPE_CHECKING:
    from numpy.typing import NDArray

TITLE, IDENTIFIER, ASKED = "title", "identifier", "asked"
CAUTIONS = {  # by the kind of the questions: what they can and cannot show
    TITLE: "titles show whether a record is found by its own title. Most words of a title are in its record, so "
    "they do not show whether paraphrases are understood, and favour search by word",
    IDENTIFIER: "identifiers show whether a rare code finds the only record that has it. They say nothing about "
    "questions in words",
    ASKED: "questions that a model wrote from a record borrow its words, and look easier than those of people",
}

Ask = Callable[[str], str | Iterable[str] | None]  # a record's text to a question that it answers, or several, or none

_CHUNKS = 100_000  # chunks that are checked
_SAID = 1_000  # chunks between two progress reports
_SHINGLE, _SKETCH = 4, 24  # words that are compared together, and how many shingles represent a record
_ALIKE = 0.5  # the share of a sketch that near-duplicate records have in common
_LEAST_TITLE, _MOST_TITLE, _LEAST_BODY = 8, 120, 120  # characters
_LEAST_CODE, _MOST_CODE = 5, 60  # characters
_KEPT = 4_000  # characters of a record
_WITH_DIGIT = re.compile(r"\S*\d\S*")
_EDGES = ".,;:!?()[]{}<>\"'`*"


@dataclass(slots=True)
class _Record:
    """The parts of a record that are kept while all records are read."""

    id: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    parts: dict[int, str] = field(default_factory=dict)  # its first chunks, by their numbers
    size: int = 0  # characters of all
    sketch: NDArray[np.uint32] = field(default_factory=lambda: np.empty(0, np.uint32))

    @property
    def text(self) -> str:
        """The beginning of its text."""
        return "\n".join(self.parts[number] for number in sorted(self.parts))


def make_questions(
    contents: Contents,
    number: int = 200,
    *,
    ask: Ask | None = None,
    seed: int = 0,
    on_progress: Tell | None = None,
) -> Judgements:
    """Make questions from records, each answered by the one that it was made from. People should review them.

    Half of them are titles: from the metadata, or first lines. Half are codes that only one record has. Near-duplicate
    records are left out, because they would be right as well. A question's metadata say how it was "made", and the
    "overlap": the share of its words that its record has.

    contents: an Index, or Contents, which need no model. ask: makes questions from a record's text instead, such as a
    call of a language model. on_progress: called with the current step, how much of it is done, and the total.
    """
    check_integer("number", number, 1)
    survey = _Survey(contents, on_progress or ignore)
    chance = random.Random(seed)  # noqa: S311  # the same questions every time
    if ask is not None:
        made = list(_asked(survey, ask, number, chance))
    else:
        titles, codes = list(_titles(survey, chance, number)), list(_codes(survey, chance, number))
        few = min(len(codes), max(number // 2, number - len(titles)))
        made = [*titles[: number - few], *codes[:few]]
    unique = {each.id: each for each in made}
    if not unique:
        raise SettingError("no question could be made: no record has a unique title or a unique code")
    return Judgements(unique.values(), f"questions made of {len(survey.records):,} records")


class _Survey:
    """The records of an index, the codes that they have, and which of them are near-duplicates."""

    def __init__(self, contents: Contents, tell: Tell) -> None:
        self.records: dict[str, _Record] = {}
        self.codes: dict[str, str | None] = {}  # to the only record that has it
        total = min(contents.count(), _CHUNKS)
        for number, stored in enumerate(contents.read(limit=_CHUNKS), 1):
            self._take(stored.chunk)
            if number % _SAID == 0:
                tell("reading records", number, total)
        sketches = [each.sketch for each in self.records.values()]
        values = np.concatenate(sketches) if sketches else np.empty(0, np.uint32)
        owners = np.repeat(np.arange(len(sketches)), [len(each) for each in sketches])
        order = np.argsort(values, kind="stable")
        self._values, self._owners = values[order], owners[order]

    def _take(self, chunk: Chunk) -> None:
        record = self.records.setdefault(chunk.record_id, _Record(chunk.record_id))
        if not chunk.number:
            record.metadata = chunk.metadata
        if sum(map(len, record.parts.values())) < _KEPT:
            record.parts[chunk.number] = chunk.text
        record.size += len(chunk.text)
        record.sketch = np.unique(np.concatenate([record.sketch, _shingles(chunk.text)]))[:_SKETCH]
        for token in _WITH_DIGIT.findall(chunk.text):
            code = token.strip(_EDGES)
            if _LEAST_CODE <= len(code) <= _MOST_CODE and has_code(code):
                known = self.codes.setdefault(code, chunk.record_id)
                if known != chunk.record_id:
                    self.codes[code] = None

    def is_alike(self, record: _Record) -> bool:
        """Return whether another record is a near-duplicate of this one."""
        begins = np.searchsorted(self._values, record.sketch, "left")
        ends = np.searchsorted(self._values, record.sketch, "right")
        shared = Counter(
            owner for begin, end in zip(begins, ends, strict=True) for owner in self._owners[begin:end].tolist()
        )
        most = [times for _, times in shared.most_common(2)]  # the first is the record itself, or just as similar
        return len(most) > 1 and most[1] >= max(1, _ALIKE * len(record.sketch))

    def shuffled(self, chance: random.Random) -> Iterator[_Record]:
        """Yield the records that have no near-duplicate, in a random order."""
        ids = sorted(self.records)
        chance.shuffle(ids)
        return (self.records[each] for each in ids if not self.is_alike(self.records[each]))


def _shingles(text: str) -> NDArray[np.uint32]:
    words = text.casefold().encode(errors="surrogatepass").split()
    runs = range(max(1, len(words) - _SHINGLE + 1))
    return np.array([zlib.crc32(b" ".join(words[at : at + _SHINGLE])) for at in runs], dtype=np.uint32)


# -- recipes


def _titles(survey: _Survey, chance: random.Random, most: int) -> Iterator[Question]:
    titles = {record.id: title for record in survey.records.values() if (title := _title(record))}
    times = Counter(title.casefold() for title in titles.values())
    for record in survey.shuffled(chance):
        if most and (title := titles.get(record.id)) and times[title.casefold()] == 1:
            most -= 1
            yield _question(title, record, TITLE)


def _title(record: _Record) -> str | None:
    """Return a title: the metadata's, or a first line with more text below it."""
    said = record.metadata.get("title")
    first, _, _ = record.text.strip().partition("\n")
    title = " ".join((said if isinstance(said, str) and said.strip() else first).split()).strip("#=*- ")
    if not _LEAST_TITLE <= len(title) <= _MOST_TITLE or record.size - len(title) < _LEAST_BODY:
        return None
    return title if any(letter.isalpha() for letter in title) else None


def _codes(survey: _Survey, chance: random.Random, most: int) -> Iterator[Question]:
    codes: dict[str, list[str]] = {}
    for code, owner in survey.codes.items():
        if owner is not None:
            codes.setdefault(owner, []).append(code)
    for record in survey.shuffled(chance):
        if most and record.id in codes:
            most -= 1
            yield _question(chance.choice(sorted(codes[record.id])), record, IDENTIFIER)


def _asked(survey: _Survey, ask: Ask, most: int, chance: random.Random) -> Iterator[Question]:
    for record in survey.shuffled(chance):
        if not most:
            return
        said = ask(record.text)
        for text in [said] if isinstance(said, str) else said or ():
            if most and text.strip():
                most -= 1
                yield _question(" ".join(text.split()), record, ASKED)


def _question(text: str, record: _Record, made: str) -> Question:
    words, own = _words(text), set(_words(record.text))
    overlap = round(sum(word in own for word in words) / max(1, len(words)), 2)
    return Question(
        question_id(text), text, {record.id: 1}, metadata={"made": made, "overlap": overlap}, group=record.id
    )


def _words(text: str) -> list[str]:
    return [word.strip(_EDGES) for word in text.casefold().split()]


def cautions(questions: Sequence[Question]) -> list[str]:
    """Return what generated questions can and cannot show; nothing for questions that people asked."""
    made = Counter(str(each.metadata["made"]) for each in questions if each.metadata.get("made") in CAUTIONS)
    notes = [
        f"{number:,} of {len(questions):,} questions were made of the records: {CAUTIONS[kind]}"
        for kind, number in made.items()
    ]
    asked = [float(each.metadata.get("overlap", 0)) for each in questions if each.metadata.get("made") == ASKED]
    if asked and (shared := float(np.median(asked))) > 0.5:
        notes.append(
            f"half of those that a model wrote take at least {100 * shared:.0f} % of their words from their record"
        )
    return notes
