"""Count the tokens of texts by their words, each of which is tokenized once, for tokenizers that allow it.

With some tokenizers, a space or line break after certain characters is known to begin a token, and neither side of it
influences the tokens of the other. The count of a text is then the sum of the counts of its words. To cut one chunk off
a text, a splitter asks for several stretches that begin alike.
"""

from __future__ import annotations

import json
import re
import threading
from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_LONGEST = 32  # characters of a word that is cached; longer ones rarely occur again
_MOST = 50_000  # words, some 5 MB

# After a letter, a digit or an ASCII sign except ">", which Gemma's vocabulary joins with a space into one token.
_BOUNDARY = re.compile(r"(?=[ \n])(?:(?<=\w)|(?<=[!-=?-~])(?= ))")
_CROSSED = re.compile(r"[\w!-=?-~][ \u2581]|\w\n")
_BLANK = "\u2581"  # a space in vocabularies of Gemma's kind

# Qwen's pattern. No word continues past a boundary, and a word that ends there does not depend on what follows.
_QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPLIT = {"type": "Split", "pattern": {"Regex": _QWEN_WORDS}, "behavior": "Isolated", "invert": False}
_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}


class WordCounts(threading.local):
    """Counts the tokens of texts, with a separate cache for each thread."""

    def __init__(self, count: Callable[[list[str]], list[int]]) -> None:
        """Take a function. count: returns how many tokens each text has, without those put around every text."""
        self._count = count
        self._known: dict[str, int] = {}
        # The longest of the last texts that begin alike: where its words begin, and how many tokens are before them.
        self._text = ""
        self._begins = [0]
        self._sums = [0]

    def of(self, text: str) -> int:
        """Return how many tokens a text has."""
        if not self._text.startswith(text):
            return self._extended(text)
        at = bisect_right(self._begins, len(text)) - 1
        return self._sums[at] + sum(self._counts(_BOUNDARY.split(text[self._begins[at] :])))

    def _extended(self, text: str) -> int:
        if not text.startswith(self._text):
            self._begins, self._sums = [0], [0]
        begin, before = self._begins.pop(), self._sums.pop()
        words = _BOUNDARY.split(text[begin:])
        begins, sums = accumulate(map(len, words), initial=begin), accumulate(self._counts(words), initial=before)
        self._begins += begins
        self._sums += sums
        self._begins.pop()  # the end of the text
        self._text = text
        return self._sums.pop()

    def _counts(self, words: list[str]) -> list[int]:
        known = self._known
        new = [word for word in set(words) if word not in known]
        if not new:
            return [known[word] for word in words]
        learned = dict(zip(new, self._count(new), strict=True))
        counts = [learned[word] if word in learned else known[word] for word in words]
        if len(known) > _MOST:
            known.clear()
        known.update((word, count) for word, count in learned.items() if len(word) <= _LONGEST)
        return counts


def has_words(tokenizer: Tokenizer) -> bool:
    """Return whether the tokens of a text are those of its words; False if that is not known."""
    model, added = tokenizer.model, tokenizer.get_added_tokens_decoder().values()
    unknown = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges")
    if type(model).__name__ != "BPE" or any(getattr(model, name, None) for name in unknown):
        return False
    if any(each.lstrip or each.rstrip or each.single_word or _CROSSED.search(each.content) for each in added):
        return False
    normalizer, words = _said(tokenizer.normalizer), _said(tokenizer.pre_tokenizer)
    if normalizer == {"type": "Replace", "pattern": {"String": " "}, "content": _BLANK}:
        # No spaces are left to split at: tokens are merged over the whole text, as far as the vocabulary has them.
        vocabulary = tokenizer.get_vocab(with_added_tokens=False)
        unsplit = words is None or (words["type"], words.get("pattern")) == ("Split", {"String": " "})
        return unsplit and _BLANK in vocabulary and not _CROSSED.search("\0".join(vocabulary))
    qwen = {"type": "Sequence", "pretokenizers": [_SPLIT, _BYTES]}
    return normalizer in (None, {"type": "NFC"}) and _plain(words) == qwen


def _said(part: Any) -> Any:  # noqa: ANN401
    """Return a part of a tokenizer as its file spells it."""
    return None if part is None else json.loads(part.__getstate__())


def _plain(words: Any) -> Any:  # noqa: ANN401
    """Return the pre-tokenizer without settings that affect only offsets."""
    if words is not None:
        for each in words.get("pretokenizers", ()):
            each.pop("trim_offsets", None)
    return words
