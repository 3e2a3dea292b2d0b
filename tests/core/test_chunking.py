"""Chunking in linear time and little memory, with the same chunks as cutting the text at once."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from semantic_text_splitter import MarkdownSplitter, TextSplitter

from harrier_core import Chunk, Chunking, Encoder, Record, SettingError
from harrier_core.chunking import chunks

ROOT = Path(__file__).parents[2]


def few(texts: Sequence[str]) -> list[int]:
    """Count a token per three bytes."""
    return [len(text.encode()) // 3 + 2 for text in texts]


def cut(text: str, chunking: Chunking) -> list[tuple[int, str]]:
    """Return the chunks of a text that is too long, with their start."""
    return [(chunk.start, chunk.text) for chunk in chunks(Record("a", text), chunking.tokens + 1, chunking, few)]


def whole(text: str, chunking: Chunking) -> list[tuple[int, str]]:
    """Return the same chunks from the splitter at once."""
    splitter = MarkdownSplitter if chunking.kind == "markdown" else TextSplitter
    own = splitter.from_callback(
        lambda piece: few([piece])[0] if piece.strip() else 0, chunking.tokens, chunking.overlap
    )
    return [(start, piece) for start, piece in own.chunk_indices(text) if piece.strip()]


PROSE = [ROOT / name for name in ("README.md", "benchmarks/README.md", "CONTRIBUTING.md", "harrier_core/encoder.py")]


@pytest.mark.parametrize("path", PROSE, ids=lambda path: path.name)
@pytest.mark.parametrize(("tokens", "overlap"), [(64, 0), (64, 16), (256, 0), (256, 200)])
def test_equal_to_cutting_at_once(path: Path, tokens: int, overlap: int) -> None:
    """Texts span many windows; Markdown fits into one."""
    text = path.read_text(encoding="utf-8")
    for kind in ("text", "markdown"):
        chunking = Chunking(tokens, overlap, "markdown" if kind == "markdown" else "text")
        assert cut(text, chunking) == whole(text, chunking)


FAMILY, FLAG = "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea"
SPACES = [" ", "  ", "\n", "\n\n", "\r\n", "\t", "\u00a0", "\u200b"]
LETTERS = [
    "a",
    "word",
    ". ",
    "\u00e9",
    "e\u0301",
    FAMILY,
    FLAG,
    "\u4e16\u754c",
    "\u3002",
    "x" * 70,
    "1" * 40,
    "\u0e01" * 30,
]
PARTS = st.sampled_from([*SPACES, *LETTERS, "# ", "- ", "```\n"])


ANY_TEXT = st.lists(PARTS, max_size=400).map("".join).filter(str.strip)


@given(ANY_TEXT, st.sampled_from([(8, 0), (16, 0), (16, 5), (64, 0)]))
def test_any_text(text: str, sizes: tuple[int, int]) -> None:
    """Only white space is lost, and no chunk is too long, overlaps too much or cuts a character."""
    tokens, overlap = sizes
    reached = last = -1
    for start, piece in cut(text, Chunking(tokens, overlap)):
        end = start + len(piece)
        assert text[start:end] == piece
        assert few([piece])[0] <= tokens
        assert start > last
        assert end > reached
        assert not text[max(reached, 0) : start].strip()
        assert start >= reached or few([text[start:reached]])[0] <= overlap
        assert not any(_within_a_character(text, at) for at in (start, end))
        last, reached = start, end
    assert not text[reached:].strip()


def _within_a_character(text: str, at: int) -> bool:
    before, after = text[:at], text[at : at + 1]
    flags = len(before) - len(before.rstrip("\U0001f1e9\U0001f1ea"))
    return after in ("\u0301", "\u200d") or before.endswith("\u200d") or flags % 2 == 1


@given(
    ANY_TEXT, st.sampled_from([Chunking(8), Chunking(16, 5), Chunking(16, 0, "markdown"), Chunking(16, 5, "markdown")])
)
def test_positions_of_chunks(text: str, chunking: Chunking) -> None:
    """Numbers begin at 0, positions refer to the text, and only white space lies between chunks."""
    record = Record("doc-1", text, {"topic": "food"})
    made = chunks(record, chunking.tokens + 1, chunking, few)
    assert [chunk.number for chunk in made] == list(range(len(made)))
    reached = 0
    for chunk in made:
        assert (chunk.record_id, chunk.metadata, chunk.text) == (
            "doc-1",
            record.metadata,
            text[chunk.start : chunk.end],
        )
        assert not text[reached : chunk.start].strip()
        assert chunk.end > reached
        assert few([chunk.text])[0] <= chunking.tokens
        reached = chunk.end
    assert not text[reached:].strip()


@given(ANY_TEXT, st.sampled_from([None, Chunking(16), Chunking(16, 5, "markdown")]))
def test_a_text_that_fits_is_one_chunk(text: str, chunking: Chunking | None) -> None:
    """It keeps its white space; without chunking, every text is one chunk."""
    [chunk] = chunks(Record("doc-1", text), 16 if chunking else 10_000, chunking, few)
    assert (chunk.number, chunk.start, chunk.end, chunk.text) == (0, 0, len(text), text)


@given(ANY_TEXT)
def test_the_same_text_has_the_same_chunks(text: str) -> None:
    """Chunks have the same ids and hashes, so that an ingest does not write them again."""
    one, other = (chunks(Record("doc-1", text), 17, Chunking(16, 5), few) for _ in range(2))
    assert [(chunk.id, chunk.hash) for chunk in one] == [(chunk.id, chunk.hash) for chunk in other]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"tokens": 7}, "chunks must have at least 8 tokens, got 7"),
        ({"tokens": 512.0}, "chunks must have at least 8 tokens, got 512.0"),
        ({"tokens": True}, "chunks must have at least 8 tokens, got True"),
        ({"tokens": 16, "overlap": 16}, "overlap must be a number of tokens below 16, got 16"),
        ({"overlap": -1}, "overlap must be a number of tokens below 512, got -1"),
        ({"overlap": 0.5}, "overlap must be a number of tokens below 512, got 0.5"),
        ({"kind": "html"}, "a chunking's kind must be 'text' or 'markdown', got 'html'"),
    ],
)
def test_invalid_settings(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(SettingError, match=reason):
        Chunking(**settings)


LONG: dict[str, Callable[[int], str]] = {
    "a word": lambda n: "x" * n,
    "no spaces": lambda n: "".join(random.Random(1).choices("世界人民大会堂天安門", k=n)),
    "prose": lambda n: ("the quick brown fox jumps over the lazy dog. " * (n // 45 + 1))[:n],
    "lines": lambda n: "word\n" * (n // 5),
    "marks": lambda n: "a" + "\u0301" * n,
    "blank": lambda n: "a" + " " * n + "b",
}


@pytest.mark.parametrize("kind", ["text", "markdown"])
@pytest.mark.parametrize("name", LONG)
def test_work_is_linear_and_memory_bounded(name: str, kind: str) -> None:
    """No text longer than a window is tokenized, and longer texts do not need larger ones."""
    chunking = Chunking(64, kind="markdown" if kind == "markdown" else "text")
    asked: dict[int, list[int]] = {}
    for size in (100_000, 400_000):
        lengths = asked[size] = []

        def count(texts: Sequence[str], lengths: list[int] = lengths) -> list[int]:
            lengths += map(len, texts)
            return few(texts)

        found = chunks(Record("a", LONG[name](size)), size, chunking, count)
        assert found
    if name != "blank":  # which is looked through to its end for a word
        assert max(asked[400_000]) <= (140_000 if kind == "markdown" else 20_000)
    assert sum(asked[400_000]) <= 6 * sum(asked[100_000])


def test_a_splitter_that_panics() -> None:
    """Markdown on which the splitter fails is cut without overlaps, and other texts are unaffected."""
    text = '     ctly.",\n                source=__name__,'
    with pytest.raises(BaseException, match="Invalid byte sequence"):
        whole(text, Chunking(16, 8, "markdown"))
    pieces = [piece for _, piece in cut(text, Chunking(16, 8, "markdown"))]
    assert "".join("".join(pieces).split()) == "".join(text.split())


def test_tokens_of_a_model(encoder: Encoder) -> None:
    """With a model's tokenizer, every chunk is within the limit."""
    text = "Vaccines train the immune system. " * 3_000 + "x" * 50_000
    made = chunks(Record("a", text), 512, Chunking(tokens=32), encoder.count_tokens)
    assert max(encoder.count_tokens([chunk.text for chunk in made])) <= 32
    assert "".join("".join(chunk.text.split()) for chunk in made) == "".join(text.split())


