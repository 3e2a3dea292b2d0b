"""The Encoder: queries in with their instruction, documents in as they are, unit vectors out.

torch and the tokenizer are imported when they are first needed, never with this module.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Literal, Never

from harrier_core.embedder import Embedder, Encoded
from harrier_core.ending import refuse_at_end
from harrier_core.errors import NotText, Problem, raise_problems
from harrier_core.foreign import OF_ENCODER, no_attribute, unknown_keyword
from harrier_core.model_user import ModelUser
from harrier_core.models import refuse_changed, weight_files
from harrier_core.purposes import check_embedding
from harrier_core.shared import Shared
from harrier_core.space import EmbeddingSpace
from harrier_core.tasks import DEFAULT_TASK, Task
from harrier_core.texts import listed, unusable

_digests: Shared[tuple[str, str]] = Shared()


class Encoder(ModelUser, Embedder):
    """Turns texts into vectors with one model. A query gets its instruction, a document none.

    It holds only settings: making one loads nothing, pickling or copying one carries only the settings, and encoders
    with equal settings share one loaded model, which is released when the last of them is closed or collected. Any
    number of threads and event loops may use one at once.
    """

    _called = "encoder"
    _needs = "an Encoder"
    _check = staticmethod(check_embedding)
    _unsaid: ClassVar = {"task": DEFAULT_TASK}

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        revision: str | None = None,
        device: str | None = None,
        dtype: str | None = None,
        max_tokens: int | None = None,
        on_overflow: Literal["error", "truncate"] = "error",
        task: str | Task = DEFAULT_TASK,
        token_budget: int | None = None,
        **foreign: Never,
    ) -> None:
        """Create an encoder for a folder, a name on the hub, or harrier-270m, harrier-0.6b or harrier-27b.

        device, dtype: chosen for this machine unless given; `placement` says what and why. device="cuda:0,cuda:1"
        spreads the layers over several devices, for a model larger than one of them.
        max_tokens: a limit below the model's own. on_overflow: whether a longer text is an error or is truncated.
        task: what queries are encoded for unless a call says otherwise. token_budget: tokens in one forward pass.
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
        if foreign:
            raise unknown_keyword("Encoder", next(iter(foreign)), self._settings)

    # -- encoding

    def submit_queries(self, texts: Iterable[str], *, task: str | Task | None = None) -> Future[Encoded]:
        """Begin to encode queries, which overtake documents; the future can be cancelled."""
        return self._submit(texts, self._model.prompts.query(self._task(task)), urgent=True)

    def submit_documents(self, texts: Iterable[str]) -> Future[Encoded]:
        """Begin to encode documents, while the caller does something else; the future can be cancelled.

        Errors about the texts are raised here, or by the future. Closing the encoder cancels it.
        """
        return self._submit(texts, self._model.prompts.document, urgent=False)

    def _submit(self, texts: Iterable[str], prompt: str, *, urgent: bool) -> Future[Encoded]:
        from harrier_core.requests import Terms

        refuse_at_end()
        truncate = self._settings["on_overflow"] == "truncate"
        budget = self._settings["token_budget"]
        terms = Terms(self._tokenizer, self.dimensions, self.max_tokens, truncate, budget, self._count_cut)
        request = terms.request(texts, prompt, urgent=urgent)
        return request if isinstance(request, Future) else self._engine.submit(request)

    # -- looking inside

    def prompt(self, text: str, *, task: str | Task | None = None) -> str:
        """Return the exact string that the tokenizer gets for this query."""
        if not isinstance(text, str):
            raise NotText([Problem(0, NotText, f"is {type(text).__name__}, not str; pass its text")])
        return self._model.prompts.query(self._task(task)) + str.__str__(text)

    def pieces(self, prompt: str) -> list[str]:
        """Return what the model reads of a string from `prompt`, or of a document: one string for each of its tokens.

        They are meant for display: a token that is only part of a character has no readable form.
        """
        raise_problems(list(unusable([prompt])))
        return self._tokenizer.pieces(str.__str__(prompt))

    def count_tokens(self, texts: Iterable[str]) -> list[int]:
        """Return how many tokens each text has as a document, end token included, however long it is."""
        prompt = self._model.prompts.document  # before importing the tokenizer, which may not be installed
        given = listed(texts)
        raise_problems(list(unusable(given)))
        return self._tokenizer.count([str.__str__(text) for text in given], prompt)

    @property
    def dimensions(self) -> int:
        """The length of a vector."""
        return self._model.dimensions

    @property
    def tasks(self) -> Mapping[str, str]:
        """The model's own tasks: each name with the prefix that it puts before a query."""
        return MappingProxyType(dict(self._model.prompts.tasks))

    @property
    def space(self) -> EmbeddingSpace:
        """The embedding space of this encoder. Finding it out reads samples of the weights, not all of them."""
        model, task = self._model, self._task(None)
        weights, tokenizer = self._digests
        refuse_changed(model)  # or the digests would be of other files than the vectors
        return EmbeddingSpace(
            model=model.name,
            revision=model.revision,
            weights=weights,
            tokenizer=tokenizer,
            dimensions=model.dimensions,
            pooling=model.pooling,
            normalization="l2",
            document_template=f"{model.prompts.document}{{text}}",
            task=task.instruction if isinstance(task, Task) else task,
            dtype=self.placement.dtype,
        )

    if not TYPE_CHECKING:  # it would hide a misspelt name from type checkers

        def __getattr__(self, name: str) -> Never:
            if hasattr(type(self), name):  # a property raised its own AttributeError; raise it again
                return object.__getattribute__(self, name)
            raise no_attribute(self, name, OF_ENCODER)

    def _task(self, task: str | Task | None) -> str | Task:
        chosen: str | Task = self._settings["task"] if task is None else task
        return chosen

    @property
    def _digests(self) -> tuple[str, str]:
        """The digests of the weights and of the tokenizer; reading them takes longer than encoding a short text."""
        from harrier_core.digests import tokenizer_digest, weights_digest

        model = self._model

        def read() -> tuple[str, str]:
            weights = weights_digest(weight_files(model), model.config)
            return weights, tokenizer_digest(model.folder / "tokenizer.json", self._tokenizer.frame)

        return self._shared("digests", lambda: _digests.use((model.folder, model.signature), read))
