"""The content of an index as a Parquet file: a row for each chunk, and the space and layout in the file's metadata.

id, number          the record, and which of its chunks; the chunks of a record are adjacent and in order
text, metadata      the chunk's text, and the metadata as JSON
start, end          where it is in the record's text
hash                of text and metadata: chunks with an equal hash need not be written again
vector              a fixed-size list of float32, or of float16 where the index keeps that
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harrier_core.errors import SpaceError, StoreMissing, StoreUnsuitable
from harrier_core.extras import require
from harrier_core.layout import StoreLayout
from harrier_core.migration.sources import MOST_BYTES, MOST_CHUNKS, Key, Window, key_of
from harrier_core.records import Chunk, id_hash
from harrier_core.space import EmbeddingSpace
from harrier_core.store import Hashes, Stored

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]
    from pyarrow import parquet as pq

FORMAT = 1  # a release with another format has another number
_KEY = b"harrier"  # a key of the file's metadata

_GROUP = 32 * 2**20  # bytes of a row group
_BUFFER = 2**20  # bytes of a column that are read at once
_COLUMNS = ("id", "number", "text", "metadata", "start", "end", "hash", "vector")


class Dump:
    """A file that was written by `DumpWriter`, as a source."""

    def __init__(self, file: Path) -> None:
        """Read the metadata. Raise StoreMissing if there is no such file, and StoreUnsuitable if it is not a dump."""
        require("a Parquet file", "pyarrow")
        self.file = file
        with self._opened() as opened:
            said = _said(file, opened)
            self._rows = int(opened.metadata.num_rows)
            groups = range(opened.metadata.num_row_groups)
            size = sum(opened.metadata.row_group(group).total_byte_size for group in groups)
            self._most = max(1, min(MOST_CHUNKS, MOST_BYTES * self._rows // max(1, size)))
            schema = opened.schema_arrow
        try:
            self.space = EmbeddingSpace.from_json(json.dumps(said.get("space")))
        except SpaceError as error:
            raise StoreUnsuitable(f"{file} does not identify its embedding space: {error}") from None
        self.layout = StoreLayout.from_json(said.get("layout") or {})
        if missing := [each for each in _COLUMNS if each not in schema.names]:
            raise StoreUnsuitable(f"{file} has no column {missing[0]!r}; write it again with a copy of the index")
        width = getattr(schema.field("vector").type, "list_size", None)
        if width != self.space.dimensions:
            raise StoreUnsuitable(
                f"{file} must have a fixed-size list of {self.space.dimensions} numbers in its column 'vector', got "
                f"{schema.field('vector').type}"
            )

    def count(self) -> int:
        """Return how many chunks there are."""
        return self._rows

    def check(self) -> None:
        """Raise StoreUnsuitable unless the chunks of each record are adjacent and numbered from 0."""
        ids = array("Q")
        last, number = None, 0
        for record_id, own in self._rows_of("id", "number"):
            number = number + 1 if record_id == last else 0
            if own != number or record_id is None:
                raise self._unordered(record_id)
            if number == 0:
                ids.append(id_hash(record_id))
                last = record_id
        if len(np.unique(np.frombuffer(ids, np.uint64) if ids else [])) != len(ids):
            raise self._unordered(None)

    def _unordered(self, record_id: str | None) -> StoreUnsuitable:
        which = "" if record_id is None else f", unlike those of {record_id!r}"
        return StoreUnsuitable(
            f"the chunks of a record in {self.file} must be adjacent and numbered from 0{which}; sort the file "
            "by id and number"
        )

    def record_ids(self) -> Iterator[str]:
        """Yield the ids of all records, each once, in their order."""
        return (record_id for record_id, number in self._rows_of("id", "number") if number == 0)

    def hashes(self) -> Iterator[Mapping[str, Hashes]]:
        """Yield the hashes of all records, some records at a time, without reading texts and vectors."""
        held: dict[str, Hashes] = {}
        chunks = 0
        for record_id, number, hash_ in self._rows_of("id", "number", "hash"):
            if number == 0 and chunks >= MOST_CHUNKS:
                yield held
                held, chunks = {}, 0
            held.setdefault(record_id, {})[number] = bytes(hash_)
            chunks += 1
        if held:
            yield held

    def windows(self) -> Iterator[Window]:
        """Yield all records, in the order of the file."""
        held: list[Stored] = []  # of the last record, which may continue in the next batch
        for batch in self._batches(_COLUMNS):
            held += self._stored(batch)
            last = held[-1].chunk.record_id
            whole = next(at for at in range(len(held), -1, -1) if not at or held[at - 1].chunk.record_id != last)
            if whole:
                yield _window(held[:whole])
                held = held[whole:]
        if held:
            yield _window(held)

    def chosen(self, keys: Sequence[Key]) -> dict[Key, Stored]:
        """Return the chunks with these keys; missing ones are left out."""
        import pyarrow as pa
        from pyarrow import dataset

        wanted = set(keys)
        where = dataset.field("id").isin(pa.array({record_id for record_id, _ in keys}, pa.string()))
        scanned = dataset.dataset(str(self.file), format="parquet").to_batches(
            columns=list(_COLUMNS), filter=where, batch_size=self._most, batch_readahead=1, fragment_readahead=1
        )
        found = (each for batch in scanned for each in self._stored(batch))
        return {key_of(each): each for each in found if key_of(each) in wanted}

    def digest(self) -> Digest:
        """Return a digest of all chunks, by their hashes."""
        found = Digest()
        for row in self._rows_of("id", "number", "hash"):
            found.add(*row)
        return found

    @contextmanager
    def _opened(self) -> Iterator[pq.ParquetFile]:
        import pyarrow as pa
        from pyarrow import parquet as pq

        try:
            with pq.ParquetFile(self.file, buffer_size=_BUFFER, pre_buffer=False) as opened:
                yield opened
        except FileNotFoundError:
            raise StoreMissing(f"there is no file {self.file}") from None
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise StoreUnsuitable(f"{self.file} cannot be read as Parquet; use a complete file of a copy") from None

    def _rows_of(self, *columns: str) -> Iterator[tuple[Any, ...]]:
        for batch in self._batches(columns):
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)

    def _batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        with self._opened() as opened:
            for batch in opened.iter_batches(self._most, columns=list(columns), use_threads=False):
                if batch.num_rows:
                    yield batch.select(list(columns))

    def _stored(self, batch: pa.RecordBatch) -> list[Stored]:
        if any(column.null_count for column in batch.columns):
            raise StoreUnsuitable(f"{self.file} has rows with empty columns; write it again with a copy of the index")
        vectors = batch.column("vector").flatten().to_numpy(zero_copy_only=False)
        rows = vectors.astype(np.float32).reshape(batch.num_rows, self.space.dimensions)
        columns = (batch.column(name).to_pylist() for name in _COLUMNS[:-1])
        return [_row(self.file, row, vector) for row, vector in zip(zip(*columns, strict=True), rows, strict=True)]


def _row(file: Path, row: Sequence[Any], vector: Any) -> Stored:  # noqa: ANN401
    record_id, number, text, metadata, start, end, hash_ = row
    try:
        said = json.loads(metadata)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise StoreUnsuitable(f"the metadata of {record_id!r} in {file} must be a JSON object")
    return Stored(Chunk(record_id, number, text, said, start, end, bytes(hash_), metadata.encode()), vector)


def _window(held: Sequence[Stored]) -> Window:
    hashes: dict[str, Hashes] = {}
    for each in held:
        hashes.setdefault(each.chunk.record_id, {})[each.chunk.number] = each.chunk.hash

    def read(record_ids: Collection[str]) -> Iterator[Stored]:
        wanted = set(record_ids)
        return (each for each in held if each.chunk.record_id in wanted)

    return Window(hashes, read)


def _said(file: Path, opened: pq.ParquetFile) -> Mapping[str, Any]:
    """Return the kit's metadata of a file."""
    try:
        said = json.loads((opened.schema_arrow.metadata or {})[_KEY])
        found = said["format"]
    except (KeyError, TypeError, ValueError):
        raise StoreUnsuitable(
            f"{file} was not written by a copy of an index: its metadata name no embedding space; to ingest its texts, "
            "use `harrier ingest`"
        ) from None
    if found != FORMAT:
        raise StoreUnsuitable(f"{file} has format {found}, but this release reads format {FORMAT}; update harrier-kit")
    return dict(said)


