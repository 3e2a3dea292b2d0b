"""The Index of a HarrierVectorStore, from embeddings and a place, under any library's names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict
from urllib.parse import parse_qs, quote, urlsplit

from harrier_core import Chunking, Embedder, Index, SettingError
from harrier_core import VectorStore as Store
from harrier_core.foreign import unknown_keyword
from harrier_core.opening import with_keywords

_SETTINGS = ("index", "embedding", "store", "chunking", "on_rejected", "positions", "pre_delete_collection")


class Place(TypedDict, total=False):
    """Other stores' names for the embeddings and the place; and `keywords`, for a place given by URL."""

    embeddings: Any
    embedding_function: Any
    embedding_service: Any
    connection: str
    connection_string: str
    url: str
    collection_name: str
    table_name: str
    keywords: bool


_EMBEDDINGS = ("embeddings", "embedding_function", "embedding_service")
_ADDRESSES = ("connection", "connection_string", "url")
_NAMES = ("collection_name", "table_name")

_SERVER = "pass store=QdrantStore('http://host:6333', collection=...), which takes the rest of its settings as well"
_FOLDER = "pass store='qdrant:FOLDER?collection=NAME' or store='pgvector:FOLDER?table=NAME'"
_LAYOUT = "the kit defines the layout of its table or collection; omit it"
_COSINE = "vectors are compared by cosine; omit it"
_ONE = "an Index has one vector per chunk; omit it"
_WORDS = "pass keywords=True, and mode='hybrid' or mode='keyword' to a search"
_POSTGRES = "pass connection='postgresql://user@host/database'; adding, searching and deleting have async versions"
_HINTS = {
    **dict.fromkeys(("client", "async_client"), "pass store=QdrantStore(client, collection=...)"),
    **dict.fromkeys(("host", "port", "grpc_port", "prefer_grpc", "https", "prefix", "api_key", "timeout"), _SERVER),
    "location": "pass url=, or store=QdrantStore(':memory:'), which lives as long as the process",
    **dict.fromkeys(("path", "persist_directory", "folder_path"), _FOLDER),
    **dict.fromkeys(("engine", "async_engine"), _POSTGRES),
    **dict.fromkeys(("distance", "distance_strategy", "relevance_score_fn", "collection_metadata"), _COSINE),
    **dict.fromkeys(("retrieval_mode", "sparse_embedding", "sparse_vector_name"), _WORDS),
    **dict.fromkeys(("hybrid_search_config", "hybrid_search", "hybrid_fusion"), _WORDS),
    "vector_name": _ONE,
    **dict.fromkeys(
        ("embedding_length", "embedding_dimension", "vector_size"), "the model sets the dimensions; omit it"
    ),
    **dict.fromkeys(("content_payload_key", "metadata_payload_key", "id_column", "content_column"), _LAYOUT),
    **dict.fromkeys(("metadata_columns", "embedding_column", "use_jsonb", "create_extension"), _LAYOUT),
}
# Settings that are always in effect, so that giving them changes nothing.
_HOLDS: dict[str, tuple[object, ...]] = {
    "async_mode": (True, False),
    "batch_size": (None,),
    "create_extension": (True,),
    "distance": ("Cosine",),
    "distance_strategy": ("cosine",),
    "hybrid_search_config": (None,),
    "retrieval_mode": ("dense",),
    "sparse_embedding": (None,),
    "use_jsonb": (True,),
}


def index_of(
    index: Index | None,
    embedding: object,
    store: Store | str | None,
    chunking: Chunking | None,
    place: Mapping[str, Any],
) -> Index:
    """Return the Index that was given, or one made from embeddings and a place. Nothing is opened yet."""
    _refuse_unknown(place)
    if index is not None and place.get("keywords"):
        raise SettingError("an Index has its own store; pass keywords=True to that")
    embedding = _one("embedding", embedding, _EMBEDDINGS, place)
    store = _place(store, place)
    if index is None:
        return Index(_store_of(store), _embedder_of(embedding), chunking=chunking)
    if not isinstance(index, Index):
        raise SettingError(
            f"index must be an Index, got {type(index).__name__}; write HarrierVectorStore(Index(store, encoder)) or "
            "HarrierVectorStore(embedding=HarrierEmbeddings(...), store=...)"
        )
    for name, value in (("embedding", embedding), ("store", store), ("chunking", chunking)):
        if value is not None:
            raise SettingError(f"an Index has its own {name}; omit {name}, or pass no index")
    return index


