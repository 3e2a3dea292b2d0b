"""Words of any script to numbered terms, for search by word. Pure, and the same for every language.

Scripts that separate words yield words, the others pairs of adjacent letters. Codes are kept whole and in parts, and
long words also yield their beginning, which finds their other forms. A document's weights are those of BM25 with a
fixed average length, so no statistics are kept; a store computes how rare a term is when it is searched.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import chain, pairwise
from operator import itemgetter
from struct import unpack_from
from typing import TypeVar

from harrier_core.scripts import UNSEPARATED, folded, plain_digits

VERSION = 2  # version of the terms made from texts: an index of another version has other terms

_K1, _B, _AVERAGE = 1.2, 0.75, 256  # BM25's constants; words of a document
_MOST_ID = 2**31 - 1  # the highest id of a term
_PREFIX_OF, _PREFIX = 6, 5  # a word of at least the first number of letters gets a prefix of the second
_PARTS = 3  # at most, for a field of letters and digits to be split into: 512GB is split, a UUID is not
_JOINED = 8  # at most, for fields to be joined into one term: a code is joined, a URL is not
_CODE_WORDS, _CODE_LETTERS = 32, 256  # a longer query is prose, whatever it contains; where in a token a code begins
_CODE_BOOST = 2.0
_MOST_ASKED = 256  # terms of a query: a longer one is a document, and each term has its price in a database
_MOST_READ = 1 << 15  # letters of a query: most terms of what is beyond would be dropped, at seconds a megabyte
_CACHED, _SHORT = 1 << 16, 32  # how many tokens and terms are cached, and how many letters these may have


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms by which a text is found: their ids, in ascending order, and the weight of each."""

    ids: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.ids)


def document_terms(text: str) -> Terms:
    """Return the terms of a stored text, with the document's share of their BM25 weights."""
    found = [*map(_TERMS.__getitem__, text.split())]
    counts = Counter(chain.from_iterable(map(itemgetter(0), found)))
    longer = _K1 * (1 - _B + _B * sum(map(itemgetter(1), found)) / _AVERAGE)
    weights = {count: count * (_K1 + 1) / (count + longer) for count in set(counts.values())}
    ids = tuple(sorted(counts))
    return Terms(ids, tuple(map(weights.__getitem__, map(counts.__getitem__, ids))))


def query_terms(text: str) -> Terms:
    """Return the terms of a query. Codes weigh more, because a code with a similar spelling means something else."""
    weights: dict[int, float] = {}
    for token in text.lstrip()[:_MOST_READ].split():
        for spelled in _spelled(token)[0]:
            weights[_IDS[spelled]] = _CODE_BOOST if _is_code(spelled) else 1.0
    kept = sorted(weights, key=lambda term: -weights[term])[:_MOST_ASKED]  # the first of equal ones
    ordered = sorted(kept)
    return Terms(tuple(ordered), tuple(weights[term] for term in ordered))


def has_code(text: str) -> bool:
    """Return whether a query may contain a code: letters with digits, digits with points, or five digits.

    Ordinals, years and times do not count: 20th, 3D, 1990s, 30-day, 24/7, 2019-2020. Some quantities look like codes,
    such as 1.5 or 100000, so the caller has to check whether a text contains them. Nor does a number count next to
    letters of a script that does not separate words, because it is a separate word there.
    """
    return bool(_coded(text))


def has_code_of(query: str, text: str) -> bool:
    """Return whether a text contains a code of the query. Parts of one, such as its year, are something else."""
    coded = _coded(query)
    if not coded:
        return False
    ids = frozenset(document_terms(text).ids)
    return any(_is_in(token, ids) for token in coded)


def _coded(query: str) -> list[str]:
    """Return the tokens that may contain a code."""
    tokens = query.split(None, _CODE_WORDS)
    return [token for token in tokens if _may_be_code(token)] if len(tokens) <= _CODE_WORDS else []


def _may_be_code(token: str) -> bool:
    short = unicodedata.normalize("NFKC", token[:_CODE_LETTERS])
    return bool(_CODE.search(short if short.isascii() else _NO_CODE.sub(" ", plain_digits(short))))


def _is_in(token: str, ids: AbstractSet[int]) -> bool:
    """Return whether the terms of a text contain a token as one word, or all of its fields that have digits.

    One of these fields must have the weight of a code: "8" of UTF-8 could be anything.
    """
    text, kinds = folded(token)
    runs = [run.span() for run in _RUN.finditer(kinds)]
    separated = [(start, end) for start, end in runs if kinds[start] in "lw"]
    if 1 < len(runs) <= _JOINED and len(separated) == len(runs):
        whole = _joined(text, runs)
        if _is_code(whole) and _IDS[whole] in ids:
            return True
    numbered = [(start, end) for start, end in separated if any(map(str.isdigit, text[start:end]))]
    if not any(_is_code(text[start:end]) for start, end in numbered):
        return False
    return all(_has_field(text[start:end], kinds[start:end], ids) for start, end in numbered)


def _has_field(field: str, kinds: str, ids: AbstractSet[int]) -> bool:
    parts = _derived(field, kinds)
    return _IDS[field] in ids or (bool(parts) and all(_IDS[part] in ids for part in parts))


def _is_code(term: str) -> bool:
    """Return whether a term is one that a text hardly ever has by chance."""
    return len(term) >= 4 and any(map(str.isdigit, term))


