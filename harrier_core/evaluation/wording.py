"""A report in words: sentences about differences, and a table for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harrier_core.evaluation.findings import Comparison, Findings, Result
from harrier_core.evaluation.floors import Floor
from harrier_core.evaluation.intervals import Estimate
from harrier_core.evaluation.significance import questions_for
from harrier_core.plurals import counted

_NAME = 24  # characters of a system's name in a table
_SLICES = 24  # slices that a table in a terminal shows


def text_of(report: Findings) -> str:
    """Return the text that a terminal shows."""
    lines = [title_of(report), "", *_table(report)]
    if report.comparisons:
        lines += ["", f"Compared with {report.results[0].name!r}, by {report.metric}:"]
        lines += [f"  {each.name}: {verdict(each)}" for each in report.comparisons]
    if report.slices:
        lines += ["", f"Parts of the questions, {report.metric} of {report.results[0].name!r}:", *_slices(report)]
    if report.floor is not None:
        lines += ["", f"{floor_in_words(report.floor)}."]
    if latencies := list(_latencies(report.results)):
        lines += ["", "Time per search, as median and 95th percentile:", *latencies]
    if report.notes:
        lines += ["", *(f"Note: {each}." for each in report.notes)]
    return "\n".join(lines)


def title_of(report: Findings) -> str:
    """Return a title: what was asked, and of which index."""
    where = report.provenance.get("place")
    asked = counted(len(report.questions), "question")
    return f"{asked} asked of {where}" if where else f"{asked} of {report.provenance['judgements']['name']}"


def _table(report: Findings) -> Iterator[str]:
    names = [_cut(each.name) for each in report.results]
    width = max(map(len, names))
    cells = [[_short(result[metric]) for metric in report.headline] for result in report.results]
    widths = [max(len(metric), *(len(row[at]) for row in cells)) for at, metric in enumerate(report.headline)]
    yield "  ".join(
        [" " * width, *(metric.ljust(own) for metric, own in zip(report.headline, widths, strict=True))]
    ).rstrip()
    for name, row in zip(names, cells, strict=True):
        yield "  ".join([name.ljust(width), *(cell.ljust(own) for cell, own in zip(row, widths, strict=True))]).rstrip()


def _short(estimate: Estimate) -> str:
    low, high = (f"{each:.2f}".removeprefix("0") for each in (estimate.low, estimate.high))
    return f"{estimate.mean:.3f} {low}-{high}"


def _cut(name: str) -> str:
    return name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"


def _slices(report: Findings) -> Iterator[str]:
    shown = report.slices[:_SLICES]
    names = [f"{each.field}: {each.value}" for each in shown]
    width = max(map(len, names))
    for name, each in zip(names, shown, strict=True):
        yield f"  {name:<{width}}  {_short(each.estimates[0])}  {counted(each.questions, 'question')}"
    if len(report.slices) > len(shown):
        yield f"  and {len(report.slices) - len(shown)} more parts"


def _latencies(results: Sequence[Result]) -> Iterator[str]:
    for each in results:
        if each.latency is not None:
            yield f"  {each.name}: {milliseconds(each.latency.median)}, {milliseconds(each.latency.slow)}"


def milliseconds(seconds: float) -> str:
    """Return a time with about two significant digits."""
    value = 1000 * seconds
    return f"{value:.1f} ms" if value < 10 else f"{value:,.0f} ms"


def signed(estimate: Estimate) -> str:
    """Return a difference with its interval."""
    if estimate.low == estimate.high == 0:
        return "none"
    return f"{estimate.mean:+.3f} ({estimate.low:+.3f} to {estimate.high:+.3f})"


def verdict(comparison: Comparison) -> str:
    """Return in words whether a system is better, worse, or indistinguishable."""
    estimate = comparison.difference
    questions = counted(comparison.questions, "question")
    if not comparison.changed:
        return f"the same for all {questions}"
    said = f"{signed(estimate)}, p = {p_in_words(comparison.corrected)}"
    if comparison.significant:
        return f"{'better' if estimate.mean > 0 else 'worse'}, {said}"
    least = f"a difference of {comparison.detectable:.3f} could have been found"
    more = questions_for(estimate.mean, comparison.detectable, comparison.questions)
    if more is not None and comparison.questions < more <= 100 * comparison.questions:
        least += f", and confirming this one would take about {_round(more):,} questions"
    return f"cannot be told apart with {questions}, {said}; {least}"


def _round(number: int) -> int:
    """Return a number with two significant digits."""
    step: int = 10 ** max(0, len(str(number)) - 2)
    return -(-number // step) * step


def p_in_words(p: float) -> str:
    """Return a p-value in the usual notation."""
    return "0.0001 or less" if p < 0.00015 else f"{p:.4f}" if p < 0.01 else f"{p:.2f}"


def floor_in_words(floor: Floor) -> str:
    """Return what the suggested floor does."""
    rates = floor.suggested
    return (
        f"A floor of {rates.floor:.3f} for the cosine (min_score) loses {percent(rates.lost)} of the answers and lets "
        f"{percent(rates.passed)} of unrelated records pass; it finds something else for {percent(rates.misled)} of "
        "the questions if their answers are not there"
    )


def percent(estimate: Estimate) -> str:
    """Return a share with its interval."""
    return f"{_percent(estimate.mean)} % ({_percent(estimate.low)} to {_percent(estimate.high)})"


def _percent(share: float) -> str:
    value = 100 * share
    return f"{value:.0f}" if value >= 10 or value == 0 else f"{value:.1f}" if value >= 0.1 else f"{value:.2g}"
