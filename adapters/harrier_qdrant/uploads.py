"""Chunks to a Qdrant server: several concurrent requests, halved if the server refuses one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from qdrant_client import QdrantClient, models
from qdrant_client import grpc as messages

from harrier_core.lexical import Terms, document_terms
from harrier_core.records import Chunk
from harrier_qdrant.connection import Connection
from harrier_qdrant.packing import upsert_request
from harrier_qdrant.points import batches, payload_of
from harrier_qdrant.schema import WORDS
from harrier_qdrant.wire import NotDone, Refused

if TYPE_CHECKING:
    from harrier_core.types import Vectors

# For each number of a vector: in JSON a sign, a point and about ten digits.
JSON_BYTES, PACKED_BYTES = 13, 4


class Uploads:
    """Writes points into one collection."""

    def __init__(self, connection: Connection, collection: str, vector: str) -> None:
        self._connection = connection
        self._collection = collection
        self._vector = vector

    def run(self, chunks: Sequence[Chunk], vectors: Vectors, *, words: bool) -> dict[str, str]:
        """Write chunks, each request answered when it is done. Return the ids of refused records with the reasons."""
        self._connection.connected()
        number = PACKED_BYTES if self._connection.grpc else JSON_BYTES
        parts = batches(chunks, number * vectors.shape[1])
        refused: dict[str, str] = {}
        for each in self._connection.uploaded(lambda part: self._upsert(chunks, vectors, part, words=words), parts):
            refused |= each
        return refused

    def _upsert(self, chunks: Sequence[Chunk], vectors: Vectors, part: range, *, words: bool) -> dict[str, str]:
        """Write a part; bisect one that is too large or contains a refused point, down to that point."""
        make = self._packed if self._connection.grpc else self._listed
        try:
            own = [chunks[at] for at in part]
            terms = [document_terms(chunk.text) for chunk in own] if words else None
            self._connection.ask(make(own, vectors[part.start : part.stop], terms))
        except Refused as refused:
            trouble = refused.trouble
            if not (trouble.refused or trouble.too_large):
                raise trouble.error(self._connection.where) from None
            if len(part) == 1:
                return {chunks[part.start].record_id: f"is refused by Qdrant: {trouble.shown}"}
            half = len(part) // 2
            halves = (self._upsert(chunks, vectors, each, words=words) for each in (part[:half], part[half:]))
            return {record_id: why for each in halves for record_id, why in each.items()}
        return {}

    def _packed(
        self, chunks: Sequence[Chunk], vectors: Vectors, terms: Sequence[Terms] | None
    ) -> Callable[[QdrantClient], None]:
        request = upsert_request(
            collection=self._collection,
            vector=self._vector,
            ids=[chunk.id for chunk in chunks],
            vectors=vectors,
            payloads=[payload_of(chunk) for chunk in chunks],
            words=None if terms is None else [(WORDS, _packed_terms(each)) for each in terms],
        )
        message = messages.UpsertPoints.FromString(request)

        def send(client: QdrantClient) -> None:
            answer = client.grpc_points.Upsert(message, timeout=self._connection.timeout)
            if answer.result.status != messages.UpdateStatus.Completed:
                raise NotDone

        return send

    def _listed(
        self, chunks: Sequence[Chunk], vectors: Vectors, terms: Sequence[Terms] | None
    ) -> Callable[[QdrantClient], None]:
        named: dict[str, Any] = {self._vector: vectors.tolist()}
        if terms is not None:
            named[WORDS] = [sparse_vector(each) for each in terms]
        points = models.Batch(
            ids=[chunk.id for chunk in chunks],
            vectors=named,
            payloads=[payload_of(chunk) for chunk in chunks],
        )
        return lambda client: check_done(client.upsert(self._collection, points, wait=True))


def sparse_vector(terms: Terms) -> models.SparseVector:
    """Return terms as an object of the client."""
    return models.SparseVector(indices=list(terms.ids), values=list(terms.weights))


def _packed_terms(terms: Terms) -> bytes:
    packed: bytes = messages.SparseVector(indices=terms.ids, values=terms.weights).SerializeToString()
    return packed


def check_done(result: models.UpdateResult) -> None:
    """Raise NotDone if a request was accepted but not carried out."""
    if result.status != models.UpdateStatus.COMPLETED:
        raise NotDone
