"""A synthetic library with questions and known answers, and an embedder that compares words."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from functools import cache

import numpy as np
from numpy.typing import NDArray

from harrier_core import Embedder, EmbeddingSpace, Encoded, Record, Task
from harrier_core.evaluation import Judgements, Question
from harrier_core.testing import PROSE

DIMENSIONS = 64


class Bag(Embedder):
    """An embedder without a model: texts are sums of word directions, including the instruction."""

    name = "bag of words"
    max_tokens = 1_000_000
    space = EmbeddingSpace("bag of words", None, "w", "t", DIMENSIONS, "mean", "l2", "{text}")
    tasks: Mapping[str, str] = {"web_search_query": "", "sts_query": "similar"}

    def __init__(self) -> None:
        self.asked: list[tuple[str, object]] = []  # the texts that were encoded as queries, and the task of each

    def count_tokens(self, texts: Iterable[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    def submit_documents(self, texts: Iterable[str]) -> Future[Encoded]:
        return self._done(list(texts))

    def submit_queries(self, texts: Iterable[str], *, task: str | Task | None = None) -> Future[Encoded]:
        given = list(texts)
        self.asked += [(text, task) for text in given]
        instruction = task.instruction if isinstance(task, Task) else self.tasks[task or "web_search_query"]
        return self._done([f"{instruction} {text}" for text in given])

    def _done(self, texts: list[str]) -> Future[Encoded]:
        vectors = np.stack([_vector(text) for text in texts]) if texts else np.empty((0, DIMENSIONS), np.float32)
        done: Future[Encoded] = Future()
        done.set_result(Encoded(vectors, self.count_tokens(texts)))
        return done


def _vector(text: str) -> NDArray[np.float32]:
    total = np.sum([_direction(word) for word in text.split()], axis=0)
    return np.asarray(total / np.linalg.norm(total), dtype=np.float32)


@cache
def _direction(word: str) -> NDArray[np.float32]:
    number = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little")
    return np.random.default_rng(number).standard_normal(DIMENSIONS, dtype=np.float32)


WORDS = [f"w{number}" for number in range(400)]
WRONG = "w1 w2 w3 w4 w5 w6"  # an instruction that looks for something else

# Words of prose, which tiny models can read, and an instruction with many of them.
SPOKEN = sorted(
    {word.strip(".,;?").lower() for text in PROSE for word in text.split() if len(word) > 4 and text.isascii()}
)
WRONGLY_SPOKEN = " ".join(SPOKEN[:30])


def library(
    records: int = 300, questions: int = 60, seed: int = 0, words: Sequence[str] = WORDS
) -> tuple[list[Record], Judgements]:
    """Return records of twelve words, and questions with four words of a record and two others."""
    chance = random.Random(seed)
    made: list[Record] = []
    for number in range(records):
        text = " ".join(chance.sample(words, 12))
        made.append(Record(f"r{number}", text, {"lang": "en" if number % 3 else "fr", "number": number}))
    asked = [_question(f"q{number}", made[number], chance, words) for number in range(questions)]
    return made, Judgements(asked, "library")


def _question(name: str, record: Record, chance: random.Random, words: Sequence[str]) -> Question:
    own = chance.sample(record.text.split(), 4)
    return Question(name, " ".join([*own, *chance.sample(words, 2)]), {record.id: 1})
