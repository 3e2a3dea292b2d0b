"""Words of any script to numbered terms, for search by word. Pure, and the same for every language.

Scripts that separate words give words, the others give pairs of neighbouring letters. Codes are kept whole and in
parts, and long words have their beginning as well, which finds other forms of them. A document's weights are those of
BM25 with a fixed average length, so that no statistics are kept; how rare a term is, a store knows when it is asked.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

VERSION = 1  # of what texts become: an index of another version has other terms

_K1, _B, _AVERAGE = 1.2, 0.75, 256  # BM25's constants; words of a document
_MOST_ID = 2**31 - 1  # of a term
_PREFIX_OF, _PREFIX = 6, 5  # a word of so many letters has a prefix of so many
_PARTS = 3  # of letters and digits, into which a field is split at most: 512GB is, and a UUID is not
_JOINED = 8  # fields that are joined to one term at most: a code is, and a URL is not
_CODE_WORDS = 32  # a longer query is prose, whatever it holds
_CODE_BOOST = 2.0
_CACHED = 1 << 16  # tokens


@dataclass(frozen=True, slots=True)
class Terms:
    """What a text is found by: the ids of its terms, in ascending order, and the weight of each."""

    ids: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.ids)


def document_terms(text: str) -> Terms:
    """Return the terms of a stored text, with the part of BM25 that is the document's own."""
    counts: dict[int, int] = {}
    length = 0
    for token in text.split():
        own, words = _terms(token)
        length += words
        for term in own:
            counts[term] = counts.get(term, 0) + 1
    longer = _K1 * (1 - _B + _B * length / _AVERAGE)
    ordered = sorted(counts)
    return Terms(tuple(ordered), tuple(counts[term] * (_K1 + 1) / (counts[term] + longer) for term in ordered))


def query_terms(text: str) -> Terms:
    """Return the terms of a query. Those of codes weigh more: their neighbours in the alphabet are something else."""
    weights: dict[int, float] = {}
    for token in text.split():
        for spelled in _spelled(token)[0]:
            boost = _CODE_BOOST if len(spelled) >= 4 and any(map(str.isdigit, spelled)) else 1.0
            weights[term_id(spelled)] = boost
    ordered = sorted(weights)
    return Terms(tuple(ordered), tuple(weights[term] for term in ordered))


def has_code(text: str) -> bool:
    """Return whether a query holds what looks like a code: letters with digits, joined digits, or five digits."""
    tokens = text.split()
    if len(tokens) > _CODE_WORDS:
        return False
    return any(_CODE.search(unicodedata.normalize("NFKC", token)) for token in tokens)


_CODE = re.compile(r"[^\W\d_]+[\W_]?\d|\d[\W_]?[^\W\d_]|\d[._:/-]\d|\d{5}")


# -- spelling


@lru_cache(_CACHED)
def _terms(token: str) -> tuple[tuple[int, ...], int]:
    """The ids of a token's terms, each as often as it occurs, and how many words the token is."""
    spelled, words = _spelled(token)
    return tuple(map(term_id, spelled)), words


def _spelled(token: str) -> tuple[list[str], int]:
    """The terms of what stands between two blanks, and how many of them are its words."""
    fields, joints = _fields(token)
    terms: list[str] = []
    for kind, field in fields:
        terms += _pairs(field) if kind == _UNSEPARATED else [field]
    words = len(terms)
    for kind, field in fields:
        terms += _derived(field) if kind != _UNSEPARATED else ()
    if 1 < len(fields) <= _JOINED and all(kind != _UNSEPARATED for kind, _ in fields):
        terms.append(_joined([field for _, field in fields], joints))
    return terms, words


def _pairs(field: str) -> list[str]:
    """Neighbouring letters; a single one is by itself."""
    letters = _letters(field)
    return [first + second for first, second in pairwise(letters)] or letters


def _letters(field: str) -> list[str]:
    """Each letter with its marks."""
    letters: list[str] = []
    for letter in field:
        if letters and unicodedata.category(letter)[0] == "M":
            letters[-1] += letter
        else:
            letters.append(letter)
    return letters


_BORDER = re.compile(r"(?<=\d)(?=\D)|(?<=\D)(?=\d)")


def _derived(field: str) -> Iterator[str]:
    """The parts of a field of letters and digits, and the beginning of a long word."""
    parts = _BORDER.split(field)
    if 1 < len(parts) <= _PARTS:
        yield from parts
    elif len(parts) == 1 and not field[0].isdigit():
        letters = _letters(field)
        if len(letters) >= _PREFIX_OF:
            yield f"{''.join(letters[:_PREFIX])}*"


