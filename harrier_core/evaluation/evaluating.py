"""Evaluate an index, and compare it with other systems, on questions whose answers are known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from harrier_core.checks import check_integer
from harrier_core.errors import SettingError
from harrier_core.evaluation.changes import changes_of
from harrier_core.evaluation.findings import Latency, Result
from harrier_core.evaluation.floors import floor_of
from harrier_core.evaluation.judged import metadata_of, missing, resolved, value_of
from harrier_core.evaluation.judgements import Judgements
from harrier_core.evaluation.measuring import Measured
from harrier_core.evaluation.metrics import headline, middle_of, parsed
from harrier_core.evaluation.notes import LeftOut, notes_of, provenance_of
from harrier_core.evaluation.question import Question, Tell, ignore
from harrier_core.evaluation.reports import Report
from harrier_core.evaluation.runs import Run
from harrier_core.evaluation.searches import Found, Searches
from harrier_core.evaluation.slices import LENGTH, SCRIPT
from harrier_core.evaluation.systems import Given, Open, System, check, system_of, systems_of
from harrier_core.index import Index

if TYPE_CHECKING:
    from harrier_core.evaluation.floors import Floor
    from harrier_core.evaluation.slices import Slice

SLICES = ("lang", "language", SCRIPT, LENGTH)


def evaluate(
    index: Index | Run,
    judgements: Judgements,
    *,
    k: int | Iterable[int] = (1, 10, 100),
    compare: Iterable[Given] = (),
    system: System | str | None = None,
    metric: str | None = None,
    slices: Sequence[str] = SLICES,
    floor: bool = True,
    latency: int = 50,
    seed: int = 0,
    open_index: Open | None = None,
    on_progress: Tell | None = None,
) -> Report:
    """Ask an index all questions, and report its results next to those of other systems.

    index: an Index, or a Run that was made elsewhere. k: cut-offs. compare: systems, each a System, a Task, another
    Index, a Run, or a text: "no-instruction", "tasks" (each task of the model), a task's name, "dense", "keyword",
    "hybrid", "exact", or settings such as "mode=hybrid,ef=200", "instruction=Given a question, ..." or "index=URL".
    Settings that they leave out are those of `system`, which says how the index itself is searched.

    metric: the one that decides whether systems differ, nDCG at 10 by default. slices: fields of the metadata of
    questions or of the records that answer them, and "script" and "length". floor: suggest a floor for scores.
    latency: how many searches are timed one by one. seed: that of the random draws. open_index: opens the index
    of "index=URL" or "model=NAME,index=URL". on_progress: called with the current step, the number of questions done,
    and their total.
    """
    own_index = index if isinstance(index, Index) else None
    base = _base(index, system, own_index)
    systems = systems_of(compare, base, own_index, open_index)
    cutoffs, decisive = _cutoffs(k, metric)
    check_integer("latency", latency, 0)
    tell = on_progress or ignore
    indexes = [_index_of(each, own_index) for each in systems]
    questions, unplaced = _questions(judgements, own_index, tell)
    answers = [record for each in questions for record in each.relevant]
    absent = [] if own_index is None else missing(own_index, answers)
    searches = Searches(questions, tell)
    found = [searches.found(each, own, cutoffs[-1]) for each, own in zip(systems, indexes, strict=True)]
    tell("measuring", 0, 1)
    measured = Measured.of(questions, [each.run for each in found], cutoffs, decisive, seed)
    comparisons = measured.comparisons()
    left_out = LeftOut(len(judgements) - len(questions), len(unplaced), len(absent))
    results = _results(measured, systems, found, _latencies(searches, systems, indexes, latency, middle_of(cutoffs)))
    return Report(
        questions,
        cutoffs,
        decisive,
        _headline(cutoffs, decisive),
        results,
        comparisons,
        _slices(measured, own_index, slices),
        changes_of(questions, measured.runs, _readable(indexes, own_index), comparisons, measured.values),
        _floor(searches, base, own_index, questions, seed) if floor else None,
        notes_of(left_out, systems, found, measured, comparisons),
        provenance_of(judgements, questions, own_index, cutoffs, seed),
        absent,
    )


def _base(index: Index | Run, system: System | str | None, own_index: Index | None) -> System:
    if isinstance(index, Run):
        if system is not None:
            raise SettingError("system applies to searches of an index, not to a Run; omit system")
        return System(run=index, name=index.name)
    if own_index is None:
        raise SettingError(f"evaluate takes an Index or a Run, got {type(index).__name__}")
    return System() if system is None else system_of(system, own_index)


def _cutoffs(k: int | Iterable[int], metric: str | None) -> tuple[list[int], str]:
    """Return the cut-offs in ascending order, and the metric that decides."""
    wanted = {k} if isinstance(k, int) else set(k)
    for each in wanted:
        check_integer("k", each, 1)
    if metric is not None:
        wanted.add(parsed(metric)[1])
    if not wanted:
        raise SettingError("k must have at least one cut-off, got none")
    cutoffs = sorted(wanted)
    return cutoffs, metric or f"ndcg@{middle_of(cutoffs)}"


def _headline(cutoffs: Sequence[int], decisive: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys([decisive, *headline(cutoffs)]))


def _questions(judgements: Judgements, index: Index | None, tell: Tell) -> tuple[list[Question], list[str]]:
    """Return the questions that have an answer, and the ids of those with a text that no record contains."""
    every = list(judgements)
    questions, unplaced = (every, []) if index is None else resolved(every, index, tell)
    kept = [each for each in questions if each.relevant]
    if not kept:
        raise SettingError(f"{judgements.name} has no question with a record that answers it")
    return kept, unplaced


def _index_of(system: System, index: Index | None) -> Index | None:
    if system.run is not None:
        return None
    found = system.index or index
    if found is None:
        raise SettingError(f"{system.title!r} has no index to search; pass System(index=...)")
    check(system, found)
    return found


def _readable(indexes: Sequence[Index | None], index: Index | None) -> list[Index | None]:
    """Return where the texts of each system's results are read: for a run, in the evaluated index."""
    return [each or index for each in indexes]


