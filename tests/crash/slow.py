"""An ingest with a slow model, run as a program that prints each text that it has encoded.

python slow.py FILE     an SQLite file; the records are one long one and many short ones
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from harrier_files import FileMemory
from ingesting import Hashing
from sqlite_store import SqliteStore

from harrier_core import Chunking, Encoded, Index, Record

SECOND = 20_000  # characters that the model encodes in one
CHUNKING = Chunking(tokens=100)
BOOK = Record("book", " ".join(f"word{number}" for number in range(20_000)))  # nine seconds
NOTES = [Record(f"note{number:03}", f"note {number} " + "says a word or two " * 40) for number in range(300)]


class Slow(Hashing):
    """An embedder with one thread, which answers in order and reports what it has encoded."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = ThreadPoolExecutor(1)

    def submit_documents(self, texts: Iterable[str]) -> Future[Encoded]:
        return self._thread.submit(self._answer, list(texts))

    def _answer(self, texts: list[str]) -> Encoded:
        for text in texts:
            time.sleep(len(text) / SECOND)
            sys.stdout.write(f"{len(text)}\n")
            sys.stdout.flush()
        return super().submit_documents(texts).result()


def records() -> Iterator[Record]:
    """Return short records before and after a long one."""
    yield from NOTES[:100]
    yield BOOK
    yield from NOTES[100:]


def main() -> None:
    """Ingest all records."""
    file = Path(sys.argv[1])
    memory = FileMemory(file.with_suffix(".memory"))
    Index(SqliteStore(str(file)), Slow(), chunking=CHUNKING).ingest(records(), memory=memory)


if __name__ == "__main__":
    main()
