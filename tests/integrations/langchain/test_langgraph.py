"""LangGraph's stores with HarrierEmbeddings: the right roles, and independent callers."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_harrier import HarrierEmbeddings
from langchain_harrier.langgraph import with_roles
from langgraph.store.base import BaseStore, GetOp, PutOp, SearchOp
from langgraph.store.memory import InMemoryStore
from langgraph.store.postgres import AsyncPostgresStore, PostgresStore
from langgraph.store.sqlite import AsyncSqliteStore, SqliteStore
from slowly import quick

from harrier_core import EmptyText, InputError, InvalidText, RoleWarning, SettingError, TextTooLong

try:  # Python is often built without SQLite's extensions, of which sqlite-vec is one
    import pysqlite3.dbapi2 as sqlite3
except ImportError:
    import sqlite3

WEB = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "

Index = dict[str, Any]


@pytest.fixture
def embeddings(words: str) -> Iterator[HarrierEmbeddings]:
    made = HarrierEmbeddings(model=words)
    yield made
    made.encoder.close()


@pytest.fixture
def index(embeddings: HarrierEmbeddings) -> Index:
    return {"dims": embeddings.encoder.dimensions, "embed": embeddings, "fields": ["text"], "text_fields": ["text"]}


def _sqlite() -> Any:
    connection = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
    if not hasattr(connection, "enable_load_extension"):
        pytest.skip("this Python's SQLite loads no extensions, and pysqlite3 is not here")
    return connection


@contextmanager
def _of_memory(kind: Any, index: Index, _: pytest.FixtureRequest) -> Iterator[BaseStore]:
    yield kind(index=index)


@contextmanager
def _of_postgres(kind: Any, index: Index, request: pytest.FixtureRequest) -> Iterator[BaseStore]:
    with kind.from_conn_string(request.getfixturevalue("database"), index=index) as store:
        store.setup()
        yield store


@contextmanager
def _of_sqlite(kind: Any, index: Index, _: pytest.FixtureRequest) -> Iterator[BaseStore]:
    store = kind(_sqlite(), index=index)
    store.setup()
    yield store


@asynccontextmanager
async def _of_async_postgres(kind: Any, index: Index, database: str, **options: Any) -> AsyncIterator[BaseStore]:
    async with kind.from_conn_string(database, index=index, **options) as store:
        await store.setup()
        yield store


@asynccontextmanager
async def _of_async_pool(kind: Any, index: Index, database: str) -> AsyncIterator[BaseStore]:
    pool = {"min_size": 2, "max_size": 4}
    async with _of_async_postgres(kind, index, database, pool_config=pool) as store:
        yield store


@asynccontextmanager
async def _of_async_sqlite(kind: Any, index: Index, _: str) -> AsyncIterator[BaseStore]:
    async with aiosqlite.Connection(_sqlite, iter_chunk_size=64) as connection:
        store = kind(connection, index=index)
        await store.setup()
        yield store


@asynccontextmanager
async def _of_async_memory(kind: Any, index: Index, _: str) -> AsyncIterator[BaseStore]:
    yield kind(index=index)


SYNC: dict[str, tuple[type[BaseStore], Callable[..., Any]]] = {
    "memory": (InMemoryStore, _of_memory),
    "postgres": (PostgresStore, _of_postgres),
    "sqlite": (SqliteStore, _of_sqlite),
}
Opening = Callable[[Any, Index, str], AbstractAsyncContextManager[BaseStore]]
ASYNC: dict[str, tuple[type[BaseStore], Opening]] = {
    "memory": (InMemoryStore, _of_async_memory),
    "postgres": (AsyncPostgresStore, _of_async_postgres),
    "pool": (AsyncPostgresStore, _of_async_pool),
    "sqlite": (AsyncSqliteStore, _of_async_sqlite),
}


@pytest.fixture(params=quick(SYNC, "memory", "postgres"))
def store(request: pytest.FixtureRequest, index: Index) -> Iterator[BaseStore]:
    kind, opened = SYNC[request.param]
    with opened(with_roles(kind), index, request) as store:
        yield store


@pytest.fixture(params=quick(ASYNC, "memory", "postgres"))
def opened(request: pytest.FixtureRequest, index: Index, database: str) -> Callable[..., Any]:
    """Return how to open one of the async stores, with an optional index."""
    kind, opening = ASYNC[request.param]
    return lambda **options: opening(with_roles(kind), {**index, **options}, database)


TEXTS = ["bread\nrises", "rivers carry sand", "whales sing"]


def test_a_query_has_its_instruction(store: BaseStore, read: list[str]) -> None:
    """One search, or several in a batch with puts and gets, leave documents unchanged."""
    for number, text in enumerate(TEXTS):
        store.put(("a",), str(number), {"text": text})
    assert read == TEXTS
    read.clear()
    found = store.search(("a",), query="why does\nbread rise")
    assert read == [WEB + "why does\nbread rise"]
    assert len(found) == 3
    read.clear()
    results: list[Any] = store.batch(
        [
            PutOp(("a",), "3", {"text": "yeast turns sugar into gas"}),
            SearchOp(("a",), query="sand"),
            GetOp(("a",), "0"),
            SearchOp(("a",), query="song", limit=1),
            SearchOp(("a",)),
        ]
    )
    assert sorted(read) == sorted(["yeast turns sugar into gas", WEB + "sand", WEB + "song"])
    assert results[0] is None
    assert results[2].value == {"text": TEXTS[0]}
    assert [len(each) for each in (results[1], results[3], results[4])] == [3, 1, 3]
    assert store.get(("a",), "3").value == {"text": "yeast turns sugar into gas"}  # type: ignore[union-attr]


def test_scores_are_cosines(store: BaseStore, embeddings: HarrierEmbeddings) -> None:
    """They are the cosines of the query with its instruction and the plain document."""
    for number, text in enumerate(TEXTS):
        store.put(("a",), str(number), {"text": text})
    query = embeddings.encode_queries(["why does bread rise"])[0]
    cosines = dict(zip("012", embeddings.encode_documents(TEXTS) @ query, strict=True))
    found = store.search(("a",), query="why does bread rise")
    assert {item.key: item.score for item in found} == pytest.approx(cosines, abs=1e-5)
    assert [item.key for item in found] == sorted(cosines, key=lambda key: -cosines[key])


def test_a_store_has_the_embeddings_that_it_was_given(store: Any, embeddings: HarrierEmbeddings) -> None:
    """The store's embeddings compare equal to them, in both directions."""
    for held in (store.embeddings, store.index_config["embed"]):
        assert held == embeddings
        assert embeddings == held
        assert hash(held) == hash(embeddings)
        assert held != embeddings.with_task("sts_query")
        assert held != "embeddings"
    assert store.embeddings == with_roles(InMemoryStore)(index={"dims": 1, "embed": embeddings}).embeddings


