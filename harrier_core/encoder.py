"""Encoder: what users hold. Queries in with their instruction, documents in plain, unit vectors out.

torch and the tokenizer are imported when they are first needed, never with this module.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from harrier_core.ending import refuse_at_end
from harrier_core.errors import EncoderClosed, NotText, Problem, SettingError, raise_problems
from harrier_core.extras import require_encoding
from harrier_core.models import Model, identify, open_model, refuse_changed, weight_files
from harrier_core.packing import Row, split, unique, windows
from harrier_core.shared import Lease, ProcessLock, Shared
from harrier_core.space import EmbeddingSpace
from harrier_core.tasks import DEFAULT_TASK, Task

if TYPE_CHECKING:
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

    from harrier_core.device import Placement
    from harrier_core.engine import Engine
    from harrier_core.stats import Stats
    from harrier_core.tokens import Tokens

    Vectors = NDArray[np.float32]

T = TypeVar("T")

_models: Shared[Model] = Shared()
_tokens: Shared[Tokens] = Shared()
_counting = ProcessLock()


class Encoder:
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
    ) -> None:
        """An encoder for a folder, a name on the hub, or harrier-270m, harrier-0.6b or harrier-27b.

        device, dtype: chosen for this machine unless given; `placement` says what and why.
        max_tokens: a limit below the model's own. on_overflow: what a longer text is, an error or a text to cut.
        task: what queries are encoded for unless a call says otherwise; token_budget: tokens in one forward pass.
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
        self._leases: dict[str, Lease[Any]] = {}  # the one in use of each kind
        self._held: deque[weakref.finalize[Any, Encoder]] = (
            deque()
        )  # letting go of all that were taken, by two threads even
        self._closed = False
        self._truncations = 0

    # -- encoding

    def encode_queries(self, texts: Iterable[str], *, task: str | Task | None = None) -> Vectors:
        """Unit vectors of queries, float32 (texts, dimensions), each encoded behind the task's instruction."""
        return self._wait("query", lambda: self._submit_queries(texts, task))

    def encode_documents(self, texts: Iterable[str]) -> Vectors:
        """Unit vectors of documents, float32 (texts, dimensions), each encoded as it is."""
        return self._wait("document", lambda: self._submit_documents(texts))

    async def aencode_queries(self, texts: Iterable[str], *, task: str | Task | None = None) -> Vectors:
        """What `encode_queries` returns, without holding up the event loop."""
        return await self._await("query", lambda: self._submit_queries(texts, task))

    async def aencode_documents(self, texts: Iterable[str]) -> Vectors:
        """What `encode_documents` returns, without holding up the event loop."""
        return await self._await("document", lambda: self._submit_documents(texts))

    def submit_documents(self, texts: Iterable[str]) -> Future[Vectors]:
        """Begin to encode documents, for whoever has something to do meanwhile; the future can be cancelled.

        What is wrong with the texts is raised here, or by the future. Closing the encoder cancels it.
        """
        return self._submit_documents(texts)

    # -- looking inside

    def prompt(self, text: str, *, task: str | Task | None = None) -> str:
        """The exact string that the tokenizer gets for this query."""
        if not isinstance(text, str):
            raise NotText([Problem(0, NotText, f"is {type(text).__name__}, not str; pass its text")])
        return self._model.prompts.query(self._task(task)) + str.__str__(text)

    def count_tokens(self, texts: Iterable[str]) -> list[int]:
        """How many tokens each text has as a document, end token included, however long it is."""
        prompt = self._model.prompts.document  # before the tokenizer is imported, which may not be installed
        from harrier_core.tokens import unusable

        given = listed(texts)
        raise_problems(list(unusable(given)))
        return self._tokenizer.count([str.__str__(text) for text in given], prompt)

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
        from harrier_core.digests import tokenizer_digest, weights_digest

        model, task = self._model, self._task(None)
        weights = weights_digest(weight_files(model), model.config)
        tokenizer = tokenizer_digest(model.folder / "tokenizer.json", self._tokenizer.frame)
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
        from harrier_core.device import place

        return place(architecture, self._settings["device"], self._settings["dtype"])

    @property
    def stats(self) -> Stats:
        """What the loaded model has done so far, for all encoders that share it; it loads nothing."""
        from harrier_core.stats import Stats

        lease = self._leases.get("engine")
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
        self._leases = {}
        with suppress(IndexError):  # of an empty deque: another thread may be closing it too
            while True:
                self._held.pop()()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

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

    # -- the way of a text: prompt, ids, vector

    def _submit_queries(self, texts: Iterable[str], task: str | Task | None) -> Future[Vectors]:
        return self._submit(texts, self._model.prompts.query(self._task(task)), urgent=True)

    def _submit_documents(self, texts: Iterable[str]) -> Future[Vectors]:
        return self._submit(texts, self._model.prompts.document, urgent=False)

    def _submit(self, texts: Iterable[str], prompt: str, *, urgent: bool) -> Future[Vectors]:
        import numpy as np

        from harrier_core.calls import Call
        from harrier_core.tokens import unusable

        refuse_at_end()
        limit, spent = self.max_tokens, self._tokenizer.spent_on(prompt)
        if limit <= spent:  # or truncation would make all queries the same
            raise SettingError(
                f"max_tokens={limit} leaves no room for a text, whose prompt and end take {spent} of them"
            )
        given = listed(texts)
        problems = {problem.position: problem for problem in unusable(given)}
        usable = {position: str.__str__(text) for position, text in enumerate(given) if position not in problems}
        distinct, places = unique(usable.values())
        if not distinct:
            raise_problems(list(problems.values()))
            return _nothing(self.dimensions)
        rows = self._rows(_Texts(distinct, places, list(usable), list(problems.values())), prompt)
        vectors = np.empty((len(distinct), self.dimensions), dtype=np.float32)
        call = Call(rows, places, vectors, self._settings["token_budget"], urgent)
        call.add(call.fetch())  # what is wrong with a few texts shows before the model is loaded
        return self._engine.submit(call)

    def _rows(self, texts: _Texts, prompt: str) -> Iterator[Sequence[Row]]:
        """Rows of ids, a window of texts at a time; none once a text is wrong, and at the end the error of all."""
        tokens, limit, truncate = self._tokenizer, self.max_tokens, self._settings["on_overflow"] == "truncate"
        beginning = tokens.beginning(prompt)
        times = Counter(texts.places) if truncate else Counter()
        too_long: list[Problem] = []
        for window in windows(texts.distinct):
            tokenized = tokens.tokenize(texts.distinct[window], prompt, limit, truncate=truncate)
            with _counting:
                self._truncations += sum(times[window.start + cut] for cut in tokenized.truncated)
            too_long += (replace(each, position=window.start + each.position) for each in tokenized.problems)
            if window.stop == len(texts.distinct):
                raise_problems(texts.problems_with(too_long))
            wrong = too_long or texts.problems
            yield [] if wrong else [split(row, beginning) for row in tokenized.rows]

    def _wait(self, role: str, submit: Callable[[], Future[Vectors]]) -> Vectors:
        from harrier_core.stats import span

        with span(role, self._settings["model"]) as tell:
            future = submit()
            try:
                vectors = future.result()
            except CancelledError:
                raise _closed() from None
            except BaseException:  # Ctrl-C must not leave the rest of the work to the end of the process
                future.cancel()
                raise
            tell(len(vectors))
        return vectors

    async def _await(self, role: str, submit: Callable[[], Future[Vectors]]) -> Vectors:
        from harrier_core.stats import span

        with span(role, self._settings["model"]) as tell:
            vectors = await self._submitted(submit)
            tell(len(vectors))
        return vectors

    async def _submitted(self, submit: Callable[[], Future[Vectors]]) -> Vectors:
        """Loading and tokenizing run on a thread; if the caller is cancelled meanwhile, so is what comes of them."""
        submitting = asyncio.ensure_future(asyncio.to_thread(submit))
        try:
            future = await asyncio.shield(submitting)
        except asyncio.CancelledError:
            submitting.add_done_callback(_cancel_submitted)
            raise
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise _closed() from None

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
    def _engine(self) -> Engine:
        from harrier_core.engine import refuse_inherited, use_engine

        if lease := self._leases.get("engine"):
            refuse_inherited(lease)
        model, device, dtype = self._model, self._settings["device"], self._settings["dtype"]
        return self._shared("engine", lambda: use_engine(model, device, dtype))

    def _shared(self, name: str, use: Callable[[], Lease[T]]) -> T:
        """The encoder's hold on a shared thing, taken at first use, and again in a forked child."""
        self._refuse_if_closed()
        lease = self._leases.get(name)
        if lease is None or lease.inherited:
            lease = use()
            self._leases[name] = lease
            finalizer = weakref.finalize(self, lease.release)
            finalizer.atexit = False
            self._held.append(finalizer)
            self._refuse_if_closed()  # it may have been closed in the meantime, and must not keep what it took
        value: T = lease.value
        return value

    def _refuse_if_closed(self) -> None:
        if self._closed:
            self.close()
            raise _closed()


