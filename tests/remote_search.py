"""An Index whose encoder answers over HTTP, as a program.

`python remote_search.py URL` prints what it found as JSON, and runs where the kit is installed without any extra.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from urllib.request import Request, urlopen

import numpy as np

from harrier_core import Chunking, Embedder, EmbeddingSpace, Encoded, Index, Record
from harrier_core.testing import MemoryStore

RECORDS = [
    Record("bread", "Bread rises because yeast turns sugar into gas.", {"topic": "food"}),
    Record("virus", "Vaccines train the immune system against a virus.", {"topic": "health"}),
    Record("river", "Rivers carry sand from the mountains to the sea. " * 5, {"topic": "earth"}),
]
CHUNKING = Chunking(tokens=40)
QUERIES = ["why does bread rise with yeast", "what do rivers carry to the sea"]


class RemoteEncoder(Embedder):
    """An encoder that gets vectors from another process."""

    name = "remote"
    max_tokens = 32_768

    def __init__(self, url: str) -> None:
        self._url = url
        self._threads = ThreadPoolExecutor(2)
        self._space = EmbeddingSpace.from_json(self._ask("space"))

    @property
    def space(self) -> EmbeddingSpace:
        return self._space

    def submit_queries(self, texts: Iterable[str], *, task: Any = None) -> Future[Encoded]:
        return self._threads.submit(self._encoded, "encode_queries", list(texts))

    def submit_documents(self, texts: Iterable[str]) -> Future[Encoded]:
        return self._threads.submit(self._encoded, "encode_documents", list(texts))

    def count_tokens(self, texts: Iterable[str]) -> list[int]:
        return list(self._ask("count_tokens", list(texts)))

    def _encoded(self, name: str, texts: list[str]) -> Encoded:
        vectors = np.array(self._ask(name, texts), np.float32).reshape(len(texts), self.dimensions)
        return Encoded(vectors, [0] * len(texts))

    def _ask(self, name: str, texts: Sequence[str] = ()) -> Any:
        with urlopen(Request(f"{self._url}/{name}", json.dumps(texts).encode())) as answer:
            return json.load(answer)


def found(encoder: Any) -> dict[str, Any]:
    """Ingest twice, search, and return the matches."""
    with Index(MemoryStore(), encoder, chunking=CHUNKING) as index:
        first, second = index.ingest(RECORDS), index.ingest(RECORDS)
        matches = [index.search(QUERIES[0], k=2), asyncio.run(index.asearch(QUERIES[1], k=3))]
        matches.append(index.search(QUERIES[0], where={"topic": "health"}))
        return {
            "written": [first.written, second.written],
            "matches": [[[each.id, round(each.score, 4)] for each in some] for some in matches],
        }


if __name__ == "__main__":
    print(json.dumps(found(RemoteEncoder(sys.argv[1]))))
