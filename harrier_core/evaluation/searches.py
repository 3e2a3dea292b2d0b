"""The questions asked of an index: each encoded once per task, searched together, and some timed one by one."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from harrier_core.embedder import Embedder, Encoded, wait_for
from harrier_core.errors import InputError
from harrier_core.evaluation.question import Question, Tell
from harrier_core.evaluation.runs import Ranking, Run
from harrier_core.evaluation.systems import BARE, System
from harrier_core.index import Index

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harrier_core.records import Match
    from harrier_core.types import Vectors

_ENCODED, _SEARCHED = 256, 64  # questions at once
_DEEPER = 2  # chunks to ask for per record wanted, where records have several; applied again if they are too few


@dataclass(frozen=True, slots=True)
class Asked:
    """The vectors of the questions that could be encoded, and why the others could not be."""

    vectors: Mapping[int, NDArray[np.float32]]  # by the questions' positions
    failed: Mapping[int, str]
    truncated: int  # questions that were cut


@dataclass(frozen=True, slots=True)
class Found:
    """The results of a system, and the questions that it could not be asked."""

    run: Run
    failed: Mapping[str, str] = field(default_factory=dict)  # questions that could not be asked, and why
    truncated: int = 0


class Searches:
    """The questions of an evaluation, asked of one system after another."""

    def __init__(self, questions: Sequence[Question], tell: Tell) -> None:
        """Take the questions. tell: called with the current step, how much of it is done, and the total."""
        self._questions = questions
        self._tell = tell
        self._asked: dict[tuple[int, object], Asked] = {}
        self._encoders: list[Embedder] = []  # kept alive as long as their identities are keys

    def asked(self, index: Index, task: object) -> Asked:
        """Return the questions' vectors, made by the encoder of an index for a task."""
        key = id(index.encoder), task
        if key not in self._asked:
            self._encoders.append(index.encoder)
            self._asked[key] = self._encode(index.encoder, task)
        return self._asked[key]

    def found(self, system: System, index: Index | None, records: int) -> Found:
        """Return what a system finds, at most `records` for each question. index: None if the system is a run."""
        if index is None:
            made = system.run or Run({})
            return Found(Run({each.id: made[each.id].first(system.k) for each in self._questions}, str(system.name)))
        asked = None if system.mode == "keyword" else self.asked(index, system.task)
        places = list(range(len(self._questions))) if asked is None else sorted(asked.vectors)
        rankings = {each.id: Ranking() for each in self._questions}
        for at, ranking in self._ranked(system, index, asked, places, min(records, system.k or records)):
            rankings[self._questions[at].id] = ranking
        failed = {} if asked is None else {self._questions[at].id: why for at, why in asked.failed.items()}
        return Found(Run(rankings, str(system.name)), failed, 0 if asked is None else asked.truncated)

    def _ranked(
        self, system: System, index: Index, asked: Asked | None, places: list[int], wanted: int
    ) -> Iterator[tuple[int, Ranking]]:
        """Yield the records of each question. Where the chunks cover too few records, more chunks are asked for."""
        depth, most, done, what = wanted * _chunks_each(index), index.count(), 0, f"searching: {system.name}"
        left = places
        while left:
            short: list[int] = []
            for some in _windows(left, _SEARCHED):
                found = _search(index, system, [self._questions[at] for at in some], asked, some, depth)
                for at, matches in zip(some, found, strict=True):
                    ranking = _ranking(matches).first(wanted)
                    if len(ranking.records) < wanted and len(matches) == depth < most:
                        short.append(at)
                    else:
                        done += 1
                        yield at, ranking
                self._tell(what, done, len(places))
            left, depth = short, min(depth * _DEEPER, most)

    def timed(self, systems: Sequence[tuple[System, Index]], number: int, k: int) -> list[list[float]]:
        """Return the seconds of at most `number` single searches per system. The systems take turns at going first."""
        places = np.linspace(0, len(self._questions) - 1, min(number, len(self._questions))).astype(int)
        seconds: list[list[float]] = [[] for _ in systems]
        for turn, at in enumerate(dict.fromkeys(places.tolist())):
            for offset in range(len(systems)):
                which = (turn + offset) % len(systems)
                system, index = systems[which]
                begin = time.perf_counter()
                try:
                    _search_one(index, system, self._questions[at].text, system.k or k)
                except InputError:  # it was counted when all questions were searched
                    continue
                seconds[which].append(time.perf_counter() - begin)
            self._tell("timing", turn + 1, len(places))
        return seconds

    def _encode(self, encoder: Embedder, task: object) -> Asked:
        vectors: dict[int, NDArray[np.float32]] = {}
        failed: dict[int, str] = {}
        truncated = 0
        for some in _windows(range(len(self._questions)), _ENCODED):
            places = list(some)
            while places:
                try:
                    encoded = _encoded(encoder, [self._questions[at].text for at in places], task)
                except InputError as error:
                    wrong = {places[problem.position]: problem.reason for problem in error.problems}
                    failed |= wrong
                    places = [at for at in places if at not in wrong]
                    continue
                vectors |= dict(zip(places, encoded.vectors, strict=True))
                truncated += len(encoded.truncated)
                break
            self._tell("encoding questions", some[-1] + 1, len(self._questions))
        return Asked(vectors, failed, truncated)


def _encoded(encoder: Embedder, texts: Sequence[str], task: Any) -> Encoded:  # noqa: ANN401
    if task == BARE:
        return wait_for(encoder.submit_documents(texts))
    return wait_for(encoder.submit_queries(texts, task=task))


def _search(
    index: Index, system: System, questions: Sequence[Question], asked: Asked | None, places: Sequence[int], k: int
) -> list[list[Match]]:
    texts = [each.text for each in questions]
    if asked is None:
        return index.search_many(texts, k, system.where, **system.searching)
    vectors: Vectors = np.stack([asked.vectors[at] for at in places])
    return index.search_vectors(vectors, k, system.where, queries=texts, **system.searching)


def _search_one(index: Index, system: System, text: str, k: int) -> None:
    if system.task == BARE and system.mode != "keyword":
        index.search_vectors(
            index.encoder.encode_documents([text]), k, system.where, queries=[text], **system.searching
        )
    else:
        index.search(text, k, system.where, task=system.task, **system.searching)


def _ranking(matches: Sequence[Match]) -> Ranking:
    chunks = [match.chunk for match in matches]
    scores = [match.score for match in matches]
    return Ranking.of([chunk.record_id for chunk in chunks], scores, [chunk.number for chunk in chunks])


def _chunks_each(index: Index) -> int:
    """Return how many chunks to ask for at first for each record wanted."""
    facts = index.describe()
    return 1 if facts.records == facts.chunks else _DEEPER


def _windows(places: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for begin in range(0, len(places), size):
        yield places[begin : begin + size]
