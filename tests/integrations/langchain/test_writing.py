"""Adding and removing: other kinds of ids, given vectors, progress, conditions, and paging."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from langchain_core.documents import Document
from langchain_harrier import HarrierVectorStore

from harrier_core import Encoder, Index, IngestReport, SettingError, WrongSpace
from harrier_core.testing import MemoryStore

TEXTS = ["Bread rises because of yeast.", "Vaccines train against a virus.", "Rivers carry sand."]
METADATA = [{"n": 1}, {"n": 2}, {"n": 3}]
SOME = UUID("00000000-0000-4000-8000-000000000000")


@pytest.fixture
def in_memory(encoder: Encoder) -> HarrierVectorStore:
    return HarrierVectorStore(Index(MemoryStore(), encoder))


def done(call: Any) -> Any:
    """Return the result of a call, awaited if necessary."""
    return asyncio.run(call) if asyncio.iscoroutine(call) else call


@pytest.mark.parametrize("a", ["", "a"])
def test_ids_that_are_not_strings(in_memory: HarrierVectorStore, a: str) -> None:
    """Integers and UUIDs are converted on every path; bools are refused."""
    ids: list[Any] = [1, SOME, "x"]
    assert done(getattr(in_memory, f"{a}add_texts")(TEXTS, METADATA, ids=ids)) == ["1", str(SOME), "x"]
    assert done(getattr(in_memory, f"{a}add_documents")([Document("new")], ids=[1])) == ["1"]
    assert [each.page_content for each in done(getattr(in_memory, f"{a}get_by_ids")([SOME, 1]))] == [TEXTS[1], "new"]
    assert [each.id for each in done(getattr(in_memory, f"{a}get")([1, 7]))] == ["1"]
    assert done(getattr(in_memory, f"{a}delete")([1, SOME])) is True
    assert list(in_memory.index.record_ids()) == ["x"]


@pytest.mark.parametrize("a", ["", "a"])
@pytest.mark.parametrize("pairs", [False, True])
def test_given_vectors(in_memory: HarrierVectorStore, encoder: Encoder, a: str, pairs: bool) -> None:
    """They are stored without encoding every text, as in langchain-postgres and FAISS."""
    vectors = encoder.encode_documents(TEXTS).tolist()
    given: list[Any] = [list(zip(TEXTS, vectors, strict=True))] if pairs else [TEXTS, vectors]
    before = encoder.stats.texts
    added = getattr(in_memory, f"{a}add_embeddings")(*given, metadatas=METADATA, ids=["1", "2", "3"])
    assert done(added) == ["1", "2", "3"]
    assert encoder.stats.texts == before + 1  # the sample
    expected = HarrierVectorStore(Index(MemoryStore(), encoder))
    expected.add_texts(TEXTS, METADATA, ids=["1", "2", "3"])
    stored, made = (each.similarity_search_with_score("bread", k=3) for each in (in_memory, expected))
    assert [document for document, _ in stored] == [document for document, _ in made]
    assert [score for _, score in stored] == pytest.approx([score for _, score in made], abs=1e-5)


@pytest.mark.parametrize(
    ("add", "error", "said"),
    [
        (lambda s: s.add_embeddings(TEXTS), SettingError, "texts must be pairs of a text and its vector"),
        (lambda s: s.add_embeddings("text", [[1.0]]), SettingError, "put a single one in a list"),
        (
            lambda s: s.add_embeddings(TEXTS, [[1.0] * 256] * 2),
            SettingError,
            "3 records and 2 vectors|vectors must have",
        ),
        (lambda s: s.add_embeddings(TEXTS, [[1.0] * 3] * 3), WrongSpace, "3 dimensions"),
        (lambda s: s.add_embeddings(TEXTS, [[1.0] * 256] * 3), WrongSpace, "not made by this index's encoder"),
        (lambda s: s.add_embeddings(TEXTS, text_embeddings=[]), SettingError, "unknown keyword, 'text_embeddings'"),
    ],
)
def test_invalid_vectors(
    in_memory: HarrierVectorStore, add: Callable[[Any], Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        add(in_memory)
    assert in_memory.get() == []


@pytest.mark.parametrize("how", ["add_texts", "aadd_texts", "add_documents", "aadd_documents", "add_embeddings"])
def test_progress(
    in_memory: HarrierVectorStore, encoder: Encoder, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is shown as a bar or reported to a callback on request."""
    given: list[Any] = [[Document(each) for each in TEXTS] if how.endswith("documents") else TEXTS]
    if how == "add_embeddings":
        given.append(encoder.encode_documents(TEXTS))
    reports: list[int] = []

    def tell(report: IngestReport) -> None:
        reports.append(report.records)

    done(getattr(in_memory, how)(*given, on_progress=tell))
    assert capsys.readouterr().err == ""
    assert reports[-1] == 3
    reports.clear()
    done(getattr(in_memory, how)(*given, on_progress=tell, show_progress=True))
    assert "3/3" in capsys.readouterr().err
    assert reports[-1] == 3


