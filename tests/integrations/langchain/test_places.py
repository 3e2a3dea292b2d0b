"""Construction of a HarrierVectorStore: an Index, embeddings and a store, or other stores' arguments."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import psycopg
import pytest
from harrier_pgvector import PgVectorStore
from harrier_qdrant import QdrantStore
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_harrier import HarrierEmbeddings, HarrierVectorStore
from langchain_harrier.places import url_of

from harrier_core import CachedEncoder, Encoder, Index, SettingError, StoreMissing, VectorStore, WrongSpace, open_store
from harrier_core.testing import MemoryStore

SERVER = "postgresql://user:secret@host/db"


def index_at(words: str, **place: Any) -> Index:
    return HarrierVectorStore(embedding=HarrierEmbeddings(words), **place).index


@pytest.mark.parametrize(
    ("place", "meant"),
    [
        ({"store": f"{SERVER}?table=docs"}, f"{SERVER}?table=docs"),
        ({"connection": SERVER, "collection_name": "docs"}, f"{SERVER}?table=docs"),
        (
            {"connection_string": f"{SERVER}?sslmode=require", "table_name": "a b"},
            f"{SERVER}?sslmode=require&table=a%20b",
        ),
        ({"connection": "postgresql+psycopg://host/db", "table_name": "docs"}, "postgresql://host/db?table=docs"),
        ({"store": "pgvector:folder", "table_name": "docs"}, "pgvector:folder?table=docs"),
        ({"url": "http://host:6333", "collection_name": "docs"}, "qdrant://host:6333/docs"),
        ({"url": "https://host:6333", "collection_name": "a"}, "qdrant://host:6333/a?tls=true"),
        ({"url": "http://host:6333/"}, "qdrant://host:6333"),
        ({"url": "qdrant://host:6334?tls=true", "collection_name": "docs"}, "qdrant://host:6334/docs?tls=true"),
        ({"url": "qdrant:folder", "collection_name": "docs"}, "qdrant:folder?collection=docs"),
        ({"connection": SERVER, "use_jsonb": True, "distance_strategy": "cosine", "async_mode": True}, SERVER),
    ],
)
def test_places(words: str, place: dict[str, Any], meant: str) -> None:
    """The place is the one in the URL, and no connection is made."""
    found = index_at(words, **place)
    assert repr(found.store) == repr(open_store(meant))
    assert "secret" not in repr(HarrierVectorStore(found))


@pytest.mark.parametrize(
    ("address", "name", "meant"),
    [
        ("http://host:6333", "docs", "qdrant://host:6333/docs"),
        ("https://host", "a/b", "qdrant://host/a%2Fb?tls=true"),
        ("https://host/", None, "qdrant://host/?tls=true"),
        ("qdrant://host:6334?tls=true", "docs", "qdrant://host:6334/docs?tls=true"),
        ("https://host:6333?timeout=5", "docs", "qdrant://host:6333/docs?timeout=5&tls=true"),
        ("qdrant:C:folder", "docs", "qdrant:C:folder?collection=docs"),
        ("postgresql://host/db?a=b", "a&b", "postgresql://host/db?a=b&table=a%26b"),
        ("other:place", None, "other:place"),
    ],
)
def test_a_name_in_a_url(address: str, name: str | None, meant: str) -> None:
    """A name is accepted in the right part of each URL, and encryption is kept."""
    assert url_of(address, name) == meant


@pytest.mark.parametrize(
    "address", ["https://host/old", "qdrant://host/old", "qdrant:F?collection=old", "pgvector:F?table=old"]
)
def test_two_names(address: str) -> None:
    """They are refused, because force_recreate could remove the wrong place."""
    with pytest.raises(SettingError, match="omit that, or the"):
        url_of(address, "docs")


@pytest.mark.parametrize("embedding", ["embedding", "embeddings", "embedding_function", "embedding_service"])
def test_embeddings(words: str, embedding: str) -> None:
    """They are accepted under any store's name, and as any Embedder."""
    given: dict[str, Any] = {embedding: HarrierEmbeddings(words)}
    assert HarrierVectorStore(store=MemoryStore(), **given).index.encoder.name == words
    for embedder in (Encoder(words), CachedEncoder(Encoder(words), {})):  # type: ignore[arg-type]
        assert HarrierVectorStore(embedding=embedder, store=MemoryStore()).index.encoder is embedder


