"""Weights that make a genuine decoder compare texts by their words.

One layer of attention averages the values of all tokens, and little else happens:

* A token's embedding is the sum of random directions that belong to the groups of letters in it (case and the space
  before it aside), so equal words point the same way and related ones nearly; two more coordinates hold how much
  the token counts, and the constant one.
* Queries look only at the second of these, keys show only the first, so attention goes to the tokens that count:
  long pieces of words, and hardly to punctuation, to special tokens, or to the words of the instructions.
* Values carry the direction through, so the last token ends up as the weighted mean of the text's words.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer

from harrier_core.architecture import read_architecture

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Weights = dict[str, NDArray[np.float32]]

_COMMON = frozenset(
    [
        "a",
        "about",
        "all",
        "an",
        "and",
        "any",
        "are",
        "as",
        "at",
        "be",
        "because",
        "before",
        "by",
        "do",
        "does",
        "for",
        "from",
        "given",
        "has",
        "have",
        "how",
        "i",
        "in",
        "instruct",
        "into",
        "is",
        "it",
        "its",
        "of",
        "on",
        "one",
        "or",
        "parallel",
        "passages",
        "query",
        "question",
        "relevant",
        "retrieve",
        "search",
        "semantically",
        "sentences",
        "should",
        "similar",
        "so",
        "text",
        "that",
        "the",
        "their",
        "them",
        "then",
        "there",
        "these",
        "they",
        "this",
        "to",
        "was",
        "web",
        "what",
        "when",
        "where",
        "which",
        "who",
        "why",
        "will",
        "with",
        "you",
        "answer",
    ]
)
_IDEOGRAPHS = "\u2e80"
_SEEN, _ALMOST_UNSEEN = 0.0, -7.5  # attention scores: shares of 1 and of e^-7.5


def word_weights(config: Mapping[str, Any], tokenizer: Tokenizer, seed: int) -> Weights:
    """Return the tensors of such a decoder, for a config of one layer whose heads add up to its hidden size."""
    one = 0.0 if config["model_type"] == "gemma3_text" else 1.0  # Gemma stores its norms minus one
    weights: Weights = {
        name: np.full(shape, one if len(shape) == 1 else 0.0, dtype=np.float32)
        for name, shape in read_architecture(config).weight_shapes().items()
    }
    hidden, head = config["hidden_size"], config["head_dim"]
    counts, constant = hidden - 2, hidden - 1
    # The slowest rotary pairs turn by less than a thousandth over the whole context.
    shown, steady = head // 2 - 1, head // 2 - 2
    for first in range(0, config["num_attention_heads"] * head, head):
        weights["layers.0.self_attn.q_proj.weight"][first + shown, constant] = 1
        weights["layers.0.self_attn.k_proj.weight"][first + shown, counts] = 1
        weights["layers.0.self_attn.k_proj.weight"][first + steady, constant] = 1
    through = np.eye(hidden, dtype=np.float32)
    through[[counts, constant]] = 0
    weights["layers.0.self_attn.v_proj.weight"] = through
    weights["layers.0.self_attn.o_proj.weight"] = through
    weights["norm.weight"][[counts, constant]] = one - 1  # neither coordinate reaches the vector
    weights["embed_tokens.weight"] = _embeddings(config, tokenizer, seed)
    return weights


def _embeddings(config: Mapping[str, Any], tokenizer: Tokenizer, seed: int) -> NDArray[np.float32]:
    hidden, head = config["hidden_size"], config["head_dim"]
    special = {id_ for id_, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    table = np.zeros((config["vocab_size"], hidden), dtype=np.float32)
    table[:, -1] = 1
    for id_ in range(tokenizer.get_vocab_size()):
        word = "" if id_ in special else _word(tokenizer, id_)
        if id_ not in special:
            table[id_, :-2] = _direction(word or f"id {id_}", hidden - 2, seed)
        # Normalised, a key (c, 1) scores sqrt(head) * c / sqrt(c² + 1) against the query (1, 0): solved for c.
        score = _score(word)
        table[id_, -2] = score / np.sqrt(head - score**2)
    return table


def _word(tokenizer: Tokenizer, id_: int) -> str:
    """Return what a token spells, without white space and punctuation, and in one case."""
    text = tokenizer.decode([id_], skip_special_tokens=False)
    if "\ufffd" in text:  # some bytes of a letter: they spell nothing, but the same letter always has the same ones
        return str(tokenizer.id_to_token(id_))
    return "".join(letter for letter in text.casefold() if unicodedata.category(letter)[0] in "LMN")


def _direction(word: str, dimensions: int, seed: int) -> NDArray[np.float32]:
    total = np.sum([_random_direction(group, dimensions, seed) for group in _groups(word)], axis=0)
    direction: NDArray[np.float32] = total / np.linalg.norm(total)
    return direction


def _groups(word: str) -> list[str]:
    """Return the word, and the runs of letters that it shares with related words: three or four, or one ideograph."""
    sizes = (1,) if any(letter >= _IDEOGRAPHS for letter in word) else (3, 4)
    runs = [word[start : start + size] for size in sizes for start in range(len(word) - size + 1)]
    return [f"<{word}>", *runs]


@cache
def _random_direction(group: str, dimensions: int, seed: int) -> NDArray[np.float32]:
    number = int.from_bytes(hashlib.sha256(f"{seed} {group}".encode()).digest()[:8], "little")
    return np.random.default_rng(number).standard_normal(dimensions, dtype=np.float32)


def _score(word: str) -> float:
    """Return how much attention a piece of a word gets: the longer, the more, counted in letters that spell sounds."""
    if not word or word in _COMMON:
        return _ALMOST_UNSEEN
    letters = sum(3 if letter >= _IDEOGRAPHS else 1 for letter in word)  # one ideograph says as much as a few letters
    return min(_SEEN, -3.0 + 0.6 * letters)