class DumpWriter:
    """Writes chunks to a file, a row group at a time, and counts what it wrote."""

    def __init__(self, file: Path, space: EmbeddingSpace, layout: StoreLayout) -> None:
        """Begin a file. layout: that of the index; its precision is that of the vectors."""
        require("a Parquet file", "pyarrow")
        import pyarrow as pa
        from pyarrow import parquet as pq

        self._half = layout.precision == "float16"
        number = pa.float16() if self._half else pa.float32()
        columns = {
            "id": pa.string(),
            "number": pa.int32(),
            "text": pa.string(),
            "metadata": pa.string(),
            "start": pa.int32(),
            "end": pa.int32(),
            "hash": pa.binary(),
            "vector": pa.list_(number, space.dimensions),
        }
        said = {"format": FORMAT, "harrier-kit": version("harrier-kit"), "space": json.loads(space.to_json())}
        said["layout"] = layout.as_json()
        fields = [pa.field(name, kind, nullable=False) for name, kind in columns.items()]
        self._schema = pa.schema(fields, metadata={_KEY: json.dumps(said, ensure_ascii=False)})
        # Vectors do not compress.
        packed = {name: "NONE" if name == "vector" else "ZSTD" for name in columns}
        self._writer = pq.ParquetWriter(
            file, self._schema, compression=_by_path(packed), use_dictionary=["metadata"], write_page_index=True
        )
        self._held: list[Stored] = []
        self._bytes = 0

    def bytes_of(self, stored: Sequence[Stored]) -> int:
        """Return how many bytes the texts and vectors of chunks have in the file, before compression."""
        return sum(each.vector.size * (2 if self._half else 4) + len(each.chunk.text.encode()) for each in stored)

    def add(self, stored: Sequence[Stored]) -> None:
        """Write chunks of whole records."""
        self._held += stored
        self._bytes += self.bytes_of(stored)
        if self._bytes >= _GROUP:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        held, self._held, self._bytes = self._held, [], 0
        if not held:
            return
        chunks = [each.chunk for each in held]
        vectors = np.stack([each.vector for each in held]).astype(np.float16 if self._half else np.float32)
        kind = self._schema.field("vector").type
        columns = [
            pa.array([chunk.record_id for chunk in chunks], pa.string()),
            pa.array([chunk.number for chunk in chunks], pa.int32()),
            pa.array([chunk.text for chunk in chunks], pa.string()),
            pa.array([chunk.metadata_json.decode() for chunk in chunks], pa.string()),
            pa.array([chunk.start for chunk in chunks], pa.int32()),
            pa.array([chunk.end for chunk in chunks], pa.int32()),
            pa.array([chunk.hash for chunk in chunks], pa.binary()),
            pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), kind.value_type), type=kind),
        ]
        self._writer.write_table(pa.table(columns, schema=self._schema))

    def close(self) -> None:
        """Write the remaining chunks and the end of the file."""
        self._flush()
        self._writer.close()

    def stop(self) -> None:
        """Close a file that will be discarded, and ignore errors."""
        with suppress(Exception):
            self._writer.close()


def _by_path(compression: Mapping[str, str]) -> dict[str, str]:
    """Return the compression of each column, by its path in Parquet."""
    return {f"{name}.list.element" if name == "vector" else name: kind for name, kind in compression.items()}


class Digest:
    """A digest of the chunks of a copy, in any order: their number, and the sum of their hashes."""

    def __init__(self) -> None:
        self.chunks = 0
        self.sum = 0

    def add(self, record_id: str, number: int, hash_: bytes) -> None:
        """Add a chunk."""
        said = b"%b\0%d\0%b" % (record_id.encode(), number, hash_)
        self.chunks += 1
        self.sum = (self.sum + int.from_bytes(blake2b(said, digest_size=16).digest())) % 2**128

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Digest) and (self.chunks, self.sum) == (other.chunks, other.sum)

    __hash__ = None  # type: ignore[assignment]