def test_async(opened: Callable[..., Any], read: list[str]) -> None:
    """Concurrent puts and searches, batched by the store or in tasks, keep their roles."""

    async def main() -> None:
        async with opened() as store:
            await asyncio.gather(*(store.aput(("a",), str(n), {"text": text}) for n, text in enumerate(TEXTS)))
            assert sorted(read) == sorted(TEXTS)
            read.clear()
            put = (store.aput(("a",), f"new {n}", {"text": f"text {n}"}) for n in range(8))
            search = (store.asearch(("a",), query=f"question {n}") for n in range(8))
            found = await asyncio.gather(*(each for both in zip(put, search, strict=True) for each in both))
            assert all(len(each) >= 3 for each in found[1::2])
            assert sorted(read) == sorted([f"text {n}" for n in range(8)] + [f"{WEB}question {n}" for n in range(8)])
            assert len(await store.asearch(("a",), limit=20)) == 11

    asyncio.run(main())


@pytest.mark.parametrize("store", ["memory", "postgres"], indirect=True)  # SqliteStore mixes threads' transactions
def test_threads(store: BaseStore, read: list[str]) -> None:
    """The role is per thread, for writing and searching threads."""
    store.put(("a",), "0", {"text": "bread"})
    read.clear()
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            for turn in range(5):
                if number % 2:
                    store.search(("a",), query=f"question {number} {turn}")
                else:
                    store.put(("a",), f"{number}", {"text": f"text {number} {turn}"})
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    numbers = [(number, turn) for number in range(6) for turn in range(5)]
    assert sorted(read) == sorted(f"{WEB}question {n} {t}" if n % 2 else f"text {n} {t}" for n, t in numbers)


