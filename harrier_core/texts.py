"""Texts as they are given: listed, and checked before anything is done with them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from harrier_core.errors import EmptyText, InvalidText, NotText, Problem, raise_problems


def listed(texts: object) -> list[Any]:
    """Return the texts as a list; a single string is refused, because it would be read as a list of letters."""
    if isinstance(texts, Iterable) and not isinstance(texts, str | bytes):
        return list(texts)
    reason = f"is missing: texts must be a list of strings, got {type(texts).__name__}; put a single text in a list"
    raise NotText([Problem(0, NotText, reason)])


def unusable(texts: Sequence[object]) -> Iterator[Problem]:
    """Yield the problems of texts that cannot be used at all."""
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            yield Problem(position, NotText, f"is {type(text).__name__}, not str; pass its text")
        elif not text.strip():
            yield Problem(position, EmptyText, "is empty or blank, which has no meaning to embed; omit it")
        elif not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as error:
                reason = (
                    f"has a lone surrogate (U+{ord(text[error.start]):04X}) at character {error.start}, which is half "
                    "a character; decode its source again, with errors='replace' if need be"
                )
                yield Problem(position, InvalidText, reason)


def usable_query(query: object) -> str:
    """Return a query as a plain str, or raise an error that says what is wrong with the query."""
    raise_problems([replace(problem, reason=f"(the query) {problem.reason}") for problem in unusable([query])])
    return str.__str__(query)
