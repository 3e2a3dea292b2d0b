"""Long texts to pieces of so many tokens, on natural boundaries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from harrier_core.errors import SettingError
from harrier_core.records import Chunk, Record

Count = Callable[[Sequence[str]], list[int]]  # tokens of texts, as documents


@dataclass(frozen=True, slots=True)
class Chunking:
    """How records are cut: into chunks of at most so many tokens, each beginning with the last of the one before.

    A text that fits is one chunk. `kind` says what boundaries to look for: paragraphs and sentences, or Markdown's
    headings and lists.
    """

    tokens: int = 512
    overlap: int = 0
    kind: Literal["text", "markdown"] = "text"

    def __post_init__(self) -> None:
        if self.kind not in ("text", "markdown"):
            raise SettingError(f"a chunking's kind is 'text' or 'markdown', not {self.kind!r}")
        if not (type(self.tokens) is int and self.tokens >= _LEAST):
            raise SettingError(f"chunks have at least {_LEAST} tokens, not {self.tokens!r}")
        if not (type(self.overlap) is int and 0 <= self.overlap < self.tokens):
            raise SettingError(f"overlap is a number of tokens below {self.tokens}, not {self.overlap!r}")


_LEAST = 8  # the tokens that every text carries, and some of its own


def chunks(record: Record, tokens: int, chunking: Chunking | None, count: Count) -> list[Chunk]:
    """The chunks of a record that has so many tokens."""
    if chunking is None or tokens <= chunking.tokens:
        return [Chunk.of(record, 0, 0, record.text)]
    pieces = _split(record.text, chunking, count)
    return [Chunk.of(record, number, start, text) for number, (start, text) in enumerate(pieces)]


def _split(text: str, chunking: Chunking, count: Count) -> Iterator[tuple[int, str]]:
    from semantic_text_splitter import MarkdownSplitter, TextSplitter

    splitter = MarkdownSplitter if chunking.kind == "markdown" else TextSplitter
    own = splitter.from_callback(
        lambda piece: count([piece])[0] if piece.strip() else 0, chunking.tokens, chunking.overlap
    )
    yield from ((start, piece) for start, piece in own.chunk_indices(text) if piece.strip())
