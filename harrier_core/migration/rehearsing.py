"""Plan a re-embedding: count by hashes what differs, and estimate the time by encoding a sample."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from time import perf_counter
from typing import TYPE_CHECKING

from harrier_core.errors import StoreUnsuitable
from harrier_core.layout import Precision
from harrier_core.migration.changing import NEXT, SIZES, Changing, changing
from harrier_core.migration.comparing import Sample
from harrier_core.migration.report import ReembedReport
from harrier_core.migration.sources import chosen
from harrier_core.parts import embedder_of
from harrier_core.store import Hashes, OpenStore, VectorStore

if TYPE_CHECKING:
    from harrier_core.embedder import Embedder
    from harrier_core.parts import HasIndexEncoder

_RECORDS = 1_000  # records whose hashes are looked up at once
_TEXT = 16  # bytes of a chunk's hash that depend on its text


def plan_reembedding(
    place: VectorStore | str,
    encoder: Embedder | HasIndexEncoder,
    *,
    rate: float | None = None,
    precision: Precision | None = None,
) -> ReembedReport:
    """Return the report that `reembed` would give. It writes nothing.

    `tokens`, `bytes` and `seconds` are estimates, from encoding a hundred chunks.
    """
    embedder = embedder_of(encoder)
    report = ReembedReport()
    with changing(place) as index, index.beside(NEXT) as store:
        index.refuse_same(embedder.space, precision)
        if (problem := index.exchange().problem()) is not None:
            raise StoreUnsuitable(problem)
        new = store.open(embedder.space) if store.space() is not None else None
        report.total = index.opened.count()
        sample = Sample()
        for ids in _pages(index, new):
            _count(index.opened.known(ids), new.known(ids) if new else {}, report, sample)
        itemsize = SIZES[precision or index.layout.precision or "float32"]
        texts = [each.chunk.text for each in chosen(index.opened, sample.keys).values()]
    if texts:
        _estimate(texts, embedder, report, itemsize)
    if rate is not None:
        report.seconds = max(report.seconds, report.encoded / rate)
    return report


def _pages(index: Changing, new: OpenStore | None) -> Iterator[list[str]]:
    if new is not None:
        yield from index.differing(new, index.exchange())
        return
    ids = index.opened.record_ids()
    while batch := list(islice(ids, _RECORDS)):
        yield batch


def _count(old: Mapping[str, Hashes], new: Mapping[str, Hashes], report: ReembedReport, sample: Sample) -> None:
    for record_id, own in old.items():
        there = new.get(record_id, {})
        differing = {number: hash_ for number, hash_ in own.items() if there.get(number) != hash_}
        encoded = {
            number: hash_ for number, hash_ in differing.items() if there.get(number, b"")[:_TEXT] != hash_[:_TEXT]
        }
        report.encoded += len(encoded)
        report.described += len(differing) - len(encoded)
        sample.see({record_id: encoded})
    report.deleted += sum(len(own.keys() - old.get(record_id, {}).keys()) for record_id, own in new.items())


def _estimate(texts: list[str], embedder: Embedder, report: ReembedReport, itemsize: int) -> None:
    """Time the encoding of a sample, without texts that are too long, once the model is loaded."""
    tokens = embedder.count_tokens(texts)
    short = [text for text, count in zip(texts, tokens, strict=True) if count <= embedder.max_tokens] or ["a"]
    embedder.encode_documents(short[:1])
    begin = perf_counter()
    embedder.encode_documents(short)
    seconds = perf_counter() - begin
    size = sum(len(text.encode()) for text in texts) / len(texts) + itemsize * embedder.dimensions
    report.tokens = round(report.encoded * sum(tokens) / len(texts))
    report.bytes = round(report.encoded * size)
    report.seconds = report.encoded * seconds / len(short)