EMBEDDINGS = HarrierEmbeddings("harrier-0.6b")
PG = PgVectorStore(SERVER)
INDEX = Index(MemoryStore(), EMBEDDINGS)


class Engine:
    """A stand-in for SQLAlchemy's engine."""


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"index": PG}, "index must be an Index, got PgVectorStore; write HarrierVectorStore.Index"),
        ({"index": "documents", "embedding": EMBEDDINGS}, "index must be an Index, got str"),
        ({"index": EMBEDDINGS}, "index must be an Index, got HarrierEmbeddings"),
        ({"index": INDEX, "store": PG}, "an Index has its own store; omit store"),
        ({"index": INDEX, "embedding": EMBEDDINGS}, "an Index has its own embedding; omit embedding"),
        ({"store": INDEX, "embedding": EMBEDDINGS}, r"got Index; write HarrierVectorStore\(index\)"),
        ({"store": HarrierVectorStore(INDEX), "embedding": EMBEDDINGS}, "got HarrierVectorStore; use the store that"),
        ({"store": PG}, "no embedding is given; pass embedding=HarrierEmbeddings"),
        ({"embedding": EMBEDDINGS}, "no place for the documents is given; pass store="),
        ({"embedding": EMBEDDINGS, "collection_name": "a"}, "no place for the documents is given; pass store="),
        ({"embedding": DeterministicFakeEmbedding(size=6), "store": PG}, "must be HarrierEmbeddings, got Determ"),
        ({"embedding": "harrier-0.6b", "store": PG}, "must be HarrierEmbeddings, got str"),
        ({"embedding": EMBEDDINGS, "embeddings": EMBEDDINGS, "store": PG}, "embeddings and embedding are one setting"),
        ({"embedding": EMBEDDINGS, "store": PG, "url": SERVER}, "url and store are one setting; give one of them"),
        ({"embedding": EMBEDDINGS, "store": PG, "table_name": "a"}, "PgVectorStore has its own table or collection"),
        ({"embedding": EMBEDDINGS, "connection": Engine()}, "got Engine; use PgVectorStore"),
        ({"embedding": EMBEDDINGS, "connection": Engine(), "table_name": "a"}, "got Engine; use PgVectorStore"),
        ({"embedding": EMBEDDINGS, "connection": "host=a password=secret"}, "a store's URL must begin with one of"),
        ({"embedding": EMBEDDINGS, "client": object()}, "takes no client: pass store=QdrantStore.client, collection="),
        ({"embedding": EMBEDDINGS, "location": ":memory:"}, "takes no location: pass url=, or store=QdrantStore"),
        ({"embedding": EMBEDDINGS, "path": "a"}, "takes no path: pass store='qdrant:FOLDER"),
        ({"embedding": EMBEDDINGS, "engine": Engine()}, "takes no engine: pass connection='postgresql:"),
        ({"embedding": EMBEDDINGS, "distance_strategy": "l2"}, "takes no distance_strategy: vectors are compared by"),
        (
            {"embedding": EMBEDDINGS, "retrieval_mode": "hybrid"},
            "takes no retrieval_mode: pass keywords=True, and mode",
        ),
        (
            {"embedding": EMBEDDINGS, "stor": PG},
            "HarrierVectorStore got an unknown keyword, 'stor': did you mean store",
        ),
    ],
)
def test_invalid_places(given: dict[str, Any], said: str) -> None:
    """The constructor raises a one-line error with the right form."""
    for make in (HarrierVectorStore, lambda **given: HarrierVectorStore.from_texts(["a"], **given)):
        if "index" in given and make is not HarrierVectorStore:
            continue
        with pytest.raises(SettingError, match=said) as caught:
            make(**given)
        assert "\n" not in str(caught.value)
        assert "secret" not in str(caught.value)


