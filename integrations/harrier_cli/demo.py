"""The demo: what questions find with their instruction, and what without; over real texts in a real Postgres."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from harrier_pgvector import PgVectorStore
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from harrier_core import Encoder, Index, Match, ModelNotFound, Record
from harrier_core.testing import build_model

MODEL = "harrier-270m"
_TOP = 3  # passages that are shown of each of the two rankings
_SHOWN = (
    "Why is the sky blue?",
    "How do vaccines protect us from diseases?",
    "Why does honey keep for so long?",  # answered in Italian and Chinese only
    "Pourquoi l'eau bout-elle plus vite en montagne ?",  # and this one in all languages but its own
)

_WHAT = (
    "Harrier reads a query behind a sentence that says what is wanted, its [b]instruction[/b], and a document as it "
    "is. The usual stacks leave the instruction out, and nothing complains. Here each question is asked both ways."
)
_STAND_IN = (
    "[yellow]So a stand-in answers.[/yellow] It is a real decoder, but a tiny one, whose weights are made by code: it "
    "compares texts by the letters in pieces of their words. It never learned to follow an instruction: [b]both "
    "columns will be the same[/b] but for the last digits."
)
_TABLES = "[b]with[/b] and [b]without[/b] the instruction: a passage's place and its score; ✓ is an answer."
_LESSON = (
    "Only the instruction differs between the two columns. The kit puts it on every query and on no document, "
    "whichever way a text takes."
)
_NO_LESSON = (
    "The kit works from end to end; of Harrier this shows nothing. The stand-in knows no meaning: it finds passages "
    "that spell like the question, also those that answer nothing, and an answer in another language by chance. For "
    "Harrier itself, open a way to the hub or set [b]HARRIER_MODEL[/b] to a folder."
)


@dataclass(frozen=True, slots=True)
class Question:
    """A question to the sample, and the ids of the passages that answer it, in whatever language."""

    text: str
    lang: str
    answers: tuple[str, ...]


def passages() -> list[Record]:
    """The sample: short texts in twenty languages; some say the same, and some only sound like answers."""
    return [Record(row["id"], row["text"], {"lang": row["lang"]}) for row in _rows("passages")]


def questions() -> list[Question]:
    """What one may ask of the sample, with the answers."""
    return [Question(row["question"], row["lang"], tuple(row["answers"])) for row in _rows("questions")]


def _rows(name: str) -> Iterator[dict[str, Any]]:
    text = files("harrier_cli").joinpath("sample", f"{name}.jsonl").read_text(encoding="utf-8")
    return map(json.loads, text.splitlines())


def open_encoder(folder: str | Path, model: str | None = None) -> tuple[Encoder, str | None]:
    """An Encoder of `model`, else of HARRIER_MODEL, else of harrier-270m; and the reason if that is not to be had.

    With a reason the Encoder is of a stand-in, which is written into the folder and has to stay there.
    """
    encoder = Encoder(model or os.environ.get("HARRIER_MODEL") or MODEL)
    try:
        _ = encoder.space  # it takes the weights as well, which a cache may lack
    except ModelNotFound as error:
        return Encoder(build_model(Path(folder) / "stand-in", "qwen3", vectors="words")), str(error)
    return encoder, None


def recall(rankings: Sequence[Sequence[str]], asked: Sequence[Question], k: int) -> float:
    """The share of a question's answers that stands in the first k places, on average over the questions."""
    shares = [
        len(set(ranking[:k]) & set(question.answers)) / len(question.answers)
        for ranking, question in zip(rankings, asked, strict=True)
    ]
    return sum(shares) / len(shares)


def main(model: str | None) -> None:
    """Run the demo on a model, or on what `open_encoder` finds."""
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory(prefix="harrier-demo-", ignore_cleanup_errors=True) as folder:
        console.print(_WHAT, end="\n\n")
        encoder, missing = open_encoder(folder, model)
        if missing:
            console.print(escape(f"{missing[0].upper()}{missing[1:]}."), style="dim")
            console.print(_STAND_IN, end="\n\n")
        store = PgVectorStore.embedded(Path(folder) / "postgres", table="demo")
        with encoder, Index(store, encoder) as index:
            _run(console, index, encoder)
        console.print(_NO_LESSON if missing else _LESSON)


def _run(console: Console, index: Index, encoder: Encoder) -> None:
    sample, asked = passages(), questions()
    texts = [question.text for question in asked]
    report = index.ingest(sample)
    console.print(f"Into Postgres: {report.records} records, {report.written} chunks.", end="\n\n")
    console.print("What the model reads for a query:", end="\n\n")
    for line in encoder.prompt(_SHOWN[0]).splitlines():  # a break that the terminal makes would seem to be the prompt's
        console.print(f"    {escape(line)}", style="cyan", soft_wrap=True)
    console.print(f"\n{_TABLES}")
    instructed = index.search_many(texts, k=len(sample))
    bare = index.search_vectors(encoder.encode_documents(texts), k=len(sample))  # as the usual stacks do
    places = {question.text: place for place, question in enumerate(asked)}
    for place in map(places.__getitem__, _SHOWN):
        console.print(f"\n[b]{escape(asked[place].text)}[/b]")
        console.print(_both(asked[place], instructed[place], bare[place]))
    console.print(f"\n[b]Of all answers to {len(asked)} questions, those found (recall)[/b]")
    console.print(_recalls(asked, {"with": instructed, "without": bare}))
    console.print()


def _both(question: Question, instructed: list[Match], bare: list[Match]) -> Table:
    """The best passages of the two rankings, those of the first one first, and where they stand in either."""
    table = Table("with", "without", Column(min_width=1), "", box=None, header_style="dim")
    places = [{match.record_id: place for place, match in enumerate(found, 1)} for found in (instructed, bare)]
    scores = [{match.record_id: match.score for match in found} for found in (instructed, bare)]
    best = {match.record_id: match.text for match in [*instructed[:_TOP], *bare[:_TOP]]}
    for id_, text in best.items():
        right = id_ in question.answers
        cells = [f"{place[id_]:>2} {score[id_]:6.3f}" for place, score in zip(places, scores, strict=True)]
        table.add_row(*cells, "✓" if right else "", escape(text), style="green" if right else None)
    return table


def _recalls(asked: Sequence[Question], found: Mapping[str, list[list[Match]]]) -> Table:
    """Recall of each ranking, and of one that puts all the answers first."""
    table = Table("", "first", f"first {_TOP}", box=None, header_style="dim")
    rankings = {name: [[match.record_id for match in matches] for matches in lists] for name, lists in found.items()}
    rankings["at best"] = [list(question.answers) for question in asked]
    for name, ranking in rankings.items():
        table.add_row(name, *(f"{recall(ranking, asked, k):.2f}" for k in (1, _TOP)))
    return table


if __name__ == "__main__":
    main(None)
