"""A query carries its instruction, a document none, and these tests detect any deviation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from harrier_core import Encoder, Task
from harrier_core.testing import AWKWARD, PROSE, Architecture

Vectors = NDArray[np.float32]

WEB = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "
QUERIES = [*PROSE[:4], *AWKWARD]

# The parity tolerance is 1e-5. A wrong string must differ by far more, or parity would prove nothing.
NOTICEABLE = 1e-3


@pytest.fixture(params=["qwen3", "gemma3"])
def encoder(request: pytest.FixtureRequest, built: Callable[..., Path]) -> Encoder:
    architecture: Architecture = request.param
    return Encoder(str(built(architecture)))


def distances(ours: Vectors, theirs: Vectors) -> Vectors:
    return np.abs(ours - theirs).max(axis=1)  # type: ignore[no-any-return]


def test_the_prompt_equals_the_model_card(encoder: Encoder) -> None:
    """It equals the model card byte for byte, including the final space."""
    assert encoder.prompt("how do vaccines work") == WEB + "how do vaccines work"
    assert encoder.prompt(" a\n", task="sts_query") == "Instruct: Retrieve semantically similar text\nQuery:  a\n"
    assert encoder.prompt("a", task=Task("Find birds")) == "Instruct: Find birds\nQuery: a"


def test_a_query_is_its_prompt(encoder: Encoder) -> None:
    """A query's vector is that of the string that `prompt` returns, for every kind of task."""
    for task in [None, "sts_query", "bitext_query", Task("Find birds")]:
        queries = encoder.encode_queries(QUERIES, task=task)
        shown = encoder.encode_documents([encoder.prompt(query, task=task) for query in QUERIES])
        assert distances(queries, shown).max() < 1e-6


def test_the_encoders_task_is_the_default(encoder: Encoder) -> None:
    """Encoder(task=...) sets the default, and a call's task takes precedence."""
    folder = encoder.space.model
    birds = Encoder(folder, task=Task("Find birds"))
    assert birds.prompt("a") == "Instruct: Find birds\nQuery: a"
    assert birds.prompt("a", task="web_search_query") == WEB + "a"
    same = encoder.encode_queries(["a"], task=Task("Find birds"))
    assert distances(birds.encode_queries(["a"]), same).max() < 1e-6


def test_async_equals_sync(encoder: Encoder) -> None:
    """Async methods give the same vectors."""

    async def both() -> tuple[Vectors, Vectors]:
        return await encoder.aencode_queries(QUERIES, task="sts_query"), await encoder.aencode_documents(QUERIES)

    queries, documents = asyncio.run(both())
    assert distances(queries, encoder.encode_queries(QUERIES, task="sts_query")).max() < 1e-6
    assert distances(documents, encoder.encode_documents(QUERIES)).max() < 1e-6


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(lambda prompt, text: text, id="no instruction"),
        pytest.param(lambda prompt, text: prompt.rstrip(" ") + text, id="no space at the prompt's end"),
        pytest.param(lambda prompt, text: (prompt + text).replace("\n", " "), id="newlines become spaces"),
        pytest.param(lambda prompt, text: prompt + prompt + text, id="the instruction twice"),
        pytest.param(lambda prompt, text: prompt.replace("Query: ", "query: ") + text, id="a small letter"),
        pytest.param(lambda prompt, text: prompt.replace("answer the query", "answer"), id="another instruction"),
    ],
)
def test_a_broken_query_would_be_noticed(encoder: Encoder, broken: Callable[[str, str], str]) -> None:
    """Each mistake that other integrations make changes every query's vector."""
    right = encoder.encode_queries(QUERIES)
    wrong = encoder.encode_documents([broken(WEB, query) for query in QUERIES])
    assert distances(right, wrong).min() > NOTICEABLE


def test_an_instructed_document_would_be_noticed(encoder: Encoder) -> None:
    """An instruction on a document changes its vector."""
    right = encoder.encode_documents(QUERIES)
    assert distances(right, encoder.encode_queries(QUERIES)).min() > NOTICEABLE


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("one\ntwo", "one two"),
        ("one\n\n\ntwo", "one\n\ntwo"),
        ("one\ttwo", "one two"),
        ("one  two", "one two"),
        (" one", "one"),
        ("one ", "one"),
        ("zero\u200bwidth", "zerowidth"),
        ("thumbs \U0001f44d\U0001f3fd", "thumbs \U0001f44d"),
        ("no\u00a0break", "no break"),
    ],
)
def test_altered_text_would_be_noticed(encoder: Encoder, right: str, wrong: str) -> None:
    """Nothing is stripped, joined or replaced, in either role."""
    for encode in (encoder.encode_documents, encoder.encode_queries):
        kept, altered = encode([right]), encode([wrong])
        assert distances(kept, altered).min() > NOTICEABLE
