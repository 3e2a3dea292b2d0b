"""Gates for releases: limits for metrics, and the comparison with an earlier report."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harrier_core.errors import SettingError
from harrier_core.evaluation.findings import Comparison, Findings
from harrier_core.evaluation.intervals import Sample
from harrier_core.evaluation.measuring import groups_of
from harrier_core.evaluation.metrics import parsed
from harrier_core.evaluation.serial import FORMAT
from harrier_core.evaluation.significance import detectable, holm, probabilities
from harrier_core.evaluation.wording import verdict


def limits_of(said: Iterable[str]) -> dict[str, float]:
    """Return limits from strings such as "ndcg@10=0.5"."""
    limits: dict[str, float] = {}
    for each in said:
        metric, equals, value = each.partition("=")
        parsed(metric)
        try:
            limit = float(value) if equals else math.nan
        except ValueError:
            limit = math.nan
        if not 0 <= limit <= 1:
            raise SettingError(f"a limit must be a metric and a number from 0 to 1, such as ndcg@10=0.5, got {each!r}")
        limits[metric] = limit
    return limits


def below(report: Findings, limits: Mapping[str, float]) -> list[str]:
    """Return in words which means of a report are below their limits."""
    return [
        f"{metric} is {report[metric]}, below {limit:g}"
        for metric, limit in limits.items()
        if report[metric].mean < limit
    ]


@dataclass(frozen=True, slots=True)
class Baseline:
    """An earlier report, reduced to what a later one is compared with."""

    values: Mapping[str, Sequence[float]]  # by metric, one value per question
    digest: str  # identifies the judgements
    ids: Sequence[str] | None  # those of the questions; None if the report was written without ids

    @classmethod
    def load(cls, path: str | Path) -> Baseline:
        """Read the JSON of a report."""
        try:
            said = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise SettingError(f"the baseline {path} cannot be read: {(error.strerror or '').lower()}") from None
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict) or said.get("format") != FORMAT:
            raise SettingError(
                f"{path} is not a report in format {FORMAT} of this kit; write one with --json, or report.to_json()"
            )
        questions = said.get("questions")
        ids = None if questions is None else [str(each["id"]) for each in questions]
        return cls(said["values"], said["provenance"]["judgements"]["digest"], ids)

    def compared(self, report: Findings) -> list[Comparison]:
        """Return how the report compares with this one, for each headline metric that both have.

        The p-values are corrected for the number of metrics. Raise SettingError if the reports have no question in
        common.
        """
        metrics = [each for each in report.headline if each in self.values]
        now, then = self._pairs(report)
        if not metrics or not now:
            what = "question" if metrics else "metric"
            raise SettingError(f"the baseline and this report have no {what} in common, so they cannot be compared")
        own = np.stack([np.asarray(report.results[0].values[each])[now] for each in metrics], axis=1)
        earlier = np.stack([np.asarray(self.values[each])[then] for each in metrics], axis=1)
        earlier = np.where(np.abs(own - earlier) < _SAME, own, earlier)
        changes = own - earlier
        groups, number = groups_of([report.questions[at] for at in now]), len(metrics)
        found = Sample.of(np.hstack([own, earlier]), groups).differences(range(number), range(number, 2 * number))
        ps = probabilities(changes, groups)
        corrected, least = holm(ps), detectable(changes, groups, number)
        return [
            Comparison(
                metric,
                metric,
                {metric: found[at]},
                ps[at],
                corrected[at],
                least[at],
                len(now),
                int((changes[:, at] != 0).sum()),
                math.nan,
            )
            for at, metric in enumerate(metrics)
        ]

    def _pairs(self, report: Findings) -> tuple[list[int], list[int]]:
        """Return the positions of the questions that both have, in the report and in the baseline."""
        number = len(next(iter(self.values.values()), ()))
        if self.digest == report.provenance["judgements"]["digest"] and number == len(report.questions):
            return list(range(number)), list(range(number))
        if self.ids is None:
            raise SettingError(
                "the baseline has other judgements, and was written without the ids of its questions, so "
                "they cannot be compared; create a new baseline"
            )
        places = {name: at for at, name in enumerate(self.ids)}
        pairs = [(at, places[each.id]) for at, each in enumerate(report.questions) if each.id in places]
        return [now for now, _ in pairs], [then for _, then in pairs]


_SAME = 2e-6  # values are written with six decimals


def worse(compared: Iterable[Comparison]) -> list[str]:
    """Return in words where a report is worse than its baseline."""
    return [
        f"{each.name} is worse than the baseline's: {verdict(each).removeprefix('worse, ')}"
        for each in compared
        if each.significant and each.difference.mean < 0
    ]


def in_words(compared: Iterable[Comparison]) -> list[str]:
    """Return how a report compares with its baseline, one line per metric."""
    return [f"{each.name}: {verdict(each)}" for each in compared]