_NO_CODE = re.compile(f"[{UNSEPARATED}]")
_CODE = re.compile(
    r"@@[-_.#]?\d|@[-_.#]?\d\d"  # KB5034441, UTF-8, x86
    r"|\d@\d|@\d@"  # 4x4, H2O
    r"|\d\d[-_.#]?[A-Z]|\d{4}@@"  # 512GB, 1042ab
    r"|\d\.\d|\d[-_/:]\d+[-_/:]\d|\d{5}".replace("@", r"[^\W\d_]")  # v1.2, 2024-01-15, 10042
)

# -- cache: most words of a text occurred in earlier ones

_Made = TypeVar("_Made")


class _Remembered(dict[str, _Made]):
    """A function's results for short texts. When there are too many, all of them are dropped."""

    def __init__(self, make: Callable[[str], _Made]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, text: str) -> _Made:
        made = self._make(text)
        if len(text) <= _SHORT:
            if len(self) >= _CACHED:
                self.clear()
            self[text] = made
        return made


def _terms(token: str) -> tuple[tuple[int, ...], int]:
    """Return the ids of a token's terms, each as often as it occurs, and the number of the token's words."""
    bare = token.strip(_PUNCTUATION)
    if bare != token:
        return _TERMS[bare]
    spelled, words = _spelled(token)
    return tuple(map(_IDS.__getitem__, spelled)), words


_PUNCTUATION = string.punctuation  # ignored at the ends of a token

# -- spelling

# Runs of letters of one kind of script, with their marks, and a letter with its marks; see scripts.folded.
_RUN = re.compile("[lw][lwm]*|[sh][shm]*")
_LETTER = re.compile("[^m]m*")
_ALONE = re.compile("(?<!h)hm*(?!h)")


def _spelled(token: str) -> tuple[list[str], int]:
    """Return the terms of a token, and how many of them are its words."""
    if token.isascii() and token.isalpha():  # a shortcut to the same result, for most tokens of many languages
        word = token.lower()
        return [word, *_prefix(word, "l" * len(word))], 1
    text, kinds = folded(token)
    runs = [run.span() for run in _RUN.finditer(kinds)]
    terms: list[str] = []
    for start, end in runs:
        field = text[start:end]
        terms += [field] if kinds[start] in "lw" else _pairs(_letters(field, kinds[start:end]))
    words = len(terms)
    separated = [(start, end) for start, end in runs if kinds[start] in "lw"]
    for start, end in separated:
        terms += _derived(text[start:end], kinds[start:end])
    for start, end in runs:
        if "h" in kinds[start:end] and end - start > 1:
            terms += (text[start:end][slice(*alone.span())] for alone in _ALONE.finditer(kinds[start:end]))
    if 1 < len(runs) <= _JOINED and len(separated) == len(runs):
        terms.append(_joined(text, runs))
    return terms, words


def _letters(field: str, kinds: str) -> Sequence[str]:
    """Return each letter with its marks."""
    if "m" not in kinds:
        return field
    return [field[letter.start() : letter.end()] for letter in _LETTER.finditer(kinds)]


def _pairs(letters: Sequence[str]) -> list[str]:
    """Return pairs of adjacent letters, or the letter itself if there is only one."""
    return [first + second for first, second in pairwise(letters)] or [*letters]


_BORDER = re.compile(r"(?<=\d)(?=\D)|(?<=\D)(?=\d)")


def _derived(field: str, kinds: str) -> Sequence[str]:
    """Return the parts of a field of letters and digits, or the beginning of a long word."""
    parts = (field,) if field.isalpha() else _BORDER.split(field)
    if 1 < len(parts) <= _PARTS:
        return parts
    return _prefix(field, kinds) if len(parts) == 1 and not field[0].isdigit() else ()


def _prefix(word: str, kinds: str) -> Sequence[str]:
    """Return the beginning of a word, if it is long."""
    if len(word) < _PREFIX_OF:
        return ()
    letters = _letters(word, kinds)
    return (f"{''.join(letters[:_PREFIX])}*",) if len(letters) >= _PREFIX_OF else ()


def _joined(text: str, runs: Sequence[tuple[int, int]]) -> str:
    """Return all fields as one. Between two digits the separator stays, because 1.23 is not 12.3."""
    whole = text[slice(*runs[0])]
    for (_, end), (start, next_end) in pairwise(runs):
        joint = text[end] if text[end - 1].isdigit() and text[start].isdigit() else ""
        whole += joint + text[start:next_end]
    return whole


# -- ids


def term_id(term: str) -> int:
    """Return a term's number: the absolute value of its MurmurHash3, which other Qdrant clients use as well."""
    hash_ = _murmur3(term.encode())
    return min(hash_ if hash_ < 2**31 else 2**32 - hash_, _MOST_ID)


def _murmur3(data: bytes) -> int:
    """Return the MurmurHash3 (x86, 32 bits, seed 0)."""
    hash_ = 0
    blocks = len(data) >> 2
    for number in unpack_from(f"<{blocks}I", data):
        block = number * 0xCC9E2D51 & 0xFFFFFFFF
        hash_ ^= (block << 15 | block >> 17) * 0x1B873593 & 0xFFFFFFFF
        hash_ = (hash_ << 13 | hash_ >> 19) * 5 + 0xE6546B64 & 0xFFFFFFFF
    if rest := int.from_bytes(data[blocks * 4 :], "little"):
        rest = rest * 0xCC9E2D51 & 0xFFFFFFFF
        hash_ ^= (rest << 15 | rest >> 17) * 0x1B873593 & 0xFFFFFFFF
    hash_ ^= len(data)
    hash_ = (hash_ ^ hash_ >> 16) * 0x85EBCA6B & 0xFFFFFFFF
    hash_ = (hash_ ^ hash_ >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    return hash_ ^ hash_ >> 16


_TERMS, _IDS = _Remembered(_terms), _Remembered(term_id)
