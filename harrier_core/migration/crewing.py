"""Fill a new space with several processes: this one finds what differs, and the others encode it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harrier_core.errors import SettingError
from harrier_core.migration.encoding import Encoding, Pace
from harrier_core.migration.filling import PASSES, Filling
from harrier_core.migration.report import ReembedReport
from harrier_core.records import IngestReport
from harrier_core.scaling.crew import Crew
from harrier_core.scaling.messages import Begin
from harrier_core.scaling.part import PartReport
from harrier_core.scaling.workers import environments, sendable

if TYPE_CHECKING:
    from harrier_core.embedder import Embedder
    from harrier_core.space import EmbeddingSpace
    from harrier_core.store import OpenStore, VectorStore

_TELL = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class FillReport(PartReport):
    """The result of a worker for a block."""

    bytes: int = 0


class FillPart:
    """Fills in one block of records per call. It pickles as settings, and opens both places where it is called."""

    def __init__(self, old: VectorStore, new: VectorStore, embedder: Embedder, itemsize: int) -> None:
        self._stores = old, new
        self._embedder = embedder
        self._itemsize = itemsize
        self._opened: tuple[OpenStore, OpenStore] | None = None

    @property
    def space(self) -> EmbeddingSpace:
        """The space of the new vectors. Opens both places, and raises the error if one cannot be opened."""
        self._open()
        return self._embedder.space

    def _open(self) -> tuple[OpenStore, OpenStore]:
        if self._opened is None:
            old, new = self._stores
            stored = old.space()
            if stored is None:
                old.describe()  # raises StoreMissing
                raise SettingError(f"{old} was emptied while it was re-embedded")
            self._opened = old.open(stored), new.open(self._embedder.space)
        return self._opened

    def __call__(
        self,
        records: Sequence[Mapping[str, str]],
        *,
        on_progress: Callable[[IngestReport], None],  # noqa: ARG002  # blocks are small
        remember: bool,  # noqa: ARG002  # only for ingests
    ) -> FillReport:
        """Make the new place hold these records as the old one does. Only their ids are given."""
        report, ids = ReembedReport(), [each["id"] for each in records]

        def encoded(texts: int, tokens: int) -> None:
            report.encoded += texts
            report.tokens += tokens

        Filling(
            *self._open(),
            lambda: iter([ids]),
            Encoding(self._embedder, Pace(None), encoded),
            report,
            lambda: None,
            itemsize=self._itemsize,
        ).run(1)
        done = IngestReport(
            records=len(ids),
            written=report.encoded + report.described,
            encoded=report.encoded,
            tokens=report.tokens,
            deleted=report.deleted,
            rejected=report.rejected,
        )
        return FillReport(done, bytes=report.bytes)

    def close(self) -> None:
        """Close both places."""
        for each in self._stores:
            each.close()


class CrewFilling(Filling):
    """A Filling whose windows are blocks for worker processes. A record that crashes its process twice is rejected."""

    def employ(self, part: FillPart, embedder: Embedder, workers: int) -> None:
        """Define the work of the workers. Raise SettingError if it cannot be sent to them."""
        self._begin = Begin(sendable(lambda: part, workers), remember=False)
        self._environments = environments(workers, embedder)
        self._crew: Crew

    def run(self, passes: int = PASSES) -> None:
        """Run passes until one finds nothing to do, but at most this many."""
        with Crew(self._begin, self._environments, lambda *_: None) as self._crew:
            super().run(passes)

    def _pass(self, rejected: Mapping[str, str]) -> int:
        number = 0
        for window in self._windows():
            number += sum(record_id not in rejected for record_id in window)
            self._await(until_idle=False)
            self._crew.give([{"id": record_id} for record_id in window])
        self._await(until_idle=True)
        return number

    def _await(self, *, until_idle: bool) -> None:
        """Wait until a worker has room, or until all blocks are done."""
        while not (self._crew.is_idle() if until_idle else self._crew.has_room()):
            for part in self._crew.wait(_TELL):
                self._learn(part)
            self._tell()

    def _learn(self, part: PartReport) -> None:
        done = part.report
        self._report.encoded += done.encoded
        self._report.described += done.written - done.encoded
        self._report.deleted += done.deleted
        self._report.tokens += done.tokens
        self._report.bytes += part.bytes if isinstance(part, FillReport) else 0
        self._rejected |= dict(done.rejected)
