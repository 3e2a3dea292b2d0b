"""A question, and its answers. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

Tell = Callable[[str, int, int], None]  # called with the current step, how much of it is done, and the total


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and how well records answer it.

    grades: those of records by id. 0 means that a record was judged and does not answer; higher is better. texts:
    passages that answer it, in records that are not known. group: questions of one group resemble each other, such as
    those about one page, and count together when chance is assessed.
    """

    id: str
    text: str
    grades: Mapping[str, int] = field(default_factory=dict)
    texts: Sequence[str] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    group: str | None = None

    @property
    def relevant(self) -> list[str]:
        """The ids of the records that answer it."""
        return [record for record, grade in self.grades.items() if grade > 0]


def question_id(text: str) -> str:
    """Return an id for a question that has none: the same for the same text."""
    return blake2b(text.encode(errors="surrogatepass"), digest_size=8).hexdigest()


def ignore(what: str, done: int, total: int) -> None:
    """Ignore progress."""
