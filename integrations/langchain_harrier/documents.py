"""Documents to records on their way in, matches to documents on their way out."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar
from uuid import UUID, uuid4

from langchain_core.documents import Document

from harrier_core import Chunk, HarrierError, IngestReport, InputWarning, Match, Record, SettingError

if TYPE_CHECKING:
    from langchain_harrier.vectorstores import HarrierVectorStore

T = TypeVar("T")
OnRejected = Literal["error", "warn"]
Row = tuple[str, Mapping[str, Any], str | None]  # a document's text, metadata and id

_SHOWN = 10  # rejected documents in a message; all of them are in the error


class DocumentsRejected(HarrierError, ValueError):
    """Documents that cannot be stored; the others of the call are.

    rejected: (id, reason) of each. stored: the ids of the others, in the caller's order. vector_store: where a
    `from_...` method raised it, the vector store that it made. A pickle of the error goes without it.
    """

    vector_store: HarrierVectorStore | None = None

    def __init__(self, rejected: Sequence[tuple[str, str]], stored: Sequence[str]) -> None:
        super().__init__(rejected, stored)  # args rebuild the error after pickling
        self.rejected = list(rejected)
        self.stored = list(stored)

    def __reduce__(self) -> tuple[type[Self], tuple[Any, ...]]:
        return type(self), self.args

    def __str__(self) -> str:
        listed = "; ".join(f"{id_!r} {reason}" for id_, reason in self.rejected[:_SHOWN])
        more = f"; and {len(self.rejected) - _SHOWN} more" if len(self.rejected) > _SHOWN else ""
        return (
            f"{len(self.rejected)} documents cannot be stored: {listed}{more} (the other {len(self.stored)} are "
            "stored); mend these and add them again"
        )


def rows_of_documents(documents: Iterable[Document]) -> Iterator[Row]:
    """Documents as they are needed; nobody writes to them."""
    return ((each.page_content, each.metadata, each.id) for each in documents)


def rows_of_texts(texts: Iterable[str], metadatas: Iterable[Mapping[str, Any] | None] | None) -> Iterator[Row]:
    """Return texts as they are needed, with their metadata if they have any."""
    if isinstance(texts, str):
        raise SettingError("texts is a list of texts; put a single one in a list")
    if metadatas is None:
        return ((text, {}, None) for text in texts)
    pairs = zip(texts, one_for_each("metadatas", metadatas, texts) or (), strict=True)
    return ((text, {} if metadata is None else metadata, None) for text, metadata in pairs)


def one_for_each(name: str, given: Iterable[T] | None, texts: object) -> Iterable[T] | None:
    """What belongs to each of the texts; too few or too many are found before anything is stored, if they can be."""
    if isinstance(given, str):
        raise SettingError(f"{name} is a list; put a single one in a list")
    lengths = [len(each) for each in (texts, given) if isinstance(each, Sized)]
    if len(set(lengths)) > 1:
        raise SettingError(f"there are {lengths[0]} documents and {lengths[1]} {name}; give one for each")
    return given


def length_of(given: object) -> int | None:
    """Return how many there are, if that can be known before they are read."""
    return len(given) if isinstance(given, Sized) else None


def records_of(rows: Iterable[Row], ids: Iterable[object] | None, taken: list[str]) -> Iterator[Record]:
    """One record a row, as it is needed; its id is put into `taken`."""
    pairs = ((row, row[2]) for row in rows) if ids is None else zip(rows, ids, strict=True)
    for (text, metadata, _), given in pairs:
        id_ = str(uuid4()) if given is None else as_id(given)
        taken.append(id_)
        yield Record(id_, text, metadata)


def as_id(given: Any) -> Any:
    """Return an id as a text, if it is an integer or a UUID; anything else as it is."""
    return str(given) if isinstance(given, UUID) or type(given) is int else given


def ids_of(taken: list[str], report: IngestReport, on_rejected: OnRejected) -> list[str]:
    """The ids of documents that are stored; if some are not, an error, or a warning with the same text."""
    if not report.rejected:
        return taken
    rejected = {id_ for id_, _ in report.rejected}
    error = DocumentsRejected(report.rejected, [id_ for id_ in taken if str(id_) not in rejected])
    if on_rejected == "error":
        raise error
    warnings.warn(str(error), InputWarning, stacklevel=4)
    return error.stored


def checked_choice(on_rejected: OnRejected) -> OnRejected:
    """What to do about documents that cannot be stored, if it is one of the two."""
    if on_rejected not in ("error", "warn"):
        raise SettingError(f"on_rejected must be 'error' or 'warn', got {on_rejected!r}")
    return on_rejected


def document_of(found: Match | Chunk, *, positions: bool = False) -> Document:
    """Return a document with a copy of the metadata: to change it changes nothing in the store.

    positions: put the chunk's number into the metadata, and where the text begins and ends in that of its record.
    """
    metadata = dict(found.metadata)
    if positions:
        metadata |= _positions(found)
    text = found.passage if isinstance(found, Match) else found.text
    return Document(id=found.record_id, page_content=text, metadata=metadata)


def _positions(found: Match | Chunk) -> dict[str, int]:
    around = found.around if isinstance(found, Match) else ()
    start = around[0].start if around else found.start
    end = max(each.end for each in around) if around else found.end
    return {"chunk": found.number, "start_index": start, "end_index": end}
