"""A collection on a Qdrant server, or in qdrant-client's local mode, through the client (`connection.py`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qdrant_client import QdrantClient, models

from harrier_core.errors import StoreError, StoreMissing, StoreUnsuitable
from harrier_core.indexes import Hnsw
from harrier_core.layout import StoreLayout
from harrier_core.lexical import VERSION, Terms
from harrier_core.records import Chunk
from harrier_core.space import EmbeddingSpace
from harrier_core.store import Hashes
from harrier_qdrant.aside import Work
from harrier_qdrant.backend import Query
from harrier_qdrant.connection import Connection
from harrier_qdrant.filters import Filter, with_hash
from harrier_qdrant.points import HASH, METADATA, Found, batches, redescribed
from harrier_qdrant.schema import (
    LAYOUT,
    LAYOUT_VERSION,
    OWN_INDEXES,
    SPACE,
    STRICT_INDEXES,
    WORDS,
    WORDS_VERSION,
    Layout,
    Shape,
    kinds_in,
    missing,
)
from harrier_qdrant.server_words import ServerWords
from harrier_qdrant.uploads import JSON_BYTES, Uploads, check_done, sparse_vector
from harrier_qdrant.wire import Refused

if TYPE_CHECKING:
    from harrier_core.types import Vectors

_PAGE = 1_000
# The limits of one request for several searches: on what it sends and what it asks for.
_MOST_BYTES, _MOST_FOUND = 4 * 2**20, 10_000
# How many times more candidates are compared by their own vectors if the stored ones are quantized.
_OVERSAMPLING = 3.0


class ServerBackend:
    """A collection, found by a URL or through a caller's client."""

    may_race = True

    def __init__(self, connection: Connection, collection: str, layout: Layout) -> None:
        self._connection = connection
        self._collection = collection
        self._layout = layout
        self._uploads = Uploads(connection, collection, layout.vector)
        self.words = ServerWords(connection, collection)

    @property
    def _named(self) -> dict[str, Any]:
        return {"collection_name": self._collection}

    def __str__(self) -> str:
        return f"{self._collection!r} at {self._connection.where}"

    # -- the collection

    def writing(self) -> AbstractContextManager[Any]:
        """Return a context that holds nothing: a server accepts writes from anyone."""
        return nullcontext()

    def shape(self) -> Shape | None:
        """Return the collection as it is now, or None if it does not exist."""
        try:
            info = self._connection.ask(lambda client: client.get_collection(self._collection))
        except Refused as refused:
            if isinstance(error := self._missing(refused), StoreMissing):
                return None
            raise error from None
        return _shape(info)

    def _missing(self, refused: Refused) -> StoreError:
        """Return StoreMissing if the collection does not exist, and the original error otherwise."""
        if refused.trouble.status == 404 or "doesn't exist" in refused.trouble.said:
            return missing(str(self))
        return refused.trouble.error(self._connection.where)

    def look(self) -> Work[Shape | None]:
        """Begin `shape` on another thread or, in local mode, when its result is requested."""
        return self._connection.beside(self.shape)

    def bytes(self) -> None:
        """Return None: a server does not report it."""

    def names(self) -> list[str]:
        """Return the names of the collections with a recorded space, as those of the kit have."""
        listed = self._connection.run(lambda client: client.get_collections()).collections
        found = {
            each.name: self._connection.run(partial(QdrantClient.get_collection, collection_name=each.name))
            for each in listed
        }
        return [name for name, info in found.items() if _shape(info).space is not None]

    def layout(self) -> StoreLayout:
        """Return the layout of the collection. Raise StoreMissing if it does not exist."""
        try:
            info = self._connection.ask(lambda client: client.get_collection(self._collection))
        except Refused as refused:
            raise self._missing(refused) from None
        return _layout(info, self._layout.vector)

    def create(self, space: EmbeddingSpace, layout: Layout) -> None:
        """Create the collection with its indexes, which a load then maintains."""
        settings = _settings(space, layout)
        try:
            self._connection.ask(lambda client: client.create_collection(self._collection, **settings))
        except Refused as refused:
            if refused.trouble.status != 409 and "already exists" not in refused.trouble.said:
                raise refused.trouble.error(self._connection.where) from None
            return
        shape = self.shape()
        if shape is not None and shape.space is None:
            self._connection.run(lambda client: client.delete_collection(self._collection))
            raise StoreUnsuitable(
                f"Qdrant at {self._connection.where} stores no metadata of collections, so it must be older "
                "than 1.16; update it"
            )
        self.build_indexes(layout)

    def drop(self) -> None:
        """Remove the collection, which must be one of the kit's; do nothing if it does not exist."""
        removed = self._connection.run(lambda client: client.delete_collection(self._collection))
        if not removed and self.shape() is not None:
            raise StoreUnsuitable(
                f"collection {self} was not removed: an alias has that name; give the name of the collection itself"
            )

    # -- writing

    def upsert(self, chunks: Sequence[Chunk], vectors: Vectors, *, words: bool) -> dict[str, str]:
        """Write chunks in several concurrent requests, and return the ids of refused records with the reasons."""
        return self._uploads.run(chunks, vectors, words=words)

    def set_payloads(self, chunks: Sequence[Chunk], known: Mapping[str, Hashes]) -> None:
        """Change the payloads of stored chunks that have their known hashes, but not their texts and vectors.

        The server compares the hash as part of the change. With `may_race`, the store looks for those that it left.
        """
        for part in batches(chunks, 0):
            own = {chunk.id: chunk for chunk in chunks[part.start : part.stop]}
            hashes = {id_: known[chunk.record_id][chunk.number].hex() for id_, chunk in own.items()}
            try:
                self._connection.ask(partial(self._redescribe, own, hashes))
            except Refused as refused:
                if refused.trouble.status == 404 and "No point" in refused.trouble.said:
                    continue  # local mode: the owner of the client has just removed it
                raise refused.trouble.error(self._connection.where) from None

    def _redescribe(self, chunks: Mapping[str, Chunk], hashes: Mapping[str, str], client: QdrantClient) -> None:
        if self._connection.local:  # which would look at all points for each filter, and takes one request at a time
            found = client.retrieve(self._collection, list(hashes), with_payload=[HASH])
            own: dict[str, Any] = {
                str(each.id): {"points": [each.id]}
                for each in found
                if (each.payload or {}).get(HASH) == hashes[str(each.id)]
            }
        else:
            own = {id_: {"filter": _filter(with_hash(id_, hash_))} for id_, hash_ in hashes.items()}
        changes: list[Any] = [
            models.SetPayloadOperation(set_payload=models.SetPayload(payload=redescribed(chunks[id_]), **selected))
            for id_, selected in own.items()
        ]
        for result in client.batch_update_points(self._collection, changes) if changes else ():
            check_done(result)

    def delete(self, ids: Sequence[str]) -> None:
        """Remove points."""
        selector = models.PointIdsList(points=list(ids))
        self._connection.run(lambda client: check_done(client.delete(self._collection, selector, wait=True)))

    def delete_where(self, where: Filter) -> None:
        """Remove the points that match a filter."""
        selector = models.FilterSelector(filter=models.Filter.model_validate(where))
        self._connection.run(lambda client: check_done(client.delete(self._collection, selector, wait=True)))

    def build_indexes(self, layout: Layout) -> None:
        """Create the payload indexes that are missing, as after a crash; the server itself builds all of them."""
        if self._connection.local:  # it has no indexes, and warns about them
            return
        info = self._connection.run(lambda client: client.get_collection(self._collection))
        # In this order: as long as the last one is missing, an index of the layout may be.
        for path, kind in {**layout.payload_indexes(), **_own_indexes(info)}.items():
            if path not in info.payload_schema:
                schema = models.PayloadSchemaType(kind)
                own = {**self._named, "field_name": path, "field_schema": schema, "wait": True}
                self._connection.run(partial(QdrantClient.create_payload_index, **own))

    # -- reading

    def scroll(
        self, where: Filter | None, fields: Sequence[str] | None, *, with_vectors: bool, with_words: bool = False
    ) -> Iterator[Callable[[], list[Found]]]:
        """Yield requests for the pages of the points that match a filter."""
        name = self._layout.vector
        vectors = [*([name] if with_vectors else ()), *([WORDS] if with_words else ())]
        settings: dict[str, Any] = {
            "scroll_filter": _filter(where),
            "limit": _PAGE // 4 if fields is None or METADATA in fields else _PAGE,
            "with_payload": True if fields is None else list(fields),
            "with_vectors": vectors or False,
        }
        offset: Any = None

        def request() -> list[Found]:
            nonlocal offset
            page, offset = self._connection.run(partial(QdrantClient.scroll, **self._named, offset=offset, **settings))
            return [_found(each, name) for each in page]

        yield request
        while offset is not None:
            yield request

    def search(self, queries: Sequence[Query]) -> list[list[Found]]:
        """Return the nearest points for each query, best first. Queries share a request as long as it stays small."""
        found: list[list[Found]] = []
        idf = self.words.params() if any(isinstance(each.vector, Terms) for each in queries) else None
        for begin, end in _batches(queries):
            requests = [self._request(each, idf) for each in queries[begin:end]]
            answers = self._connection.run(partial(QdrantClient.query_batch_points, **self._named, requests=requests))
            found += [[_found(each, self._layout.vector) for each in answer.points] for answer in answers]
        return found

    def _request(self, query: Query, idf: models.SearchParams | None) -> models.QueryRequest:
        name = self._layout.vector
        shared: dict[str, Any] = {
            "limit": query.limit,
            "filter": _filter(query.filter),
            "with_payload": True,
            "with_vector": [name] if query.with_vectors else False,
        }
        if isinstance(query.vector, Terms):
            return models.QueryRequest(query=sparse_vector(query.vector), using=WORDS, params=idf, **shared)
        params = None if self._connection.local else _params(query)
        return models.QueryRequest(query=query.vector.tolist(), using=name, params=params, **shared)

    def count(self, where: Filter | None) -> int:
        """Return how many points match a filter."""
        return self._connection.run(lambda client: client.count(self._collection, _filter(where), exact=True)).count

    # -- life

    def close(self) -> None:
        """Close the client if it is our own; a caller's client stays open."""
        self._connection.close()


