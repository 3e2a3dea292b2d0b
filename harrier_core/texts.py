"""Texts as they are given: listed, and looked at before anything is done with them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from harrier_core.errors import EmptyText, InvalidText, NotText, Problem, raise_problems


def listed(texts: object) -> list[Any]:
    """Return the texts as a list; one string is refused, for it would be taken for a list of letters."""
    if isinstance(texts, Iterable) and not isinstance(texts, str | bytes):
        return list(texts)
    reason = f"is missing: a list of texts belongs here, not {type(texts).__name__}; put a single text in a list"
    raise NotText([Problem(0, NotText, reason)])


def unusable(texts: Sequence[object]) -> Iterator[Problem]:
    """What is wrong with texts that nothing can be made of."""
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            yield Problem(position, NotText, f"is {type(text).__name__}, not str; pass its text")
        elif not text.strip():
            yield Problem(position, EmptyText, "is empty or blank, which has no meaning to embed; leave it out")
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
    """Return a query as plain text, or raise what is wrong with it; texts have the same positions, so it says which."""
    raise_problems([replace(problem, reason=f"(the query) {problem.reason}") for problem in unusable([query])])
    return str.__str__(query)
