"""Cut long texts into pieces of a number of tokens, on natural boundaries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from harrier_core.errors import SettingError
from harrier_core.records import Chunk, Record, to_json

Count = Callable[[Sequence[str]], list[int]]  # tokens of texts, as documents
Cuts = Sequence[tuple[int, int]]  # where a record's chunks begin and end


@dataclass(frozen=True, slots=True)
class Chunking:
    """How records are cut: into chunks of at most `tokens` tokens, each beginning with the last of the previous one.

    A text that fits is one chunk. `kind` says what boundaries to look for: paragraphs and sentences, or Markdown's
    headings and lists.
    """

    tokens: int = 512
    overlap: int = 0
    kind: Literal["text", "markdown"] = "text"

    def __post_init__(self) -> None:
        if self.kind not in ("text", "markdown"):
            raise SettingError(f"a chunking's kind must be 'text' or 'markdown', got {self.kind!r}")
        if not (type(self.tokens) is int and self.tokens >= _LEAST):
            raise SettingError(f"chunks must have at least {_LEAST} tokens, got {self.tokens!r}")
        if not (type(self.overlap) is int and 0 <= self.overlap < self.tokens):
            raise SettingError(f"overlap must be a number of tokens below {self.tokens}, got {self.overlap!r}")


_LEAST = 8  # room for the tokens that every text carries, and for some of its own


def chunks(record: Record, tokens: int, chunking: Chunking | None, count: Count) -> list[Chunk]:
    """Return the chunks of a record with that many tokens."""
    if chunking is None or tokens <= chunking.tokens:
        return [Chunk.of(record, 0, 0, record.text)]
    pieces, json = _split(record.text, chunking, count), to_json(record.metadata)
    return [Chunk.of(record, number, start, text, json) for number, (start, text) in enumerate(pieces)]


def cut(record: Record, chunking: Chunking | None, count: Count) -> Cuts:
    """Return where the chunks of a record begin and end, for `chunks_at` to make them elsewhere."""
    tokens = 0 if chunking is None else count([record.text])[0]
    return [(chunk.start, chunk.end) for chunk in chunks(record, tokens, chunking, count)]


def chunks_at(record: Record, cuts: Cuts) -> list[Chunk]:
    """Return the chunks of a record that was cut before."""
    json = to_json(record.metadata)
    return [Chunk.of(record, at, begin, record.text[begin:end], json) for at, (begin, end) in enumerate(cuts)]


def _split(text: str, chunking: Chunking, count: Count) -> Iterator[tuple[int, str]]:
    """Yield the chunks of a text and where they begin, cutting a window at a time.

    The splitter's time for a chunk grows with all that follows it, and it counts the tokens of long stretches at once.
    Chunks depend on little of what follows, so those at the end of a window, which may have been cut short by it, are
    cut again at the beginning of the next one, and the result is that of the whole text.
    """
    from semantic_text_splitter import MarkdownSplitter, TextSplitter

    splitter = MarkdownSplitter if chunking.kind == "markdown" else TextSplitter

    def tokens(piece: str) -> int:
        return count([piece])[0] if piece.strip() else 0

    own = splitter.from_callback(tokens, chunking.tokens, chunking.overlap)
    without_overlap = splitter.from_callback(tokens, chunking.tokens)

    def cut(text: str) -> list[tuple[int, str]]:
        try:
            return own.chunk_indices(text)
        except BaseException as error:
            # Markdown's overlaps may begin within a line whose indentation the splitter trims, and then it panics.
            if not chunking.overlap or type(error).__name__ != "PanicException":
                raise
            return without_overlap.chunk_indices(text)

    begin, size = 0, chunking.tokens
    while begin < len(text):
        found, begin, size = _window(cut, text, begin, size, chunking)
        yield from ((start, piece) for start, piece in found if piece.strip())


Cut = Callable[[str], list[tuple[int, str]]]  # a text's chunks, and the characters that they begin at

# A window has room for about this many chunks, of which one is cut again, or those that overlap with it.
_CHUNKS_OF_WINDOW = 16
# Markdown's structure is that of the whole text, and only longer texts lose it, at the end of each such stretch.
_MARKDOWN_WINDOW = 131_072
# A stretch without a space, longer than this many chunks, has no structure.
_LONG_RUN = 8


def _window(cut: Cut, text: str, begin: int, size: int, chunking: Chunking) -> tuple[list[tuple[int, str]], int, int]:
    """Return the next chunks from `begin` on, where the next ones begin, and how many characters chunks have here."""
    width = _width(text, begin, size, chunking)
    while True:
        found = [(begin + start, piece) for start, piece in cut(text[begin : begin + width])]
        if begin + width >= len(text):
            return found, len(text), size
        last = found[-1][0] if found else begin
        kept = [(start, piece) for start, piece in found if start + len(piece) <= last]
        if kept and found[len(kept)][0] > begin:
            return kept, found[len(kept)][0], max(sum(len(piece) for _, piece in kept) // len(kept), 1)
        width *= 2


def _width(text: str, begin: int, size: int, chunking: Chunking) -> int:
    width = _CHUNKS_OF_WINDOW * size
    if chunking.kind == "text" or width >= _MARKDOWN_WINDOW:
        return width
    longest = max(map(len, text[begin : begin + _MARKDOWN_WINDOW].split()), default=0)
    return width if longest > _LONG_RUN * size else _MARKDOWN_WINDOW
