"""HarrierEmbeddings only holds settings, shares what it loads, and never blocks an event loop."""

from __future__ import annotations

import asyncio
import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from langchain_core.stores import InMemoryByteStore
from langchain_harrier import HarrierEmbeddings
from pydantic import ValidationError

from harrier_core import EmptyText, Encoder, EncoderClosed, NotText, Task, TaskError, TextTooLong
from harrier_core.testing import PROSE

LAW = Task("Given a legal question, retrieve the statutes that answer it")


# -- settings


@pytest.mark.parametrize("task", ["sts_query", LAW])
@pytest.mark.parametrize("used", [False, True])
def test_round_trips(words: str, task: str | Task, used: bool) -> None:
    """Pickles, copies and dumps are equal, small, and give the same vectors."""
    embeddings = HarrierEmbeddings(model=words, task=task, max_tokens=100)
    if used:
        embeddings.embed_query("a")
    assert len(pickle.dumps(embeddings)) < 2_000
    others = [
        pickle.loads(pickle.dumps(embeddings)),
        copy.copy(embeddings),
        copy.deepcopy(embeddings),
        embeddings.model_copy(),
        embeddings.model_copy(deep=True),
        HarrierEmbeddings(**embeddings.model_dump()),
        HarrierEmbeddings.model_validate_json(embeddings.model_dump_json()),
    ]
    expected = embeddings.embed_query("bread")
    for other in others:
        assert other == embeddings
        assert hash(other) == hash(embeddings)
        assert other.task == task
        assert other.encoder is not embeddings.encoder
        assert other.embed_query("bread") == expected
    assert embeddings.with_task("bitext_query") != embeddings


def test_a_copy_does_not_touch_the_original(words: str) -> None:
    """Closing one does not close the other."""
    embeddings = HarrierEmbeddings(model=words)
    embeddings.embed_query("a")
    other = embeddings.model_copy(update={"task": "sts_query"})
    other.embed_query("a")
    assert embeddings.model_fields_set == {"model"}
    other.encoder.close()
    with pytest.raises(EncoderClosed):
        other.embed_query("a")
    assert embeddings.embed_query("a")


def test_a_cache_is_not_serialised(words: str) -> None:
    """Copies share the cache, and dumps and pickles omit it."""
    cache = InMemoryByteStore()
    embeddings = HarrierEmbeddings(model=words, cache=cache)
    embeddings.embed_documents(["a"] * 3 + ["b"])
    assert len(list(cache.yield_keys())) == 2
    for other in (copy.copy(embeddings), copy.deepcopy(embeddings), embeddings.with_task("sts_query")):
        assert other.cache is cache
    assert "cache" not in embeddings.model_dump()
    restored = pickle.loads(pickle.dumps(embeddings))
    assert restored.cache is None
    assert len(pickle.dumps(embeddings)) < 2_000
    assert restored.embed_query("c") == embeddings.embed_query("c")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"on_overflow": "cut"}, "Input should be 'error' or 'truncate'"),
        ({"on_blank": "zero"}, "Input should be 'error' or 'last'"),
        ({"max_tokens": 0}, "max_tokens must be a positive integer, got 0"),
        ({"token_budget": "many"}, "valid integer"),
        ({"task": 7}, "task"),
        ({"device": 0}, "device\n  Input should be a valid string"),
        ({"cache": {}}, "cache\n  Input should be an instance of BaseStore"),
    ],
)
def test_invalid_settings(settings: dict[str, Any], message: str) -> None:
    """They are refused before any file is read."""
    with pytest.raises(ValidationError, match=message):
        HarrierEmbeddings(model="/no/such/folder", **settings)