@dataclass(frozen=True)
class Pages:
    """The page numbers that a PDF reader provides."""

    begin: tuple[int, ...]

    def __call__(self, start: int, end: int) -> dict[str, object]:
        return {"page": sum(start >= each for each in self.begin), "end": end}


def test_chunks_have_their_own_metadata() -> None:
    text = "\n\n".join(f"page {number} says a word or two" for number in range(1, 9))
    pages = tuple(text.index(f"page {number} ") for number in range(1, 9))
    record = Record("book", text, {"title": "T", "page": "of the record"}, Pages(pages))
    found = chunks(record, 99, Chunking(tokens=16), lambda texts: [len(each.split()) for each in texts])
    assert len(found) > 2
    for chunk in found:
        page = int(chunk.text.split()[1])
        assert chunk.metadata == {"title": "T", "page": page, "end": chunk.end}
        plain = Chunk.of(Record("book", text, chunk.metadata), chunk.number, chunk.start, chunk.text)
        assert chunk.hash == plain.hash
        assert chunk.metadata_json == plain.metadata_json


def test_an_uncut_text_has_chunk_metadata() -> None:
    [chunk] = chunks(Record("a", "bread", {}, Pages((0,))), 2, None, lambda texts: [1 for _ in texts])
    assert chunk.metadata == {"page": 1, "end": 5}