def _settings(space: EmbeddingSpace, layout: Layout) -> dict[str, Any]:
    vectors = models.VectorParams(
        size=space.dimensions,
        distance=models.Distance.COSINE,
        on_disk=layout.on_disk or None,
        datatype=models.Datatype.FLOAT16 if layout.precision == "float16" else None,
        quantization_config=_QUANTIZATIONS[layout.quantization] if layout.quantization else None,
        hnsw_config=_hnsw(layout.hnsw),
    )
    metadata = {SPACE: space.to_json(), LAYOUT: LAYOUT_VERSION}
    sparse = models.SparseVectorParams(
        modifier=models.Modifier.IDF,
        index=models.SparseIndexParams(on_disk=True) if layout.on_disk else None,
    )
    return {
        "vectors_config": {layout.vector: vectors},
        "sparse_vectors_config": {WORDS: sparse} if layout.keywords else None,
        "metadata": {**metadata, WORDS_VERSION: VERSION} if layout.keywords else metadata,
        "shard_number": layout.shards,
        "replication_factor": layout.replicas,
        "write_consistency_factor": layout.write_consistency,
    }


_RESCORED = models.QuantizationSearchParams(rescore=True, oversampling=_OVERSAMPLING)

_EXACT = models.SearchParams(exact=True, quantization=models.QuantizationSearchParams(ignore=True))


