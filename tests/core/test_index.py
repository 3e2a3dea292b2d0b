"""Construction, repr and logging of an Index, and its state after a drop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import qdrant_client
from harrier_pgvector import PgVectorStore
from harrier_qdrant import QdrantStore
from ingesting import Hashing
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_harrier import HarrierEmbeddings, HarrierVectorStore
from llama_index.embeddings.harrier import HarrierEmbedding
from psycopg_pool import ConnectionPool

from harrier_core import CachedEncoder, Chunking, Encoder, Index, Record, SettingError, StoreMissing
from harrier_core.testing import MemoryStore

RECORDS = [Record("a", "a secret text"), Record("b", "another text"), Record("bad\0", "a third secret")]
ENCODER = Encoder("harrier-270m")

# -- stores and encoders


def test_a_url_is_a_store() -> None:
    """A URL is accepted as by `open_store`, and nothing is opened."""
    index = Index("postgresql://user:password@nowhere/db?table=docs", ENCODER)
    assert isinstance(index.store, PgVectorStore)
    assert "password" not in repr(index)
    with pytest.raises(SettingError, match="a store's URL must begin with one of"):
        Index("harrier-270m", ENCODER)


def test_embeddings_of_a_framework_are_encoders() -> None:
    """They are used as the embedder behind them, including a cache."""
    lang = HarrierEmbeddings(model="harrier-270m", max_tokens=7)
    llama = HarrierEmbedding(model_name="harrier-270m", max_tokens=7)
    for embeddings in (lang, llama):
        encoder = Index(MemoryStore(), embeddings).encoder
        assert isinstance(encoder, Encoder)
        assert encoder.settings["max_tokens"] == 7
        assert Index(MemoryStore(), ENCODER).using(embeddings).encoder is encoder
    cached = CachedEncoder(ENCODER, SimpleNamespace(mget=None, mset=None))
    assert Index(MemoryStore(), HarrierEmbedding.from_encoder(cached)).encoder is cached
    blanks = HarrierEmbedding(model_name="harrier-270m", on_blank="last")
    assert isinstance(Index(MemoryStore(), blanks).encoder, Encoder)


class SentenceTransformer:
    """A stand-in for the class of sentence-transformers, which needs a model."""


class AsyncConnection:
    """A stand-in for psycopg's class, which needs a server."""


class OpenAIEmbeddings:
    """A stand-in for any framework's embeddings."""


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ("harrier-270m", r"got str; use Encoder\('...'\) with that name or folder"),
        (Encoder, "got the class Encoder; pass an instance"),
        (HarrierEmbeddings, "got the class HarrierEmbeddings; pass an instance"),
        (SentenceTransformer(), r"got SentenceTransformer; use Encoder\(model\), with the same name or folder"),
        (OpenAIEmbeddings(), "got OpenAIEmbeddings; use HarrierEmbeddings for LangChain, or HarrierEmbedding for"),
        (DeterministicFakeEmbedding(size=3), "got DeterministicFakeEmbedding; use HarrierEmbeddings for LangChain"),
        (MemoryStore(), r"got MemoryStore; use Encoder\('harrier-0.6b'\)"),
        (None, "got NoneType; use Encoder"),
        (SimpleNamespace(index_encoder="harrier"), "got SimpleNamespace; use Encoder"),
    ],
)
def test_invalid_encoders(encoder: Any, message: str) -> None:
    """The error says what was given and what is needed."""
    with pytest.raises(SettingError, match=f"^encoder must be an Encoder or another Embedder, {message}"):
        Index(MemoryStore(), encoder)


def pool() -> ConnectionPool[Any]:
    return ConnectionPool("host=nowhere", open=False)


