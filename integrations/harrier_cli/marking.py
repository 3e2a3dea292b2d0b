"""The words of a query in a text: where they are, and which sentences have most of them. Pure.

Words are compared without case and accents, and with or without an ending: "vaccine" is found in "Vaccines". They are
also compared as in search by word: "vaccination" is found by its beginning, and KB5034441 by 5034441. Scripts that do
not separate words (Chinese, Japanese, Thai and so on) are compared by pairs of characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log

from harrier_core.lexical import document_terms, query_terms

Span = tuple[int, int]  # where a part of a text begins and ends

# Letters, including the vowel signs of Arabic and Indic scripts, which Python does not count as letters.
_LETTERS = r"[\w\u0610-\u061a\u064b-\u0670\u0900-\u0963\u0966-\u0dff]+"
# A code is one word, including its separators: v1.2.3, AB-1234.
_WORD = re.compile(rf"(?=[\w.:/-]*\d){_LETTERS}(?:[.:/-]{_LETTERS})+|{_LETTERS}")
# Han, kana, bopomofo; Thai, Lao, Khmer, Myanmar.
_UNPARTED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3100-\u312f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff]+"
)
# A sentence ends with a mark and a blank, with an East Asian mark, or with its line.
_END = re.compile(r"(?<=[.!?…])[\"'»”’)\]]*\s+|(?<=[。！？｡])|\n+")
_LONG_ENDING = 3  # letters by which two forms of a word may differ
_LEAST_STEM = 4


@dataclass(frozen=True, slots=True)
class Query:
    """The words of a query, folded."""

    words: frozenset[str]
    pairs: frozenset[str]  # from scripts that do not separate words
    terms: Mapping[int, str]  # the terms for search by word, with the word that each finds in another form

    @classmethod
    def of(cls, text: str) -> Query:
        """Split a query. Words of one or two letters count only if it has no others."""
        folded = fold(text)[0]
        runs = _UNPARTED.findall(folded)
        pairs = {run[at : at + 2] for run in runs for at in range(max(1, len(run) - 1))}
        words = set(_WORD.findall(_UNPARTED.sub(" ", folded)))
        words = {word for word in words if len(word) > 2} or words
        return cls(frozenset(words), frozenset(pairs), {id_: word for word in sorted(words) for id_ in _telling(word)})


@dataclass(frozen=True, slots=True)
class Found:
    """A part of a text that has a word of the query."""

    begin: int
    end: int
    term: str


def fold(text: str) -> tuple[str, list[int]]:
    """Return a text without case and accents, and for each of its characters the position of the original one."""
    folded: list[str] = []
    places: list[int] = []
    for place, character in enumerate(text):
        if character.isascii():
            plain = character.lower()
        else:
            parts = unicodedata.normalize("NFKD", character)
            plain = "".join(each for each in parts if not unicodedata.combining(each)).casefold()
            if "\u3040" <= character <= "\u30ff":  # the marks of voiced kana are not accents
                plain = character
        folded.append(plain)
        places += [place] * len(plain)
    return "".join(folded), places


def found_in(text: str, query: Query) -> list[Found]:
    """Return the parts of a text that have a word of the query, in their order."""
    folded, places = fold(text)
    words = _WORD.finditer(folded) if query.words else ()
    found = [(match.start(), match.end(), term) for match in words if (term := _term(match[0], query))]
    for run in _UNPARTED.finditer(folded) if query.pairs else ():
        found += [
            (at, at + len(pair), pair)
            for pair in query.pairs
            for at in range(run.start(), run.end())
            if folded.startswith(pair, at) and at + len(pair) <= run.end()
        ]
    return [Found(places[begin], _with_marks(text, places[end - 1] + 1), term) for begin, end, term in sorted(found)]


def _with_marks(text: str, end: int) -> int:
    """Return where a part ends if accents follow its last character."""
    while end < len(text) and unicodedata.combining(text[end]):
        end += 1
    return end


def _telling(word: str) -> Iterator[int]:
    """Yield the terms of a query's word; for a code only the distinctive ones, which weigh more."""
    terms = query_terms(word)
    code = any(map(str.isdigit, word))
    return (id_ for id_, weight in zip(terms.ids, terms.weights, strict=True) if weight > 1 or not code)


def _term(word: str, query: Query) -> str | None:
    """Return the query's word that a word is a form of."""
    if word in query.words:
        return word
    for term in query.words:
        short, long = sorted((word, term), key=len)
        if len(short) >= _LEAST_STEM and len(long) - len(short) <= _LONG_ENDING and long.startswith(short):
            return term
    return next((query.terms[id_] for id_ in document_terms(word).ids if id_ in query.terms), None)


def merged(spans: Iterable[Span]) -> list[Span]:
    """Return the same parts, with those that touch or overlap merged."""
    done: list[Span] = []
    for begin, end in sorted(spans):
        if done and begin <= done[-1][1]:
            done[-1] = (done[-1][0], max(end, done[-1][1]))
        else:
            done.append((begin, end))
    return done


def sentences(text: str) -> list[Span]:
    """Return the positions of a text's sentences: those with anything but blanks."""
    found, begin = [], 0
    for end in [*(match.span() for match in _END.finditer(text)), (len(text), len(text))]:
        if text[begin : end[0]].strip():
            found.append((begin, end[0]))
        begin = end[1]
    return found


@dataclass(frozen=True, slots=True)
class Weights:
    """The weight of each term of a query: one that is in most sentences says little."""

    weights: dict[str, float]

    @classmethod
    def of(cls, query: Query, texts: Sequence[str]) -> Weights:
        """Count in how many sentences of the given texts each term occurs."""
        counts = dict.fromkeys([*query.words, *query.pairs], 0)
        number = 0
        for text in texts:
            for begin, end in sentences(text):
                number += 1
                for term in {each.term for each in found_in(text[begin:end], query)}:
                    counts[term] += 1
        return cls({term: log((1 + number) / (1 + count)) + 0.1 for term, count in counts.items()})

    def of_terms(self, found: Iterable[Found]) -> float:
        """Return the sum of the weights of the terms found, each counted once."""
        return sum(self.weights[term] for term in {each.term for each in found})

    def telling(self, found: Iterable[Found]) -> list[Found]:
        """Leave out the terms that occur in about every second sentence, unless there are no others."""
        found = list(found)
        most = max((self.weights[each.term] for each in found), default=0.0)
        return [each for each in found if self.weights[each.term] >= min(most, 0.8)]


def best_part(text: str, query: Query, weights: Weights, room: int) -> Span:
    """Return adjacent sentences with most of the query's words, within the given number of characters if possible.

    If none has any, return the first ones.
    """
    spans = sentences(text) or [(0, len(text))]
    found = [found_in(text[begin:end], query) for begin, end in spans]
    best, best_score = (0, _last_within(spans, 0, room)), 0.0
    for first in range(len(spans)):
        if found[first]:
            last = _last_within(spans, first, room)
            score = weights.of_terms(each for part in found[first : last + 1] for each in part)
            if score > best_score:
                best, best_score = (first, last), score
    return spans[best[0]][0], spans[best[1]][1]


def _last_within(spans: Sequence[Span], first: int, room: int) -> int:
    """Return the last sentence that still fits after the first one."""
    last = first
    while last + 1 < len(spans) and spans[last + 1][1] - spans[first][0] <= room:
        last += 1
    return last