def test_settings_are_immutable(words: str) -> None:
    """A new task needs a new object."""
    with pytest.raises(ValidationError, match="frozen"):
        HarrierEmbeddings(model=words).task = "sts_query"
    with pytest.raises(TaskError, match="unknown task 'law'"):
        HarrierEmbeddings(model=words, task="law").embed_query("a")


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments override it, a restored object ignores it, and no model at all is an error."""
    with pytest.raises(
        ValueError, match="no model is given; pass model=, such as 'harrier-0.6b', or set HARRIER_MODEL"
    ):
        HarrierEmbeddings()
    monkeypatch.setenv("HARRIER_MODEL", "harrier-27b")
    monkeypatch.setenv("HARRIER_MAX_TOKENS", "99")
    embeddings = HarrierEmbeddings(device="cpu")
    assert (embeddings.model, embeddings.max_tokens, embeddings.device) == ("harrier-27b", 99, "cpu")
    assert HarrierEmbeddings(model="harrier-270m", max_tokens=None).max_tokens is None
    kept = pickle.dumps(embeddings)
    monkeypatch.setenv("HARRIER_MODEL", "harrier-0.6b")
    assert pickle.loads(kept).model == copy.deepcopy(embeddings).model == "harrier-27b"
    monkeypatch.setenv("HARRIER_MAX_TOKENS", "some")
    with pytest.raises(ValidationError, match="max_tokens"):
        HarrierEmbeddings()


def test_types_of_settings(words: str) -> None:
    """A Path, a torch.device and a torch.dtype are accepted."""
    given: dict[str, Any] = {"model": Path(words), "device": torch.device("cpu"), "dtype": torch.float32}
    assert HarrierEmbeddings(**given) == HarrierEmbeddings(model=words, device="cpu", dtype="float32")


# -- results


def test_python_floats(words: str) -> None:
    """LangChain's methods return lists of floats, and others return arrays."""
    embeddings = HarrierEmbeddings(model=words)

    async def both() -> list[list[float]]:
        return [await embeddings.aembed_query("a"), *await embeddings.aembed_documents(["a", "b"])]

    lists = [
        embeddings.embed_query("a"),
        *embeddings.embed_documents(["a", "b"]),
        *embeddings.embed_queries(["a", "b"]),
        *asyncio.run(both()),
        *asyncio.run(embeddings.aembed_queries(["a"])),
    ]
    for vector in lists:
        assert type(vector) is list
        assert {type(number) for number in vector} == {float}
    for array in (embeddings.encode_documents(["a", "b"]), embeddings.encode_queries(["a", "b"])):
        assert array.dtype == np.float32
        assert array.shape == (2, embeddings.encoder.dimensions)
    assert embeddings.embed_documents([]) == asyncio.run(embeddings.aembed_documents([])) == []
    assert embeddings.embed_query("a") != embeddings.embed_documents(["a"])[0]
    with pytest.raises(EmptyText):
        embeddings.embed_query(" ")


@pytest.mark.parametrize("cached", [False, True])
def test_one_vector_on_every_path(words: str, cached: bool) -> None:
    """Sync and async calls, single and batched, give the same vectors."""
    embeddings = HarrierEmbeddings(model=words, cache=InMemoryByteStore() if cached else None)
    expected = np.array(embeddings.embed_documents(PROSE))
    alone = [asyncio.run(embeddings.aembed_documents([text]))[0] for text in PROSE]
    assert np.abs(np.array(alone) - expected).max() < 1e-5
    assert np.abs(np.array(embeddings.embed_documents(PROSE[::-1]))[::-1] - expected).max() < 1e-5
    queries = np.array(embeddings.embed_queries(PROSE))
    assert np.abs(np.array([asyncio.run(embeddings.aembed_query(text)) for text in PROSE]) - queries).max() < 1e-5


@pytest.mark.parametrize("cached", [False, True])
def test_blank_documents(built: Callable[..., Path], cached: bool) -> None:
    """They are an error, or get a unit vector that is far from every query."""
    model = str(built("qwen3"))
    cache = InMemoryByteStore() if cached else None
    texts = ["bread", "", "river", " \n\t"]
    with pytest.raises(EmptyText, match="text 1 is empty"):
        HarrierEmbeddings(model=model, cache=cache).embed_documents(texts)
    embeddings = HarrierEmbeddings(model=model, cache=cache, on_blank="last")
    vectors = embeddings.encode_documents(texts)
    assert np.array_equal(asyncio.run(embeddings.aembed_documents(texts)), vectors)
    assert np.allclose(vectors[[0, 2]], embeddings.encode_documents(["bread", "river"]), atol=1e-6)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.array_equal(vectors[1], vectors[3])
    assert (embeddings.encode_queries(PROSE) @ vectors[1]).max() < 0
    assert np.array_equal(embeddings.encode_documents(["", " "]), vectors[[1, 3]])
    assert embeddings.encode_documents([]).shape == (0, vectors.shape[1])
    for copied in (
        pickle.loads(pickle.dumps(embeddings)),
        copy.deepcopy(embeddings),
        embeddings.with_task("sts_query"),
    ):
        assert copied.on_blank == "last"


