"""Chunks to a Qdrant server: several requests at once, halved where the server refuses one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from qdrant_client import QdrantClient, models
from qdrant_client import grpc as messages

from harrier_core.records import Chunk
from harrier_qdrant.connection import Connection
from harrier_qdrant.packing import upsert_request
from harrier_qdrant.points import batches, payload_of
from harrier_qdrant.wire import NotDone, Refused

if TYPE_CHECKING:
    from harrier_core.types import Vectors

# Of a number of a vector: as JSON a sign, a point and some ten digits.
JSON_BYTES, PACKED_BYTES = 13, 4


class Uploads:
    """The writing of points into one collection."""

    def __init__(self, connection: Connection, collection: str, vector: str) -> None:
        self._connection = connection
        self._collection = collection
        self._vector = vector

    def run(self, chunks: Sequence[Chunk], vectors: Vectors) -> dict[str, str]:
        """Write chunks, each request answered when it is done. Return the ids of refused records with the reasons."""
        self._connection.connected()
        number = PACKED_BYTES if self._connection.grpc else JSON_BYTES
        parts = batches(chunks, number * vectors.shape[1])
        refused: dict[str, str] = {}
        for each in self._connection.uploaded(lambda part: self._upsert(chunks, vectors, part), parts):
            refused |= each
        return refused

    def _upsert(self, chunks: Sequence[Chunk], vectors: Vectors, part: range) -> dict[str, str]:
        """Write a part; halve one that is too large or holds a point that is refused, down to that point."""
        make = self._packed if self._connection.grpc else self._listed
        try:
            self._connection.ask(make([chunks[at] for at in part], vectors[part.start : part.stop]))
        except Refused as refused:
            trouble = refused.trouble
            if not (trouble.refused or trouble.too_large):
                raise trouble.error(self._connection.where) from None
            if len(part) == 1:
                return {chunks[part.start].record_id: f"is refused by Qdrant: {trouble.shown}"}
            half = len(part) // 2
            return self._upsert(chunks, vectors, part[:half]) | self._upsert(chunks, vectors, part[half:])
        return {}

    def _packed(self, chunks: Sequence[Chunk], vectors: Vectors) -> Callable[[QdrantClient], None]:
        request = upsert_request(
            collection=self._collection,
            vector=self._vector,
            ids=[chunk.id for chunk in chunks],
            vectors=vectors,
            payloads=[payload_of(chunk) for chunk in chunks],
        )
        message = messages.UpsertPoints.FromString(request)

        def send(client: QdrantClient) -> None:
            answer = client.grpc_points.Upsert(message, timeout=self._connection.timeout)
            if answer.result.status != messages.UpdateStatus.Completed:
                raise NotDone

        return send

    def _listed(self, chunks: Sequence[Chunk], vectors: Vectors) -> Callable[[QdrantClient], None]:
        points = models.Batch(
            ids=[chunk.id for chunk in chunks],
            vectors={self._vector: vectors.tolist()},
            payloads=[payload_of(chunk) for chunk in chunks],
        )
        return lambda client: check_done(client.upsert(self._collection, points, wait=True))


def check_done(result: models.UpdateResult) -> None:
    """Raise NotDone if a request was taken and not carried out."""
    if result.status != models.UpdateStatus.COMPLETED:
        raise NotDone