def test_existing_places(words: str, store: VectorStore, built: Any) -> None:
    """They are used unchanged, and missing ones are not created."""
    embeddings = HarrierEmbeddings(words)
    for make in (HarrierVectorStore.from_existing_collection, HarrierVectorStore.from_existing_index):
        with pytest.raises(StoreMissing):
            make(embeddings, store=store)
    HarrierVectorStore.from_texts(["bread"], embeddings, store=store)
    found = HarrierVectorStore.from_existing_collection(embeddings, store=store, positions=True)
    assert found.similarity_search("bread")[0].metadata == {"chunk": 0, "start_index": 0, "end_index": 5}
    with pytest.raises(WrongSpace):
        HarrierVectorStore.from_existing_index(HarrierEmbeddings(built("qwen3", seed=5)), store=store)


@pytest.mark.parametrize("word", ["force_recreate", "pre_delete_collection"])
def test_recreating(words: str, store: VectorStore, word: str) -> None:
    """The old contents are removed, also of another space; a missing place is not an error."""
    embeddings = HarrierEmbeddings(words)
    again: dict[str, Any] = {word: True}
    for texts in (["bread"], ["sand"]):
        made = HarrierVectorStore.from_texts(texts, embeddings, store=store, **again)
        assert [each.page_content for each in made.similarity_search("bread")] == texts
    documents = [Document("yeast")]
    made = asyncio.run(HarrierVectorStore.afrom_documents(documents, embeddings, store=store, **again))
    assert [each.page_content for each in made.similarity_search("bread")] == ["yeast"]
    wrong: list[dict[str, Any]] = [{"metadatas": [{}]}, {"ids": ["a"]}]
    for given in wrong:
        with pytest.raises(SettingError, match="there are 2 documents and 1"):
            HarrierVectorStore.from_texts(["a", "b"], embeddings, store=store, **given, **again)
    with pytest.raises(SettingError, match=f"{word} would remove a place"):
        HarrierVectorStore.from_existing_collection(embeddings, store=store, **again)
    assert len(made.similarity_search("bread")) == 1
    emptied = HarrierVectorStore(embedding=embeddings, store=store, **again)
    assert emptied.similarity_search("bread") == []
    assert store.space() is None


def test_in_a_database(words: str, postgres: str, table: str) -> None:
    """The examples of langchain-postgres work with another class name."""
    address = postgres if "://" in postgres else f"postgresql://?{'&'.join(postgres.split())}"
    if "://" not in postgres:
        with psycopg.connect(postgres) as connection:
            info = connection.info
            address = f"postgresql://{info.user}:{info.password}@/{info.dbname}?host={info.host}&port={info.port}"
    made = HarrierVectorStore.from_documents(
        embedding=HarrierEmbeddings(words),
        documents=[Document("ducks in the pond", metadata={"id": 2})],
        ids=[2],
        collection_name=table,
        connection=address,
        use_jsonb=True,
        pre_delete_collection=True,
    )
    with made.index:
        assert made.get_by_ids(["2"]) == [Document(id="2", page_content="ducks in the pond", metadata={"id": 2})]
    with PgVectorStore(postgres, table=table) as store:
        assert store.describe().chunks == 1


def test_in_a_folder(words: str, tmp_path: Path) -> None:
    """A folder is given as a URL of the kit."""
    made = HarrierVectorStore.from_texts(
        ["bread"], HarrierEmbeddings(words), store=f"qdrant:{tmp_path}", collection_name="texts"
    )
    made.index.close()
    with QdrantStore.embedded(tmp_path, collection="texts") as store:
        assert store.describe().chunks == 1


def test_repr(words: str) -> None:
    """It shows the settings as they are typed."""
    index = Index(MemoryStore(), Encoder(words))
    assert repr(HarrierVectorStore(index)) == f"HarrierVectorStore({index!r})"
    assert repr(HarrierVectorStore(index, positions=True)) == f"HarrierVectorStore({index!r}, positions=True)"
