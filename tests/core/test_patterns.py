"""Patterns of $like and $ilike compared with a slow, obvious matcher."""

from __future__ import annotations

import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harrier_core.patterns import Wild, alike, fits, pattern_of


def slowly(pattern: str, text: str, *, any_case: bool = False) -> bool:
    """Match letter by letter, trying every possibility."""
    if not pattern:
        return not text
    first, rest = pattern[0], pattern[1:]
    if first == "%":
        return any(slowly(rest, text[at:], any_case=any_case) for at in range(len(text) + 1))
    if not text:
        return False
    if first == "\\":
        first, rest = pattern[1], pattern[2:]
    elif first == "_":
        return slowly(rest, text[1:], any_case=any_case)
    same = first.casefold() == text[0].casefold() if any_case else first == text[0]
    return same and slowly(rest, text[1:], any_case=any_case)


LETTERS = "aAbß\u1e9eſsSkK\u212aéÉσς\u03a3iıİ😀\n%_\\.*[]^-\u0345"
TEXTS = st.text(LETTERS, max_size=7)
PATTERNS = st.text(LETTERS + "%_%_%", max_size=6).filter(
    lambda text: (len(text) - len(text.rstrip("\\"))) % 2 == 0  # no backslash at the end, except after another
)


@given(PATTERNS, TEXTS, st.booleans())
@example("%ab%", "aab", False)
@example("%a_", "aaab", False)
@example("a%a", "a", False)
@example("%", "", False)
@example("_%_", "\n\n", False)
def test_fits(pattern: str, text: str, any_case: bool) -> None:
    assert fits(pattern_of(pattern, any_case=any_case), text) == slowly(pattern, text, any_case=any_case)


@given(TEXTS, st.booleans())
def test_an_escaped_text_matches_only_itself(text: str, any_case: bool) -> None:
    """An escaped pattern has no wildcards, whatever the text."""
    pattern = pattern_of("".join(f"\\{letter}" for letter in text), any_case=any_case)
    assert fits(pattern, text)
    assert not fits(pattern, f"{text}a")
    assert Wild.ANY not in pattern
    assert Wild.ONE not in pattern


def test_the_parts() -> None:
    """Redundant wildcards are merged, and a letter in `$ilike` stands for all its cases."""
    assert pattern_of(r"a%%_\%\a") == ("a", Wild.ANY, Wild.ONE, "%", "a")
    assert pattern_of("k%", any_case=True) == ("kK\u212a", Wild.ANY)
    assert pattern_of("") == ()
    for pattern in ("\\", "a\\", "\\\\\\"):
        with pytest.raises(ValueError, match="^ends with a backslash"):
            pattern_of(pattern)


@pytest.mark.slow
def test_case_variants() -> None:
    """They are exactly the characters with equal case folding, the given one first."""
    letters: dict[str, set[str]] = {}
    for letter in map(chr, range(sys.maxunicode + 1)):
        letters.setdefault(letter.casefold(), set()).add(letter)
    for letter in map(chr, range(sys.maxunicode + 1)):
        found = alike(letter)
        if len(found) > 1 or len(letters[letter.casefold()]) > 1:
            assert found[0] == letter
            assert set(found) == letters[letter.casefold()]
            assert len(found) == len(set(found))


def test_matching_time_is_bounded() -> None:
    """Twenty % signs do not cause backtracking."""
    text = "a" * 2_000
    assert fits(pattern_of("%a" * 20 + "%"), text)
    assert not fits(pattern_of("%a" * 20 + "%b"), text)
    assert not fits(pattern_of("%a_a" * 20 + "%b%"), text)
