"""Arguments that newcomers pass to a store: names of qdrant-client's arguments, and of other libraries' classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from harrier_core.errors import SettingError
from harrier_core.keywords import Keywords

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

COLLECTION = "documents"  # by default
MEMORY = ":memory:"  # the URL of a client in local mode


class Names(TypedDict, total=False):
    """Another name for `collection`."""

    collection_name: str


class Aliases(Names, total=False):
    """Other names for `url` and `collection`; a host has its port."""

    client: QdrantClient
    location: str
    host: str
    port: int


DEFAULTS = {"url": None, "collection": COLLECTION}

_PORT = 6333

_CLIENT = "pass a QdrantClient; for asyncio, use asearch and aingest of an Index over it"
_FOLDER = "use QdrantStore.embedded(folder), or pass a QdrantClient(path=...) for its local mode"
_GRPC = "gRPC is used if its port is known and reachable; pass grpc_port= if the URL's port is not 6333"
_MODEL = "a store has no model; the encoder of an Index defines the vectors"
_WORDS = "write keywords=True, and search an Index with mode='keyword' or mode='hybrid'"
_SHARD_KEYS = "collections with shard keys are not supported; use a separate collection for each part"

KEYWORDS = Keywords(
    "QdrantStore",
    aliases={
        **dict.fromkeys(("client", "location", "host"), "url"),
        "collection_name": "collection",
    },
    hints={
        **dict.fromkeys(("aclient", "async_client"), _CLIENT),
        "path": _FOLDER,
        "prefer_grpc": _GRPC,
        **dict.fromkeys(("https", "prefix"), "put it in the URL, https://host:6333/prefix"),
        **dict.fromkeys(("embedding", "embeddings", "embed_model", "embedding_dim", "vector_size"), _MODEL),
        **dict.fromkeys(("vector_name", "dense_vector_name"), "write vector='text-dense'"),
        **dict.fromkeys(("distance", "similarity", "distance_strategy"), "vectors are compared by cosine"),
        **dict.fromkeys(("sparse_embedding", "sparse_vector_name", "retrieval_mode", "enable_hybrid"), _WORDS),
        **dict.fromkeys(("hnsw_config", "m", "ef_construct"), "write hnsw=Hnsw(m=..., ef_construction=...)"),
        **dict.fromkeys(("payload_indexes", "payload_fields_to_index", "metadata_indexes"), "write indexes={...}"),
        "quantization_config": "write quantization='int8' or quantization='binary'",
        "on_disk_payload": "write on_disk=True, for vectors; payloads are always on disk",
        "shard_number": "write shards=",
        "replication_factor": "write replicas=",
        "write_consistency_factor": "write write_consistency=",
        **dict.fromkeys(("shard_key", "shard_keys", "shard_key_selector", "sharding_method"), _SHARD_KEYS),
        **dict.fromkeys(("force_recreate", "recreate_index"), "call store.drop() first"),
    },
)


def with_port(given: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments with the port as part of the host, as in an address."""
    if "port" not in given:
        return {**given, "host": _address(given["host"], _PORT)} if "host" in given else given
    if "host" not in given:
        raise SettingError("port= of QdrantStore belongs to host=; a URL contains it, http://host:6333")
    others = {name: value for name, value in given.items() if name != "port"}
    return {**others, "host": _address(given["host"], _PORT if given["port"] is None else given["port"])}


def _address(host: object, port: object) -> str:
    if not isinstance(host, str) or not host:
        got = "an empty text" if host == "" else type(host).__name__
        raise SettingError(f"host= of QdrantStore must be a host's name or address, got {got}")
    return f"[{host}]:{port}" if ":" in str(host) and "//" not in str(host) else f"{host}:{port}"
