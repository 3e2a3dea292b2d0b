"""One run of an ingest for a terminal: progress, a rehearsal that writes nothing, removal of what is gone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from harrier_cli.output import Bar, say, say_json, tell, tell_each
from harrier_cli.owning import prune as remove_gone
from harrier_cli.owning import refuse_other_roots
from harrier_cli.places import Place, opened
from harrier_cli.sources import Source
from harrier_core import (
    Chunking,
    Encoder,
    Index,
    IngestReport,
    Problem,
    StoreMissing,
    Task,
    TextTooLong,
    VectorStore,
    Write,
    Written,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]


def ingest(
    place: Place,
    source: Source,
    encoder: Encoder,
    chunking: Chunking | None,
    *,
    prune: bool,
    dry_run: bool,
    moved: bool = False,
) -> IngestReport:
    """Make the place hold the source's records as they are now, or count what that would change."""
    store = _rehearsed(place, encoder) if dry_run else opened(place, encoder, write=True)
    index = Index(store, Rehearsal(encoder) if dry_run else encoder, chunking=chunking)
    stored = 0
    with index, Bar("ingesting", source.size()) as bar:
        refuse_other_roots(index, source.origins, moved=moved)

        def advance(report: IngestReport) -> None:
            nonlocal stored
            stored = report.written
            bar.advance(source.bytes_read, report.records, "records")

        try:
            report = index.ingest(source, on_progress=advance)
            report.rejected[:0] = source.rejected
            if prune and source.complete:
                report.deleted += remove_gone(index, source)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"interrupted; {stored:,} chunks of this run are known to be stored, and the same command run again "
                "goes on from there"
            ) from None
    return report


def show(report: IngestReport, source: Source, *, prune: bool, dry_run: bool, as_json: bool) -> bool:
    """Say what was done; whether nothing is amiss."""
    if as_json:
        numbers = {name: getattr(report, name) for name in ("records", "written", "unchanged", "deleted", "encoded")}
        rejected = [{"id": name, "reason": reason} for name, reason in report.rejected]
        named: dict[str, Any] = {"rejected": rejected, "repeated": report.repeated, "left_out": source.walk.left_out}
        done = {"pruned": prune and source.complete, "dry_run": dry_run, "seconds": round(report.seconds, 3)}
        say_json({**numbers, **named, **done})
    else:
        tell_each("rejected", report.rejected)
        tell_each("repeated", [(name, "came more than once; the last one counts") for name in report.repeated])
        tell_each("left out", source.walk.links)
        if others := source.walk.left_out - len(source.walk.links):
            tell(f"left out: {others:,} files of other kinds")
        if prune:
            _tell_not_pruned(source)
        say(f"{'would be: ' if dry_run else ''}{_said(report)}")
    return not (report.rejected or report.repeated or (prune and (source.walk.unknown or not source.complete)))


def _tell_not_pruned(source: Source) -> None:
    if not source.complete:
        unread = "could not be read, or are behind a link," if source.walk.links else "could not be read"
        tell(f"not pruned: which records those are that {unread} is not known; mend them, and run it again")
    else:
        unknown = sorted(set(source.walk.unknown))
        tell_each(
            "not pruned", [(each, "could not be read, or is behind a link, so that it stays") for each in unknown]
        )


def _said(report: IngestReport) -> str:
    rate = report.records / report.seconds if report.seconds else 0.0
    return (
        f"{report.records:,} records in {report.seconds:.1f} s ({rate:,.0f} a second); {report.written:,} chunks "
        f"written ({report.encoded:,} encoded), {report.unchanged:,} unchanged, {report.deleted:,} deleted; "
        f"{len(report.rejected):,} rejected"
    )


# -- the rehearsal: the core plans as ever, but nothing is encoded, and nothing written


class Rehearsal:
    """An encoder that measures texts, and gives vectors of no worth."""

    def __init__(self, encoder: Encoder) -> None:
        self.space = encoder.space
        self._encoder = encoder

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has as a document."""
        return self._encoder.count_tokens(texts)

    def submit_documents(self, texts: Sequence[str]) -> Future[Vectors]:
        """No vectors, or the error that a text too long would be."""
        import numpy as np

        most = self._encoder.max_tokens
        counts = enumerate(self._encoder.count_tokens(texts))
        long = [(position, count) for position, count in counts if count > most]
        if long:
            raise TextTooLong(
                [Problem(position, TextTooLong, f"has {count} tokens, more than {most}") for position, count in long]
            )
        done: Future[Vectors] = Future()
        done.set_result(np.zeros((len(texts), self.space.dimensions), dtype=np.float32))
        return done

    def encode_queries(self, texts: Iterable[str], *, task: str | Task | None = None) -> Vectors:
        """Those of the encoder."""
        return self._encoder.encode_queries(texts, task=task)

    async def aencode_queries(self, texts: Iterable[str], *, task: str | Task | None = None) -> Vectors:
        """Those of the encoder."""
        return await self._encoder.aencode_queries(texts, task=task)


def _rehearsed(place: Place, encoder: Encoder) -> RehearsedStore:
    try:
        return RehearsedStore(opened(place, encoder, write=False))
    except StoreMissing:
        return RehearsedStore(None)


class RehearsedStore:
    """A store, or a place where there is none yet, that is looked at and not written."""

    def __init__(self, store: VectorStore | None) -> None:
        self._store = store

    def open(self, space: object, *, write: bool) -> None:
        """It was opened before, to be read."""

    def known(self, record_ids: Sequence[str]) -> Any:  # as a VectorStore's
        """The hashes of the chunks of those records that are there."""
        return self._store.known(record_ids) if self._store else {}

    def write(self, write: Write) -> Written:
        """How many chunks would go."""
        stale = sum(number >= write.sizes[id_] for id_, known in write.known.items() for number in known)
        return Written(stale, [])

    def delete(self, record_ids: Sequence[str]) -> int:
        """How many chunks that would be."""
        return sum(map(len, self.known(record_ids).values())) if record_ids else 0

    def record_ids(self) -> Iterator[str]:
        """The ids of all records."""
        return self._store.record_ids() if self._store else iter(())

    def settle(self) -> None:
        """Nothing was written."""

    def close(self) -> None:
        """Let go of connections."""
        if self._store:
            self._store.close()

    def search(self, vectors: Vectors, k: int, where: Any, *, with_vectors: bool = False) -> Any:
        """What is there now."""
        return (
            self._store.search(vectors, k, where, with_vectors=with_vectors) if self._store else [[] for _ in vectors]
        )

    def read(self, record_ids: Any = None, where: Any = None) -> Any:
        """What is there now."""
        return self._store.read(record_ids, where) if self._store else iter(())

    def count(self) -> int:
        """How many chunks there are."""
        return self._store.count() if self._store else 0