def test_a_blank_text_is_its_own_writers_error(opened: Callable[..., Any], words: str) -> None:
    """Other puts of the same batch are stored; so with a text that is too long."""

    async def main(embeddings: HarrierEmbeddings) -> None:
        async with opened(embed=embeddings) as store:
            results = await asyncio.gather(
                store.aput(("alice",), "1", {"text": "I like bread"}),
                store.aput(("bob",), "1", {"text": " "}),
                store.aput(("carol",), "1", {"text": "I like rivers"}),
                store.aput(("dave",), "1", {"text": "far too long " * 40}),
                store.aput(("eve",), "1", {"text": "I like cakes", "title": "\n"}, index=["title"]),
                store.aput(("frank",), "1", {"text": "half of \ud83d"}),
                store.asearch((), query="too long a question " * 40),
                store.asearch((), query="what do they like"),
                return_exceptions=True,
            )
            assert [type(each) for each in results] == [
                *(type(None), EmptyText, type(None), TextTooLong, EmptyText, InvalidText, TextTooLong, list)
            ]
            assert {item.namespace for item in await store.asearch(())} == {("alice",), ("carol",)}

    asyncio.run(main(HarrierEmbeddings(model=words, max_tokens=60)))


@pytest.mark.parametrize(("texts", "wrong"), [(["bread", "far too long " * 400], 1), ([" ", "half of \ud83d"], 1)])
def test_an_error_counts_the_values_texts(words: str, texts: list[str], wrong: int) -> None:
    """Positions include short and blank texts that are skipped."""
    embeddings = HarrierEmbeddings(model=words, max_tokens=510, on_blank="last")
    index: Any = {"dims": embeddings.encoder.dimensions, "embed": embeddings, "fields": ["texts[*]"]}
    store = with_roles(InMemoryStore)(index=index)
    with pytest.raises(InputError) as caught:
        asyncio.run(store.aput(("a",), "1", {"texts": texts}))
    assert caught.value.position == wrong


@pytest.mark.parametrize("distance", ["cosine", "inner_product", "l2"])
@pytest.mark.parametrize("kind", ["memory", "postgres"])
def test_a_blank_text_is_found_last(
    kind: str, distance: str, built: Callable[..., Path], index: Index, request: pytest.FixtureRequest
) -> None:
    """With on_blank="last", this holds for every distance, and replaced text is not found."""
    embeddings = HarrierEmbeddings(model=str(built("qwen3")), on_blank="last")
    made, opening = SYNC[kind]
    settings = {**index, "embed": embeddings, "dims": embeddings.encoder.dimensions, "distance_type": distance}
    with opening(with_roles(made), settings, request) as store:
        for key, text in (("1", "bread rises"), ("2", "whales sing"), ("3", "rivers carry sand")):
            store.put(("a",), key, {"text": text})
        store.put(("a",), "2", {"text": " \n"})
        found = store.search(("a",), query="whales sing")
        assert [item.key for item in found][2:] == ["2"]
        assert all(math.isfinite(item.score or 0) for item in found)
        assert found[-1].value == {"text": " \n"}
    embeddings.encoder.close()


