"""The data types of an index: a Record goes in, Chunks are stored, Matches come out. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

import orjson

from harrier_core.plurals import counted
from harrier_core.values import NoForm, plain, unstorable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_CHUNKS = UUID("7f1c9a52-5c0e-5b43-9d38-2f6b1c9e4a10")  # the namespace of chunk ids, forever

_HALF = 16  # bytes of either hash: two different texts never have the same one
HASH_BYTES = 2 * _HALF  # length of a chunk's hash

Metadata = Mapping[str, Any]

MOST_ID_BYTES = 2_000  # an index of Postgres takes 2,704 bytes per row
# Dates have their own form here, and metadata that is refused is not written either.
_OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS


Describe = Callable[[int, int], Metadata]  # a piece of a text, by its start and end, to the metadata of that piece


@dataclass(frozen=True, slots=True)
class Record:
    """A text that a user wants to find again, under an id of the user's choice, and its metadata.

    describe: returns more metadata for the piece of the text from one offset to another, such as its page. They are
    added to the metadata of each chunk.
    """

    id: str
    text: str
    metadata: Metadata = field(default_factory=dict)
    describe: Describe | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a record's text, as it is stored."""

    record_id: str
    number: int  # within its record, from 0
    text: str
    metadata: Metadata
    start: int  # its offset in the record's text
    end: int
    hash: bytes = b""  # hash of the text and of everything else: chunks with an equal hash need not be written again
    json: bytes = field(default=b"", compare=False, repr=False)  # the record's metadata in JSON, if already made

    @classmethod
    def of(cls, record: Record, number: int, start: int, text: str, json: bytes = b"") -> Chunk:
        """Make a piece of a record, with its hash. json: the record's metadata in JSON, the same for all its chunks.

        Raise Unstorable if no store can hold the record's metadata for this piece.
        """
        metadata, end = record.metadata, start + len(text)
        if record.describe is not None:
            described = Record(record.id, text, {**metadata, **record.describe(start, end)})
            metadata, json = checked(described).metadata, b""
        json = json or to_json(metadata)
        rest = blake2b(b"%b%d" % (json, start), digest_size=_HALF).digest()
        return cls(record.id, number, text, metadata, start, end, text_hash(text) + rest, json)

    @property
    def metadata_json(self) -> bytes:
        """Its metadata in the form that is hashed and stored."""
        return self.json or to_json(self.metadata)

    @property
    def id(self) -> str:
        """The chunk's id: the same for the same record and number, everywhere and always."""
        return chunk_id(self.record_id, self.number)

    @property
    def text_hash(self) -> bytes:
        """The hash of the text: equal for equal texts, whose vectors need not be computed again."""
        return self.hash[:_HALF]


def to_json(metadata: Metadata) -> bytes:
    """Return metadata in the form that is hashed and stored: the same for equal metadata, in any order of keys."""
    try:
        return _dumped(metadata)
    except TypeError:  # not one of JSON's own types
        metadata = plain(metadata)
    try:
        return _dumped(metadata)
    except TypeError:  # integers of more than 64 bits
        return json.dumps(metadata, sort_keys=True, ensure_ascii=False).encode()


def _dumped(metadata: Metadata) -> bytes:
    # A copy, because orjson allocates a kilobyte, and the rest of it would be kept as well.
    return b"%b" % orjson.dumps(metadata, option=_OPTIONS)


def text_hash(text: str) -> bytes:
    """Return the half of a chunk's hash that depends on its text."""
    return blake2b(text.encode(), digest_size=_HALF).digest()


def id_hash(record_id: str) -> int:
    """Return a number that stands for a record's id, the same in every process; two ids never have the same one."""
    return int.from_bytes(blake2b(record_id.encode(errors="surrogatepass"), digest_size=8).digest())


def chunk_id(record_id: str, number: int) -> str:
    """Return the id of a record's chunk, a UUID."""
    return str(uuid5(_CHUNKS, f"{record_id}\0{number}"))


