"""A collection on a Qdrant server, or in qdrant-client's local mode, through the client (`connection.py`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qdrant_client import QdrantClient, models
from qdrant_client import grpc as messages

from harrier_core.errors import StoreUnsuitable
from harrier_core.records import Chunk
from harrier_core.space import EmbeddingSpace
from harrier_qdrant.connection import Connection
from harrier_qdrant.filters import Filter
from harrier_qdrant.packing import upsert_request
from harrier_qdrant.points import Found, batches, payload_of, redescribed
from harrier_qdrant.schema import SPACE, Layout, Shape
from harrier_qdrant.wire import NotDone, Refused

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

_PAGE = 1_000
# Of a vector as JSON: a sign, a point and some ten digits a number.
_JSON_BYTES, _PACKED_BYTES = 13, 4
# How many more candidates than asked for are compared by their own vectors where the stored ones are quantized.
_OVERSAMPLING = 3.0


class Server:
    """A collection, found by a URL or through somebody's client."""

    may_race = True

    def __init__(self, connection: Connection, collection: str, layout: Layout) -> None:
        self._connection = connection
        self._collection = collection
        self._layout = layout

    @property
    def _where(self) -> str:
        return self._connection.where

    @property
    def _named(self) -> dict[str, Any]:
        return {"collection_name": self._collection}

    def __str__(self) -> str:
        return f"{self._collection!r} at {self._where}"

    # -- the collection

    def writing(self) -> AbstractContextManager[Any]:
        """Nobody can hold a server."""
        return nullcontext()

    def shape(self) -> Shape | None:
        """The collection as it is, or nothing."""
        try:
            info = self._connection.ask(lambda client: client.get_collection(self._collection))
        except Refused as refused:
            if refused.trouble.status == 404 or "doesn't exist" in refused.trouble.said:
                return None
            raise refused.trouble.error(self._where) from None
        vectors = info.config.params.vectors or {}
        named = vectors if isinstance(vectors, Mapping) else {"": vectors}
        space = (getattr(info.config, "metadata", None) or {}).get(SPACE)
        return Shape({name: (each.size, each.distance.value) for name, each in named.items()}, space)

    def create(self, space: EmbeddingSpace) -> None:
        """Make it with its indexes, which a load into it then keeps."""
        settings = self._settings(space)
        try:
            self._connection.ask(lambda client: client.create_collection(self._collection, **settings))
        except Refused as refused:
            if refused.trouble.status != 409 and "already exists" not in refused.trouble.said:
                raise refused.trouble.error(self._where) from None
            return
        shape = self.shape()
        if shape is not None and shape.space is None:
            self._connection.run(lambda client: client.delete_collection(self._collection))
            raise StoreUnsuitable(
                f"Qdrant at {self._where} keeps no metadata of a collection, so that it is older than 1.16; update it"
            )
        self.settle()

    def _settings(self, space: EmbeddingSpace) -> dict[str, Any]:
        layout = self._layout
        vectors = models.VectorParams(
            size=space.dimensions,
            distance=models.Distance.COSINE,
            on_disk=layout.on_disk or None,
            datatype=models.Datatype.FLOAT16 if layout.precision == "float16" else None,
            quantization_config=_QUANTIZATIONS[layout.quantization] if layout.quantization else None,
        )
        return {
            "vectors_config": {layout.vector: vectors},
            "metadata": {SPACE: space.to_json()},
            "shard_number": layout.shards,
            "replication_factor": layout.replicas,
            "write_consistency_factor": layout.write_consistency,
        }

    # -- writing

    def upsert(self, chunks: Sequence[Chunk], vectors: Vectors) -> dict[str, str]:
        """In several requests at once, each answered when it is done."""
        self._connection.connected()
        number = _PACKED_BYTES if self._connection.grpc else _JSON_BYTES
        parts = batches(chunks, number * vectors.shape[1])
        refused: dict[str, str] = {}
        for each in self._connection.uploaded(lambda part: self._upsert(chunks, vectors, part), parts):
            refused |= each
        return refused

    def _upsert(self, chunks: Sequence[Chunk], vectors: Vectors, part: range) -> dict[str, str]:
        """A part that is too large, or holds something that the server refuses, is halved, down to what it is about."""
        make = self._packed if self._connection.grpc else self._listed
        try:
            self._connection.ask(make(chunks, vectors, part))
        except Refused as refused:
            trouble = refused.trouble
            if not (trouble.refused or trouble.too_large):
                raise trouble.error(self._where) from None
            if len(part) == 1:
                return {chunks[part.start].record_id: f"is refused by Qdrant: {trouble.shown}"}
            half = len(part) // 2
            return self._upsert(chunks, vectors, part[:half]) | self._upsert(chunks, vectors, part[half:])
        return {}

    def _packed(self, chunks: Sequence[Chunk], vectors: Vectors, part: range) -> Callable[[QdrantClient], None]:
        own = [chunks[place] for place in part]
        request = upsert_request(
            *(self._collection, self._layout.vector, [chunk.id for chunk in own]),
            *(vectors[part.start : part.stop], [payload_of(chunk) for chunk in own]),
        )
        message = messages.UpsertPoints.FromString(request)

        def send(client: QdrantClient) -> None:
            answer = client.grpc_points.Upsert(message, timeout=self._connection.timeout)
            if answer.result.status != messages.UpdateStatus.Completed:
                raise NotDone

        return send

    def _listed(self, chunks: Sequence[Chunk], vectors: Vectors, part: range) -> Callable[[QdrantClient], None]:
        own = [chunks[place] for place in part]
        points = models.Batch(
            ids=[chunk.id for chunk in own],
            vectors={self._layout.vector: vectors[part.start : part.stop].tolist()},
            payloads=[payload_of(chunk) for chunk in own],
        )
        return lambda client: _done(client.upsert(self._collection, points, wait=True))

    def describe(self, chunks: Sequence[Chunk]) -> None:
        """Change what is said of chunks that are there."""
        for part in batches(chunks, 0):
            changes: list[Any] = [
                models.SetPayloadOperation(
                    set_payload=models.SetPayload(payload=redescribed(chunks[place]), points=[chunks[place].id])
                )
                for place in part
            ]
            try:
                self._connection.ask(partial(_change, self._collection, changes))
            except Refused as refused:
                if refused.trouble.status == 404 and "No point" in refused.trouble.said:
                    continue  # somebody removed it: `may_race`, so what is as it was is looked for afterwards
                raise refused.trouble.error(self._where) from None

    def delete(self, ids: Sequence[str]) -> None:
        """Remove chunks."""
        selector = models.PointIdsList(points=list(ids))
        self._connection.run(lambda client: _done(client.delete(self._collection, selector, wait=True)))

    def delete_where(self, where: Filter) -> None:
        """Remove what a filter finds."""
        selector = models.FilterSelector(filter=models.Filter.model_validate(where))
        self._connection.run(lambda client: _done(client.delete(self._collection, selector, wait=True)))

    def settle(self) -> None:
        """A server builds its indexes while it is written to, if it was told of them: a crash may have come before."""
        if self._connection.local:  # which has no indexes, and warns about them
            return
        there = self._connection.run(lambda client: client.get_collection(self._collection)).payload_schema
        for path, kind in self._layout.payload_indexes().items():
            if path not in there:
                schema = models.PayloadSchemaType(kind)
                own = {**self._named, "field_name": path, "field_schema": schema, "wait": True}
                self._connection.run(partial(QdrantClient.create_payload_index, **own))

    # -- reading

    def scroll(self, where: Filter | None, fields: Sequence[str] | None, *, with_vectors: bool) -> Iterator[Found]:
        """What a filter finds, a page at a time."""
        name = self._layout.vector
        settings: dict[str, Any] = {
            "scroll_filter": _filter(where),
            "limit": _PAGE if fields else _PAGE // 4,
            "with_payload": True if fields is None else list(fields),
            "with_vectors": [name] if with_vectors else False,
        }
        offset: Any = None
        while True:
            page, offset = self._connection.run(partial(QdrantClient.scroll, **self._named, offset=offset, **settings))
            yield from (_found(each, name) for each in page)
            if offset is None:
                return

    def search(
        self, vector: NDArray[np.float32], limit: int, where: Filter | None, *, with_vectors: bool
    ) -> list[Found]:
        """The nearest that a filter finds."""
        name = self._layout.vector
        answer = self._connection.run(
            lambda client: client.query_points(
                self._collection,
                query=vector.tolist(),
                using=name,
                limit=limit,
                query_filter=_filter(where),
                with_payload=True,
                with_vectors=[name] if with_vectors else False,
                search_params=None if self._connection.local else _RESCORED,
            )
        )
        return [_found(each, name) for each in answer.points]

    def count(self, where: Filter | None) -> int:
        """How many a filter finds."""
        return self._connection.run(lambda client: client.count(self._collection, _filter(where), exact=True)).count

    # -- life

    def close(self) -> None:
        """Close our own client; somebody else's stays open."""
        self._connection.close()


# Not in local mode, which searches exactly, and warns about parameters that it ignores.
_RESCORED = models.SearchParams(quantization=models.QuantizationSearchParams(rescore=True, oversampling=_OVERSAMPLING))

_QUANTIZATIONS: dict[str, Any] = {
    "int8": models.ScalarQuantization(
        scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, always_ram=True)
    ),
    "binary": models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=True)),
}


def _filter(where: Filter | None) -> models.Filter | None:
    return None if where is None else models.Filter.model_validate(where)


def _found(point: Any, name: str) -> Found:  # noqa: ANN401
    own = (point.vector or {}).get(name)
    vector = None if own is None else np.array(own, np.float32)
    return Found(str(point.id), point.payload or {}, vector, getattr(point, "score", 0.0))


def _change(collection: str, changes: list[Any], client: QdrantClient) -> None:
    for result in client.batch_update_points(collection, changes):
        _done(result)


def _done(result: models.UpdateResult) -> None:
    if result.status != models.UpdateStatus.COMPLETED:
        raise NotDone