@pytest.mark.parametrize(
    ("store", "message"),
    [
        (ENCODER, r"got Encoder; write Index\(store, encoder\)"),
        (HarrierEmbeddings(model="harrier-270m"), r"got HarrierEmbeddings; write Index\(store, encoder\)"),
        (PgVectorStore, "got the class PgVectorStore; pass an instance"),
        (qdrant_client.QdrantClient(":memory:"), r"got QdrantClient; use QdrantStore\(client\)"),
        (
            qdrant_client.AsyncQdrantClient(":memory:"),
            r"got AsyncQdrantClient; use QdrantStore\('http:.*; an Index has",
        ),
        (pool(), r"got ConnectionPool; use PgVectorStore\(pool\)"),
        (AsyncConnection(), r"got AsyncConnection; use PgVectorStore\('postgresql://user@host/db'\)"),
        (Path("folder"), r"got PosixPath; use PgVectorStore.embedded\(folder\) or QdrantStore.embedded\(folder\)"),
        (Index(MemoryStore(), ENCODER), r"got Index; use index.using\(encoder\) for an Index over the same store"),
        (HarrierVectorStore(Index(MemoryStore(), ENCODER)), "got HarrierVectorStore; use the store that its Index"),
        (
            InMemoryVectorStore(DeterministicFakeEmbedding(size=3)),
            "got InMemoryVectorStore; use PgVectorStore.* or QdrantStore.*, for example$",
        ),
        (None, "got NoneType; use"),
    ],
)
def test_invalid_stores(store: Any, message: str) -> None:
    """The error says what to write instead."""
    with pytest.raises(SettingError, match=f"^store must be a store or its URL, {message}"):
        Index(store, ENCODER)


def test_subclasses_of_known_classes() -> None:
    """They get the advice for their parent; a store is accepted whatever its name."""

    class Client(qdrant_client.QdrantClient):
        pass

    class Connection(MemoryStore):
        pass

    with pytest.raises(SettingError, match=r"got Client; use QdrantStore\(client\)"):
        Index(Client(":memory:"), ENCODER)  # type: ignore[arg-type]
    assert Index(Connection(), Hashing()).plan([]).records == 0


# -- repr and logs


def test_repr() -> None:
    """It has no password, and a chunking only if there is one."""
    index = Index(MemoryStore(), Encoder("harrier-270m", max_tokens=7))
    assert repr(index) == "Index(MemoryStore(), Encoder('harrier-270m', max_tokens=7))"
    index = Index(MemoryStore(), ENCODER, chunking=Chunking(tokens=64))
    said = "Index(MemoryStore(), Encoder('harrier-270m'), chunking=Chunking(tokens=64, overlap=0, kind='text'))"
    assert repr(index) == said
    cached = CachedEncoder(ENCODER, SimpleNamespace(mget=None, mset=None))
    assert repr(cached) == "CachedEncoder(Encoder('harrier-270m'))"
    for store in (PgVectorStore("postgresql://u:secret@h/db"), QdrantStore("https://h:6333", api_key="secret")):
        shown = repr(Index(store, ENCODER))
        assert shown.startswith(f"Index({type(store).__name__}(")
        assert "secret" not in shown


def test_logs_of_an_ingest(caplog: pytest.LogCaptureFixture) -> None:
    """One line at INFO, more at DEBUG, and never a text; searches log nothing above DEBUG."""
    index = Index(MemoryStore(), Hashing())
    with caplog.at_level(logging.DEBUG, "harrier_core"):
        report = index.ingest(RECORDS)
        asyncio.run(index.aingest(RECORDS))
        index.plan(RECORDS)
        index.search("a secret query", expand=1)
    lines = [(each.name, each.levelname, each.getMessage()) for each in caplog.records]
    ends = [message for name, level, message in lines if level == "INFO"]
    assert {name for name, level, _ in lines if level == "INFO"} == {"harrier_core.index"}
    assert len(ends) == 2
    assert ends[0] == f"ingest: {report}"
    windows = [message for name, level, message in lines if (name, level) == ("harrier_core.ingest", "DEBUG")]
    assert windows[0] == "a window of 2 records: 2 chunks are new, 0 are described again, 0 are unchanged"
    assert ("harrier_core.answers", "DEBUG", "1 queries answered with 2 matches") in lines
    assert not any("secret" in message for _, _, message in lines)
    assert {level for _, level, _ in lines} == {"DEBUG", "INFO"}


