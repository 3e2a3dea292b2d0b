"""Text to token ids, exactly those of the model's own tokenizer, with one deliberate difference.

Text that spells a special token ("<eos>", "<|im_end|>") becomes ordinary ids: user input must not end, split or steer a
prompt.
"""

from __future__ import annotations

import copy
import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Protocol

from tokenizers import Encoding, Tokenizer

from harrier_core.errors import ModelDamaged, ModelUnsupported, ModelWarning, Problem, too_long
from harrier_core.token_rows import windows
from harrier_core.word_counts import WordCounts, has_words

_KEPT_PROMPTS = 64  # every query needs its prompt's ids
# Longer texts are tokenized in pieces of this many characters, cut where one token ends and the next one begins.
# Whether one does depends on what follows, so the last characters are left to the next piece: this many of them.
_PIECE, _RIGHT = 65_536, 1_024
_WORDS = 100  # characters; shorter texts are not worth counting by words


@dataclass(frozen=True, slots=True)
class Tokenized:
    """Rows of ids in the caller's order; which of the texts are too long, and which were truncated."""

    rows: list[list[int]]
    problems: list[Problem]
    truncated: list[int]


class HasTokenizer(Protocol):
    """A model, or as much of it as its tokenizer needs."""

    @property
    def name(self) -> str:
        """The model's name, for warnings."""

    @property
    def folder(self) -> Path:
        """The folder of tokenizer.json and tokenizer_config.json."""

    @property
    def vocabulary(self) -> int:
        """The number of ids for which the model has embeddings."""


