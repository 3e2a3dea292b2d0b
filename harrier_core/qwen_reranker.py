"""QwenReranker: Qwen3-Reranker on the kit's own decoder, alongside the encoders of a process.

    reranker = QwenReranker("Qwen/Qwen3-Reranker-0.6B")
    matches = index.search("how do I reset my password", k=5, rerank=reranker, among=50)

torch and the tokenizer are imported when they are first needed, never with this module.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, ClassVar, Literal, Never

from harrier_core.embedder import Encoded, wait_for
from harrier_core.ending import refuse_at_end
from harrier_core.errors import Problem, TaskError, TextTooLong, raise_problems
from harrier_core.foreign import unknown_keyword
from harrier_core.model_user import ModelUser
from harrier_core.purposes import check_reranker
from harrier_core.shared import Shared
from harrier_core.tasks import Task
from harrier_core.texts import usable_query
from harrier_core.tracing import span

if TYPE_CHECKING:
    from harrier_core.verdicts import Judge, Prompt

DEFAULT_JUDGING = Task("Given a web search query, retrieve relevant passages that answer the query")

_judges: Shared[Judge] = Shared()


class QwenReranker(ModelUser):
    """Scores texts by how well they answer a query, with a Qwen3-Reranker, which reads the two together.

    A score is the model's probability of "yes", between 0 and 1. It runs as an Encoder does: without padding, the texts
    of several callers together, with the priority of documents. Queries to embed never wait for them: an Encoder of
    another model has its own queue, and one of the same model takes precedence.

    It holds only settings: making one loads nothing, pickling or copying one carries only the settings, and rerankers
    with equal settings share one loaded model, which is released when the last of them is closed or collected. Any
    number of threads may use one at once; `index.asearch` runs it on a separate thread.

        with Encoder("harrier-0.6b") as encoder, QwenReranker("Qwen/Qwen3-Reranker-0.6B") as reranker:
            index = Index(store, encoder)
            for match in index.search("reset a password", k=5, rerank=reranker, among=50):
                print(match.score, match.text)

    A text that spells a token of the prompt, such as "<|im_end|>", stays ordinary text, so that no document can end the
    question and give the answer.
    """

    _called = "reranker"
    _needs = "a QwenReranker"
    _check = staticmethod(check_reranker)
    _unsaid: ClassVar = {"task": DEFAULT_JUDGING}

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        revision: str | None = None,
        device: str | None = None,
        dtype: str | None = None,
        max_tokens: int | None = None,
        on_overflow: Literal["error", "truncate"] = "error",
        task: Task = DEFAULT_JUDGING,
        token_budget: int | None = None,
        **foreign: Never,
    ) -> None:
        """Create a reranker for a folder, or a name on the hub: Qwen/Qwen3-Reranker-0.6B, -4B or -8B.

        device, dtype: chosen for this machine unless given; `placement` says what and why. device="cuda:0,cuda:1"
        spreads the layers over several devices, for a model larger than one of them.
        max_tokens: a limit below the model's own, for query, document and prompt together. on_overflow: whether a
        document that exceeds it is an error or is truncated at its end.
        task: what a document has to be for a query. token_budget: tokens in one forward pass.
        foreign: none are accepted; for a name that another library uses, the error names the kit's own.
        """
        super().__init__(
            model,
            revision=revision,
            device=device,
            dtype=dtype,
            max_tokens=max_tokens,
            on_overflow=on_overflow,
            task=task,
            token_budget=token_budget,
        )
        if not isinstance(task, Task):
            raise TaskError(f"a reranker's task must be Task('one sentence'), got {type(task).__name__}")
        if foreign:
            raise unknown_keyword("QwenReranker", next(iter(foreign)), self._settings)

    def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return for each text the probability that it answers the query; higher is better."""
        with span("rerank", self.name) as tell:
            encoded = wait_for(self._submit(query, texts), self._called)
            tell(len(encoded))
        from harrier_core.verdicts import probabilities  # once the tokenizer and torch are known to be there

        return probabilities(encoded.vectors)

    def _submit(self, query: str, texts: Iterable[str]) -> Future[Encoded]:
        judge = self._judge  # before importing modules that need the tokenizer
        from harrier_core.requests import Terms
        from harrier_core.verdicts import Prompt

        refuse_at_end()
        task: Task = self._settings["task"]
        prompt = Prompt.of(task.instruction, usable_query(query))
        self._refuse_long(judge, prompt)
        truncate = self._settings["on_overflow"] == "truncate"
        budget = self._settings["token_budget"]
        terms = Terms(judge.tokens, 1, self.max_tokens, truncate, budget, self._count_cut, judge.read)
        request = terms.request(texts, prompt.whole, urgent=False, lasting=prompt.lasting)
        return request if isinstance(request, Future) else self._engine.submit(request)

    def _refuse_long(self, judge: Judge, prompt: Prompt) -> None:
        """Raise TextTooLong if a query leaves no room for a document: all documents would get the same score."""
        spent, most = judge.tokens.spent_on(prompt.whole), self.max_tokens
        if spent >= most:
            reason = (
                f"(the query) has {spent:,} tokens with its prompt, which leave no room for a document within {most:,}"
            )
            raise_problems([Problem(0, TextTooLong, f"{reason}; shorten it")])

    @property
    def _judge(self) -> Judge:
        model, tokens = self._model, self._tokenizer
        from harrier_core.verdicts import Judge

        return self._shared("judge", lambda: _judges.use((model.folder, model.signature), lambda: Judge(model, tokens)))
