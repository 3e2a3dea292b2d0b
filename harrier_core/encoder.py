"""Encoder: what users hold. Queries in with their instruction, documents in plain, unit vectors out.

torch and the tokenizer are imported when they are first needed, never with this module.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Never, TypeVar

from harrier_core.closing import Closing
from harrier_core.embedder import Embedder, Encoded, closed
from harrier_core.ending import refuse_at_end
from harrier_core.errors import NotText, Problem, SettingError, raise_problems
from harrier_core.extras import require_encoding
from harrier_core.foreign import OF_ENCODER, no_attribute, unknown_keyword
from harrier_core.models import Model, identify, open_model, refuse_changed, weight_files
from harrier_core.shared import Held, Lease, ProcessLock, Shared
from harrier_core.space import EmbeddingSpace
from harrier_core.tasks import DEFAULT_TASK, Task
from harrier_core.texts import listed

if TYPE_CHECKING:
    from harrier_core.device import Placement
    from harrier_core.engine import Engine
    from harrier_core.stats import Stats
    from harrier_core.tokens import Tokens

T = TypeVar("T")

_models: Shared[Model] = Shared()
_tokens: Shared[Tokens] = Shared()
_digests: Shared[tuple[str, str]] = Shared()
_counting = ProcessLock()


class Encoder(Embedder, Closing):
    """Text to vectors with one model, the roles kept apart: a query gets its instruction, a document none.

    It is a handful of settings: making one loads nothing, pickling or copying one carries the settings only, and
    encoders of equal settings share one loaded model, which goes when the last of them is closed or collected.
    Any number of threads and event loops may use one at once.
    """

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
        """An encoder for a folder, a name on the hub, or harrier-270m, harrier-0.6b or harrier-27b.

        device, dtype: chosen for this machine unless given; `placement` says what and why.
        max_tokens: a limit below the model's own. on_overflow: what a longer text is, an error or a text to cut.
        task: what queries are encoded for unless a call says otherwise; token_budget: tokens in one forward pass.
        foreign: there are no others; a name that another library has for one of these is an error that says so.
        """
        if on_overflow not in ("error", "truncate"):
            raise SettingError(f"on_overflow is 'error' or 'truncate', not {on_overflow!r}")
        if not isinstance(revision, str | None):
            raise SettingError(f"revision is a str, not {type(revision).__name__}")
        for name, number in (("max_tokens", max_tokens), ("token_budget", token_budget)):
            if number is not None and not (type(number) is int and number > 0):
                raise SettingError(f"{name} is a whole number above zero, not {number!r}")
        self._settings: dict[str, Any] = {
            "model": os.fspath(model),
            "revision": revision,
            "device": str(device) if device is not None else None,  # a torch.device is welcome
            "dtype": str(dtype).removeprefix("torch.") if dtype is not None else None,  # and a torch.dtype
            "max_tokens": max_tokens,
            "on_overflow": on_overflow,
            "task": task,
            "token_budget": token_budget,
        }
        if foreign:
            raise unknown_keyword("Encoder", next(iter(foreign)), self._settings)
        self._held = Held()
        self._closed = False
        self._truncations = 0

    # -- encoding

    def submit_queries(self, texts: Iterable[str], *, task: str | Task | None = None) -> Future[Encoded]:
        """Begin to encode queries, which overtake documents; the future can be cancelled."""
        return self._submit(texts, self._model.prompts.query(self._task(task)), urgent=True)

    def submit_documents(self, texts: Iterable[str]) -> Future[Encoded]:
        """Begin to encode documents, for whoever has something to do meanwhile; the future can be cancelled.

        What is wrong with the texts is raised here, or by the future. Closing the encoder cancels it.
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

    def _count_cut(self, texts: int) -> None:
        with _counting:
            self._truncations += texts

    # -- looking inside

    def prompt(self, text: str, *, task: str | Task | None = None) -> str:
        """The exact string that the tokenizer gets for this query."""
        if not isinstance(text, str):
            raise NotText([Problem(0, NotText, f"is {type(text).__name__}, not str; pass its text")])
        return self._model.prompts.query(self._task(task)) + str.__str__(text)

    def count_tokens(self, texts: Iterable[str]) -> list[int]:
        """How many tokens each text has as a document, end token included, however long it is."""
        prompt = self._model.prompts.document  # before the tokenizer is imported, which may not be installed
        from harrier_core.texts import unusable

        given = listed(texts)
        raise_problems(list(unusable(given)))
        return self._tokenizer.count([str.__str__(text) for text in given], prompt)

    @property
    def name(self) -> str:
        """The model's folder or name, as it was given."""
        given: str = self._settings["model"]
        return given

    @property
    def settings(self) -> Mapping[str, Any]:
        """What this encoder was made with: Encoder(**settings) makes another one that is equal."""
        return MappingProxyType(dict(self._settings))

    @property
    def dimensions(self) -> int:
        """The length of a vector."""
        return self._model.dimensions

    @property
    def max_tokens(self) -> int:
        """The most tokens a text may have with its prompt."""
        limit = self._model.max_tokens
        asked = self._settings["max_tokens"]
        if asked is not None and asked > limit:
            raise SettingError(f"max_tokens={asked} is more than the {limit} that {self._model.name} takes; lower it")
        return asked or limit

    @property
    def on_overflow(self) -> Literal["error", "truncate"]:
        """What a text with more tokens is."""
        chosen: Literal["error", "truncate"] = self._settings["on_overflow"]
        return chosen

    @property
    def tasks(self) -> Mapping[str, str]:
        """The model's own tasks: a name, and what stands before the text of a query with it."""
        return MappingProxyType(dict(self._model.prompts.tasks))

    @property
    def space(self) -> EmbeddingSpace:
        """What the vectors of this encoder may be compared with. It reads samples of the weights, not all of them."""
        model, task = self._model, self._task(None)
        weights, tokenizer = self._digests
        refuse_changed(model)  # the digests would be of other files than the vectors
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

    @property
    def placement(self) -> Placement:
        """The device and number format that this encoder computes on, and why; it loads no model."""
        architecture = self._model.architecture  # before torch is imported, which may not be installed
        from harrier_core.device import choose

        return choose(architecture, self._settings["device"], self._settings["dtype"])

    @property
    def stats(self) -> Stats:
        """What the loaded model has done so far, for all encoders that share it; it loads nothing."""
        from harrier_core.stats import Stats

        lease = self._held.lease("engine")
        if lease is None or lease.inherited:
            return Stats(truncations=self._truncations)
        engine: Engine = lease.value
        return engine.stats(self._truncations)

    @property
    def truncations(self) -> int:
        """How many texts this encoder has cut; always zero unless on_overflow='truncate'."""
        return self._truncations

    # -- life

    def close(self) -> None:
        """Let go of the model, which leaves memory with its last user; calls under way end in EncoderClosed.

        It waits for nothing: if a forward pass is running, the model goes when that is over.
        """
        self._closed = True
        self._held.release()

    if not TYPE_CHECKING:  # it would hide a misspelt name from type checkers

        def __getattr__(self, name: str) -> Never:
            if hasattr(type(self), name):  # a property failed by an AttributeError of its own, which this raises again
                return object.__getattribute__(self, name)
            raise no_attribute(self, name, OF_ENCODER)

    def __getstate__(self) -> dict[str, Any]:
        return dict(self._settings)

    def __setstate__(self, settings: dict[str, Any]) -> None:
        self.__init__(**settings)  # type: ignore[misc]

    def __repr__(self) -> str:
        given = dict(self._settings)
        model = given.pop("model")
        plain = {"on_overflow": "error", "task": DEFAULT_TASK}
        said = [f"{name}={value!r}" for name, value in given.items() if value != plain.get(name)]
        return f"Encoder({', '.join([repr(model), *said])})"

    def _task(self, task: str | Task | None) -> str | Task:
        chosen: str | Task = self._settings["task"] if task is None else task
        return chosen

    # -- what is shared

    @property
    def _model(self) -> Model:
        name, revision = self._settings["model"], self._settings["revision"]

        def use() -> Lease[Model]:
            require_encoding()
            return _models.use(identify(name, revision), lambda: open_model(name, revision))

        return self._shared("model", use)

    @property
    def _tokenizer(self) -> Tokens:
        from harrier_core.tokens import Tokens

        model = self._model
        return self._shared("tokens", lambda: _tokens.use((model.folder, model.signature), lambda: Tokens(model)))

    @property
    def _digests(self) -> tuple[str, str]:
        """Of the weights and of the tokenizer, which take longer to read than a short text to encode."""
        from harrier_core.digests import tokenizer_digest, weights_digest

        model = self._model

        def read() -> tuple[str, str]:
            weights = weights_digest(weight_files(model), model.config)
            return weights, tokenizer_digest(model.folder / "tokenizer.json", self._tokenizer.frame)

        return self._shared("digests", lambda: _digests.use((model.folder, model.signature), read))

    @property
    def _engine(self) -> Engine:
        from harrier_core.engine import refuse_inherited, use_engine

        if lease := self._held.lease("engine"):
            refuse_inherited(lease)
        model, device, dtype = self._model, self._settings["device"], self._settings["dtype"]
        return self._shared("engine", lambda: use_engine(model, device, dtype))

    def _shared(self, kind: str, use: Callable[[], Lease[T]]) -> T:
        self._refuse_if_closed()
        value = self._held.take(kind, use)
        self._refuse_if_closed()  # it may have been closed in the meantime, and must not keep what it took
        return value

    def _refuse_if_closed(self) -> None:
        if self._closed:
            self.close()
            raise closed()