def _latencies(
    searches: Searches, systems: Sequence[System], indexes: Sequence[Index | None], number: int, k: int
) -> list[Latency | None]:
    searching = [(each, own) for each, own in zip(systems, indexes, strict=True) if own is not None]
    seconds = iter(searches.timed(searching, number, k) if number and searching else [[] for _ in searching])
    return [None if own is None else _latency(next(seconds)) for own in indexes]


def _latency(seconds: Sequence[float]) -> Latency | None:
    if not seconds:
        return None
    median, slow = np.quantile(seconds, [0.5, 0.95])
    return Latency(len(seconds), float(median), float(slow))


def _results(
    measured: Measured, systems: Sequence[System], found: Sequence[Found], latencies: Sequence[Latency | None]
) -> list[Result]:
    return [
        Result(
            own.run.name,
            system.settings,
            estimate,
            values,
            own.run,
            share,
            own.failed,
            own.truncated,
            sum(not own.run[each.id].records for each in measured.questions),
            latency,
        )
        for system, own, estimate, values, share, latency in zip(
            systems, found, measured.estimates(), measured.values, measured.judged, latencies, strict=True
        )
    ]


def _slices(measured: Measured, index: Index | None, fields: Sequence[str]) -> list[Slice]:
    named = [each for each in fields if each not in (SCRIPT, LENGTH)]
    open_ = [
        each.relevant[:1] for each in measured.questions if any(each.metadata.get(field) is None for field in named)
    ]
    records = [record for own in open_ for record in own]
    metadata = metadata_of(index, records) if index is not None and named and records else {}
    return measured.slices(fields, partial(value_of, metadata=metadata))


def _floor(
    searches: Searches, base: System, index: Index | None, questions: Sequence[Question], seed: int
) -> Floor | None:
    if index is None or base.mode == "keyword":
        return None
    return floor_of(index, questions, searches.asked(index, base.task).vectors, seed)
