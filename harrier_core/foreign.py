"""Other libraries' names for things, and what to write here instead. Pure: it knows their names and imports none.

Users come with code for sentence-transformers, LangChain, LlamaIndex, Qdrant and Postgres. Their first attempt should
get an error that says how the kit spells it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from harrier_core.errors import SettingError
from harrier_core.records import Record, Skipped

# -- keywords of classes that make vectors

_WHOLE = (
    "Harrier models were not trained to be truncated (no Matryoshka), and shortened vectors work much worse; to save "
    "space, use a store's precision or quantization"
)
_ONE_COPY = "an Encoder is one copy of a model; give each process an Encoder with its own device"
_SPREAD = "use device, where several names spread one model over these devices: device='cuda:0,cuda:1'"
_OWN_FILES = "a model's own files decide how it is read; omit it"
_PROMPT = "use task: a name in encoder.tasks, or Task('one sentence')"
_PLAIN = "a document is encoded unchanged, without an instruction, as Harrier was trained; omit it"
_BUDGET = "use token_budget, the number of tokens in one forward pass"
_LENGTH = "use max_tokens, and on_overflow='truncate' to cut longer texts"
_UNIT = "vectors always have unit length; omit it"
_ARRAYS = "vectors are always NumPy arrays in float32; omit it"
_PROGRESS = "use on_progress of Index.ingest"
_TOKEN = "set HF_TOKEN in the environment, or run hf auth login"  # noqa: S105  # no token, but where to put one
_CACHE = "set HF_HOME in the environment"
_SERVER = "for the model of a server use url, or RemoteEncoder(url, api_key=...) in place of an Encoder"

_KEYWORDS = {
    **dict.fromkeys(("model_name", "model_name_or_path", "model_id", "model_path"), "use model"),
    **dict.fromkeys(("truncate_dim", "dimensions", "dim", "output_dimensionality", "matryoshka_dim"), _WHOLE),
    "model_kwargs": "use device, dtype and revision",
    "torch_dtype": "use dtype",
    "encode_kwargs": "use token_budget in place of a batch size; vectors always have unit length",
    "query_encode_kwargs": _PROMPT,
    **dict.fromkeys(("prompt", "prompts", "prompt_name", "default_prompt_name"), _PROMPT),
    **dict.fromkeys(("query_instruction", "query_prompt", "instruction", "embed_query_instruction", "prefix"), _PROMPT),
    **dict.fromkeys(("text_instruction", "document_instruction", "embed_instruction", "document_prompt"), _PLAIN),
    **dict.fromkeys(("batch_size", "embed_batch_size", "chunk_size", "max_batch_size"), _BUDGET),
    **dict.fromkeys(("max_length", "max_seq_length", "model_max_length"), _LENGTH),
    **dict.fromkeys(("truncate", "truncation"), _LENGTH),
    **dict.fromkeys(("normalize", "normalize_embeddings"), _UNIT),
    **dict.fromkeys(("convert_to_numpy", "convert_to_tensor", "output_value"), _ARRAYS),
    "precision": "vectors are made in float32; use a store's precision or quantization to keep smaller ones",
    **dict.fromkeys(("show_progress", "show_progress_bar"), _PROGRESS),
    **dict.fromkeys(("multi_process", "parallel_process", "target_devices", "pool", "num_workers"), _ONE_COPY),
    "device_map": _SPREAD,
    **dict.fromkeys(("tokenizer_kwargs", "processor_kwargs", "config_kwargs", "modules", "tokenizer_name"), _OWN_FILES),
    **dict.fromkeys(("pooling", "pooling_mode", "tokenizer", "similarity_fn_name"), _OWN_FILES),
    "trust_remote_code": "code from a model's repository is never run; omit it",
    "backend": "models always run on torch; omit it",
    "attn_implementation": "the kit chooses the attention for each device; omit it",
    **dict.fromkeys(("token", "use_auth_token", "hf_token", "huggingfacehub_api_token"), _TOKEN),
    **dict.fromkeys(("cache_folder", "cache_dir"), _CACHE),
    **dict.fromkeys(("url", "base_url", "api_base", "endpoint_url", "server_url", "openai_api_base"), _SERVER),
    **dict.fromkeys(("api_key", "openai_api_key"), _SERVER),
    "local_files_only": "set HF_HUB_OFFLINE=1 in the environment, or pass a folder as the model",
}


def unknown_keyword(surface: str, name: str, known: Iterable[str]) -> SettingError:
    """Return the error for a keyword that a class or function does not accept, with the kit's name for it if any.

    surface: what was called. known: the keywords that it accepts.
    """
    taken = list(known)
    if name in _KEYWORDS and name not in taken:
        said = _KEYWORDS[name]
    elif close := get_close_matches(name, taken, 1):
        said = f"did you mean {close[0]}?"
    else:
        said = f"it takes {', '.join(taken)}"
    return SettingError(f"{surface} got an unknown keyword, {name!r}: {said}")


# -- attributes

_ROLES = "use encode_queries or encode_documents, because a text has a role"
_INGEST = "use ingest, with an iterable of Record(id=..., text=..., metadata=...)"
OF_ENCODER = {
    **dict.fromkeys(("encode", "embed"), _ROLES),
    **dict.fromkeys(("encode_query", "embed_query", "embed_queries"), "use encode_queries, with a list of texts"),
    **dict.fromkeys(("encode_document", "embed_documents"), "use encode_documents, with a list of texts"),
    **dict.fromkeys(("get_sentence_embedding_dimension", "get_embedding_dimension", "dim"), "use dimensions"),
    **dict.fromkeys(("max_seq_length", "max_length"), "use max_tokens"),
    **dict.fromkeys(("tokenize", "tokenizer"), "use count_tokens, or prompt for the exact text that the model reads"),
    "prompts": "use tasks",
    "similarity": "vectors have unit length, so queries @ documents.T are their cosines",
    "device": "use placement, which says which one and why",
    "to": "pass device= to Encoder",
}
OF_INDEX = {
    **dict.fromkeys(("add", "upsert", "insert", "add_documents", "add_texts", "from_documents"), _INGEST),
    **dict.fromkeys(("query", "query_points", "similarity_search", "retrieve"), "use search"),
    **dict.fromkeys(("get", "scroll", "fetch", "get_by_ids"), "use read"),
    **dict.fromkeys(("delete_collection", "drop_table", "drop_tables", "delete_table"), "use drop"),
    **dict.fromkeys(("as_retriever", "as_query_engine"), "use a HarrierRetriever or HarrierVectorStore over it"),
    "embeddings": "use encoder",
}


def no_attribute(owner: object, name: str, words: Mapping[str, str]) -> AttributeError:
    """Return the error for an attribute that an object does not have, with the kit's name for it if there is one."""
    said = f"; {words[name]}" if name in words else ""
    return AttributeError(f"{type(owner).__name__!r} object has no attribute {name!r}{said}", name=name, obj=owner)