def _joined(fields: Sequence[str], joints: Sequence[str]) -> str:
    """All fields as one; between two digits the joint stays, for 1.23 is not 12.3."""
    whole = fields[0]
    for joint, field in zip(joints, fields[1:], strict=True):
        whole += (joint if whole[-1].isdigit() and field[0].isdigit() else "") + field
    return whole


_WORD, _UNSEPARATED = "word", "unseparated"


def _fields(token: str) -> tuple[list[tuple[str, str]], list[str]]:
    """The runs of letters and digits of a token, each of one kind of script, and what stands between them."""
    fields: list[tuple[str, str]] = []
    joints: list[str] = []
    joint = "-"
    for letter in _folded(token):
        category = unicodedata.category(letter)[0]
        if category == "M" and fields and not joint:
            fields[-1] = (fields[-1][0], fields[-1][1] + letter)
        elif category in "LN":
            kind = _UNSEPARATED if _of(letter, _UNSEPARATED_SCRIPTS) else _WORD
            if fields and not joint and fields[-1][0] == kind:
                fields[-1] = (kind, fields[-1][1] + letter)
                continue
            if fields:
                joints.append(joint[:1])
            fields.append((kind, letter))
            joint = ""
        else:
            joint += letter
    return fields, joints


def _folded(token: str) -> str:
    """The token in one case, one width, and without accents where words are found without them."""
    if token.isascii():
        return token.lower()
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", token).casefold())
    kept: list[str] = []
    plain = False  # whether the last letter stands without its marks
    for letter in folded:
        if unicodedata.category(letter)[0] == "M":
            if not plain:
                kept.append(letter)
            continue
        plain = _of(letter, _UNACCENTED_SCRIPTS)
        kept.append(unicodedata.normalize("NFD", letter)[0] if plain else letter)
    return "".join(kept).replace(_TATWEEL, "")


_TATWEEL = "\u0640"  # stretches an Arabic word, and is no part of it

_Blocks = tuple[tuple[int, int], ...]

# First and last letters of blocks. Words are not separated: Han, Kana, Hangul, Thai, Lao, Myanmar, Khmer.
_UNSEPARATED_SCRIPTS: _Blocks = (
    *((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1100, 0x11FF), (0x1780, 0x17FF), (0x3005, 0x3007), (0x3021, 0x3029)),
    *((0x3040, 0x30FF), (0x3130, 0x318F), (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xA960, 0xA97F)),
    *((0xA9E0, 0xA9FF), (0xAA60, 0xAA7F), (0xAC00, 0xD7FF), (0xF900, 0xFAFF), (0x1B000, 0x1B16F), (0x20000, 0x323AF)),
)
# Latin, Greek, Cyrillic, Hebrew, Arabic.
_UNACCENTED_SCRIPTS: _Blocks = (
    *((0x0041, 0x024F), (0x0370, 0x052F), (0x0590, 0x077F), (0x08A0, 0x08FF), (0x1E00, 0x1FFF), (0x2C60, 0x2C7F)),
    *((0x2DE0, 0x2DFF), (0xA640, 0xA69F), (0xA720, 0xA7FF)),
)
_FIRSTS = {blocks: [first for first, _ in blocks] for blocks in (_UNSEPARATED_SCRIPTS, _UNACCENTED_SCRIPTS)}


def _of(letter: str, blocks: _Blocks) -> bool:
    number = ord(letter)
    place = bisect_right(_FIRSTS[blocks], number) - 1
    return place >= 0 and number <= blocks[place][1]


# -- ids


@lru_cache(_CACHED)
def term_id(term: str) -> int:
    """Return a term's number: the absolute value of its MurmurHash3, which other clients of Qdrant use as well."""
    hash_ = _murmur3(term.encode())
    return min(hash_ if hash_ < 2**31 else 2**32 - hash_, _MOST_ID)


def _murmur3(data: bytes) -> int:
    """MurmurHash3, x86, 32 bits, seed 0."""
    hash_ = 0
    whole = len(data) & ~3
    for at in range(0, whole, 4):
        hash_ ^= _mixed(int.from_bytes(data[at : at + 4], "little"))
        hash_ = ((hash_ << 13 | hash_ >> 19) * 5 + 0xE6546B64) & 0xFFFFFFFF
    if rest := data[whole:]:
        hash_ ^= _mixed(int.from_bytes(rest, "little"))
    hash_ ^= len(data)
    hash_ = (hash_ ^ hash_ >> 16) * 0x85EBCA6B & 0xFFFFFFFF
    hash_ = (hash_ ^ hash_ >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    return hash_ ^ hash_ >> 16


def _mixed(block: int) -> int:
    block = block * 0xCC9E2D51 & 0xFFFFFFFF
    block = (block << 15 | block >> 17) & 0xFFFFFFFF
    return block * 0x1B873593 & 0xFFFFFFFF
