"""The ranked results of a system for each question, and TREC's files of them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from harrier_core.errors import SettingError

_DECIMALS = 6  # decimals of a score
_SPACES = re.compile(r"[\s%]")  # a field of a run has none; "%" begins their escapes
_MARKED = re.compile(r"%([0-9A-F]{2,6});")


@dataclass(frozen=True, slots=True)
class Ranking:
    """The records found for one question, best first, each once."""

    records: Sequence[str] = ()
    scores: Sequence[float] = ()
    numbers: Sequence[int] = ()  # the number of each record's best chunk, if known

    @classmethod
    def of(cls, records: Sequence[str], scores: Sequence[float], numbers: Sequence[int] | None = None) -> Ranking:
        """Put results in order: records by their best chunk; among equal scores the greater id first, as in trec_eval.

        Scores are compared in float32, as in trec_eval, and with six decimals, because stores differ in the later ones.
        """
        numbers = [0] * len(records) if numbers is None else numbers
        rounded = np.asarray(scores, np.float64).round(_DECIMALS).astype(np.float32)
        own = rounded.tolist()
        if bool((rounded[1:] < rounded[:-1]).all()) and len(set(records)) == len(records):
            return cls(records, own, numbers)  # as they usually are
        order = sorted(range(len(records)), key=lambda at: (records[at], -numbers[at]), reverse=True)
        order.sort(key=lambda at: -own[at])
        best: dict[str, int] = {}
        for at in order:
            best.setdefault(records[at], at)
        return cls(list(best), [own[at] for at in best.values()], [numbers[at] for at in best.values()])

    def first(self, k: int | None) -> Ranking:
        """Return the first k of the records."""
        return self if k is None else Ranking(self.records[:k], self.scores[:k], self.numbers[:k])


@dataclass(frozen=True, slots=True)
class Run:
    """A system's rankings by the ids of the questions. A question without results has an empty ranking."""

    rankings: Mapping[str, Ranking]
    name: str = "run"
    _none: Ranking = field(default=Ranking(), init=False, repr=False, compare=False)

    def __getitem__(self, question: str) -> Ranking:
        return self.rankings.get(question, self._none)

    def __len__(self) -> int:
        return len(self.rankings)

    @classmethod
    def load(cls, path: str | Path) -> Run:
        """Read a file in TREC's form: question, Q0, record, rank, score and name. The ranks are ignored."""
        file = Path(path)
        found: dict[str, tuple[list[str], list[float]]] = {}
        name = file.stem
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            parts = line.split()
            if not parts:
                continue
            try:
                question, _, record, _, score, name = parts
                records, scores = found.setdefault(_unmarked(question), ([], []))
                scores.append(float(score))
                records.append(_unmarked(record))
            except ValueError:
                raise SettingError(
                    f"{file}, line {number}: a line of a run must have six fields, with a score"
                ) from None
        return cls({question: Ranking.of(*each) for question, each in found.items()}, _unmarked(name))

    def save(self, path: str | Path) -> None:
        """Write the run in TREC's form. White space in an id is percent-encoded (%20;), which `load` decodes."""
        Path(path).write_text("".join(self._lines()), encoding="utf-8")

    def _lines(self) -> Iterator[str]:
        name = _marked(self.name) or "run"
        for question, ranking in self.rankings.items():
            for place, (record, score) in enumerate(zip(ranking.records, ranking.scores, strict=True), 1):
                yield f"{_marked(question)} Q0 {_marked(record)} {place} {score:.{_DECIMALS}f} {name}\n"


def _marked(text: str) -> str:
    return _SPACES.sub(lambda found: f"%{ord(found[0]):02X};", text)


def _unmarked(text: str) -> str:
    return _MARKED.sub(lambda found: chr(int(found[1], 16)), text)
