"""The words of a collection's chunks on a Qdrant server, or in qdrant-client's local mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qdrant_client import QdrantClient, models

from harrier_core.errors import StoreUnsuitable
from harrier_core.lexical import document_terms
from harrier_core.records import Chunk
from harrier_qdrant.connection import Connection
from harrier_qdrant.filters import WITHOUT_WORDS, both, of_hashes
from harrier_qdrant.points import batches
from harrier_qdrant.schema import WORDS, WORDS_VERSION
from harrier_qdrant.uploads import check_done, sparse_vector
from harrier_qdrant.wire import Refused

_IDF_OF_LIVING = (1, 19)  # for a server, and for a client
_NOT_SPOKEN = (404, 405, 501)  # statuses of a server that does not know a request


class ServerWords:
    """The sparse vector of one collection."""

    def __init__(self, connection: Connection, collection: str) -> None:
        self._connection = connection
        self._collection = collection

    def create(self) -> None:
        """Add the vector to the existing collection."""
        if not hasattr(QdrantClient, "create_vector_name"):
            raise self._too_old("qdrant-client")
        config = models.SparseVectorNameConfig(sparse=models.SparseVectorConfig(modifier=models.Modifier.IDF))
        try:
            self._connection.ask(
                lambda client: check_done(client.create_vector_name(self._collection, WORDS, config, wait=True))
            )
        except Refused as refused:
            if refused.trouble.status in _NOT_SPOKEN:
                raise self._too_old("Qdrant server") from None
            if refused.trouble.status != 409 and "already exists" not in refused.trouble.said:
                raise refused.trouble.error(self._connection.where) from None

    def _too_old(self, what: str) -> StoreUnsuitable:
        return StoreUnsuitable(
            f"collection {self._collection!r} at {self._connection.where} was created without keywords=True, and this "
            f"{what} cannot add words: version 1.18 or later is needed; update it, or ingest everything into a new "
            "collection with keywords=True"
        )

    def remove(self) -> None:
        """Remove the vector from all points."""
        if not hasattr(QdrantClient, "delete_vector_name"):
            raise self._too_old("qdrant-client")
        self._connection.run(lambda client: check_done(client.delete_vector_name(self._collection, WORDS, wait=True)))

    def mark(self, version: int | None) -> None:
        """Record in the collection that all chunks have their words or, with None, that they may lack them."""
        info = self._connection.run(lambda client: client.get_collection(self._collection))
        metadata = {**(info.config.metadata or {}), WORDS_VERSION: version}
        self._connection.run(lambda client: client.update_collection(self._collection, metadata=metadata))

    def write(self, chunks: Sequence[Chunk]) -> None:
        """Add the words of stored chunks, except those that have some, have changed or are gone."""
        for part in batches(chunks, 0):
            self._write([chunks[place] for place in part])

    def _write(self, chunks: Sequence[Chunk]) -> None:
        points = [
            models.PointVectors(id=chunk.id, vector={WORDS: sparse_vector(document_terms(chunk.text))})
            for chunk in chunks
        ]
        where = models.Filter.model_validate(both(WITHOUT_WORDS, of_hashes([chunk.hash.hex() for chunk in chunks])))
        own: dict[str, Any] = {"collection_name": self._collection, "points": points, "update_filter": where}
        try:
            self._connection.ask(lambda client: check_done(client.update_vectors(**own, wait=True)))
        except Refused as refused:
            if refused.trouble.status != 404 or "No point" not in refused.trouble.said:
                raise refused.trouble.error(self._connection.where) from None
            if len(chunks) > 1:  # not every release writes the others
                half = len(chunks) // 2
                self._write(chunks[:half])
                self._write(chunks[half:])

    def params(self) -> models.SearchParams | None:
        """Return how to count the rarity of terms: among existing points, if client and server support that.

        Otherwise a server includes deleted points for a while. Raise StoreUnsuitable if local mode counts wrongly.
        """
        if hasattr(models, "IdfCorpusParams"):
            if self._connection.local or self._connection.is_at_least(_IDF_OF_LIVING):
                return models.SearchParams(idf=models.IdfCorpusParams(corpus=models.Filter()))
        elif self._connection.local:
            raise StoreUnsuitable(
                "the local mode of this qdrant-client still counts deleted points when it ranks; "
                "update qdrant-client to 1.19 or later to search it by word"
            )
        return None