# -- things in place of a store or of an Embedder, by the names of their types

_POSTGRES = "PgVectorStore('postgresql://user@host/db')"
_QDRANT = "QdrantStore('http://host:6333')"
_STORES = {
    "Path": "PgVectorStore.embedded(folder) or QdrantStore.embedded(folder)",
    "QdrantClient": "QdrantStore(client)",
    "AsyncQdrantClient": f"{_QDRANT}; an Index has asearch and aingest",
    **dict.fromkeys(("QdrantVectorStore", "AsyncQdrantRemote"), _QDRANT),
    "ConnectionPool": "PgVectorStore(pool)",
    **dict.fromkeys(("Connection", "AsyncConnection", "AsyncConnectionPool", "connection"), _POSTGRES),
    **dict.fromkeys(("Engine", "AsyncEngine", "Session", "AsyncSession", "PGEngine"), _POSTGRES),
    **dict.fromkeys(("PGVector", "PGVectorStore", "AsyncPGVectorStore"), _POSTGRES),
    "Index": "index.using(encoder) for an Index over the same store",
    "HarrierVectorStore": "the store that its Index was created with",
}
_EMBEDDERS = {
    "SentenceTransformer": "Encoder(model), with the same name or folder",
    **dict.fromkeys(("Tokenizer", "PreTrainedModel", "AutoModel"), "Encoder(model), with its name or folder"),
}


def in_place_of_store(given: object) -> str:
    """Return what to write instead of something that is not a store."""
    return _named(given, _STORES) or f"{_POSTGRES} or {_QDRANT}, for example"


def in_place_of_embedder(given: object) -> str:
    """Return what to write instead of something that cannot make vectors for an Index."""
    if isinstance(given, str):
        return "Encoder('...') with that name or folder"
    if said := _named(given, _EMBEDDERS):
        return said
    if type(given).__name__.endswith(("Embedding", "Embeddings")):
        return "HarrierEmbeddings for LangChain, or HarrierEmbedding for LlamaIndex"
    return "Encoder('harrier-0.6b')"


def _named(given: object, table: Mapping[str, str]) -> str | None:
    return next((table[kind.__name__] for kind in type(given).__mro__ if kind.__name__ in table), None)


# -- things in place of records

_ITERABLE = "records must be an iterable of Record(id=..., text=..., metadata=...)"
_FIELDS = {"id", "text", "metadata"}
# Attributes of objects that are not Records, and what to do with such objects.
_DOCUMENTS = (
    ({"page_content", "metadata"}, "LangChain's documents go to HarrierVectorStore(index).add_documents"),
    ({"node_id", "get_content"}, "LlamaIndex's nodes go to HarrierVectorStore(index).add, or through records_of"),
    ({"content", "meta"}, "write Record(id=document.id, text=document.content, metadata=document.meta)"),
)


def refuse_records(records: object) -> None:
    """Raise SettingError if this cannot be an iterable of records."""
    name = type(records).__name__
    if isinstance(records, Record | Skipped | Mapping | str | bytes):
        raise SettingError(f"{_ITERABLE}, got {name}; put a single record in a list")
    if name == "DataFrame":
        raise SettingError(f"{_ITERABLE}, got DataFrame; create a Record from each row")
    if said := _of_a_document(records):  # some can be iterated over
        raise SettingError(f"{_ITERABLE}, got {name}; {said}")
    if not isinstance(records, Iterable):
        raise SettingError(f"{_ITERABLE}, got {name}")


def as_record(item: object, *, first: bool) -> object:
    """Return a dict of a record's fields as a Record, and anything else unchanged.

    first: whether it is the first of all. If that one is not a record, the whole call is wrong rather than the item,
    and SettingError is raised.
    """
    if isinstance(item, Record):
        return item
    if isinstance(item, Mapping) and {"id", "text"} <= item.keys() <= _FIELDS:
        fields: dict[str, Any] = dict(item)
        return Record(**fields)
    if first:
        raise SettingError(f"{_ITERABLE}, but the first item is {_instead_of_record(item)}")
    return item


def _instead_of_record(item: object) -> str:
    name = type(item).__name__
    if isinstance(item, Mapping):
        return f"{name} with other keys; a dict is accepted if it has id, text and optionally metadata"
    said = _of_a_document(item)
    return f"{name}; {said}" if said else name


def _of_a_document(item: object) -> str | None:
    return next((said for attributes, said in _DOCUMENTS if all(hasattr(item, each) for each in attributes)), None)
