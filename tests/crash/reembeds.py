"""A re-embedding to be killed: run as a program it does one, and may kill itself at a named step of it.

python reembeds.py PLACE ACTION STEP OCCURRENCE     a step of STEPS, or "none"

ACTION is "reembed", "switch" or "back".
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import numpy as np
from harrier_pgvector.exchanging import TableExchange
from harrier_pgvector.opened import OpenTable
from harrier_pgvector.writing import Writing
from ingesting import CHUNKING, Hashing, before, die_at
from numpy.typing import NDArray

from harrier_core import EmbeddingSpace, Encoded, Index, Match, open_store
from harrier_core.migration import back, filling, reembed, switch

# Steps on a table while a new place is filled, and while names are exchanged.
STEPS = {
    "reembed": ["after _copy", "before write_on", "after known", "after write_on", "before try_to_build"],
    "switch": ["before _take_rights", "before _rename", "after _rename", "after run"],
}
_KINDS = (TableExchange, OpenTable, Writing)


class Other(Hashing):
    """Another model, with other weights, dimensions and vectors."""

    name = "other"
    space = EmbeddingSpace("other", None, "w2", "t", 24, "last token", "l2", "{text}")

    def _done(self, texts: list[str]) -> Future[Encoded]:
        vectors = np.stack([_vector(text) for text in texts]) if texts else np.empty((0, 24), np.float32)
        done: Future[Encoded] = Future()
        done.set_result(Encoded(vectors, self.count_tokens(texts)))
        return done


class Deadly(Other):
    """A model that ends the process when it encodes one of the records."""

    def submit_documents(self, texts: Any) -> Any:
        if any("number 17 says" in text for text in texts):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().submit_documents(texts)


def _vector(text: str) -> NDArray[np.float32]:
    seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8, key=b"other").digest(), "big")
    vector = np.random.default_rng(seed).normal(size=24).astype(np.float32)
    return vector / np.float32(np.linalg.norm(vector))


def models() -> list[Hashing]:
    """Return both models, for an Index that works with either."""
    return [Hashing(), Other()]


def check_found(matches: list[Match], k: int) -> None:
    """Check that k matches were found, and that each vector matches its text."""
    assert len(matches) == k, f"{len(matches)} of {k}"
    sizes = {each.vector.size for each in matches if each.vector is not None}
    assert len(sizes) == 1, sizes
    [model] = [each for each in models() if each.dimensions in sizes]
    made = model.encode_documents([each.text for each in matches])
    stored = np.stack([each.vector for each in matches if each.vector is not None])
    assert (made * stored).sum(axis=1).min() > 0.99


TURNS: dict[str, tuple[Callable[..., Any], type[Hashing]]] = {
    "reembed": (reembed, Other),
    "switch": (switch, Other),
    "back": (back, Hashing),
}


def run(place: str, action: str) -> None:
    turn, model = TURNS[action]
    turn(place, model())


def fill(place: str) -> None:
    """Ingest the records with which a re-embedding begins."""
    with Index(open_store(place, keywords=True), Hashing(), chunking=CHUNKING) as index:
        index.ingest(before())


if __name__ == "__main__":
    place_, action_, step_, occurrence_ = sys.argv[1:]
    filling._RECORDS = 10  # so that there are many instants between windows
    from harrier_core import ingest

    ingest.WINDOW_RECORDS = 20
    if step_ != "none":
        die_at(next(kind for kind in _KINDS if hasattr(kind, step_.split()[1])), step_, int(occurrence_))
    sys.stdout.write("begin\n")
    sys.stdout.flush()
    run(place_, action_)
    with suppress(BrokenPipeError):
        os.write(1, b"end\n")