# -- its place


def test_dropped() -> None:
    """The index is as if nothing was ever ingested; dropping nothing has no effect."""
    index = Index(MemoryStore(), Hashing())
    index.drop()
    index.ingest(RECORDS)
    assert index.count() == 2
    index.drop()
    assert index.store.space() is None
    with pytest.raises(StoreMissing):
        index.count()
    assert index.clear() == index.delete(["a"]) == index.delete(where={"a": 1}) == 0
    index.drop()
    assert index.ingest(RECORDS).written == 2


def test_an_index_of_another_space_is_dropped() -> None:
    """Another space is the usual reason to drop an index."""

    class Other(Hashing):
        space = Hashing.space.__class__("other", None, "other", "t", 16, "last token", "l2", "{text}")

    store = MemoryStore()
    Index(store, Hashing()).ingest(RECORDS)
    other = Index(store, Other())
    other.drop()
    assert other.ingest(RECORDS).written == 2


@pytest.mark.parametrize("wrong", [-1, 1.5, True, "3"])
def test_invalid_limits_of_a_read(wrong: Any) -> None:
    """Invalid numbers are refused by the call, not when the first chunk is read."""
    index = Index(MemoryStore(), Hashing())
    index.ingest(RECORDS)
    for name in ("limit", "offset"):
        with pytest.raises(SettingError, match=f"{name} must be an integer of at least 0, got"):
            index.read(**{name: wrong})


def test_delete_reads_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only matching chunks are read, once, and ids are deleted in batches."""
    store = MemoryStore()
    index = Index(store, Hashing(), chunking=Chunking(tokens=8))
    records = [Record(f"r{number}", f"text number {number} and on. " * 5, {"n": number % 2}) for number in range(20)]
    index.ingest(records)
    reads: list[Any] = []
    parts: list[int] = []
    read, delete = store.read, store.delete

    def reading(*given: Any) -> Any:
        reads.append(given)
        return read(*given)

    def deleting(ids: Sequence[str]) -> int:
        parts.append(len(ids))
        return delete(ids)

    monkeypatch.setattr(store, "read", reading)
    monkeypatch.setattr(store, "delete", deleting)
    monkeypatch.setattr("harrier_core.contents._REMOVED", 4)
    before = index.count()
    assert index.delete(where={"n": 1}) == before / 2
    assert len(reads) == 1
    assert parts == [4, 4, 2]
    assert index.clear() == before / 2


def test_a_chunk_that_cannot_be_stored() -> None:
    """Its record is rejected, and the others are stored."""
    records = [
        Record("bad", "bread", {}, lambda _, __: {"page": object()}),
        Record("nul", "bread", {}, lambda _, __: {"page": "\0"}),
        Record("good", "bread", {"year": 1}, lambda _, end: {"page": end}),
    ]
    index = Index(MemoryStore(), Hashing())
    report = index.ingest(records)
    assert [id_ for id_, _ in report.rejected] == ["bad", "nul"]
    assert [each.chunk.metadata for each in index.read()] == [{"year": 1, "page": 5}]


def test_delete_by_metadata_of_one_chunk() -> None:
    """A record is deleted if any of its chunks matches."""
    text = "a text of several pieces and on. " * 5
    index = Index(MemoryStore(), Hashing(), chunking=Chunking(tokens=8))
    index.ingest([Record("a", text, {}, lambda begin, _: {"at": begin}), Record("b", text, {"at": "nowhere"})])
    last = max((each.chunk for each in index.read(["a"])), key=lambda chunk: chunk.number)
    assert last.number > 1
    assert index.delete(where={"at": last.start}) == last.number + 1
    assert {each.chunk.record_id for each in index.read()} == {"b"}
