"""Keywords of LlamaIndex's other vector stores, and what to write here instead. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Never

from harrier_core import SettingError
from harrier_core.foreign import unknown_keyword

_QDRANT = "write HarrierVectorStore(QdrantStore(url_or_client, collection='...'), embed_model=...)"
POSTGRES = "write HarrierVectorStore(PgVectorStore('postgresql://user@host/db', table='...'), embed_model=...)"
_PLACE = "write HarrierVectorStore(store, embed_model=...); a URL of a store is taken as well"
_MODEL = "use embed_model"
_LENGTH = "the model defines the dimensions of its vectors; omit it"
_WORDS = "pass keywords=True to the store, or keywords=true to its URL, and vector_store_query_mode to the retriever"
_IN_QUERY = "pass it to the retriever, or set it in the query"
_HNSW = "pass hnsw=Hnsw(m=..., ef_construction=...) to the store, and ef to a query"
_INDEXES = "pass indexes to the store"
_SPEED = "an ingest forms batches and overlaps work itself; omit it"
_FORM = "the kit decides how nodes are stored; omit it"

_OF_STORE = {
    **dict.fromkeys(("client", "aclient", "collection_name", "url", "api_key", "location", "path"), _QDRANT),
    **dict.fromkeys(("prefer_grpc", "client_kwargs", "shard_number", "shard_keys", "quantization_config"), _QDRANT),
    **dict.fromkeys(("connection", "connection_string", "async_connection_string", "table_name"), POSTGRES),
    **dict.fromkeys(("schema_name", "database", "user", "password", "engine", "async_engine"), POSTGRES),
    **dict.fromkeys(("store", "vector_store", "host", "port"), _PLACE),
    **dict.fromkeys(("encoder", "embedder", "embedding", "embeddings", "embedding_model", "embed"), _MODEL),
    **dict.fromkeys(("embed_dim", "embedding_dim", "dim", "dimensions", "vector_size"), _LENGTH),
    **dict.fromkeys(("enable_hybrid", "keywords", "hybrid_search", "text_search_config", "hybrid_fusion_fn"), _WORDS),
    **dict.fromkeys(("fastembed_sparse_model", "sparse_doc_fn", "sparse_query_fn", "sparse_config"), _WORDS),
    **dict.fromkeys(("hnsw_kwargs", "dense_config"), _HNSW),
    **dict.fromkeys(("indexed_metadata_keys", "payload_indexes"), _INDEXES),
    "use_halfvec": "pass precision='float16' to the store",
    "max_retries": "pass retry_for to the store",
    **dict.fromkeys(("batch_size", "parallel"), _SPEED),
    **dict.fromkeys(("use_jsonb", "perform_setup", "stores_text", "text_key", "flat_metadata"), _FORM),
}

_FILTERS = "pass conditions on metadata as filters=MetadataFilters(...), to the retriever or in the query"
_TOP_K = "use similarity_top_k, of the retriever or the query"
_OF_QUERY = {
    **dict.fromkeys(("where", "filter", "filters", "qdrant_filters", "custom_filter", "customize_query_fn"), _FILTERS),
    **dict.fromkeys(("k", "top_k", "limit", "similarity_top_k"), _TOP_K),
    **dict.fromkeys(("min_score", "similarity_cutoff", "similarity_threshold"), "use score_threshold"),
    **dict.fromkeys(("hnsw_ef", "hnsw_ef_search", "ef_search"), "use ef"),
    "ivfflat_probes": "an index of vectors is HNSW; use ef",
    "search_params": "use ef or exact",
    **dict.fromkeys(("alpha", "sparse_top_k", "hybrid_top_k"), _IN_QUERY),
    **dict.fromkeys(("mode", "search_mode", "retrieval_mode"), "use vector_store_query_mode, of the retriever"),
    **dict.fromkeys(("keyword_weight", "dense_weight"), "use alpha, of the retriever or the query"),
    "task": "the query is already embedded; pass the task to embed_model",
}


def refuse_for_store(given: Mapping[str, Any], known: Iterable[str]) -> None:
    """Raise SettingError for a keyword of the constructor, if there are any left."""
    for name in given:
        raise _error("HarrierVectorStore", name, _OF_STORE, known)


def refuse_for_query(given: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raise SettingError for a keyword that a query does not accept, if there is one."""
    for name in given:
        if name not in known:
            raise _error("query", name, _OF_QUERY, known)


def refuse_from_params() -> Never:
    """Raise SettingError: the arguments of other stores' from_params are settings of a store here."""
    raise SettingError(f"HarrierVectorStore has no from_params; {POSTGRES}")


def _error(surface: str, name: str, words: Mapping[str, str], known: Iterable[str]) -> SettingError:
    if name in words:
        return SettingError(f"{surface} got an unknown keyword, {name!r}: {words[name]}")
    return unknown_keyword(surface, name, known)
