"""A reranker with an obvious order."""

from __future__ import annotations

from collections.abc import Sequence


class Longest:
    """A Reranker that prefers long texts, and records its calls."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        self.asked.append((query, len(texts)))
        return [float(len(text)) for text in texts]
