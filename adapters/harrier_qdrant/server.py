"""A collection on a Qdrant server, through its own client: gRPC where it is to be had, REST otherwise."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import grpc
import numpy as np
from qdrant_client import QdrantClient, models
from qdrant_client import grpc as messages

from harrier_core.errors import SettingError, StoreUnavailable, StoreUnsuitable, StoreWarning
from harrier_core.records import Chunk
from harrier_core.space import EmbeddingSpace
from harrier_qdrant.filters import Filter
from harrier_qdrant.packing import upsert_request
from harrier_qdrant.points import Found, batches, payload_of, redescribed
from harrier_qdrant.schema import SPACE, Layout, Shape
from harrier_qdrant.wire import CLOSED, ERRORS, NotDone, Patience, Refused, Trouble

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

T = TypeVar("T")

_UPLOADS = 4  # requests in flight of one write
_PAGE = 1_000
_PROBE = 3.0  # seconds after which a gRPC port counts as closed
# Of a vector as JSON: a sign, a point and some ten digits a number.
_JSON_BYTES, _PACKED_BYTES = 13, 4
# How many more candidates than asked for are compared by their own vectors where the stored ones are quantized.
_OVERSAMPLING = 3.0


class Server:
    """A collection, found by a URL or through somebody's client."""

    may_race = True

    def __init__(
        self,
        place: str | QdrantClient,
        collection: str,
        layout: Layout,
        *,
        api_key: str | None,
        retry_for: float,
        timeout: float,
    ) -> None:
        self._collection = collection
        self._layout = layout
        self._url = place if isinstance(place, str) else None
        self._given = None if isinstance(place, str) else place
        if self._url is not None:
            _check_url(self._url, api_key)
        elif api_key is not None:
            raise SettingError("a client has its own API key; give the key to the client")
        self._api_key = api_key
        self._timeout = timeout
        self._patience = Patience(self._where, retry_for)
        self._lock = threading.Lock()
        self._client: QdrantClient | None = None
        self._grpc = False
        self._uploads: ThreadPoolExecutor | None = None
        self._process: int | None = None  # which connected

    @property
    def _where(self) -> str:
        return "the client's server" if self._url is None else _shown(self._url)

    @property
    def _named(self) -> dict[str, Any]:
        return {"collection_name": self._collection}

    def __str__(self) -> str:
        return f"{self._collection!r} at {self._where}"

    # -- connecting

    def _connected(self) -> QdrantClient:
        if self._inherited:
            raise StoreUnavailable(f"{self} was connected before this process was forked; open the store after it")
        with self._lock:
            if self._patience.closed.is_set():
                raise StoreUnavailable(CLOSED)
            if self._client is None:
                self._client, self._grpc = self._connect()
                self._uploads = ThreadPoolExecutor(_UPLOADS, thread_name_prefix="harrier-upload")
                self._process = os.getpid()
            return self._client

    @property
    def _inherited(self) -> bool:
        """Whether this process got the connections by a fork: they are the other one's, and so are the threads."""
        return self._process not in (None, os.getpid())

    def _connect(self) -> tuple[QdrantClient, bool]:
        if self._given is not None:
            return self._given, bool(self._given.init_options.get("prefer_grpc"))
        settings: dict[str, Any] = {
            "url": self._url,
            "api_key": self._api_key,
            "timeout": max(1, round(self._timeout)),
            "check_compatibility": False,  # it asks, and warns, where we have words of our own
        }
        with warnings.catch_warnings():  # of a key on an insecure way: it was said before
            warnings.filterwarnings("ignore", "Api key is used with an insecure connection", UserWarning)
            client = QdrantClient(**settings, prefer_grpc=True)
            if _answers(client):
                return client, True
            client.close()
            return QdrantClient(**settings), False

    def _run(self, request: Callable[[QdrantClient], T]) -> T:
        client = self._connected()
        try:
            return self._patience.run(lambda: request(client))
        except Refused as refused:
            raise refused.trouble.error(self._where) from None

    # -- the collection

    def writing(self) -> AbstractContextManager[Any]:
        """Nobody can hold a server."""
        return nullcontext()

    def shape(self) -> Shape | None:
        """The collection as it is, or nothing."""
        client = self._connected()
        try:
            info = self._patience.run(lambda: client.get_collection(self._collection))
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
        client = self._connected()
        try:
            self._patience.run(lambda: client.create_collection(self._collection, **settings))
        except Refused as refused:
            if refused.trouble.status != 409 and "already exists" not in refused.trouble.said:
                raise refused.trouble.error(self._where) from None
            return
        shape = self.shape()
        if shape is not None and shape.space is None:
            self._run(lambda client: client.delete_collection(self._collection))
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
        self._connected()
        assert self._uploads is not None  # noqa: S101  # made together with the client
        number = _PACKED_BYTES if self._grpc else _JSON_BYTES
        parts = batches(chunks, number * vectors.shape[1])
        refused: dict[str, str] = {}
        try:
            answers = self._uploads.map(lambda part: self._upsert(chunks, vectors, part), parts)
        except RuntimeError:  # closed in this very moment
            raise StoreUnavailable(CLOSED) from None
        for each in list(answers):
            refused |= each
        return refused

    def _upsert(self, chunks: Sequence[Chunk], vectors: Vectors, part: range) -> dict[str, str]:
        """A part that is too large, or holds something that the server refuses, is halved, down to what it is about."""
        send = self._packed(chunks, vectors, part) if self._grpc else self._listed(chunks, vectors, part)
        client = self._connected()
        try:
            self._patience.run(lambda: send(client))
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
            answer = client.grpc_points.Upsert(message, timeout=self._timeout)
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
                self._patience.run(partial(_change, self._collection, changes, self._connected()))
            except Refused as refused:
                if refused.trouble.status == 404 and "No point" in refused.trouble.said:
                    continue  # somebody removed it: `may_race`, so what is as it was is looked for afterwards
                raise refused.trouble.error(self._where) from None

    def delete(self, ids: Sequence[str]) -> None:
        """Remove chunks."""
        selector = models.PointIdsList(points=list(ids))
        self._run(lambda client: _done(client.delete(self._collection, selector, wait=True)))

    def delete_where(self, where: Filter) -> None:
        """Remove what a filter finds."""
        selector = models.FilterSelector(filter=models.Filter.model_validate(where))
        self._run(lambda client: _done(client.delete(self._collection, selector, wait=True)))

    def settle(self) -> None:
        """A server builds its indexes while it is written to, if it was told of them: a crash may have come before."""
        there = self._run(lambda client: client.get_collection(self._collection)).payload_schema
        for path, kind in self._layout.payload_indexes().items():
            if path not in there:
                schema = models.PayloadSchemaType(kind)
                own = {**self._named, "field_name": path, "field_schema": schema, "wait": True}
                self._run(partial(QdrantClient.create_payload_index, **own))

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
            page, offset = self._run(partial(QdrantClient.scroll, **self._named, offset=offset, **settings))
            yield from (_found(each, name) for each in page)
            if offset is None:
                return

    def search(
        self, vector: NDArray[np.float32], limit: int, where: Filter | None, *, with_vectors: bool
    ) -> list[Found]:
        """The nearest that a filter finds."""
        name = self._layout.vector
        quantized = models.QuantizationSearchParams(rescore=True, oversampling=_OVERSAMPLING)
        answer = self._run(
            lambda client: client.query_points(
                self._collection,
                query=vector.tolist(),
                using=name,
                limit=limit,
                query_filter=_filter(where),
                with_payload=True,
                with_vectors=[name] if with_vectors else False,
                search_params=models.SearchParams(quantization=quantized),
            )
        )
        return [_found(each, name) for each in answer.points]

    def count(self, where: Filter | None) -> int:
        """How many a filter finds."""
        return self._run(lambda client: client.count(self._collection, _filter(where), exact=True)).count

    # -- life

    def close(self) -> None:
        """Close our own client; somebody else's stays open."""
        if self._inherited:
            return
        self._patience.closed.set()
        with self._lock:  # and not while it waits for uploads, which look for their client
            uploads, client = self._uploads, self._client
        if uploads is not None:
            uploads.shutdown()
        if client is not None and self._given is None:
            client.close()


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
    return Found(point.payload or {}, vector, getattr(point, "score", 0.0))


