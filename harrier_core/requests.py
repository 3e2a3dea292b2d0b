"""A caller's request to an encoder: its texts, checked and counted, turned into rows of tokens for the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from harrier_core.callers import CALLER
from harrier_core.calls import Call, Reading, unit_vectors
from harrier_core.embedder import Encoded
from harrier_core.errors import Problem, SettingError, raise_problems
from harrier_core.texts import listed, unusable
from harrier_core.token_rows import Row, split, unique, windows
from harrier_core.tokens import Tokens

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Terms:
    """The settings of an encoder that do not depend on the texts."""

    tokens: Tokens
    dimensions: int
    limit: int  # tokens of a text, its prompt included
    truncate: bool
    token_budget: int | None
    cut: Callable[[int], None]  # called with the number of texts that were truncated
    read: Reading = unit_vectors

    def request(
        self, texts: Iterable[str], prompt: str, *, urgent: bool, lasting: str | None = None
    ) -> Call | Future[Encoded]:
        """Return a call for the engine with its first window, or the answer if there is nothing to encode.

        lasting: the beginning of the prompt that other calls share, if that is not all of it.
        Errors in a small number of texts are raised here, before the model is loaded.
        """
        spent = self.tokens.spent_on(prompt)
        if self.limit <= spent:  # otherwise truncation would make all queries equal
            raise SettingError(
                f"max_tokens={self.limit} leaves no room for a text: its prompt and end tokens take {spent}"
            )
        own = _Texts.of(texts)
        if not own.distinct:
            raise_problems(own.problems)
            return _nothing(self.dimensions)
        counts = np.zeros(len(own.distinct), dtype=np.int32)
        cut: set[int] = set()
        vectors = np.empty((len(own.distinct), self.dimensions), dtype=np.float32)
        beginning = self.tokens.beginning(prompt if lasting is None else lasting)
        rows = self._rows(own, prompt, beginning, counts, cut)
        call = Call(rows, own.rows, vectors, counts, cut, self.token_budget, urgent, self.read, CALLER.get())
        call.add(call.fetch())
        return call

    def _rows(
        self, texts: _Texts, prompt: str, beginning: tuple[int, ...], counts: NDArray[np.int32], cut: set[int]
    ) -> Iterator[Sequence[Row]]:
        """Yield rows of ids, a window of texts at a time; none after an invalid text. At the end, raise for all."""
        too_long: list[Problem] = []
        for window in windows(texts.distinct):
            tokenized = self.tokens.tokenize(texts.distinct[window], prompt, self.limit, truncate=self.truncate)
            counts[window] = [len(row) for row in tokenized.rows]
            if tokenized.truncated:
                now = {window.start + each for each in tokenized.truncated}
                cut |= now
                self.cut(sum(row in now for row in texts.rows))
            too_long += (replace(each, position=window.start + each.position) for each in tokenized.problems)
            if window.stop == len(texts.distinct):
                raise_problems(texts.problems_with(too_long))
            wrong = too_long or texts.problems
            yield [] if wrong else [split(row, beginning) for row in tokenized.rows]


@dataclass(frozen=True, slots=True)
class _Texts:
    """The texts of one call without repetitions, and their positions in the caller's list."""

    distinct: list[str]
    rows: list[int]  # for each usable text, the number of the distinct one
    positions: list[int]  # and its position in the caller's list
    problems: list[Problem]  # those with the unusable ones

    @classmethod
    def of(cls, texts: Iterable[str]) -> _Texts:
        given = listed(texts)
        problems = {problem.position: problem for problem in unusable(given)}
        usable = {position: str.__str__(text) for position, text in enumerate(given) if position not in problems}
        distinct, rows = unique(usable.values())
        return cls(distinct, rows, list(usable), list(problems.values()))

    def problems_with(self, found: Iterable[Problem]) -> list[Problem]:
        """Return all problems of the call; those of a distinct text are listed for each of its positions."""
        by_row = {problem.position: problem for problem in found}
        return self.problems + [
            replace(by_row[row], position=position)
            for position, row in zip(self.positions, self.rows, strict=True)
            if row in by_row
        ]


def _nothing(dimensions: int) -> Future[Encoded]:
    done: Future[Encoded] = Future()
    done.set_result(Encoded(np.empty((0, dimensions), dtype=np.float32), ()))
    return done
