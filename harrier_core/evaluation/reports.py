"""The report of an evaluation, which can be printed, or written as JSON or as a page."""

from __future__ import annotations

from pathlib import Path

from harrier_core.evaluation.findings import Findings
from harrier_core.evaluation.page import page_of
from harrier_core.evaluation.serial import json_of
from harrier_core.evaluation.wording import text_of


class Report(Findings):
    """The results of an evaluation. `report["ndcg@10"].mean`, `.low` and `.high` are those of the first system."""

    __slots__ = ()

    def to_json(self, *, aggregate_only: bool = False) -> str:
        """Return the report as JSON. aggregate_only: omit texts and ids of questions and records."""
        return json_of(self, aggregate_only=aggregate_only)

    def to_html(self, path: str | Path, *, aggregate_only: bool = False) -> None:
        """Write the report as a page, a single self-contained file. aggregate_only: omit texts and ids."""
        Path(path).write_text(page_of(self, aggregate_only=aggregate_only), encoding="utf-8")

    def __str__(self) -> str:
        return text_of(self)