class Tokens:
    """One model's tokenizer. Any number of threads may use it."""

    def __init__(self, model: HasTokenizer) -> None:
        self._tokenizer = _load(model)
        self._special = _special_ids(self._tokenizer)
        _check_vocabulary(model, self._tokenizer, self._special)
        head, tail = _frame(self._tokenizer)
        self._head, self._tail = _as_promised(model, self._tokenizer, head, tail)
        self._keep_prompts()

    def _keep_prompts(self) -> None:
        self._alone = lru_cache(_KEPT_PROMPTS)(lambda prompt: self._rows([prompt])[0])

    def framed(self, before: str, after: str, markers: Sequence[str]) -> Tokens:
        """Return a tokenizer that puts `before` and `after` around every text, instead of its own frame.

        markers: special tokens that these two spell. In a text, they remain ordinary text.
        """
        ids = {marker: self.id_of(marker) for marker in markers}
        framed = copy.copy(self)
        framed._special = self._special.union(ids.values())
        framed._head, framed._tail = self._marked(before, ids), self._marked(after, ids)
        framed._word_counts = None  # other tokens are special
        framed._keep_prompts()
        return framed

    def id_of(self, token: str) -> int:
        """Return the id of a token that must exist."""
        id_: int | None = self._tokenizer.token_to_id(token)
        if id_ is None:
            raise ModelUnsupported(f"its tokenizer.json has no token {token!r}")
        return id_

    def _marked(self, text: str, ids: Mapping[str, int]) -> list[int]:
        """Return the ids of a text in which markers are tokens."""
        parts = re.split(f"({'|'.join(map(re.escape, ids))})", text)
        return [id_ for part in parts if part for id_ in ([ids[part]] if part in ids else self._encoded(part))]

    def tokenize(self, texts: Sequence[str], prompt: str, limit: int, *, truncate: bool = False) -> Tokenized:
        """Return the ids of `prompt + text` for each text; one that exceeds the limit is a problem, or is truncated."""
        given = [prompt + text for text in texts]
        rows = self._rows(["" if len(text) > _PIECE else text for text in given])
        counts = [len(row) for row in rows]
        for position, text in enumerate(given):
            if len(text) > _PIECE:
                rows[position], counts[position] = self._long_row(text, limit)
        long = [position for position, count in enumerate(counts) if count > limit]
        if not truncate:
            return Tokenized(rows, [too_long(position, counts[position], limit) for position in long], [])
        for position in long:
            rows[position] = rows[position][: limit - len(self._tail)] + self._tail
        return Tokenized(rows, [], long)

    def count(self, texts: Sequence[str], prompt: str) -> list[int]:
        """Return how many ids each text has with this prompt."""
        return [count for part in windows(texts) for count in self._counts([prompt + text for text in texts[part]])]

    def _counts(self, texts: list[str]) -> list[int]:
        frame = len(self._head) + len(self._tail)
        if len(texts) == 1 and _WORDS < len(texts[0]) <= _PIECE and self._word_counts:  # of a splitter
            return [frame + self._word_counts.of(texts[0])]
        short = iter(self._ordinary_counts([text for text in texts if len(text) <= _PIECE]))
        return [self._long_row(text, 0)[1] if len(text) > _PIECE else frame + next(short) for text in texts]

    def _ordinary_counts(self, texts: list[str]) -> list[int]:
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)  # without offsets
        return [
            len(each.ids) if self._special.isdisjoint(each.ids) else len(self._encoded(text))
            for text, each in zip(texts, encodings, strict=True)
        ]

    @cached_property
    def _word_counts(self) -> WordCounts | None:
        return WordCounts(self._ordinary_counts) if has_words(self._tokenizer) else None

    def pieces(self, text: str) -> list[str]:
        """Return what each id of a text stands for, its frame included; a partial character becomes U+FFFD."""
        [row] = self._rows([text])
        is_bytes = self._tokenizer.token_to_id(_BLANK) is None
        return [_piece(self._tokenizer.id_to_token(id_) or "", is_bytes=is_bytes) for id_ in row]

    def spent_on(self, prompt: str) -> int:
        """Return how many ids every text carries besides its own: a beginning, its prompt, an end."""
        return len(self._alone(prompt))

    def beginning(self, prompt: str) -> tuple[int, ...]:
        """Return the ids that texts with this prompt begin with; its last token may merge with a text's first."""
        if not prompt:
            return ()
        row = self._alone(prompt)
        return tuple(row[: len(row) - len(self._tail) - 1])

    def _rows(self, texts: list[str]) -> list[list[int]]:
        encodings = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        return [
            [*self._head, *self._ordinary(text, encoding), *self._tail]
            for text, encoding in zip(texts, encodings, strict=True)
        ]

    def _long_row(self, text: str, most: int) -> tuple[list[int], int]:
        """Return at least the first `most` ids of a long text, and their total number; it never holds all of them."""
        row, count = [*self._head], len(self._head) + len(self._tail)
        for ids in self._pieces(text):
            count += len(ids)
            if len(row) < most:
                row += ids
        return (row if len(row) >= most else [*row, *self._tail]), count

    def _pieces(self, text: str) -> Iterator[list[int]]:
        """Yield the ids of a long text in parts: the tokenizer takes more than a hundred bytes for each id."""
        begin = 0
        while len(text) - begin > _PIECE:
            piece = text[begin : begin + _PIECE]
            encoding = self._tokenizer.encode(piece, add_special_tokens=False)
            number, cut = _boundary(encoding, _PIECE - _RIGHT)
            ids: list[int] = encoding.ids[:number] if number else self._encoded(piece)
            if not self._special.isdisjoint(ids):
                ids = self._encoded(piece[:cut])
            yield ids
            begin += cut
        yield self._encoded(text[begin:])

    def _encoded(self, text: str) -> list[int]:
        return self._ordinary(text, self._tokenizer.encode(text, add_special_tokens=False))

    def _ordinary(self, text: str, encoding: Encoding) -> list[int]:
        """Return the ids of a text without those of special tokens, in case its merges spelled one after all."""
        ids: list[int] = encoding.ids
        if self._special.isdisjoint(ids):
            return ids
        # Cut inside the first such spelling, repeatedly: neither half can spell it.
        ordinary: list[int] = []
        while not self._special.isdisjoint(ids):
            spelled = next(number for number, id_ in enumerate(ids) if id_ in self._special)
            cut = max(encoding.offsets[spelled][0], 0) + 1
            if cut >= len(text):
                break
            ordinary += self._tokenizer.encode(text[:cut], add_special_tokens=False).ids
            text = text[cut:]
            encoding = self._tokenizer.encode(text, add_special_tokens=False)
            ids = encoding.ids
        return ordinary + ids

    @property
    def frame(self) -> tuple[list[int], list[int]]:
        """The ids before and after every text."""
        return self._head, self._tail


