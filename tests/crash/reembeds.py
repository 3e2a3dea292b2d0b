"""A re-embedding to be killed: run as a program it does one, and may kill itself at a named step of it.

python reembeds.py PLACE ACTION STEP OCCURRENCE     "reembed", "switch" or "back"; a step of STEPS, or "none"
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import suppress

import numpy as np
from harrier_pgvector.exchanging import TableExchange
from harrier_pgvector.opened import OpenTable
from harrier_pgvector.writing import Writing
from harrier_qdrant.edge_backend import EdgeBackend
from ingesting import Hashing, die_at

from harrier_core import EmbeddingSpace, Encoded
from harrier_core.migration import back, filling, reembed, switch

STEPS = {
    "reembed": ["before write_on", "after _put", "after _copy", "after delete", "after known", "before build_indexes"],
    "switch": ["before _take_rights", "before _rename", "after _rename", "after run"],
}


class Other(Hashing):
    """Another model: of other weights and dimensions, and of other vectors for the same texts."""

    name = "other"
    space = EmbeddingSpace("other", None, "w2", "t", 24, "last token", "l2", "{text}")

    def _done(self, texts: list[str]) -> Future[Encoded]:
        vectors = np.stack([_vector(text) for text in texts]) if texts else np.empty((0, 24), np.float32)
        done: Future[Encoded] = Future()
        done.set_result(Encoded(vectors, self.count_tokens(texts)))
        return done


def _vector(text: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8, key=b"other").digest(), "big")
    vector = np.random.default_rng(seed).normal(size=24).astype(np.float32)
    return vector / np.float32(np.linalg.norm(vector))
