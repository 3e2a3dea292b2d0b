"""A Qwen3-Reranker's verdict: what it is asked about a query and a text, and how its answer is scored.

It is asked for one word, and the score is how much more its last token leans to "yes" than to "no". That takes two rows
of the language-model head; the kit does not need the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harrier_core.checkpoint import read_rows
from harrier_core.errors import ModelUnsupported
from harrier_core.models import Model, weight_files
from harrier_core.tokens import Tokens

if TYPE_CHECKING:
    from harrier_core.types import Vector, Vectors

# Byte for byte as in the model card.
_BEFORE = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
_AFTER = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
_MARKERS = ("<|im_start|>", "<|im_end|>", "<think>", "</think>")


@dataclass(frozen=True, slots=True)
class Prompt:
    """The prompt that comes before a document."""

    lasting: str  # the same for all queries of one instruction
    query: str

    @classmethod
    def of(cls, instruction: str, query: str) -> Prompt:
        """Return the prompt for an instruction and a query."""
        return cls(f"<Instruct>: {instruction}\n<Query>: ", f"{query}\n<Document>: ")

    @property
    def whole(self) -> str:
        """The whole prompt."""
        return self.lasting + self.query


class Judge:
    """A reader of one reranker's hidden states, with the tokenizer that builds its input."""

    def __init__(self, model: Model, tokens: Tokens) -> None:
        try:
            self.tokens = tokens.framed(_BEFORE, _AFTER, _MARKERS)
            answers = [tokens.id_of(answer) for answer in ("yes", "no")]
        except ModelUnsupported as error:
            raise ModelUnsupported(f"{model.folder} is not a Qwen3-Reranker: {error}") from None
        self._difference = _difference(model, answers)

    def read(self, hidden: Vectors) -> Vectors:
        """Return the log-odds of "yes", (texts, 1)."""
        with np.errstate(invalid="ignore", over="ignore"):
            return (hidden @ self._difference)[:, None]


def _difference(model: Model, answers: Sequence[int]) -> Vector:
    """Return the head's row for "yes" minus that for "no", (hidden,)."""
    head = "embed_tokens.weight" if model.config.get("tie_word_embeddings") else "lm_head.weight"
    rows = read_rows(weight_files(model), head, answers)
    if rows is None:
        raise ModelUnsupported(
            f"{model.folder} lacks {head}, the language-model head that says yes or no; it is an embedding model, or "
            "an incomplete copy"
        )
    difference: Vector = (rows[0] - rows[1]).numpy()
    return difference


def probabilities(log_odds: Vectors) -> list[float]:
    """Return the share of "yes" in the softmax over both answers, in float64: near 1, float32 has many ties."""
    return [float(share) for share in np.exp(-np.logaddexp(0.0, -log_odds[:, 0].astype(np.float64)))]
