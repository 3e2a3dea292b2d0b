"""Write a source to a Parquet file."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from harrier_core.errors import StoreError
from harrier_core.layout import Precision
from harrier_core.migration.carrying import Told
from harrier_core.migration.comparing import Sample, compare
from harrier_core.migration.dumps import Digest, Dump, DumpWriter
from harrier_core.migration.files import replacing
from harrier_core.migration.reading import Reader, Records
from harrier_core.migration.sources import Key, Source, Window
from harrier_core.store import Stored

_WORKERS, _AHEAD = 2, 4  # threads that read, and windows that are read or wait to be written

Read = tuple[Window, Records, dict[str, str]]


def dump(source: Source, file: Path, precision: Precision | None, told: Told) -> None:
    """Write a source to a file, check it, and put it in place."""
    layout = replace(source.layout, precision=precision or source.layout.precision or "float32")
    with replacing(file, source.space) as part:
        writer = DumpWriter(part, source.space, layout)
        try:
            digest, kept = _write(source, writer, told)
            writer.close()
        except BaseException:
            writer.stop()
            raise
        _check(Dump(part), digest, kept, told)


def _write(source: Source, writer: DumpWriter, told: Told) -> tuple[Digest, dict[Key, Stored]]:
    """Return the digest of what was written, and a sample of it."""
    digest, sample, report = Digest(), Sample(), told.report
    kept: dict[Key, Stored] = {}
    for window, read, rejected in _read(source):
        stored = [each for own in read.values() for each in own]
        writer.add(stored)
        for each in stored:
            digest.add(each.chunk.record_id, each.chunk.number, each.chunk.hash)
        sample.see({record_id: own for record_id, own in window.hashes.items() if record_id in read})
        keys = set(sample.keys)
        kept |= {(each.chunk.record_id, each.chunk.number): each for each in stored}
        kept = {key: each for key, each in kept.items() if key in keys}
        report.records += len(read)
        report.chunks += len(stored)
        report.copied += len(stored)
        report.bytes += writer.bytes_of(stored)
        report.rejected += rejected.items()
        told.tell()
    return digest, kept


def _read(source: Source) -> Iterator[Read]:
    """Yield the records of a source in order, reading ahead."""
    reader = Reader(source.space.dimensions)

    def read(window: Window) -> Read:
        return window, *reader.read(window, list(window.hashes))

    with ThreadPoolExecutor(_WORKERS, thread_name_prefix="harrier-copy") as threads:
        ahead: deque[Future[Read]] = deque()
        try:
            for window in source.windows():
                ahead.append(threads.submit(read, window))
                if len(ahead) >= _AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise


def _check(written: Dump, digest: Digest, kept: dict[Key, Stored], told: Told) -> None:
    report = told.report
    report.stage = "checking"
    told.tell()
    if written.digest() != digest:
        raise StoreError(f"{written.file} differs from what was written to it; check the disk, and copy again")
    report.checked = digest.chunks
    copied = written.chosen(list(kept))
    for key, stored in kept.items():
        compare(stored, copied.get(key), report)
