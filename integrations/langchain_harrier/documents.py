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
    """Documents that cannot be stored; the others of the call are stored.

    rejected: (id, reason) of each. stored: the ids of the others, in the caller's order. vector_store: if a `from_...`
    method raised it, the vector store that it made. A pickle of the error omits it.
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
            "stored); fix these and add them again"
        )


def rows_of_documents(documents: Iterable[Document]) -> Iterator[Row]:
    """Yield the rows of documents as they are needed; the documents are not changed."""
    return ((each.page_content, each.metadata, each.id) for each in documents)


def rows_of_texts(texts: Iterable[str], metadatas: Iterable[Mapping[str, Any] | None] | None) -> Iterator[Row]:
    """Yield texts as they are needed, with their metadata if they have any."""
    if isinstance(texts, str):
        raise SettingError("texts must be a list of texts; put a single one in a list")
    if metadatas is None:
        return ((text, {}, None) for text in texts)
    pairs = zip(texts, one_for_each("metadatas", metadatas, texts) or (), strict=True)
    return ((text, {} if metadata is None else metadata, None) for text, metadata in pairs)


def one_for_each(name: str, given: Iterable[T] | None, texts: object) -> Iterable[T] | None:
    """Return the values that belong to the texts; a wrong number is found before anything is stored, if possible."""
    if isinstance(given, str):
        raise SettingError(f"{name} must be a list; put a single one in a list")
    lengths = [len(each) for each in (texts, given) if isinstance(each, Sized)]
    if len(set(lengths)) > 1:
        raise SettingError(f"there are {lengths[0]} documents and {lengths[1]} {name}; pass one for each")
    return given


def length_of(given: object) -> int | None:
    """Return how many there are, if that is known before they are read."""
    return len(given) if isinstance(given, Sized) else None


def records_of(rows: Iterable[Row], ids: Iterable[object] | None, taken: list[str]) -> Iterator[Record]:
    """Yield one record per row, as it is needed; its id is added to `taken`."""
    pairs = ((row, row[2]) for row in rows) if ids is None else zip(rows, ids, strict=True)
    for (text, metadata, _), given in pairs:
        id_ = str(uuid4()) if given is None else as_id(given)
        taken.append(id_)
        yield Record(id_, text, metadata)


def as_id(given: Any) -> Any:
    """Return an id as a str, if it is an integer or a UUID; anything else unchanged."""
    return str(given) if isinstance(given, UUID) or type(given) is int else given


def ids_of(taken: list[str], report: IngestReport, on_rejected: OnRejected) -> list[str]:
    """Return the ids of stored documents; if some were not, raise an error, or issue a warning with the same text."""
    if not report.rejected:
        return taken
    rejected = {id_ for id_, _ in report.rejected}
    error = DocumentsRejected(report.rejected, [id_ for id_ in taken if str(id_) not in rejected])
    if on_rejected == "error":
        raise error
    warnings.warn(str(error), InputWarning, stacklevel=4)
    return error.stored


def checked_choice(on_rejected: OnRejected) -> OnRejected:
    """Return the choice for documents that cannot be stored, if it is one of the two."""
    if on_rejected not in ("error", "warn"):
        raise SettingError(f"on_rejected must be 'error' or 'warn', got {on_rejected!r}")
    return on_rejected


def document_of(found: Match | Chunk, *, positions: bool = False) -> Document:
    """Return a document with a copy of the metadata, so that changing them changes nothing in the store.

    positions: add the chunk's number to the metadata, and the positions of its text in the record's.
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
