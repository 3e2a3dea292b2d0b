"""Whether what is stored is what an ingest would store: every vector looked at, some of them made again."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np

from harrier_core.embedder import Embedder
from harrier_core.records import VerifyReport, text_hash
from harrier_core.store import Audited, OpenStore, Stored

_WINDOW = 256  # chunks, of which as many as are in the sample are encoded together
# A length that half precision, or int8 in a database, makes of one.
_UNIT = 0.02
# The least cosine between what int8 and float32 make of one text is above it; another text's is far below.
_NEAR = 0.99


def verify(
    store: OpenStore,
    encoder: Embedder,
    sample: int,
    on_progress: Callable[[VerifyReport], None] | None,
) -> VerifyReport:
    """Look at all chunks, and encode some `sample` of them, chosen by chance, again."""
    report = VerifyReport()
    share = sample / max(1, store.count())
    chance = random.Random(0)  # noqa: S311  # the same sample of the same index
    stored = store.audit(report.problems.append) if isinstance(store, Audited) else store.read()
    for window in _windows(stored):
        unlike = dict(_unlike(window, encoder.dimensions))
        report.problems += unlike.items()
        again = [each for each in window if chance.random() < share and each.chunk.record_id not in unlike]
        report.checked += len(window)
        _encode(encoder, again, report)
        if on_progress:
            on_progress(report)
    return report


def _windows(stored: Iterator[Stored]) -> Iterator[list[Stored]]:
    while window := list(islice(stored, _WINDOW)):
        yield window


def _unlike(window: Sequence[Stored], dimensions: int) -> Iterator[tuple[str, str]]:
    for stored in window:
        length = float(np.linalg.norm(stored.vector)) if stored.vector.size else 0.0
        problem = None
        if stored.vector.shape != (dimensions,):
            problem = f"has a vector of {stored.vector.size} dimensions, not {dimensions}"
        elif not np.isfinite(length):
            problem = "has a vector that is not finite"
        elif abs(length - 1) > _UNIT:
            problem = f"has a vector of length {length:.3f}, not 1"
        elif text_hash(stored.chunk.text) != stored.chunk.text_hash:
            problem = "has a text that is not the one that was encoded"
        if problem:
            yield stored.chunk.record_id, f"{problem} (chunk {stored.chunk.number})"


def _encode(encoder: Embedder, stored: Sequence[Stored], report: VerifyReport) -> None:
    vectors = encoder.submit_documents([each.chunk.text for each in stored]).result().vectors
    report.encoded += len(stored)
    for each, vector in zip(stored, vectors, strict=True):
        cosine = float(each.vector @ vector / np.linalg.norm(each.vector))
        report.least_cosine = min(report.least_cosine, cosine)
        if cosine < _NEAR:
            problem = f"has a vector with a cosine of {cosine:.3f} to that of its text (chunk {each.chunk.number})"
            report.problems.append((each.chunk.record_id, problem))
