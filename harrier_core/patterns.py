"""Patterns of $like and $ilike: what each of their characters stands for, and whether a text matches. Pure."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import lru_cache


class Wild(Enum):
    """A wildcard: for any text, including an empty one, or for any single character."""

    ANY = "%"
    ONE = "_"


# Each part is a wildcard, or the characters of which one must be there: several if case does not matter.
Pattern = tuple[str | Wild, ...]


def pattern_of(text: str, *, any_case: bool = False) -> Pattern:
    """Return the parts of a pattern. Raise ValueError if it ends with a backslash that nothing follows.

    any_case: a character also matches those that are equal to it under Unicode case folding: É for é, ẞ for ß but not
    for ss. No language's own rules apply: the Turkish dotted and dotless i are two letters.
    """
    parts: list[str | Wild] = []
    letters = iter(text)
    for letter in letters:
        if letter == "\\":
            literal = next(letters, None)
            if literal is None:
                raise ValueError("ends with a backslash, which must be followed by the character that it stands for")
            parts.append(alike(literal) if any_case else literal)
        elif letter not in ("%", "_"):
            parts.append(alike(letter) if any_case else letter)
        elif letter == "_" or parts[-1:] != [Wild.ANY]:
            parts.append(Wild(letter))
    return tuple(parts)


def alike(letter: str) -> str:
    """Return the characters that are equal to this one under Unicode case folding. It comes first itself."""
    return letter + "".join(each for each in _folded().get(letter.casefold(), letter) if each != letter)


@lru_cache(maxsize=1)
def _folded() -> Mapping[str, str]:
    """Return the characters of each folding that several of them share."""
    letters: dict[str, str] = {}
    for letter in map(chr, range(sys.maxunicode + 1)):
        folded = letter.casefold()
        if folded != letter:
            letters[folded] = letters.get(folded, folded if len(folded) == 1 else "") + letter
    return letters


def fits(pattern: Pattern, text: str) -> bool:
    """Return whether the whole text matches the pattern."""
    return _compiled(pattern).fullmatch(text) is not None


@lru_cache(maxsize=256)
def _compiled(pattern: Pattern) -> re.Pattern[str]:
    """Return a regular expression whose time is proportional to the text's length times the pattern's.

    Each part between two % is matched at its first occurrence, without backtracking: no later one leaves more for the
    rest. The last part is matched at the end.
    """
    first, *others = _between(pattern)
    middle = "".join(f"(?>.*?{each})" for each in others[:-1])
    last = f".*{others[-1]}" if others else ""
    return re.compile(first + middle + last, re.DOTALL)


def _between(pattern: Pattern) -> Iterator[str]:
    """Yield the expressions for the parts between two %."""
    part = ""
    for each in pattern:
        if each is Wild.ANY:
            yield part
            part = ""
        elif each is Wild.ONE:
            part += "."
        else:
            part += re.escape(each) if len(each) == 1 else f"[{re.escape(each)}]"
    yield part