def _bytes_of_letters() -> dict[str, int]:
    """Return the byte that each letter stands for in byte-level vocabularies, as introduced by GPT-2."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + number): byte for number, byte in enumerate(others)}


_BYTES = _bytes_of_letters()
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")  # in the vocabularies of SentencePiece
_BLANK = "\u2581"  # a space there


def _piece(token: str, *, is_bytes: bool) -> str:
    """Return the text that a token of a vocabulary stands for. is_bytes: its letters are bytes."""
    if byte := _BYTE.fullmatch(token):
        return bytes([int(byte[1], 16)]).decode("utf-8", "replace")
    if not is_bytes or not all(letter in _BYTES for letter in token):
        return token.replace(_BLANK, " ")
    return bytes(_BYTES[letter] for letter in token).decode("utf-8", "replace")


def _boundary(encoding: Encoding, latest: int) -> tuple[int, int]:
    """Return the number of tokens before a character at which a word, or a token, begins, and that character.

    No merge reached over a boundary between tokens, so both sides have the same tokens without each other.
    """
    for at in range(latest, latest // 2, -1):
        token = encoding.char_to_token(at)
        word = encoding.token_to_word(token) if token else None
        word_tokens = encoding.word_to_tokens(word) if word else None
        for first in (word_tokens[0] if word_tokens else 0, token):
            if first:
                before, after = encoding.token_to_chars(first - 1), encoding.token_to_chars(first)
                # If they do not touch, the characters between them belong to one of them.
                if before and after and latest // 2 < before[1] == after[0]:
                    return first, before[1]
    return 0, latest + _RIGHT


def _load(model: HasTokenizer) -> Tokenizer:
    path = model.folder / "tokenizer.json"
    if not path.is_file():
        raise ModelDamaged(f"{model.folder} lacks tokenizer.json; fetch the model again")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the tokenizers library raises bare Exception
        raise ModelDamaged(f"{path} cannot be read: {error}; fetch the model again") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True  # they become ordinary text
    return tokenizer


def _special_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """Return the ids that no text may produce: the special tokens, except the one for unknown characters."""
    unknown = getattr(tokenizer.model, "unk_token", None)
    added = tokenizer.get_added_tokens_decoder()
    return frozenset(id_ for id_, token in added.items() if token.special and token.content != unknown)


def _check_vocabulary(model: HasTokenizer, tokenizer: Tokenizer, special: frozenset[int]) -> None:
    """Raise if an id is beyond the embedding table, which would crash on a CPU and do worse on a GPU.

    Special ids may lie beyond it, and do in Gemma 3 (its image token): no text reaches them.
    """
    highest = max((id_ for id_ in tokenizer.get_vocab().values() if id_ not in special), default=0)
    if highest >= model.vocabulary:
        raise ModelDamaged(
            f"tokenizer.json of {model.folder} gives ids up to {highest}, but config.json's vocab_size is "
            f"{model.vocabulary}; fetch the model again"
        )


def _frame(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Return the ids that the tokenizer puts before and after every text."""
    probe = tokenizer.encode("a")
    inside = [number for number, special in enumerate(probe.special_tokens_mask) if not special]
    if not inside:
        raise ModelDamaged("tokenizer.json has no id for the letter a; fetch the model again")
    return probe.ids[: inside[0]], probe.ids[inside[-1] + 1 :]


def _as_promised(
    model: HasTokenizer, tokenizer: Tokenizer, head: list[int], tail: list[int]
) -> tuple[list[int], list[int]]:
    """Return the frame with the tokens that tokenizer_config.json promises, with a warning if they had to be restored.

    transformers 4 followed the promise (for Gemma), transformers 5 follows tokenizer.json, so a model whose two files
    disagree gets other vectors from each, and from one of them vectors pooled from a token it was not trained on.
    """
    config = json.loads((model.folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    begin = _promised_id(tokenizer, config, "bos_token")
    end = _promised_id(tokenizer, config, "eos_token")
    missing = []
    if begin is not None and begin not in head:
        head = [begin, *head]
        missing.append(f"begin with {tokenizer.id_to_token(begin)!r}")
    if end is not None and tail[-1:] != [end]:
        tail = [*tail, end]
        missing.append(f"end with {tokenizer.id_to_token(end)!r}")
    if missing:
        warnings.warn(
            f"tokenizer_config.json of {model.name} promises that texts {' and '.join(missing)}, but its "
            "tokenizer.json does not do so; this kit follows the promise, transformers only in some releases",
            ModelWarning,
            stacklevel=2,
        )
    return head, tail


def _promised_id(tokenizer: Tokenizer, config: dict[str, Any], name: str) -> int | None:
    if config.get(f"add_{name}") is not True:
        return None
    token = config.get(name)
    content = token.get("content") if isinstance(token, dict) else token
    return tokenizer.token_to_id(content) if isinstance(content, str) else None