@dataclass(frozen=True, slots=True)
class _Texts:
    """The texts of one call: equal ones once, and where in the caller's list they stand."""

    distinct: list[str]
    places: list[int]  # for each usable text, which of the distinct ones it is
    positions: list[int]  # and its position in the caller's list
    problems: list[Problem]  # those of the unusable ones

    def problems_with(self, found: Iterable[Problem]) -> list[Problem]:
        """All problems of the call, with those of distinct texts wherever such a text stands."""
        by_place = {problem.position: problem for problem in found}
        return self.problems + [
            replace(by_place[place], position=position)
            for position, place in zip(self.positions, self.places, strict=True)
            if place in by_place
        ]


def listed(texts: object) -> list[Any]:
    """The texts as a list; one string is refused, for it would be taken for a list of letters."""
    if isinstance(texts, Iterable) and not isinstance(texts, str | bytes):
        return list(texts)
    reason = f"is missing: a list of texts belongs here, not {type(texts).__name__}; put a single text in a list"
    raise NotText([Problem(0, NotText, reason)])


def _nothing(dimensions: int) -> Future[Vectors]:
    import numpy as np

    done: Future[Vectors] = Future()
    done.set_result(np.empty((0, dimensions), dtype=np.float32))
    return done


def _cancel_submitted(submitting: asyncio.Future[Future[Vectors]]) -> None:
    if not submitting.cancelled() and submitting.exception() is None:
        submitting.result().cancel()


def _closed() -> EncoderClosed:
    return EncoderClosed("this encoder is closed; make another one with the same settings, which costs nothing")