def _refuse_unknown(place: Mapping[str, Any]) -> None:
    for name, value in place.items():
        if name in Place.__annotations__ or value in _HOLDS.get(name, ()):
            continue
        if name in _HINTS:
            raise SettingError(f"HarrierVectorStore takes no {name}: {_HINTS[name]}")
        raise unknown_keyword("HarrierVectorStore", name, (*_SETTINGS, *_ADDRESSES, *_NAMES, "keywords"))


def _one(name: str, given: object, others: tuple[str, ...], place: Mapping[str, Any]) -> Any:
    """Return the value that was given by one of the names. Raise SettingError if there are several."""
    said = {each: place.get(each) for each in others} | {name: given}
    said = {each: value for each, value in said.items() if value is not None}
    if len(said) > 1:
        raise SettingError(f"{' and '.join(said)} are one setting; give one of them")
    return next(iter(said.values()), None)


def _place(store: Store | str | None, place: Mapping[str, Any]) -> Any:
    """Return the store, or its URL with the name of its table or collection."""
    address = _one("store", store, _ADDRESSES, place)
    name = _one("table_name", place.get("table_name"), ("collection_name",), place)
    if isinstance(address, str):
        url = url_of(address, name)
        return with_keywords(url) if place.get("keywords") else url
    if address is not None and place.get("keywords"):
        raise SettingError(f"{type(address).__name__} has its own keywords setting; pass keywords=True to it")
    if name is not None and hasattr(address, "open"):
        raise SettingError(f"{type(address).__name__} has its own table or collection; omit the name")
    return address


def url_of(address: str, name: str | None) -> str:
    """Return the URL for `open_store`, from a server's address and the name of a table or collection."""
    scheme, _, rest = address.partition(":")
    if scheme in ("http", "https") or (scheme == "qdrant" and rest.startswith("//")):
        parts = urlsplit(address)
        if name is not None and parts.path.strip("/"):
            raise SettingError("the URL has a path, which names a collection; omit that, or the collection_name")
        path = parts.path if name is None else f"/{quote(name, safe='')}"
        query = "&".join(filter(None, (parts.query, "tls=true" if scheme == "https" else "")))
        return f"qdrant://{parts.netloc}{path}{query and f'?{query}'}"
    if name is None:
        return address
    word = "collection" if scheme == "qdrant" else "table"
    if word in parse_qs(rest.partition("?")[2]):
        raise SettingError(f"the URL already names a {word}; omit that, or the {word}_name")
    return f"{address}{'&' if '?' in rest else '?'}{word}={quote(name, safe='')}"


def _store_of(store: Any) -> Store | str:
    if store is None:
        raise SettingError(
            "no place for the documents is given; pass store=, such as PgVectorStore('postgresql://user@host/db'), "
            "PgVectorStore.embedded(folder) without a server, or QdrantStore(':memory:') until the process ends"
        )
    if isinstance(store, Index):
        raise SettingError("store must be a store or its URL, got Index; write HarrierVectorStore(index)")
    found: Store | str = store
    return found


def _embedder_of(embedding: Any) -> Any:
    """Return the object that an Index accepts as its encoder."""
    if embedding is None:
        raise SettingError("no embedding is given; pass embedding=HarrierEmbeddings(model=...), or an Index")
    if not isinstance(embedding, Embedder) and not isinstance(getattr(embedding, "index_encoder", None), Embedder):
        raise SettingError(
            f"embedding must be HarrierEmbeddings, got {type(embedding).__name__}, whose embedding space is "
            "unknown; pass HarrierEmbeddings(model=...)"
        )
    return embedding