def _change(collection: str, changes: list[Any], client: QdrantClient) -> None:
    for result in client.batch_update_points(collection, changes):
        _done(result)


def _done(result: models.UpdateResult) -> None:
    if result.status != models.UpdateStatus.COMPLETED:
        raise NotDone


def _answers(client: QdrantClient) -> bool:
    """Whether there is a way to the server's gRPC port; what it answers does not matter."""
    try:
        client.grpc_collections.List(messages.ListCollectionsRequest(), timeout=_PROBE)
    except grpc.RpcError as error:
        return error.code() not in (
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.DEADLINE_EXCEEDED,
            grpc.StatusCode.UNIMPLEMENTED,
        )
    except ERRORS as error:
        return Trouble.of(error).status is not None
    return True


def _shown(url: str) -> str:
    """Without a user's name and password, should it have them."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return f"{parts.scheme}://{host}:{parts.port}" if parts.port else f"{parts.scheme}://{host}"


def _check_url(url: str, api_key: str | None) -> None:
    parts = urlsplit(url)
    host = parts.hostname
    try:
        _ = parts.port
    except ValueError:  # it is none
        host = None
    if parts.scheme not in ("http", "https") or not host:
        raise SettingError("a Qdrant server is a URL, http://host:6333 or https://host:6333")  # it may hold a secret
    if api_key and parts.scheme == "http" and not _loopback(host):
        warnings.warn(
            f"the API key goes to {_shown(url)} unencrypted, for all on the way to read; use https",
            StoreWarning,
            stacklevel=4,
        )


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
