"""Evaluation of how well an index answers questions, and whether other models, tasks, modes or settings do better.

    judgements = Judgements.load("folder")                          # BEIR's, TREC's, or a file of JSON lines
    report = evaluate(index, judgements, compare=["no-instruction", "hybrid", "exact"])
    print(report); report["ndcg@10"].mean; report.to_html("report.html")

It needs only numpy, and asks the index's encoder for the vectors of the questions.
"""

from harrier_core.evaluation.evaluating import SLICES, evaluate
from harrier_core.evaluation.findings import Changed, Comparison, Latency, Result, Shown
from harrier_core.evaluation.floors import Floor, Rates
from harrier_core.evaluation.gates import Baseline, below, in_words, limits_of, worse
from harrier_core.evaluation.intervals import Estimate
from harrier_core.evaluation.judgements import Judgements
from harrier_core.evaluation.question import Question
from harrier_core.evaluation.recipes import cautions, make_questions
from harrier_core.evaluation.reports import Report
from harrier_core.evaluation.runs import Ranking, Run
from harrier_core.evaluation.slices import Slice
from harrier_core.evaluation.systems import System

__all__ = [
    "SLICES",
    "Baseline",
    "Changed",
    "Comparison",
    "Estimate",
    "Floor",
    "Judgements",
    "Latency",
    "Question",
    "Ranking",
    "Rates",
    "Report",
    "Result",
    "Run",
    "Shown",
    "Slice",
    "System",
    "below",
    "cautions",
    "evaluate",
    "in_words",
    "limits_of",
    "make_questions",
    "worse",
]
