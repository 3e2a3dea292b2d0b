"""A report as a page: one file without scripts or external resources. All user input is escaped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from harrier_core.evaluation.cards import changed_questions
from harrier_core.evaluation.findings import Comparison, Findings, Result
from harrier_core.evaluation.floors import Floor, Rates
from harrier_core.evaluation.markup import change, figure, row, sentence, soft, table, value, written
from harrier_core.evaluation.plots import Scale, histogram, interval
from harrier_core.evaluation.wording import (
    floor_in_words,
    milliseconds,
    p_in_words,
    percent,
    signed,
    title_of,
    verdict,
)
from harrier_core.plurals import counted

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_GLOSSARY = {
    "nDCG@k": "how close the order of the first k results is to the best possible one; grades and ranks count",
    "MRR@k": "1 divided by the rank of the first right result, and 0 if it is not among the first k",
    "Recall@k": "the share of a question's right records that are among the first k",
    "Success@k": "the share of questions with a right result among the first k",
    "MAP@k": "the precision at each right result among the first k, as a mean over all right records",
    "Interval": "the 95 % confidence interval of the mean over all such questions, by bootstrap; for metrics "
    "that only say yes or no, it is Wilson's",
    "p": "how often chance alone would make a difference as large, corrected for the number of systems (Holm). Below "
    "0.05 it is significant, and a system is called better or worse",
    "Shared": "the share of a system's first results that the first system has as well",
}


def page_of(report: Findings, *, aggregate_only: bool) -> str:
    """Return the page of a report. aggregate_only: omit texts and ids of questions and records."""
    sections = [
        _head(report),
        _systems(report),
        _comparisons(report),
        _slices(report),
        _floor(report.floor),
        _judged(report),
        changed_questions(report, aggregate_only=aggregate_only),
        _provenance(report.provenance, report.results),
        _glossary(),
    ]
    style = files("harrier_core.evaluation").joinpath("style.css").read_text(encoding="utf-8")
    body = "\n".join(each for each in sections if each)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title_of(report))}</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _head(report: Findings) -> str:
    first, metric = report.results[0], written(report.metric)
    lines = [f"<h1>{sentence(title_of(report))[:-1]}</h1>"]
    if model := report.provenance.get("model"):
        chunks, records = report.provenance["chunks"], report.provenance["records"]
        size = "" if None in (chunks, records) else f", {counted(records, 'record')} in {counted(chunks, 'chunk')}"
        lines.append(f'<p class="place">{escape(f"{model}{size}")}</p>')
    lines.append(
        f"<p>{metric} of <strong>{escape(first.name)}</strong> is <strong>{first[report.metric].mean:.3f}</strong> "
        f"({first[report.metric].low:.3f} to {first[report.metric].high:.3f}).</p>"
    )
    verdicts = [
        f'<li class="{_kind(each)}"><strong>{escape(each.name)}</strong>: {escape(verdict(each))}</li>'
        for each in report.comparisons
    ]
    if verdicts:
        lines += [f"<p>Compared with it, by {metric}:</p>", f'<ul class="verdicts">{"".join(verdicts)}</ul>']
    if report.notes:
        lines.append(f'<ul class="soft">{"".join(f"<li>{sentence(each)}</li>" for each in report.notes)}</ul>')
    return "\n".join(lines)


def _kind(comparison: Comparison) -> str:
    if not comparison.significant:
        return "unsure"
    return "better" if comparison.difference.mean > 0 else "worse"


def _systems(report: Findings) -> str:
    metric = report.metric
    scale = Scale.around([each[metric] for each in report.results])
    kinds = ["own", *map(_kind, report.comparisons)]
    rows = [
        row(result.name, interval(result[metric], scale, kind), str(result[metric]))
        for result, kind in zip(report.results, kinds, strict=True)
    ]
    short = table(
        ["system", *map(written, report.headline), "one search"],
        [[each.name, *(value(each[name]) for name in report.headline), _latency(each)] for each in report.results],
    )
    every = table(
        ["metric", *(each.name for each in report.results)],
        [[written(name), *(value(each[name]) for each in report.results)] for name in report.results[0].estimates],
    )
    return (
        f"<h2>Systems</h2>\n{figure(f'{written(metric)}, with 95 % intervals', rows, scale)}\n{short}\n"
        f"<details><summary>All metrics</summary>\n{every}\n</details>"
    )


def _latency(result: Result) -> str:
    if result.latency is None:
        return "–"
    return f"{milliseconds(result.latency.median)}<small>95 %: {milliseconds(result.latency.slow)}</small>"


def _comparisons(report: Findings) -> str:
    if not report.comparisons:
        return ""
    scale = Scale.around([each.difference for each in report.comparisons], 0.0)
    rows = [
        row(each.name, interval(each.difference, scale, _kind(each), 0.0), signed(each.difference))
        for each in report.comparisons
    ]
    cells = [
        [
            each.name,
            *(change(each.differences[name]) for name in report.headline),
            p_in_words(each.corrected),
            f"{each.changed:,} of {each.questions:,}",
            _share(each.overlap),
        ]
        for each in report.comparisons
    ]
    metric = written(report.metric)
    caption = f"{metric}: difference, question by question, with 95 % intervals"
    return "\n".join(
        (
            f"<h2>Differences to “{escape(report.results[0].name)}”</h2>",
            figure(caption, rows, scale),
            table(["system", *map(written, report.headline), "p", "changed", "shared"], cells),
            soft(f"p is that of {metric}, which decides. Differences of the other metrics were not tested."),
        )
    )


def _share(share: float) -> str:
    return f"{100 * share:.1f} %"


def _slices(report: Findings) -> str:
    if not report.slices:
        return ""
    lines = ["<h2>Parts of the questions</h2>", soft("Not tested: of many parts, some differ by chance.")]
    scale = Scale.around([each.estimates[0] for each in report.slices])
    others = [each.name for each in report.comparisons]
    for field in dict.fromkeys(each.field for each in report.slices):
        own = [each for each in report.slices if each.field == field]
        rows = [
            row(
                each.value,
                interval(each.estimates[0], scale, "own"),
                str(each.estimates[0]),
                counted(each.questions, "question"),
            )
            for each in own
        ]
        caption = f"{written(report.metric)} of “{escape(report.results[0].name)}”"
        lines += [f"<h3>By {escape(field)}</h3>", figure(caption, rows, scale)]
        if others:
            cells = [[each.value, *map(change, each.differences[1:])] for each in own]
            lines += [f"<details><summary>Differences by {escape(field)}</summary>", table([field, *others], cells)]
            lines.append("</details>")
    return "\n".join(lines)


def _floor(floor: Floor | None) -> str:
    if floor is None:
        return ""
    scale = Scale.of(floor.edges[0], floor.edges[-1])
    named = {
        "answers": ("answers", "records that answer", floor.answers),
        "rivals": ("best others", "the best record that does not answer", floor.rivals),
        "unrelated": ("unrelated", "records drawn at random", floor.unrelated),
    }
    rows = [
        row(name, histogram(shares, floor.edges, scale, floor.suggested.floor, kind), "", below)
        for kind, (name, below, shares) in named.items()
    ]
    rates = sorted([floor.suggested, *floor.others], key=lambda each: each.floor)
    cells = [
        [f"{each.floor:.3f}, suggested" if each is floor.suggested else f"{each.floor:.2f}", *_rates(each)]
        for each in rates
    ]
    return "\n".join(
        (
            f"<h2>What a score means</h2>\n<p>{sentence(floor_in_words(floor))}</p>",
            figure("cosines of questions and records; the dashed line is the suggested floor", rows, scale),
            table(["min_score", "answers lost", "unrelated that pass", "questions misled"], cells),
            soft(
                "The rates of the suggested floor are those for questions that had no part in choosing it. It is for "
                "dense searches with this model and task. A question is misled if something else is found for "
                "it when its answers are not in the index."
            ),
        )
    )


def _rates(rates: Rates) -> Iterator[str]:
    for each in (rates.lost, rates.passed, rates.misled):
        mean, _, reach = percent(each).partition(" (")
        yield f"{mean}<small>{reach.removesuffix(')')}</small>"


def _judged(report: Findings) -> str:
    head = ["system", *(f"first {k:,}" for k in report.cutoffs), "no result", "could not be asked", "cut"]
    cells = [
        [
            each.name,
            *(_share(each.judged[k]) for k in report.cutoffs),
            *(f"{number:,}" for number in (each.empty, len(each.failed), each.truncated)),
        ]
        for each in report.results
    ]
    said = "The share of results that were judged, and the number of questions that failed or were cut."
    return f"<h2>What was judged</h2>\n{soft(said)}\n{table(head, cells)}"


def _provenance(provenance: Mapping[str, Any], results: Sequence[Result]) -> str:
    settings = [
        [each.name, escape(", ".join(f"{name}: {said}" for name, said in each.settings.items())) or "–"]
        for each in results
    ]
    facts = [[name, escape(said)] for name, said in _flat(provenance)]
    return (
        "<h2>Where it is from</h2>\n<details><summary>Settings and digests</summary>\n"
        f"{table(['system', 'settings'], settings, 'long')}\n{table([], facts, 'long')}\n</details>"
    )


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for name, said in values.items():
        if isinstance(said, Mapping):
            yield from _flat(said, f"{above}{name}.")
        elif said is not None:
            yield f"{above}{name}", str(said)


def _glossary() -> str:
    lines = "".join(f"<dt>{escape(name)}</dt><dd>{sentence(said)}</dd>" for name, said in _GLOSSARY.items())
    return f"<h2>How to read it</h2>\n<dl>{lines}</dl>"
