"""An embedder with a fixed rate, like a GPU. It records when it was busy, for other processes to read."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from harrier_core import Embedder, EmbeddingSpace, Encoded

DIMENSIONS = 640
_SETTLING = 2.0  # seconds: an ingest begins with small blocks


class Paced(Embedder):
    """Return a fixed number of vectors a second, one call after the other, regardless of the texts."""

    name = "paced"
    max_tokens = 32_768
    space = EmbeddingSpace("paced", None, "w", "t", DIMENSIONS, "last token", "l2", "{text}")

    def __init__(self, rate: float, notes: Path) -> None:
        self.rate, self.notes = rate, notes
        self._free = 0.0  # when the submitted texts will be done
        self._gpu = ThreadPoolExecutor(1)
        self._vectors = np.random.default_rng(0).normal(size=(4_096, DIMENSIONS)).astype(np.float32)
        self._vectors /= np.linalg.norm(self._vectors, axis=1, keepdims=True)

    def __reduce__(self) -> Any:
        return Paced, (self.rate, self.notes)

    def count_tokens(self, texts: Iterable[str]) -> list[int]:
        """Return the number of words of each text."""
        return [len(text.split()) + 1 for text in texts]

    def submit_documents(self, texts: Iterable[str]) -> Future[Encoded]:
        """Begin when all texts submitted earlier are done."""
        return self._gpu.submit(self._encode, list(texts), time.monotonic())

    def submit_queries(self, texts: Iterable[str], *, task: Any = None) -> Future[Encoded]:  # noqa: ARG002
        """Do the same as for documents."""
        return self.submit_documents(texts)

    def _encode(self, texts: list[str], submitted: float) -> Encoded:
        begin = max(submitted, self._free)
        self._free = begin + len(texts) / self.rate
        with self.notes.open("a") as notes:
            notes.write(f"{os.getpid()} {begin} {self._free}\n")
        time.sleep(max(0.0, self._free - time.monotonic()))
        vectors = self._vectors[np.arange(len(texts)) % len(self._vectors)]
        return Encoded(vectors, [1] * len(texts))

    def busy(self) -> float:
        """Return the share of the time that the embedders of all processes were busy, from their third second on."""
        noted: dict[str, list[tuple[float, float]]] = {}
        first: dict[str, float] = {}
        for line in self.notes.read_text().splitlines():
            process, begin, end = line.split()
            if float(begin) - first.setdefault(process, float(begin)) > _SETTLING:
                noted.setdefault(process, []).append((float(begin), float(end)))
        worked = sum(end - begin for spans in noted.values() for begin, end in spans)
        return worked / sum(spans[-1][1] - spans[0][0] for spans in noted.values())
