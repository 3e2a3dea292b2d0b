"""The results of questions with and without their instruction: `python -m harrier_cli.demo.comparison PLACE`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import PurePosixPath

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from harrier_cli.demo.model import named
from harrier_cli.demo.sample import Question, passages, questions, recall
from harrier_core import Encoder, Index, Match, open_store

_TOP = 3  # passages shown for each of the two rankings
_SHOWN = (
    "How do vaccines protect us from diseases?",
    "Why does honey keep for so long?",  # answered only in Italian and Chinese
    "Pourquoi l'eau bout-elle plus vite en montagne ?",  # and this one in all languages except its own
)
_TABLES = "[b]with[/b] and [b]without[/b] the instruction: a passage's place and its score; ✓ is an answer."
_LESSON = (
    "Only the instruction differs between the two columns. The kit adds it to every query and to no document, "
    "whichever API is used."
)


def compare(place: str, model: str | None = None) -> None:
    """Print both rankings of some questions over the notes in an index, and the recall of all questions."""
    console = Console(highlight=False)
    asked, k = questions(), len(passages())
    texts = [question.text for question in asked]
    with Encoder(named(model)) as encoder, Index(open_store(place), encoder) as index:
        instructed = index.search_many(texts, k=k)
        bare = index.search_vectors(encoder.encode_documents(texts), k=k)  # as the usual integrations do
    console.print(_TABLES)
    places = {question.text: place for place, question in enumerate(asked)}
    for number in map(places.__getitem__, _SHOWN):
        console.print(f"\n[b]{escape(asked[number].text)}[/b]")
        console.print(_both(asked[number], instructed[number], bare[number]))
    console.print(f"\n[b]Of all answers to {len(asked)} questions, those found (recall)[/b]")
    console.print(_recalls(asked, {"with": instructed, "without": bare}))
    console.print(f"\n{_LESSON}")


def _passage(match: Match) -> str:
    """Return the id of the passage in a note."""
    return PurePosixPath(match.record_id).stem


def _both(question: Question, instructed: list[Match], bare: list[Match]) -> Table:
    """Return the best passages of the two rankings, those of the first one first, with their ranks in each."""
    table = Table("with", "without", Column(min_width=1), "", box=None, header_style="dim")
    places = [{_passage(match): place for place, match in enumerate(found, 1)} for found in (instructed, bare)]
    scores = [{_passage(match): match.score for match in found} for found in (instructed, bare)]
    best = {_passage(match): match.text for match in [*instructed[:_TOP], *bare[:_TOP]]}
    for id_, text in best.items():
        right = id_ in question.answers
        cells = [f"{place[id_]:>2} {score[id_]:6.3f}" for place, score in zip(places, scores, strict=True)]
        table.add_row(*cells, "✓" if right else "", escape(text.strip()), style="green" if right else None)
    return table


def _recalls(asked: list[Question], found: Mapping[str, list[list[Match]]]) -> Table:
    """Return the recall of each ranking, and of a perfect one, which puts all the answers first."""
    table = Table("", "first", f"first {_TOP}", box=None, header_style="dim")
    rankings = {name: [[_passage(match) for match in matches] for matches in lists] for name, lists in found.items()}
    rankings["at best"] = [list(question.answers) for question in asked]
    for name, ranking in rankings.items():
        table.add_row(name, *(f"{recall(ranking, asked, k):.2f}" for k in (1, _TOP)))
    return table


if __name__ == "__main__":
    compare(sys.argv[1])
