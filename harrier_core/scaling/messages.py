"""Messages between an ingest and its worker processes, over the pipes of a worker."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from harrier_core.records import Ingestible, IngestReport
from harrier_core.scaling.part import IngestPart, PartReport


@dataclass(frozen=True, slots=True)
class Begin:
    """The first message to a worker."""

    part: bytes  # an IngestPart, pickled
    remember: bool


@dataclass(frozen=True, slots=True)
class Work:
    """A block to ingest."""

    number: int
    records: bytes  # pickled


@dataclass(frozen=True, slots=True)
class Ready:
    """The first message of a worker: it has opened the store."""


@dataclass(frozen=True, slots=True)
class Told:
    """The progress of a block."""

    number: int
    report: IngestReport


@dataclass(frozen=True, slots=True)
class Done:
    """A block was ingested."""

    number: int
    report: PartReport


@dataclass(frozen=True, slots=True)
class Failed:
    """An error that ends the ingest."""

    error: BaseException


Message = Ready | Told | Done | Failed


def pickled(given: IngestPart | Sequence[Ingestible]) -> bytes:
    """Return a part or records pickled, to be sent within a message."""
    return pickle.dumps(given, pickle.HIGHEST_PROTOCOL)


def send(pipe: IO[bytes], message: Begin | Work | Message | None) -> None:
    """Write a message; None tells a worker that there are no more."""
    pickle.dump(message, pipe, pickle.HIGHEST_PROTOCOL)
    pipe.flush()
