"""An ingest to be killed: run as a program it does one, and may kill itself at a named step of it.

python ingesting.py PLACE NAME STEP OCCURRENCE     a step of STEPS or QDRANT_STEPS, or "none"

The place is a connection string, and the name a table's, or a Path:folder, and the name a collection's.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import numpy as np
from harrier_pgvector import PgVectorStore
from harrier_pgvector.opened import OpenTable
from harrier_pgvector.writing import Writing
from harrier_qdrant import QdrantStore
from harrier_qdrant.edge_backend import EdgeBackend
from numpy.typing import NDArray

from harrier_core import Chunking, Embedder, EmbeddingSpace, Encoded, Index, Record, ingest

DIMENSIONS = 16
CHUNKING = Chunking(tokens=16)

# A method of the store, and whether it dies before or after it.
STEPS = [
    *(
        f"{when} {step}"
        for step in ("known", "_locked", "_put", "_copy", "_describe", "_remove", "write_on", "build_indexes")
        for when in ("before", "after")
    ),
    "before delete",
    "after delete",
]

# The same for requests to Qdrant Edge.
QDRANT_STEPS = [
    f"{when} {step}"
    for step in ("upsert", "set_payloads", "delete", "delete_where", "build_indexes")
    for when in ("before", "after")
]


class Hashing(Embedder):
    """An embedder without a model: equal texts have equal vectors."""

    name = "hashing"
    max_tokens = 1_000_000
    space = EmbeddingSpace("hashing", None, "w", "t", DIMENSIONS, "last token", "l2", "{text}")

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def count_tokens(self, texts: Iterable[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    def submit_documents(self, texts: Iterable[str]) -> Future[Encoded]:
        given = list(texts)
        self.encoded += given
        return self._done(given)

    def submit_queries(self, texts: Iterable[str], *, task: Any = None) -> Future[Encoded]:
        return self._done(list(texts))

    def _done(self, texts: list[str]) -> Future[Encoded]:
        vectors = np.stack([_vector(text) for text in texts]) if texts else np.empty((0, DIMENSIONS), np.float32)
        done: Future[Encoded] = Future()
        done.set_result(Encoded(vectors, self.count_tokens(texts)))
        return done


def _vector(text: str) -> NDArray[np.float32]:
    seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
    vector = np.random.default_rng(seed).normal(size=DIMENSIONS).astype(np.float32)
    return vector / np.float32(np.linalg.norm(vector))


def before() -> Iterator[Record]:
    """Return the records that are stored when the ingest begins."""
    for number in range(200):
        yield Record(f"r{number:03}", _text("old", number, 1 + number % 4), {"n": number})


def after() -> Iterator[Record]:
    """Return the records of the ingest: equal, longer, shorter, changed, missing and new ones."""
    for number in range(20, 230):
        kind = number % 4 if number < 200 else 1
        length = 1 + number % 4 if kind in (0, 2) else 1 + number * 7 % 5
        yield Record(
            f"r{number:03}",
            _text("new" if kind in (1, 3) else "old", number, length),
            {"n": number + kind % 2 * 9 + kind},
        )


def _text(version: str, number: int, sentences: int) -> str:
    return " ".join(
        f"The {version} record number {number} says in sentence {each} what it has to say." for each in range(sentences)
    )


def store(place: str, name: str) -> PgVectorStore | QdrantStore:
    """Return the store of a table or a collection."""
    if place.startswith("Path:"):
        return QdrantStore.embedded(place.removeprefix("Path:"), collection=name, keywords=True)
    return PgVectorStore(place, table=name, keywords=True)


def run(place: str, name: str, records: Iterator[Record]) -> Hashing:
    """Ingest once, with prune."""
    encoder = Hashing()
    with Index(store(place, name), encoder, chunking=CHUNKING) as index:
        index.ingest(records, prune=True)
    return encoder


def die_at(kind: type, step: str, occurrence: int) -> None:
    """Kill this process at the nth time that the store performs the step."""
    when, _, name = step.partition(" ")
    method: Callable[..., Any] = getattr(kind, name)
    numbers = itertools.count(1)

    def dying(*args: Any, **options: Any) -> Any:
        number = next(numbers)
        if when == "before" and number == occurrence:
            os.kill(os.getpid(), signal.SIGKILL)
        result = method(*args, **options)
        if when == "after" and number == occurrence:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(kind, name, dying)


if __name__ == "__main__":
    place_, name_, step_, occurrence_ = sys.argv[1:]
    ingest.WINDOW_RECORDS = 20  # so that there are many instants between windows
    if step_ != "none":
        kinds = [EdgeBackend] if place_.startswith("Path:") else [OpenTable, Writing]
        die_at(next(kind for kind in kinds if hasattr(kind, step_.split()[1])), step_, int(occurrence_))
    sys.stdout.write("begin\n")
    sys.stdout.flush()
    run(place_, name_, after())
    with suppress(BrokenPipeError):  # the reader may be gone
        os.write(1, b"end\n")
