"""QdrantStore: the settings of one collection of Qdrant, which holds chunks and vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack
from urllib.parse import urlencode

from harrier_core.closing import Closing
from harrier_core.errors import SettingError, StoreError, StoreMissing, StoreUnavailable, StoreUnsuitable
from harrier_core.indexes import Hnsw, IndexKind
from harrier_core.layout import Precision, StoreLayout
from harrier_core.space import EmbeddingSpace
from harrier_core.store import Facts, VectorStore
from harrier_qdrant.backend import Backend
from harrier_qdrant.edge_backend import EdgeBackend
from harrier_qdrant.exchanging import FolderExchange, NoExchange
from harrier_qdrant.filters import CHUNKS, both, of_numbers
from harrier_qdrant.folder import resolved
from harrier_qdrant.given import COLLECTION, DEFAULTS, KEYWORDS, MEMORY, Aliases, Names, with_port
from harrier_qdrant.opened import OpenCollection
from harrier_qdrant.schema import VECTOR, Damaged, Layout, Quantization, missing

if TYPE_CHECKING:
    from qdrant_client import QdrantClient


class QdrantStore(Closing):
    """A collection of chunks in Qdrant. Making one does not connect; any number of threads may use it at once.

    A store with a URL can be pickled: the pickle contains its settings, including the API key, and connects again.
    """

    _collection: str
    _settings: dict[str, Any]  # those of a server's collection, except the layout
    _unpicklable: str | None  # the reason

    def __init__(
        self,
        url: str | QdrantClient | None = None,
        collection: str = COLLECTION,
        *,
        api_key: str | None = None,
        grpc_port: int | None = None,
        retry_for: float = 60.0,
        timeout: float = 30.0,
        vector: str = VECTOR,
        precision: Precision | None = None,
        quantization: Quantization | None = None,
        on_disk: bool = False,
        hnsw: Hnsw | None = None,
        indexes: Mapping[str, IndexKind] | None = None,
        shards: int | None = None,
        replicas: int | None = None,
        write_consistency: int | None = None,
        keywords: bool | None = None,
        **others: Unpack[Aliases],
    ) -> None:
        """Take a collection on the server at a URL, or of a client, which its owner has to close.

        url: http://host:6333, host:6333, a QdrantClient (of a server or in local mode), or ":memory:" for a client in
        local mode that is closed with the store. For a collection in a folder, use `QdrantStore.embedded(folder)`.
        grpc_port: that of the same server. By default, gRPC is used on port 6334 if the URL's port is 6333 or not
        given, and only REST for any other port. If gRPC does not answer, REST is used.
        retry_for: for how many seconds a request is retried while the server is away. timeout: that of one request.
        vector: the name of the vector; keywords: whether a new collection can be searched by word as well; the others
        say how a new collection is created (`harrier_qdrant.Layout`); an existing one keeps its own. Other libraries'
        names are accepted too: client or location for the URL, host and port, and collection_name.
        """
        # qdrant-client takes more than a second to import, and an embedded collection does not need it.
        from harrier_qdrant.connection import Connection
        from harrier_qdrant.server_backend import ServerBackend

        own = {"url": url, "collection": collection}
        url, collection = KEYWORDS.settled(with_port({**others}), own, DEFAULTS).values()
        _check_name(collection)
        layout = Layout(
            vector=vector,
            precision=precision,
            quantization=quantization,
            on_disk=on_disk,
            hnsw=hnsw,
            indexes=None if indexes is None else dict(indexes),
            shards=shards,
            replicas=replicas,
            write_consistency=write_consistency,
            keywords=keywords,
        )
        connection = Connection(url, api_key=api_key, grpc_port=grpc_port, retry_for=retry_for, timeout=timeout)
        self._use(ServerBackend(connection, collection, layout), layout)
        self._collection = collection
        self._settings = {"url": url, "collection": collection, "api_key": api_key}
        self._settings |= {"grpc_port": grpc_port, "retry_for": retry_for, "timeout": timeout}
        self._unpicklable = _why_unpicklable(url)

    @classmethod
    def embedded(
        cls,
        folder: str | Path,
        collection: str = COLLECTION,
        *,
        vector: str = VECTOR,
        precision: Precision | None = None,
        hnsw: Hnsw | None = None,
        indexes: Mapping[str, IndexKind] | None = None,
        keywords: bool | None = None,
        **others: Unpack[Names],
    ) -> Self:
        """Take a collection in a folder, by Qdrant Edge: the engine itself, for one process at a time.

        Nothing is created before it is opened with `create=True`. The settings are those of a server's collection.
        """
        [collection] = KEYWORDS.settled(others, {"collection": collection}, DEFAULTS).values()
        _check_name(collection)
        own = None if indexes is None else dict(indexes)
        layout = Layout(vector=vector, precision=precision, hnsw=hnsw, indexes=own, keywords=keywords)
        place = resolved(folder)
        store = cls.__new__(cls)
        store._use(EdgeBackend(place / collection, layout), layout)
        store._folder = place
        store._collection = collection
        store._name = f"qdrant:{place}?{urlencode({'collection': collection})}"
        store._unpicklable = "Qdrant Edge lets one process at a time into its folder; use a Qdrant server"
        return store

    def _use(self, backend: Backend, layout: Layout) -> None:
        self._backend = backend
        self._layout = layout
        self._name = str(backend)
        self._settings = {}
        self._folder: Path | None = None
        self._unpicklable = None

    # -- the collection

    def open(self, space: EmbeddingSpace, *, create: bool = False) -> OpenCollection:
        """Open the collection for vectors of this space; with `create`, create it if it does not exist.

        Raise StoreMissing if it does not exist, and WrongSpace if it holds vectors of another space.
        """
        opened = OpenCollection(self._backend, self._layout, space)
        shape = self._backend.shape()
        if shape is None and create:
            self._backend.create(space, self._layout)
            shape = self._backend.shape()
            if shape is None:
                raise StoreUnsuitable(f"collection {self._backend} was removed by another process; try again")
        opened.check(shape)
        if create and shape is not None and shape.unindexed:  # the process that created it ended too early
            self._backend.build_indexes(self._layout)
        return opened

    def layout(self) -> StoreLayout:
        """Return the layout of the collection, or of a new one."""
        try:
            return self._backend.layout()
        except StoreMissing:
            return self._layout.shared

    def adopt(self, layout: StoreLayout) -> None:
        """Use this layout for a new collection, as far as Qdrant supports it, where the store's settings leave it open.

        An existing collection stays as it is. On a server, `build_indexes` adds the field indexes that it lacks.
        """
        self._layout = self._layout.over(layout)

    def space(self) -> EmbeddingSpace | None:
        """Return the space of the stored vectors, or None if there is no collection yet."""
        shape = self._backend.shape()
        return None if shape is None else shape.stored_space(str(self._backend))

    def describe(self) -> Facts:
        """Return what the collection reports about itself; its health is "fine", or the reason why it cannot be used.

        Raise StoreMissing if it does not exist, and StoreUnavailable if it cannot be reached, or is open elsewhere.
        """
        try:
            shape = self._backend.shape()
        except Damaged as error:
            return Facts(None, bytes=self._backend.bytes(), health=str(error))
        if shape is None:
            raise missing(str(self._backend))
        size = self._backend.bytes()
        facts = Facts(None, indexed=shape.indexed, bytes=size, health=shape.health, keywords=shape.has_words)
        try:
            facts = replace(facts, space=shape.stored_space(str(self._backend)))
            records = self._backend.count(both(CHUNKS, of_numbers([0])))
            return replace(facts, chunks=self._backend.count(CHUNKS), records=records)
        except (StoreMissing, StoreUnavailable):
            raise
        except StoreError as error:
            return replace(facts, health=str(error))

    def drop(self) -> None:
        """Remove the collection, with its indexes; do nothing if it does not exist.

        Raise StoreUnsuitable if it is not one of the kit's, and StoreUnavailable if an embedded one is open elsewhere.
        """
        shape = self._backend.shape()
        if shape is not None:
            shape.stored_space(str(self._backend))
            self._backend.drop()

    def neighbours(self) -> list[VectorStore]:
        """Return a store for each of the kit's collections in the same folder or on the same server, by their names.

        With a caller's client or in local mode, they share the client. Closing them does not affect this store.
        """
        return [self._beside(name) for name in sorted(self._backend.names())]

    def _beside(self, collection: str) -> QdrantStore:
        if self._folder is not None:
            return QdrantStore.embedded(self._folder, collection, vector=self._layout.vector)
        if self._settings["url"] == MEMORY:
            raise SettingError(
                "the content of a ':memory:' store cannot be opened by another store; pass a QdrantClient"
            )
        return QdrantStore(**{**self._settings, "collection": collection}, vector=self._layout.vector)

    def beside(self, suffix: str) -> QdrantStore:
        """Return a store for the collection whose name is this one's plus a suffix. The collection need not exist."""
        if isinstance(self._backend, EdgeBackend):
            self._backend.settle()
        return self._beside(f"{self._collection}{suffix}")

    def exchange(self, new: str, kept: str) -> FolderExchange | NoExchange:
        """Return the exchange that gives the collection with the suffix `new` this name, and this one `kept`."""
        if not isinstance(self._backend, EdgeBackend) or self._folder is None:
            return NoExchange(self._backend)
        return FolderExchange(self._backend, *(self._folder / f"{self._collection}{each}" for each in (new, kept)))

    # -- life

    def close(self) -> None:
        """Close connections; an embedded Qdrant ends with the last store that has its collection open."""
        self._backend.close()

    def __getstate__(self) -> dict[str, Any]:
        if self._unpicklable is not None:
            raise SettingError(f"this store, {self}, cannot be pickled: {self._unpicklable}")
        layout = {each.name: getattr(self._layout, each.name) for each in fields(Layout)}
        return {**self._settings, **layout}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def __str__(self) -> str:
        return self._name

    def __repr__(self) -> str:
        layout = ((each.name, getattr(self._layout, each.name)) for each in fields(Layout))
        said = "".join(f", {name}={value!r}" for name, value in layout if value != getattr(_USUAL, name))
        return f"QdrantStore({self}{said})"


_USUAL = Layout()  # defaults, which a repr need not show


def _why_unpicklable(url: str | QdrantClient) -> str | None:
    if not isinstance(url, str):
        return "the connections of its QdrantClient belong to this process; create it with a URL instead"
    return "its data is in this process; use a Qdrant server" if url == MEMORY else None


def _check_name(collection: str) -> None:
    if not collection or collection in (".", "..") or set(collection) & set('/\\\0:*?"<>|') or len(collection) > 255:
        raise SettingError(f"a collection's name must not contain slashes or other path characters: {collection!r} has")