def test_blank_texts_do_not_end_a_batch(opened: Callable[..., Any], words: str) -> None:
    """With on_blank="last" they are stored like others."""

    async def main(embeddings: HarrierEmbeddings) -> None:
        async with opened(embed=embeddings) as store:
            texts = ["I like bread", " ", "I like rivers"]
            await asyncio.gather(*(store.aput((name,), "1", {"text": t}) for name, t in zip("abc", texts, strict=True)))
            assert {item.value["text"] for item in await store.asearch((), query="bread")} == set(texts)

    asyncio.run(main(HarrierEmbeddings(model=words, on_blank="last")))


@pytest.mark.parametrize("query", ["", " \n"])
def test_a_blank_query_lists_items(opened: Callable[..., Any], read: list[str], query: str) -> None:
    """It lists items, as LangGraph does, and other searches of the batch are unaffected."""

    async def main() -> None:
        async with opened() as store:
            await store.aput(("a",), "1", {"text": "bread"})
            read.clear()
            blank, real = await asyncio.gather(
                store.asearch(("a",), query=query), store.asearch(("a",), query="why bread")
            )
            assert [(item.key, item.score) for item in blank] == [("1", None)]
            assert real[0].score is not None
            assert read == [WEB + "why bread"]

    asyncio.run(main())


@pytest.mark.parametrize("kind", SYNC)
def test_a_plain_store_emits_a_warning(
    kind: str, index: Index, request: pytest.FixtureRequest, read: list[str]
) -> None:
    """A plain store that embeds queries as documents warns, and its vectors are unchanged."""
    made, opening = SYNC[kind]
    with opening(made, index, request) as store:
        store.put(("a",), "1", {"text": "bread"})
        read.clear()
        if kind == "memory":
            store.search(("a",), query="why bread")
            assert read == [WEB + "why bread"]
        else:
            with pytest.warns(RoleWarning, match=r"langchain_harrier\.langgraph\.with_roles"):
                store.search(("a",), query="why bread")
            assert read == ["why bread"]


@pytest.mark.parametrize("kind", ["postgres", "sqlite"])
def test_a_plain_async_store_emits_a_warning(kind: str, index: Index, database: str) -> None:
    made, opening = ASYNC[kind]

    async def main() -> None:
        async with opening(made, index, database) as store:
            await store.aput(("a",), "1", {"text": "bread"})
            with pytest.warns(RoleWarning, match="without the task's instruction"):
                await store.asearch(("a",), query="why bread")

    asyncio.run(main())


def test_a_function_has_one_role(embeddings: HarrierEmbeddings, index: Index) -> None:
    """An embedding function is refused, or warned about if LangGraph accepts it."""
    for embed in (embeddings.embed_documents, DeterministicFakeEmbedding(size=8), "openai:x", None):
        with pytest.raises(SettingError, match="'embed' must be HarrierEmbeddings, got "):
            with_roles(InMemoryStore)(index={**index, "embed": embed})
    store = InMemoryStore(index={**index, "embed": embeddings.embed_documents})  # type: ignore[arg-type]
    store.put(("a",), "1", {"text": "bread"})
    with pytest.warns(RoleWarning):
        store.search(("a",), query="bread")


def test_a_store_without_an_index() -> None:
    """It stores and lists items."""
    store = with_roles(InMemoryStore)()
    store.put(("a",), "1", {"text": " "})
    assert [item.key for item in store.search(("a",), query="anything")] == ["1"]
    asyncio.run(store.aput(("a",), "2", {"text": " "}))
    assert isinstance(store, InMemoryStore)
    assert with_roles(InMemoryStore) is type(store)


def test_light_to_import() -> None:
    """LangGraph is imported only with one of its stores."""
    code = "import langchain_harrier.langgraph, sys; assert not {'langgraph', 'torch', 'tokenizers'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)
