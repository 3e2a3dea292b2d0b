"""Counting tokens word by word gives the same counts and chunks as tokenizing the whole text."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from harrier_core import Chunking, Record
from harrier_core.chunking import chunks
from harrier_core.models import open_model
from harrier_core.testing.sample import PROSE
from harrier_core.tokens import Tokens
from harrier_core.word_counts import WordCounts, has_words

SPELLED = ["<eos>", "<|im_end|>", "<bos> <eos>", "\u2581", "\n\n\n", "<0x0A>"]
SPACES = [" ", "  ", "\n", " \n", "\n\n", "\r\n", "\t", "\u00a0", "\u3000", "\u2028", "\x1c", "\x00"]
SIGNS = [".", ",", ">", "</", "_", "'s", "-", "\u2014", "\u3002", "\u200d", "\u0301", "\u0323", "\u00bd", "\u00b2"]
WORDS = ["a", "word", "2026", "\u00e9", "e", "\u1100\u1161", "\u0e01\u0e49", "\u4e16\u754c", "\u0928\u0940", "\u05e9"]
PARTS = st.one_of(
    st.sampled_from([*SPELLED, *SPACES, *SIGNS, *WORDS]),
    st.sampled_from(PROSE).map(lambda text: text[:60]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
)
TEXTS = st.lists(PARTS, min_size=1, max_size=60).map("".join)


def by_tokenizing(tokens: Tokens) -> Callable[[Sequence[str]], list[int]]:
    return lambda texts: [len(row) for row in tokens.tokenize(texts, "", 10**9).rows]


@pytest.fixture(scope="module")
def tokens(model: str) -> Tokens:
    return Tokens(open_model(model))


@given(text=TEXTS, cuts=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 400)), max_size=8))
def test_counts_equal_whole_texts(tokens: Tokens, text: str, cuts: list[tuple[int, int]]) -> None:
    """Any piece of a text has the right count, whatever was counted before."""
    frame = sum(map(len, tokens.frame))
    counts = WordCounts(tokens._ordinary_counts)
    pieces = [text, *(text[min(cut) : max(cut)] for cut in cuts)]
    assert [counts.of(piece) + frame for piece in pieces] == by_tokenizing(tokens)(pieces)


@given(text=st.lists(PARTS, min_size=80, max_size=200).map("".join), kind=st.sampled_from(["text", "markdown"]))
def test_chunks_equal_those_of_tokenizing(tokens: Tokens, text: str, kind: Any) -> None:
    chunking = Chunking(24, 6, kind)
    record = Record("a", text)
    made = [chunks(record, 10**6, chunking, count) for count in (_counted(tokens), by_tokenizing(tokens))]
    assert [each.hash for each in made[0]] == [each.hash for each in made[1]]


def _counted(tokens: Tokens) -> Callable[[Sequence[str]], list[int]]:
    return lambda texts: tokens.count(texts, "")


def test_most_of_a_text_is_tokenized_once(tokens: Tokens) -> None:
    """The splitter asks for every stretch several times."""
    tokenized = 0

    def count(texts: list[str]) -> list[int]:
        nonlocal tokenized
        tokenized += sum(map(len, texts))
        return tokens._ordinary_counts(texts)

    text = "\n\n".join(f"{prose} {number}" for number, prose in enumerate(PROSE * 3) if prose.isascii())
    counts = WordCounts(count)
    asked = 0

    def asks(texts: Sequence[str]) -> list[int]:
        nonlocal asked
        asked += len(texts[0])
        return [counts.of(texts[0])]

    chunks(Record("a", text), 10**6, Chunking(64), asks)
    assert asked > 3 * len(text)
    assert tokenized < 0.5 * len(text)


def changed(tokens: Tokens, change: Callable[[dict[str, Any]], None]) -> Tokenizer:
    said = json.loads(tokens._tokenizer.to_str())
    change(said)
    return Tokenizer.from_str(json.dumps(said))


def joined(said: dict[str, Any]) -> None:
    """Return a tokenizer with a token that spans two words."""
    blank = "\u2581" if "\u2581" in said["model"]["vocab"] else "\u0120"
    said["model"]["vocab"][f"a{blank}"] = len(said["model"]["vocab"]) + len(said["added_tokens"])
    said["model"]["merges"].append(["a", blank])


def added(said: dict[str, Any]) -> None:
    said["added_tokens"][-1] |= {"lstrip": True}


def ignoring_merges(said: dict[str, Any]) -> None:
    said["model"]["ignore_merges"] = True


def by_nothing(said: dict[str, Any]) -> None:
    said["pre_tokenizer"] = {"type": "Whitespace"}


def in_small_letters(said: dict[str, Any]) -> None:
    said["normalizer"] = {"type": "Lowercase"}


@pytest.mark.parametrize("change", [added, ignoring_merges, by_nothing, in_small_letters])
def test_an_unknown_tokenizer(tokens: Tokens, change: Callable[[dict[str, Any]], None]) -> None:
    assert has_words(tokens._tokenizer)
    assert not has_words(changed(tokens, change))


def test_a_token_across_two_words(tokens: Tokens) -> None:
    """No text reaches it if texts are split into words first."""
    one = changed(tokens, joined)
    assert has_words(one) == (one.encode("a b").tokens[0] == "a")
