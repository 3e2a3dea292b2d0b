"""Check what is stored: look at every vector, and encode a random sample of the texts again."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from harrier_core.embedder import Embedder
from harrier_core.errors import InputError
from harrier_core.given import SIMILAR
from harrier_core.records import VerifyReport, id_hash, text_hash
from harrier_core.seen import Seen
from harrier_core.store import Audited, OpenStore, Stored, Worded

_WINDOW = 256  # chunks, or as many as are in the sample, that are encoded together
# Half precision, or int8 in a database, changes a vector's length by less.
_LENGTH_TOLERANCE = 0.02


def verify(
    store: OpenStore,
    encoder: Embedder,
    sample: int,
    on_progress: Callable[[VerifyReport], None] | None,
) -> VerifyReport:
    """Check all chunks, and encode about `sample` of the sound ones, chosen at random, again."""
    report = VerifyReport()
    dimensions = encoder.dimensions
    share = sample / max(1, store.count())
    chance = random.Random(0)  # noqa: S311  # the same sample of the same index
    stored = store.audit(report.problems.append) if isinstance(store, Audited) else store.read()
    begun, others = Seen(), Seen()  # records of which the first chunk is there, and of which another one is
    for window in _windows(stored):
        sampled = []
        for each in window:
            drawn = chance.random() < share  # also drawn for a damaged chunk, so that it moves no other into the sample
            if problem := _damage(each, dimensions):
                _add(report, each, problem)
            elif drawn:
                sampled.append(each)
            (others if each.chunk.number else begun).add(id_hash(each.chunk.record_id))
        begun.settle()
        others.settle()
        report.checked += len(window)
        _encode(encoder, sampled, report)
        if on_progress:
            on_progress(replace(report, problems=report.problems.copy()))
    for record_id in _without_begin(store, begun) if any(each not in begun for each in others) else ():
        report.problems.append((record_id, "has no first chunk; delete it, and ingest it again"))
    if isinstance(store, Worded) and store.keywords_problem() is None:
        for chunk in store.wrong_keywords():
            problem = f"has words that do not match its text (chunk {chunk.number}); delete it, and ingest it again"
            report.problems.append((chunk.record_id, problem))
    return report


def _without_begin(store: OpenStore, begun: Seen) -> list[str]:
    """Return the records without a first chunk. Those that were written meanwhile are looked at once more."""
    ids = begun.unseen(store.record_ids())
    now = [store.known(ids[begin : begin + _WINDOW]) for begin in range(0, len(ids), _WINDOW)]
    return [record_id for known in now for record_id, own in known.items() if 0 not in own]


def _windows(stored: Iterator[Stored]) -> Iterator[list[Stored]]:
    while window := list(islice(stored, _WINDOW)):
        yield window


def _damage(stored: Stored, dimensions: int) -> str | None:
    """Return what is wrong with a chunk, as far as can be seen without encoding it."""
    if stored.vector.shape != (dimensions,):
        return f"has a vector of {stored.vector.size} dimensions, not {dimensions}"
    length = float(np.linalg.norm(stored.vector))
    if not np.isfinite(length):
        return "has a vector that is not finite"
    if abs(length - 1) > _LENGTH_TOLERANCE:
        return f"has a vector of length {length:.3f}, not 1"
    if text_hash(stored.chunk.text) != stored.chunk.text_hash:
        return "has a text that differs from the encoded one"
    return None


def _encode(encoder: Embedder, sampled: Sequence[Stored], report: VerifyReport) -> None:
    """Compare the sampled vectors with those that the encoder now makes of their texts."""
    try:
        vectors = encoder.encode_documents([each.chunk.text for each in sampled])
    except InputError as error:  # such as a text that was ingested with a higher max_tokens
        _encode(encoder, _fit(sampled, error, report), report)
        return
    report.encoded += len(sampled)
    for stored, vector in zip(sampled, vectors, strict=True):
        cosine = float(stored.vector @ vector / np.linalg.norm(stored.vector))
        report.least_cosine = min(report.least_cosine, cosine)
        if cosine < SIMILAR:
            _add(report, stored, f"has a vector with a cosine of {cosine:.3f} to that of its text")


def _fit(sampled: Sequence[Stored], error: InputError, report: VerifyReport) -> list[Stored]:
    """Return the chunks that the error does not concern, and report the others."""
    reasons = {problem.position: problem.reason for problem in error.problems}
    for position, reason in reasons.items():
        _add(report, sampled[position], f"has a text that cannot be encoded again, which {reason}")
    return [stored for position, stored in enumerate(sampled) if position not in reasons]


def _add(report: VerifyReport, stored: Stored, problem: str) -> None:
    report.problems.append((stored.chunk.record_id, f"{problem} (chunk {stored.chunk.number})"))
