"""Prompts of queries for Harrier and related model families."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harrier_core import Task, TaskError
from harrier_core.tasks import Prompts

HARRIER = {
    "web_search_query": "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: ",
    "sts_query": "Instruct: Retrieve semantically similar text\nQuery: ",
    "bitext_query": "Instruct: Retrieve parallel sentences\nQuery: ",
}

ONE_LINE = st.text(min_size=1).filter(lambda text: text == text.strip() and len(text.splitlines()) == 1)


def test_named_prompts_are_verbatim() -> None:
    """A named task uses the prompt in the model's file, whatever it contains."""
    prompts = Prompts.of(HARRIER)
    for name, prompt in HARRIER.items():
        assert prompts.query(name) == prompt
    assert prompts.document == ""


@given(ONE_LINE)
def test_a_custom_instruction(instruction: str) -> None:
    """It is inserted into the template unchanged, including braces and backslashes."""
    assert Prompts.of(HARRIER).query(Task(instruction)) == f"Instruct: {instruction}\nQuery: "


@given(st.lists(ONE_LINE, min_size=1, max_size=4), st.sampled_from(["\nQuery: ", "\nQuery:", " \n Query: "]))
def test_the_template_is_the_models(instructions: list[str], after: str) -> None:
    """Families differ only in white space, which is preserved."""
    named = {f"task {number}": f"Instruct: {each}{after}" for number, each in enumerate(instructions)}
    assert Prompts.of(named).query(Task("Find birds")) == f"Instruct: Find birds{after}"


def test_a_model_without_prompts_takes_an_instruction() -> None:
    """A checkpoint without tasks uses Harrier's template."""
    prompts = Prompts.of({})
    assert prompts.query(Task("Find birds")) == "Instruct: Find birds\nQuery: "
    with pytest.raises(TaskError, match=r"knows none by name, and Task\('one sentence'\) makes a new one"):
        prompts.query("web_search_query")


def test_a_family_that_prompts_documents() -> None:
    """E5 and EmbeddingGemma have document prompts, and take no instruction."""
    prompts = Prompts.of({"query": "query: ", "passage": "passage: "})
    assert (prompts.query("query"), prompts.document) == ("query: ", "passage: ")
    assert list(prompts.tasks) == ["query"]
    with pytest.raises(TaskError, match="follow no single template for instructions; use one of its own: query"):
        prompts.query(Task("Find birds"))


def test_an_empty_prompt_is_not_a_task() -> None:
    """Empty "query" and "document" prompts, as saved by sentence-transformers, are ignored."""
    prompts = Prompts.of({**HARRIER, "query": "", "document": ""})
    assert prompts == Prompts.of(HARRIER)
    with pytest.raises(TaskError, match="unknown task 'query'"):
        prompts.query("query")


def test_qwen3_embedding() -> None:
    """Its template has no space after the colon, and its document prompt is empty."""
    prompts = Prompts.of({"query": "Instruct: Given a web search query, retrieve\nQuery:", "document": ""})
    assert prompts.query(Task("Find birds")) == "Instruct: Find birds\nQuery:"
    assert prompts.document == ""


def test_an_unknown_task_lists_the_known() -> None:
    """The error has the unknown task, the known ones, and how to define your own."""
    message = "unknown task 'web'; this model knows bitext_query, sts_query, web_search_query, and Task('one sentence')"
    with pytest.raises(TaskError, match=re.escape(message)):
        Prompts.of(HARRIER).query("web")
    with pytest.raises(TaskError, match="unknown task a NoneType"):
        Prompts.of(HARRIER).query(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("instruction", "reason"),
    [
        ("", "is empty"),
        (" \t", "is empty"),
        ("one\nQuery: two", "one line"),
        ("one\u2028two", "one line"),
        (" one", "surrounding white space"),
        ("one\n", "surrounding white space"),
        ("half \ud800", "lone surrogate"),
        (None, "got NoneType"),
        (b"bytes", "got bytes"),
    ],
)
def test_invalid_instructions(instruction: object, reason: str) -> None:
    """They are refused by the constructor."""
    with pytest.raises(TaskError, match=reason):
        Task(instruction)  # type: ignore[arg-type]
