"""Letters of any script: how a search by word treats each, and the one form in which it is compared."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right

# A text's kinds are a string of the same length, in which regular expressions find runs. "l" is a letter or digit whose
# accents are dropped, "w" another one, "m" a mark, "h" a Han letter, "s" another letter of a script that does not
# separate words, "r" a letter or digit that is replaced before words are found, and "-" is anything else.
_Blocks = tuple[tuple[int, int], ...]

# First and last letters of blocks in which words are not separated: Han, Kana, Hangul, Thai, Lao, Myanmar, Khmer.
_UNSEPARATED: _Blocks = (
    *((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1100, 0x11FF), (0x1780, 0x17FF), (0x3005, 0x3007), (0x3021, 0x3029)),
    *((0x3040, 0x30FF), (0x3130, 0x318F), (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xA960, 0xA97F)),
    *((0xA9E0, 0xA9FF), (0xAA60, 0xAA7F), (0xAC00, 0xD7FF), (0xF900, 0xFAFF), (0x1B000, 0x1B16F), (0x20000, 0x323AF)),
)
_HAN: _Blocks = (
    *((0x3005, 0x3007), (0x3021, 0x3029), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF)),
)
# Latin, Greek, Cyrillic, Hebrew, Arabic.
_UNACCENTED: _Blocks = (
    *((0x0041, 0x024F), (0x0370, 0x052F), (0x0590, 0x077F), (0x08A0, 0x08FF), (0x1E00, 0x1FFF), (0x2C60, 0x2C7F)),
    *((0x2DE0, 0x2DFF), (0xA640, 0xA69F), (0xA720, 0xA7FF)),
)
_FIRSTS = {blocks: [first for first, _ in blocks] for blocks in (_UNSEPARATED, _HAN, _UNACCENTED)}
UNSEPARATED = "".join(f"{chr(first)}-{chr(last)}" for first, last in _UNSEPARATED)  # for a character class
# Letters that Unicode does not decompose, but that users type in more than one way: dotless i, because a capital I is
# either; strokes, like accents; what the keyboards for Persian, Urdu and Arabic have for the same letter; and final
# letters of Arabic that are often confused. Letters that a language keeps apart on one keyboard stay.
_SAME = {ord(one): other for one, other in zip("ıłøđħŧکیىةہۀ", "ilodhtكييههه", strict=True)}
_TWO = {"æ": "ae", "œ": "oe"}  # which become two letters
_REMEMBERED = 1 << 16  # letters
_TATWEEL = "\u0640"  # stretches an Arabic word, and is not part of it
_VARIATIONS = re.compile("[\u180b-\u180d\ufe00-\ufe0f\U000e0100-\U000e01ef]")  # the same letter in another shape
_MARKS = 30  # a letter has at most this many (Unicode's stream-safe form)
_FEW_MARKS = re.compile(f"[^m]m{{0,{_MARKS}}}|^m{{1,{_MARKS}}}")
_ACCENTED = re.compile("lm+")


def folded(text: str) -> tuple[str, str]:
    """Return a text in one case, one width, and without accents if words are found without them; and its kinds."""
    if text.isascii():
        text = text.lower()
        return text, text.translate(_KINDS)
    text = _VARIATIONS.sub("", _few_marks(text))
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    kinds = text.translate(_KINDS)
    if "r" in kinds:
        text = text.translate(_REPLACED)
        kinds = text.translate(_KINDS)
    if "lm" in kinds:
        text = _without_accents(text, kinds)
        kinds = text.translate(_KINDS)
    if _TATWEEL in text:
        text = text.replace(_TATWEEL, "")
        kinds = text.translate(_KINDS)
    return (text.translate(_PLAIN) if "l" in kinds else text), kinds


def plain_digits(text: str) -> str:
    """Return a text in which the decimal digits of any script are those of ASCII."""
    return text.translate(_REPLACED)


def _few_marks(text: str) -> str:
    """Remove marks in excess of those that a letter has in any language: sorting many takes quadratic time."""
    if len(text) <= _MARKS or "m" * _MARKS not in (kinds := text.translate(_KINDS)):
        return text
    return "".join(text[slice(*kept.span())] for kept in _FEW_MARKS.finditer(kinds))


def _without_accents(text: str, kinds: str) -> str:
    kept: list[str] = []
    at = 0
    for found in _ACCENTED.finditer(kinds):
        kept.append(text[at : found.start() + 1])
        at = found.end()
    return "".join([*kept, text[at:]])


class _Kinds(dict[int, str]):
    """The kind of each letter, determined when it is first seen."""

    def __missing__(self, number: int) -> str:
        kind = _kind(number)
        if len(self) < _REMEMBERED:
            self[number] = kind
        return kind


class _Plain(dict[int, str]):
    """Each letter without what is written above or below it, if words of its script are found without that."""

    def __missing__(self, number: int) -> str:
        letter = chr(number)
        plain = _base(letter.translate(_SAME)).translate(_SAME) if _of(number, _UNACCENTED) else letter
        if len(self) < _REMEMBERED:
            self[number] = plain
        return plain


class _Replaced(dict[int, str]):
    """What replaces each letter before words are found: most are kept."""

    def __missing__(self, number: int) -> str:
        new = _replacement(chr(number))
        if len(self) < _REMEMBERED:
            self[number] = new
        return new


def _replacement(letter: str) -> str:
    """Return the ASCII digit for a decimal digit, two letters for a letter that is made of two, or the letter."""
    digit = unicodedata.decimal(letter, None)
    return _TWO.get(_base(letter), letter) if digit is None else str(digit)


def _base(letter: str) -> str:
    return unicodedata.normalize("NFD", letter)[0]


def _kind(number: int) -> str:
    letter = chr(number)
    category = unicodedata.category(letter)[0]
    if category == "M":
        return "m"
    if category not in "LN":
        return "-"
    if _replacement(letter) != letter:
        return "r"
    if _of(number, _UNSEPARATED):
        return "h" if _of(number, _HAN) else "s"
    return "l" if _of(number, _UNACCENTED) else "w"


def _of(number: int, blocks: _Blocks) -> bool:
    place = bisect_right(_FIRSTS[blocks], number) - 1
    return place >= 0 and number <= blocks[place][1]


_KINDS, _PLAIN, _REPLACED = _Kinds(), _Plain(), _Replaced()
