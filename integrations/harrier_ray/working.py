"""A worker: an actor that ingests blocks of rows, two at a time."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import ray

import harrier_core
from harrier_core import EmbeddingSpace, HarrierError, SettingError, WrongSpace
from harrier_core.records import Ingestible
from harrier_core.scaling import carefully
from harrier_ray.rows import MakeRecord, name_of

if TYPE_CHECKING:
    from harrier_core.scaling import IngestPart, PartReport


def worker_of(settings: bytes, space: EmbeddingSpace, make: MakeRecord, tries: Any) -> type:
    """Return a class of actors for a pickled IngestPart. Ray would keep and log the arguments of a constructor.

    space: a worker writes only if it has this space, and this process's version of the kit. tries: an actor of Tries.
    """
    version = harrier_core.__version__

    class HarrierWorker:
        def __init__(self) -> None:
            self._tries = _Remote(tries)
            self._turns = Turns()
            self._opened = threading.Lock()
            self._part: IngestPart | None = None

        def __call__(self, batch: Any) -> dict[str, list[bytes]]:
            try:
                report = self._ingest([make(row) for row in batch.to_pylist()])
            except HarrierError as error:  # raised again by the driver; Ray would wrap it, and retry an __init__
                return {"report": [pickle.dumps(error)]}
            return {"report": [pickle.dumps(report)]}

        def _ingest(self, records: list[Ingestible]) -> PartReport:
            with self._opened:
                part = self._part = self._part or self._open()
            return carefully(part, records, name_of(records), self._tries, self._turns.turn)

        @staticmethod
        def _open() -> IngestPart:
            if harrier_core.__version__ != version:
                raise SettingError(
                    f"this worker has harrier-kit {harrier_core.__version__}, and the driver has {version}; install "
                    "the same version everywhere"
                )
            part: IngestPart = pickle.loads(settings)  # noqa: S301  # of our own making
            if part.index.encoder.space != space:
                raise WrongSpace(
                    "the model of this worker differs from the model of the driver: "
                    f"{space.explain(part.index.encoder.space)}; use the same model everywhere"
                )
            return part

    return HarrierWorker


class _Remote:
    """Tries that are counted by an actor, which outlives the workers."""

    def __init__(self, tries: Any) -> None:
        self._tries = tries

    def begin(self, block: str) -> int:
        begun: int = ray.get(self._tries.begin.remote(block))
        return begun

    def done(self, block: str) -> None:
        ray.get(self._tries.done.remote(block))


class Turns:
    """Blocks run concurrently, except for one that may have killed its process, which runs alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0
        self._alone = False

    @contextmanager
    def turn(self, alone: bool) -> Iterator[None]:
        """Wait for the blocks that must not run at the same time."""
        with self._changed:
            self._changed.wait_for(lambda: not self._alone and not (alone and self._running))
            self._running += 1
            self._alone = alone
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._alone = False
                self._changed.notify_all()