def _params(query: Query) -> models.SearchParams:
    """Return the parameters of a search; not for local mode, which is exact, and warns about parameters."""
    return _EXACT if query.exact else models.SearchParams(hnsw_ef=query.ef, quantization=_RESCORED)


_QUANTIZATIONS: dict[str, Any] = {
    "int8": models.ScalarQuantization(
        scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, always_ram=True)
    ),
    "binary": models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=True)),
}


def _hnsw(hnsw: Hnsw | None) -> models.HnswConfigDiff | None:
    return None if hnsw is None else models.HnswConfigDiff(m=hnsw.m, ef_construct=hnsw.ef_construction)


def _shape(info: models.CollectionInfo) -> Shape:
    vectors = info.config.params.vectors or {}
    named = vectors if isinstance(vectors, Mapping) else {"": vectors}
    sparse = info.config.params.sparse_vectors or {}
    metadata = info.config.metadata or {}
    status = info.status.value
    return Shape(
        vectors={name: (each.size, each.distance.value) for name, each in named.items()},
        space=metadata.get(SPACE),
        layout=metadata.get(LAYOUT),
        indexed=bool(info.indexed_vectors_count),
        health="fine" if status == "green" else f"its status is {status}",
        sparse=WORDS in sparse and sparse[WORDS].modifier == models.Modifier.IDF,
        words=metadata.get(WORDS_VERSION),
        unindexed=not _own_indexes(info).keys() <= info.payload_schema.keys(),
    )


def _own_indexes(info: models.CollectionInfo) -> Mapping[str, str]:
    """Return the paths and kinds of the indexes that the store needs, whatever the layout."""
    mode = info.config.strict_mode_config
    if mode is None or not mode.enabled:
        return OWN_INDEXES
    refuses = False in (mode.unindexed_filtering_retrieve, mode.unindexed_filtering_update)
    return STRICT_INDEXES if refuses else OWN_INDEXES


def _layout(info: models.CollectionInfo, vector: str) -> StoreLayout:
    vectors = info.config.params.vectors
    own = vectors.get(vector) if isinstance(vectors, Mapping) else None
    said = own and own.hnsw_config
    half = own is not None and own.datatype == models.Datatype.FLOAT16
    hnsw = Hnsw(said.m or None, said.ef_construct or None) if said else None
    kinds = kinds_in({path: each.data_type.value for path, each in info.payload_schema.items()})
    return StoreLayout("float16" if half else "float32", hnsw, kinds, _shape(info).has_words)


def _batches(queries: Sequence[Query]) -> Iterator[tuple[int, int]]:
    """Yield the bounds of the queries that go into one request."""
    begin = sent = asked = 0
    for at, query in enumerate(queries):
        size = JSON_BYTES * query.numbers
        if at > begin and (sent + size > _MOST_BYTES or asked + query.limit > _MOST_FOUND):
            yield begin, at
            begin, sent, asked = at, 0, 0
        sent, asked = sent + size, asked + query.limit
    if queries:
        yield begin, len(queries)


def _filter(where: Filter | None) -> models.Filter | None:
    return None if where is None else models.Filter.model_validate(where)


def _found(point: Any, name: str) -> Found:  # noqa: ANN401
    vectors = point.vector or {}
    own, sparse = vectors.get(name), vectors.get(WORDS)
    vector = None if own is None else np.array(own, np.float32)
    words = None if sparse is None else Terms(tuple(sparse.indices), tuple(sparse.values))
    return Found(str(point.id), point.payload or {}, vector, getattr(point, "score", 0.0), words)
