"""Parts of a page: rows of plots, tables, and the way names are written there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from harrier_core.evaluation.intervals import Estimate
from harrier_core.evaluation.plots import Scale, axis

_WRITTEN = {"ndcg": "nDCG", "mrr": "MRR", "map": "MAP", "recall": "Recall", "success": "Success"}


def figure(caption: str, rows: Iterable[str], scale: Scale) -> str:
    """Return rows with the axis that they share. caption: as HTML."""
    foot = f'<div class="name"></div><div class="plot">{axis(scale)}</div><div class="value"></div>'
    return f'<figure><figcaption>{caption}</figcaption>{"".join(rows)}<div class="row foot">{foot}</div></figure>'


def row(name: str, plot: str, value: str, below: str = "") -> str:
    """Return a plot between its name and its value. below: small text under the name."""
    small = f"<small>{escape(below)}</small>" if below else ""
    return (
        f'<div class="row"><div class="name">{escape(name)}{small}</div><div class="plot">{plot}</div>'
        f'<div class="value">{escape(value)}</div></div>'
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """Return a table. The first cell of a row and the head are text, the other cells HTML. kind: a class."""
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{each}</td>" for each in rest)}</tr>'
        for first, *rest in rows
    )
    named = "".join(f'<th scope="col">{escape(each)}</th>' for each in head)
    top = f"<thead><tr>{named}</tr></thead>" if head else ""
    return f'<div class="scroll"><table class="{kind}">{top}<tbody>{body}</tbody></table></div>'


def value(estimate: Estimate) -> str:
    """Return a mean above its interval."""
    return f"{estimate.mean:.3f}<small>{estimate.low:.3f} to {estimate.high:.3f}</small>"


def change(estimate: Estimate | None) -> str:
    """Return a difference above its interval."""
    if estimate is None or estimate.low == estimate.high == 0:
        return "–"
    return f"{estimate.mean:+.3f}<small>{estimate.low:+.3f} to {estimate.high:+.3f}</small>"


def soft(text: str) -> str:
    """Return an explanatory paragraph."""
    return f'<p class="soft">{escape(text)}</p>'


def written(metric: str) -> str:
    """Return a metric's name as reports spell it."""
    kind, _, k = metric.partition("@")
    return f"{_WRITTEN.get(kind, kind)}@{k}"


def sentence(text: str) -> str:
    """Return a text with a capital letter and a full stop, escaped."""
    return escape(f"{text[:1].upper()}{text[1:].removesuffix('.')}.")