def test_progress_of_a_generator(in_memory: HarrierVectorStore, capsys: pytest.CaptureFixture[str]) -> None:
    """The total is unknown."""
    in_memory.add_texts((each for each in TEXTS), show_progress=True)
    assert "3/3" in capsys.readouterr().err


# -- removing and reading


@pytest.mark.parametrize("a", ["", "a"])
@pytest.mark.parametrize("name", ["filter", "where"])
def test_delete_by_conditions(vector_store: HarrierVectorStore, a: str, name: str) -> None:
    """Matching documents among the ids, if given, are deleted, by either name."""
    delete: Callable[..., Any] = getattr(vector_store, f"{a}delete")
    assert done(delete(**{name: {"n": 1}})) is True
    vector_store.add_texts(TEXTS, METADATA, ids=["1", "2", "3"])
    assert done(delete(["1", "2"], **{name: {"n": {"$gte": 2}}})) is True
    assert sorted(vector_store.index.record_ids()) == ["1", "3"]
    prefix = "metadata." if name == "filter" else ""
    assert done(delete(**{name: {f"{prefix}n": 3}})) is True
    assert list(vector_store.index.record_ids()) == ["1"]


@pytest.mark.parametrize("conditions", [None, {}])
@pytest.mark.parametrize("name", ["filter", "where"])
def test_empty_conditions(in_memory: HarrierVectorStore, name: str, conditions: Any) -> None:
    """They are refused, because they would delete everything."""
    in_memory.add_texts(TEXTS, ids=["1", "2", "3"])
    with pytest.raises(
        SettingError, match=r"conditions that are None or empty; to remove all documents, write delete\(\)"
    ):
        in_memory.delete(**{name: conditions})
    with pytest.raises(SettingError, match="None or empty"):
        asyncio.run(in_memory.adelete(None, **{name: conditions}))
    everything: list[Any] = [{"$and": []}, {"$and": [{"$and": []}]}, {"$not": {"$or": []}}, {"n": {"$nin": []}}]
    for always in everything:
        with pytest.raises(SettingError, match="delete must be told what to delete"):
            in_memory.delete(**{name: always})
    assert in_memory.index.count() == 3
    assert in_memory.delete(["1"], **{name: conditions}) is True
    assert in_memory.index.count() == 2
    with pytest.raises(SettingError, match="neither|None or empty|single one"):
        in_memory.delete("2", **{name: conditions})
    assert in_memory.delete() is True
    assert in_memory.index.count() == 0


@pytest.mark.parametrize("a", ["", "a"])
def test_get(vector_store: HarrierVectorStore, a: str) -> None:
    """Documents are returned by condition and in pages, in a stable order."""
    get: Callable[..., Any] = getattr(vector_store, f"{a}get")
    assert done(get()) == []
    vector_store.add_texts(TEXTS, METADATA, ids=["1", "2", "3"])
    everything = done(get())
    assert {each.id: (each.page_content, each.metadata) for each in everything} == {
        str(n): (TEXTS[n - 1], {"n": n}) for n in (1, 2, 3)
    }
    assert done(get(limit=2)) + done(get(limit=2, offset=2)) == everything
    assert [each.id for each in done(get(where={"n": {"$gt": 1}}, filter={"metadata.n": {"$lt": 3}}))] == ["2"]
    assert [each.id for each in done(get(["3", "1"], {"n": 3}))] == ["3"]
    with pytest.raises(SettingError, match="unknown keyword, 'include': documents are always returned"):
        done(get(include=["metadatas"]))
    with pytest.raises(SettingError, match="limit must be an integer"):
        done(get(limit="many"))
    with pytest.raises(SettingError, match="put a single one in a list"):
        done(get("1"))


def test_no_metadata(in_memory: HarrierVectorStore) -> None:
    """None is treated as empty metadata."""
    in_memory.add_texts(["a", "b"], [None, {"n": 1}], ids=["a", "b"])
    assert [each.metadata for each in in_memory.get_by_ids(["a", "b"])] == [{}, {"n": 1}]