@dataclass(frozen=True, slots=True)
class Match:
    """A chunk that was found."""

    chunk: Chunk
    score: float  # matches are ordered by it; higher is better
    cosine: float | None = None  # between the query's vector and the chunk's; None if they were not compared
    vector: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)  # if it was requested
    # With `expand`: the chunk and those around it in its record, ordered by number; otherwise empty.
    around: tuple[Chunk, ...] = field(default=(), compare=False, repr=False)

    @property
    def id(self) -> str:
        """The id of the chunk."""
        return self.chunk.id

    @property
    def record_id(self) -> str:
        """The id of the chunk's record."""
        return self.chunk.record_id

    @property
    def number(self) -> int:
        """The chunk's number within its record, from 0."""
        return self.chunk.number

    @property
    def text(self) -> str:
        """The chunk's text."""
        return self.chunk.text

    @property
    def metadata(self) -> Metadata:
        """The record's metadata."""
        return self.chunk.metadata

    @property
    def start(self) -> int:
        """The chunk's offset in the record's text."""
        return self.chunk.start

    @property
    def end(self) -> int:
        """The offset of the chunk's end in the record's text."""
        return self.chunk.end

    @property
    def passage(self) -> str:
        """The text of `around` without overlaps, or the chunk's own; line breaks mark gaps between the chunks."""
        first, *others = self.around or (self.chunk,)
        parts, end = [first.text], first.end
        for chunk in others:
            parts.append(f"\n{chunk.text}" if chunk.start > end else chunk.text[end - chunk.start :])
            end = max(end, chunk.end)
        return "".join(parts)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A record that a source could not provide. It may stand among records: it is reported as rejected, and not pruned.

    gone: nothing is left of it in the source, so what is stored of it is pruned. blank: it exists but is empty or
    blank, which is not an error: it is reported as blank instead, and what is stored of it is pruned.
    """

    id: str
    reason: str
    gone: bool = False
    blank: bool = False


@dataclass(frozen=True, slots=True)
class Deferred:
    """A record that is read only if it may have changed. It may stand among records.

    stamp: bytes that change whenever the content may have changed. read: called at most once per ingest. It is not
    called if the ingest's memory has this id and stamp, and the store holds exactly that record.
    """

    id: str
    stamp: bytes
    read: Callable[[], Record | Skipped]


# A mapping has "id" and "text", and optionally "metadata".
Ingestible = Record | Skipped | Deferred | Mapping[str, Any]


@dataclass(slots=True)
class IngestReport:
    """The results of an ingest, counted in chunks unless stated otherwise."""

    records: int = 0  # read
    written: int = 0
    unchanged: int = 0
    deleted: int = 0
    encoded: int = 0  # part of the written ones; the others came with vectors, or only had their metadata changed
    tokens: int = 0  # that were encoded
    pending: int = 0  # waiting for their vectors while an ingest runs; 0 at its end
    seconds: float = 0.0
    rejected: list[tuple[str, str]] = field(default_factory=list)  # (record id, reason)
    repeated: list[str] = field(default_factory=list)  # ids that occurred more than once; their last record counts
    blank: list[str] = field(default_factory=list)  # ids without any text in the source, such as those of empty files
    # Ids that occurred in several parts of an ingest with different texts or metadata: any of these may be stored.
    differing: list[str] = field(default_factory=list)

    def __add__(self, other: IngestReport) -> IngestReport:
        """Return the report of two parts of an ingest, which ran concurrently or one within the other."""
        counts = (
            *("records", "written", "unchanged", "deleted", "encoded", "tokens", "pending", "rejected", "repeated"),
            *("blank", "differing"),
        )
        added = {name: getattr(self, name) + getattr(other, name) for name in counts}
        return IngestReport(**added, seconds=max(self.seconds, other.seconds))

    @property
    def changes(self) -> str:
        """A summary of what it changed, or would change, without the time that it took."""
        written = f"{counted(self.written, 'chunk')} written ({self.encoded:,} encoded)"
        said = [written, f"{self.unchanged:,} unchanged, {self.deleted:,} deleted"]
        if self.rejected:
            name, reason = self.rejected[0]
            which = f"the first, {name!r}," if len(self.rejected) > 1 else repr(name)
            said.append(f"{counted(len(self.rejected), 'record')} rejected, {which} because it {reason}")
        if self.repeated:
            said.append(f"{counted(len(self.repeated), 'id')} occurred more than once")
        if self.differing:
            said.append(f"{len(self.differing):,} of them differing in several parts, the first {self.differing[0]!r}")
        if self.blank:
            said.append(f"{len(self.blank):,} without text")
        return "; ".join(said)

    def __str__(self) -> str:
        rate = f" ({self.encoded / self.seconds:,.1f} encoded a second)" if self.encoded and self.seconds else ""
        return f"{counted(self.records, 'record')} in {self.seconds:.1f} s{rate}; {self.changes}"


@dataclass(slots=True)
class VerifyReport:
    """The findings of a check; ingesting the same records again fixes any that concern their texts."""

    checked: int = 0  # chunks
    encoded: int = 0  # of them, encoded again
    least_cosine: float = 1.0  # between a stored vector and the one that its text gets now
    problems: list[tuple[str, str]] = field(default_factory=list)  # (record id, what is wrong)

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def __str__(self) -> str:
        said = f"{counted(self.checked, 'chunk')} checked, {self.encoded:,} of them encoded again"
        if self.encoded:
            said += f" (least cosine {self.least_cosine:.4f})"
        if self.sound:
            return f"{said}; all sound"
        record_id, problem = self.problems[0]
        return f"{said}; {counted(len(self.problems), 'problem')}, the first: record {record_id!r} {problem}"


class Unstorable(Exception):
    """A record that no store can hold. The message is the reason, and continues a sentence that names the record."""


def checked(record: object) -> Record:
    """Return the record with its metadata as JSON values. Raise Unstorable if no store can hold it."""
    if not isinstance(record, Record):
        raise Unstorable(f"is {type(record).__name__}, not Record")
    if _plainly_sound(record):
        return record
    if problem := next(_problems(record), None):
        raise Unstorable(problem)
    try:
        return Record(plain(record.id), plain(record.text), plain(record.metadata), record.describe)
    except NoForm as error:
        raise Unstorable(f"has metadata with {error}") from None


def _plainly_sound(record: Record) -> bool:
    """Return whether a record is of the usual kind: this takes a tenth of the time of a full check."""
    id_, text, metadata = record.id, record.text, record.metadata
    if not (type(id_) is type(text) is str and type(metadata) is dict and 4 * len(id_) <= MOST_ID_BYTES):
        return False
    if not (id_.strip() and text.strip()):
        return False
    texts = [id_, text]
    for key, value in metadata.items():
        kind = type(value)
        if kind is str:
            texts.append(value)
        elif kind is int or kind is float:
            if not -1e308 < value < 1e308:  # NaN fails this, too
                return False
        elif not (kind is bool or value is None):
            return False
        if type(key) is not str:
            return False
        texts.append(key)
    return unstorable("".join(texts)) is None


def _problems(record: Any) -> Iterator[str]:  # noqa: ANN401
    for name, text in (("id", record.id), ("text", record.text)):
        if not isinstance(text, str):
            yield f"has {'an' if name == 'id' else 'a'} {name} that is {type(text).__name__}, not str"
            return
        if not text.strip():
            yield f"has {'an' if name == 'id' else 'a'} {name} that is empty or blank"
        if why := unstorable(text):
            yield f"has {why} in its {name}"
    if (length := len(record.id.encode())) > MOST_ID_BYTES:
        yield f"has an id of {length:,} bytes, of which {MOST_ID_BYTES:,} are allowed"
    if not isinstance(record.metadata, Mapping):
        yield f"has metadata that is {type(record.metadata).__name__}, not a mapping"
