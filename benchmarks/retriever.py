"""A trained retrieval model of sentence-transformers as an Embedder that caches its vectors in a folder."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harrier_core import Embedder, EmbeddingSpace, Encoded

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_TOGETHER = 64  # texts whose vectors are stored together
_TOKENS = 128  # of a text; most models of this kind were trained on so many, and the rest is truncated


class Retriever(Embedder):
    """Encode queries and documents without prompts; a text that is too long is truncated."""

    max_tokens = 1_000_000

    def __init__(self, model: Path, kept: Path) -> None:
        self._folder = model
        kept.mkdir(parents=True, exist_ok=True)
        self._kept = sqlite3.connect(kept / "vectors.sqlite", timeout=60, check_same_thread=False)
        self._kept.execute("CREATE TABLE IF NOT EXISTS vectors (text BLOB PRIMARY KEY, vector BLOB)")

    @property
    def name(self) -> str:
        """Return the name of the model's folder."""
        return self._folder.name

    @cached_property
    def _model(self) -> SentenceTransformer:
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(self._folder), device="cpu", local_files_only=True)
        model.max_seq_length = _TOKENS
        return model

    @cached_property
    def _digest(self) -> str:
        digest = hashlib.sha256()
        for file in sorted(self._folder.rglob("*.safetensors")):
            digest.update(file.read_bytes())
        return digest.hexdigest()

    @cached_property
    def space(self) -> EmbeddingSpace:
        """Return the space of its vectors."""
        dimensions = len(self._model.encode("a"))
        return EmbeddingSpace(self.name, None, self._digest, self._digest, dimensions, "its own", "l2", "{text}")

    def count_tokens(self, texts: Iterable[str]) -> list[int]:
        """Estimate; the counts are not used for truncation."""
        return [len(text) // 5 for text in texts]

    def submit_documents(self, texts: Iterable[str]) -> Future[Encoded]:
        """Encode texts that are not in the cache, and read the vectors of the others."""
        given = list(texts)
        keys = [hashlib.sha256(f"{self._digest} {text}".encode()).digest() for text in given]
        found = {key: vector for key in keys if (vector := self._read(key)) is not None}
        missing = {key: text for key, text in zip(keys, given, strict=True) if key not in found}
        for some in batched(missing.items(), _TOGETHER):
            made = self._model.encode(
                [text for _, text in some], batch_size=16, normalize_embeddings=True, show_progress_bar=False
            )
            rows = [(key, np.asarray(vector, "<f4")) for (key, _), vector in zip(some, made, strict=True)]
            with self._kept:
                self._kept.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?)", rows)
            found |= rows
        done: Future[Encoded] = Future()
        done.set_result(Encoded(np.stack([found[key] for key in keys]), [0] * len(given)))
        return done

    def submit_queries(self, texts: Iterable[str], *, task: object = None) -> Future[Encoded]:  # noqa: ARG002
        """Do the same as for documents."""
        return self.submit_documents(texts)

    def _read(self, key: bytes) -> NDArray[np.float32] | None:
        row = self._kept.execute("SELECT vector FROM vectors WHERE text = ?", [key]).fetchone()
        return None if row is None else np.frombuffer(row[0], "<f4")


def batched(items: Iterable[tuple[bytes, str]], size: int) -> Iterator[list[tuple[bytes, str]]]:
    """Yield batches of `size` items."""
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some
