"""The questions that gained and lost most, with the results of both systems side by side, as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from harrier_core.evaluation.findings import Changed, Findings, Shown

_EXCERPT = 240  # characters of a result's text


def changed_questions(report: Findings, *, aggregate_only: bool) -> str:
    """Return the section of a page on the questions that changed. aggregate_only: omit texts and ids."""
    if not report.comparisons:
        return ""
    lines = ["<h2>Questions that changed</h2>"]
    if aggregate_only:
        return f"{lines[0]}\n<p>Left out: this report was written without texts and ids.</p>"
    for comparison in report.comparisons:
        own = [each for each in report.changed if each.system == comparison.name]
        parts = [
            ("gained most", [each for each in own if each.after > each.before]),
            ("lost most", [each for each in own if each.after < each.before]),
        ]
        for what, some in parts:
            if some:
                cards = "\n".join(_card(report, each) for each in some)
                lines.append(f"<details open><summary>{escape(comparison.name)}: {what}</summary>\n{cards}\n</details>")
    return "\n".join(lines) if len(lines) > 1 else ""


def _card(report: Findings, changed: Changed) -> str:
    question = report.questions[changed.position]
    first = _side(report.results[0].name, changed.before, changed.first)
    second = _side(changed.system, changed.after, changed.second)
    return (
        f'<div class="question"><p><strong dir="auto">{escape(question.text)}</strong> '
        f'<span class="soft">{escape(question.id)}</span></p><div class="sides">{first}{second}</div></div>'
    )


def _side(name: str, value: float, results: Sequence[Shown]) -> str:
    listed = "".join(map(_result, results)) or "<li>nothing</li>"
    return f"<div><h4>{escape(name)}: {value:.3f}</h4><ol>{listed}</ol></div>"


def _result(shown: Shown) -> str:
    text = "" if shown.text is None else f' <span dir="auto">{escape(_excerpt(shown.text))}</span>'
    where = f'<span class="soft">{escape(shown.record)}, {shown.score:.3f}</span>'
    return f"<li>{_mark(shown.grade)} {where}{text}</li>"


def _mark(grade: int | None) -> str:
    if grade is None:
        return '<span class="open">not judged</span>'
    if grade < 1:
        return '<span class="wrong">✗ wrong</span>'
    return f'<span class="right">✓ {"right" if grade == 1 else f"grade {grade}"}</span>'


def _excerpt(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _EXCERPT else f"{line[:_EXCERPT].rstrip()}…"
