"""A report as JSON, with which a later one is compared."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from harrier_core.evaluation.findings import Comparison, Findings, Result
from harrier_core.evaluation.intervals import Estimate
from harrier_core.evaluation.wording import verdict

FORMAT = 1
_DECIMALS = 6


def json_of(report: Findings, *, aggregate_only: bool) -> str:
    """Return a report as JSON. aggregate_only: omit texts and ids of questions and records.

    The values of the first system, one per question in the order of the judgements, are always included.
    """
    said: dict[str, Any] = {
        "format": FORMAT,
        "metric": report.metric,
        "provenance": report.provenance,
        "systems": [_result(each, aggregate_only=aggregate_only) for each in report.results],
        "comparisons": [_comparison(each) for each in report.comparisons],
        "slices": [
            {
                "field": each.field,
                "value": each.value,
                "questions": each.questions,
                "estimates": [_estimate(own) for own in each.estimates],
                "differences": [own and _estimate(own) for own in each.differences],
            }
            for each in report.slices
        ],
        "floor": report.floor and _rounded(asdict(report.floor)),
        "notes": list(report.notes),
        "values": {name: _listed(values) for name, values in report.results[0].values.items()},
        "groups": _groups([each.group for each in report.questions]),
    }
    if not aggregate_only:
        said["questions"] = [{"id": each.id, "text": each.text} for each in report.questions]
        said["missing"] = list(report.missing)
        said["changed"] = [
            {
                "question": report.questions[each.position].id,
                "system": each.system,
                "before": each.before,
                "after": each.after,
            }
            for each in report.changed
        ]
    return json.dumps(said, ensure_ascii=False, default=str)


def _result(result: Result, *, aggregate_only: bool) -> dict[str, Any]:
    failed: Any = len(result.failed) if aggregate_only else dict(result.failed)
    return {
        "name": result.name,
        "settings": dict(result.settings),
        "metrics": {name: _estimate(each) for name, each in result.estimates.items()},
        "judged": {str(k): round(share, _DECIMALS) for k, share in result.judged.items()},
        "failed": failed,
        "truncated": result.truncated,
        "empty": result.empty,
        "latency": result.latency and _rounded(asdict(result.latency)),
    }


def _comparison(comparison: Comparison) -> dict[str, Any]:
    return {
        "name": comparison.name,
        "differences": {name: _estimate(each) for name, each in comparison.differences.items()},
        "p": comparison.p,
        "p_corrected": comparison.corrected,
        "significant": comparison.significant,
        "detectable": round(comparison.detectable, _DECIMALS),
        "changed": comparison.changed,
        "overlap": round(comparison.overlap, _DECIMALS),
        "verdict": verdict(comparison),
    }


def _estimate(estimate: Estimate) -> dict[str, float]:
    return {name: round(value, _DECIMALS) for name, value in asdict(estimate).items()}


def _listed(values: Iterable[float]) -> list[float]:
    return [round(float(each), _DECIMALS) for each in values]


def _groups(names: Sequence[str | None]) -> list[int] | None:
    """Return the groups of the questions as numbers, or None if each question is alone."""
    if not any(name is not None for name in names):
        return None
    numbers: dict[object, int] = {}
    return [numbers.setdefault(at if name is None else name, len(numbers)) for at, name in enumerate(names)]


def _rounded(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, float):
        return round(value, _DECIMALS)
    if isinstance(value, Mapping):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    return value