def test_other_invalid_texts_are_errors(words: str) -> None:
    """Positions count all texts, and a blank query is an error."""
    embeddings = HarrierEmbeddings(model=words, max_tokens=30, on_blank="last")
    with pytest.raises(TextTooLong, match="^text 2 has") as caught:
        embeddings.embed_documents(["", "a", "far too long " * 40, " ", "so is this " * 40])
    assert [problem.position for problem in caught.value.problems] == [2, 4]
    with pytest.raises(NotText, match="^text 1 is int"):
        asyncio.run(embeddings.aembed_documents(["", 7]))  # type: ignore[list-item]
    with pytest.raises(EmptyText):
        embeddings.embed_query("")
    with pytest.raises(EmptyText):
        asyncio.run(embeddings.aembed_query(" "))


# -- sharing, and the event loop


def test_one_model(words: str) -> None:
    """HarrierEmbeddings with different tasks and an Encoder share a model."""
    encoder = Encoder(words)
    one, two = HarrierEmbeddings(model=words), HarrierEmbeddings(model=words, task=LAW, token_budget=99)
    three = one.with_task("sts_query")
    encoder.encode_documents(["a"])
    before = encoder.stats.texts
    for number, each in enumerate((one, two, three), 1):
        each.embed_query("a")
        assert each.encoder.stats.texts == encoder.stats.texts == before + number
    encoder.close()
    assert one.embed_query("a")


async def longest_stall(work: Callable[[], Any]) -> float:
    """Return the longest time in seconds that the event loop was blocked during the work."""
    loop = asyncio.get_running_loop()
    working = asyncio.ensure_future(work())
    longest, last = 0.0, loop.time()
    while not working.done():
        await asyncio.sleep(0)
        now = loop.time()
        longest, last = max(longest, now - last), now
    await working
    return longest


def test_queries_share_passes(words: str) -> None:
    """64 concurrent queries take a few passes, and block the loop less than half as long as sync calls."""

    async def main() -> tuple[int, float, float]:
        embeddings = HarrierEmbeddings(model=words)
        alone = [await embeddings.aembed_query(f"query number {number}") for number in range(64)]
        stalls, blocked = [], []

        async def blocking() -> None:
            for number in range(64):
                embeddings.embed_query(f"query number {number}")

        for _ in range(3):  # other work on the machine may be the one that stalls it
            blocked.append(await longest_stall(blocking))
            before = embeddings.encoder.stats.passes

            async def together() -> None:
                queries = (embeddings.aembed_query(f"query number {number}") for number in range(64))
                assert np.abs(np.array(await asyncio.gather(*queries)) - np.array(alone)).max() < 1e-5

            stalls.append(await longest_stall(together))
            passes = embeddings.encoder.stats.passes - before
        return passes, min(stalls), min(blocked)

    passes, stall, blocked = asyncio.run(main())
    assert passes <= 16
    assert stall < blocked / 2


def test_many_lists_do_not_stall_the_loop(words: str) -> None:
    """Vectors are converted to lists one at a time, which blocks the loop much less."""
    embeddings = HarrierEmbeddings(model=words)
    texts = ["one", "two"] * 4_000

    async def at_once() -> None:
        (await embeddings.encoder.aencode_documents(texts)).tolist()

    async def main() -> tuple[float, float]:
        await embeddings.aembed_documents(texts)
        stalls = [
            (await longest_stall(lambda: embeddings.aembed_documents(texts)), await longest_stall(at_once))
            for _ in range(3)
        ]
        return min(stall for stall, _ in stalls), min(stall for _, stall in stalls)

    ours, theirs = asyncio.run(main())
    assert ours < theirs / 2


# -- light


LIGHT = """
import sys
from langchain_harrier import HarrierEmbeddings, HarrierVectorStore
embeddings = HarrierEmbeddings(model="/no/such/folder", device="cuda")
repr(embeddings), embeddings.with_task("sts_query").encoder, embeddings.model_dump()
print([name for name in ("torch", "transformers", "tokenizers", "numpy") if name in sys.modules])
"""


def test_construction_loads_nothing() -> None:
    """Neither the model nor its packages are loaded before the first text."""
    done = subprocess.run([sys.executable, "-c", LIGHT], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
