"""The notes of a report (questions left out, results not judged, losses of the index) and its provenance."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from harrier_core.evaluation.findings import Comparison
from harrier_core.evaluation.judgements import Judgements
from harrier_core.evaluation.measuring import Measured
from harrier_core.evaluation.metrics import middle_of
from harrier_core.evaluation.question import Question
from harrier_core.evaluation.recipes import cautions
from harrier_core.evaluation.searches import Found
from harrier_core.evaluation.systems import System
from harrier_core.index import Index
from harrier_core.plurals import counted

_FEW = 50  # number of questions; a report with fewer tells little
_JUDGED = 0.9  # share of results; if fewer were judged, unjudged ones may be right, too


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Counts of questions and records that the judgements name but the evaluation could not use."""

    unanswered: int  # questions without a record that answers them
    unplaced: int  # questions with a text that no record contains
    missing: int  # records that answer a question but are not in the index


def notes_of(
    left_out: LeftOut,
    systems: Sequence[System],
    found: Sequence[Found],
    measured: Measured,
    comparisons: Sequence[Comparison],
) -> list[str]:
    """Return the notes of a report."""
    return [
        *_left_out(left_out),
        *_of_few(measured),
        *_of_systems(systems, found),
        *_of_index(systems, comparisons, middle_of(measured.cutoffs)),
        *_unjudged(measured),
        *cautions(measured.questions),
    ]


def _left_out(left_out: LeftOut) -> Iterator[str]:
    if left_out.unanswered:
        verb = "is" if left_out.unanswered == 1 else "are"
        yield f"{counted(left_out.unanswered, 'question')} without a record that answers {verb} left out"
    if left_out.unplaced:
        yield f"{counted(left_out.unplaced, 'question')} with a text that no record of the index holds"
    if left_out.missing:
        yield (
            f"{counted(left_out.missing, 'record')} that answer questions are not in the index, and count as not found"
            if left_out.missing > 1
            else "1 record that answers a question is not in the index, and counts as not found"
        )


def _of_few(measured: Measured) -> Iterator[str]:
    questions, groups = len(measured.questions), len(measured.groups)
    if groups < questions:
        yield f"the questions are in {counted(groups, 'group')}, each of which counts as one when chance is assessed"
    if groups < _FEW:
        yield f"{counted(groups, 'independent question')} tell little: intervals are rough with fewer than {_FEW}"


def _of_systems(systems: Sequence[System], found: Sequence[Found]) -> Iterator[str]:
    for system, own in zip(systems, found, strict=True):
        if own.failed:
            reason = next(iter(own.failed.values()))
            yield (
                f"{system.name}: {counted(len(own.failed), 'question')} could not be asked, and count as not answered; "
                f"the first one {reason}"
            )
        if own.truncated:
            yield f"{system.name}: {counted(own.truncated, 'question')} had too many tokens and were cut"


def _of_index(systems: Sequence[System], comparisons: Sequence[Comparison], k: int) -> Iterator[str]:
    """Yield a note of how much an approximate index loses, which is not the model's fault."""
    for system, comparison in zip(systems[1:], comparisons, strict=True):
        if system.exact and not systems[0].exact and system.index is systems[0].index:
            found = f"{100 * comparison.overlap:.1f} %"
            yield f"the index finds {found} of the first {k} results of an exact search"


def _unjudged(measured: Measured) -> Iterator[str]:
    k = middle_of(measured.cutoffs)
    shares = [each[k] for each in measured.judged]
    if min(shares) >= _JUDGED:
        return
    least, most = f"{100 * min(shares):.0f} %", f"{100 * max(shares):.0f} %"
    said = most if least == most else f"{least} to {most}, by system,"
    yield (
        f"of the first {k} results, {said} were judged; the others count as wrong, so a system that finds other "
        "right records may be better than it seems"
    )


# -- where it is from


def provenance_of(
    judgements: Judgements, questions: Sequence[Question], index: Index | None, cutoffs: Sequence[int], seed: int
) -> dict[str, Any]:
    """Return the settings and digests that are needed to repeat an evaluation, and to tell two reports apart."""
    relevant = sum(len(each.relevant) for each in questions)
    said: dict[str, Any] = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "kit": _version(),
        "python": platform.python_version(),
        "judgements": {
            "name": judgements.name,
            "digest": judgements.digest,
            "questions": len(questions),
            "answers": relevant,
        },
        "k": list(cutoffs),
        "seed": seed,
    }
    if index is None:
        return said
    facts = index.describe()
    return {
        **said,
        "place": str(index.store),
        "model": index.encoder.name,
        "space": json.loads(index.encoder.space.to_json()),
        "space_digest": index.encoder.space.digest,
        "records": facts.records,
        "chunks": facts.chunks,
        "indexed": facts.indexed,
        "keywords": facts.keywords,
    }


def _version() -> str:
    try:
        return version("harrier-kit")
    except PackageNotFoundError:  # used from its sources
        return "unknown"
