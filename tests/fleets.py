"""Helpers for ingests by several processes: an observable embedder, and the content of a table."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import psycopg
from harrier_pgvector import PgVectorStore
from ingesting import Hashing
from psycopg import sql

from harrier_core import Chunking, Encoded, Index, Record

CHUNKING = Chunking(tokens=16)


class Noting(Hashing):
    """An embedder that writes each text to a file, and may be slow or crash on a certain text."""

    def __init__(self, notes: Path, seconds: float = 0.0, poison: str | None = None) -> None:
        super().__init__()
        self.notes, self.seconds, self.poison = notes, seconds, poison

    def submit_documents(self, texts: Iterable[str]) -> Future[Encoded]:
        given = list(texts)
        if self.poison is not None and any(self.poison in text for text in given):
            with (self.notes.parent / "deaths").open("a") as deaths:
                deaths.write("x")
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.seconds * len(given))
        with self.notes.open("a") as notes:  # a single write, so that lines are not interleaved
            notes.write("".join(f"{os.getpid()} {text}\n" for text in given))
        return super().submit_documents(given)

    def lines(self) -> list[str]:
        """Return the texts that any process encoded."""
        noted = self.notes.read_text().splitlines() if self.notes.exists() else []
        return [line.partition(" ")[2] for line in noted]

    def processes(self) -> set[int]:
        """Return the processes that encoded something."""
        return {int(line.partition(" ")[0]) for line in self.notes.read_text().splitlines()}


def records(number: int, begin: int = 0, version: str = "first") -> Iterator[Record]:
    """Return some records with one chunk, and some with several."""
    for at in range(begin, number):
        text = " ".join(f"The {version} record {at} says {each} of what it says." for each in range(1 + at % 4))
        yield Record(f"r{at:05}", text, {"n": at})


def index_of(conninfo: str, table: str, encoder: Hashing) -> Index:
    return Index(PgVectorStore(conninfo, table=table), encoder, chunking=CHUNKING)


def content(conninfo: str, table: str) -> list[Any]:
    """Return the content row by row, including vectors."""
    columns = "record_id, number, text, metadata, start_at, end_at, hash, embedding::text"
    query = sql.SQL(f"SELECT {columns} FROM {{}} ORDER BY record_id, number").format(sql.Identifier(table))
    with psycopg.connect(conninfo) as connection:
        return connection.execute(query).fetchall()


def workers_of(process: int | None = 0) -> list[int]:
    """Return the worker processes of a process; 0 is this one, None is any."""
    said = subprocess.run(["ps", "-ewwo", "pid,ppid,stat,args"], capture_output=True, text=True, check=True).stdout
    found = [line.split(maxsplit=3) for line in said.splitlines() if "harrier_core.scaling.worker" in line]
    parent = os.getpid() if process == 0 else process
    return [int(each[0]) for each in found if parent in (None, int(each[1])) and not each[2].startswith("Z")]
