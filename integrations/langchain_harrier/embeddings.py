"""HarrierEmbeddings: an Encoder as LangChain's Embeddings."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Self

from langchain_core.embeddings import Embeddings
from langchain_core.stores import BaseStore, ByteStore
from langchain_core.utils import from_env
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from harrier_core import CachedEncoder, Encoder, Task
from harrier_core.blanks import BlanksLast
from harrier_core.tasks import DEFAULT_TASK
from langchain_harrier.callers import warn_of_queries

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

_NO_MODEL = "no model is named; pass model=, such as 'harrier-0.6b', or set HARRIER_MODEL"


def _setting(variable: str, **otherwise: str | None) -> Any:
    """A field that is taken from the environment where it is not given."""
    return Field(default_factory=from_env(variable, **otherwise))


class HarrierEmbeddings(BaseModel, Embeddings):
    """Harrier embeddings: a query is embedded behind its task's instruction, a document as it is, byte for byte.

    It is a handful of settings that do not change: making one loads nothing, and all of equal settings, copies and
    Encoders included, share one loaded model. A pickle holds the settings only, and not the cache.

    Setup:
        Install the kit with its extra. Each setting that is not given is taken from the environment, from
        `HARRIER_MODEL`, `HARRIER_DEVICE` and so on, before its default.

        ```bash
        pip install 'harrier-kit[langchain,torch]'
        export HARRIER_MODEL=microsoft/harrier-oss-v1-0.6b
        ```

    Key init args:
        model: A name on the hub, harrier-270m, harrier-0.6b or harrier-27b, or a folder.
        task: What queries are embedded for: one of the model's own tasks by its name, or a Task.
        device: Such as "cuda" or "cpu"; chosen for this machine unless given.
        dtype: Such as "bfloat16" or "float32"; chosen for this machine unless given.
        revision: A branch, tag or commit on the hub.
        max_tokens: A limit below the model's own.
        on_overflow: What a text of more tokens is, an "error" or a text to "truncate".
        on_blank: What a document of nothing but white space is: an "error", or a text that is found "last": its vector
            points away from every query. A blank query is an error.
        token_budget: How many tokens run in one forward pass.
        cache: A ByteStore to look into before a text is embedded. It never mixes roles, tasks or models.

    Instantiate:
        ```python
        from langchain_harrier import HarrierEmbeddings

        embeddings = HarrierEmbeddings(model="microsoft/harrier-oss-v1-0.6b")
        ```

    Embed single text:
        ```python
        vector = embeddings.embed_query("how do vaccines work")
        ```

    Embed multiple texts:
        ```python
        vectors = embeddings.embed_documents(["Vaccines train the immune system.", "Bread rises because of yeast."])
        ```

    Async:
        ```python
        import asyncio

        vector = asyncio.run(embeddings.aembed_query("how do vaccines work"))
        vectors = asyncio.run(embeddings.aembed_documents(["Vaccines train the immune system."]))
        ```

    Another task, over the same loaded model:
        ```python
        from harrier_core import Task

        lawyer = embeddings.with_task(Task("Given a legal question, retrieve the statutes that answer it"))
        print(lawyer.encoder.prompt("may my landlord enter my flat"))  # what the model really reads
        ```

    Numpy arrays:
        ```python
        scores = embeddings.encode_queries(["vaccines"]) @ embeddings.encode_documents(["Bread rises."]).T
        ```
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, validate_default=True)

    model: str = _setting("HARRIER_MODEL", error_message=_NO_MODEL)
    task: str | Task = _setting("HARRIER_TASK", default=DEFAULT_TASK)
    device: str | None = _setting("HARRIER_DEVICE", default=None)
    dtype: str | None = _setting("HARRIER_DTYPE", default=None)
    revision: str | None = _setting("HARRIER_REVISION", default=None)
    max_tokens: int | None = _setting("HARRIER_MAX_TOKENS", default=None)
    on_overflow: Literal["error", "truncate"] = _setting("HARRIER_ON_OVERFLOW", default="error")
    token_budget: int | None = _setting("HARRIER_TOKEN_BUDGET", default=None)
    on_blank: Literal["error", "last"] = _setting("HARRIER_ON_BLANK", default="error")
    cache: ByteStore | None = Field(default=None, exclude=True, repr=False)

    @field_validator("model", "device", "dtype", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        """A Path, a torch.device and a torch.dtype are as welcome as they are to an Encoder."""
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        return str(value).removeprefix("torch.") if type(value).__module__ == "torch" else value

    @model_validator(mode="after")
    def _checked(self) -> Self:
        """Settings that cannot be are refused here, in the words of the Encoder, which loads nothing yet."""
        Encoder(**self._of_encoder())
        return self

    @classmethod
    def from_encoder(
        cls,
        encoder: Encoder | CachedEncoder,
        *,
        cache: ByteStore | None = None,
        on_blank: Literal["error", "last"] = "error",
    ) -> Self:
        """Embeddings by this very encoder: they end when it is closed."""
        cached = encoder if isinstance(encoder, CachedEncoder) else None
        own = encoder.encoder if isinstance(encoder, CachedEncoder) else encoder
        if cached is not None and cache is None and isinstance(cached.store, BaseStore):
            cache = cached.store
        made = cls(**own.__getstate__(), cache=cache, on_blank=on_blank)
        made.__dict__["encoder"] = own  # where cached_property looks first
        if cached is not None and cache is None:  # a store of another kind, which no field holds
            made.__dict__["index_encoder"] = cached
        return made

    def with_task(self, task: str | Task) -> Self:
        """The same, with another task for its queries; it shares the loaded model."""
        return type(self)(**{**self._settings(), "task": task}, cache=self.cache)

    @cached_property
    def encoder(self) -> Encoder:
        """The Encoder behind it: `prompt`, `count_tokens`, `space`, `stats`, and `close` to let go of the model."""
        return Encoder(**self._of_encoder())

    @cached_property
    def index_encoder(self) -> Encoder | CachedEncoder:
        """What to give an Index: the Encoder, behind the cache if there is one."""
        return self.encoder if self.cache is None else CachedEncoder(self.encoder, self.cache)

    @cached_property
    def _source(self) -> Encoder | CachedEncoder | BlanksLast:
        return self.index_encoder if self.on_blank == "error" else BlanksLast(self.index_encoder)

    # -- LangChain's verbs

    def embed_documents(self, texts: Iterable[str]) -> list[list[float]]:
        """Vectors of documents, each embedded as it is."""
        warn_of_queries()
        return _lists(self.encode_documents(texts))

    def embed_query(self, text: str) -> list[float]:
        """The vector of a query, embedded behind the task's instruction."""
        return self.embed_queries([text])[0]

    def embed_queries(self, texts: Iterable[str]) -> list[list[float]]:
        """The vectors of several queries, embedded together."""
        return _lists(self.encode_queries(texts))

    async def aembed_documents(self, texts: Iterable[str]) -> list[list[float]]:
        """What `embed_documents` returns, without holding up the event loop."""
        warn_of_queries()
        return await asyncio.to_thread(_lists, await self._source.aencode_documents(texts))

    async def aembed_query(self, text: str) -> list[float]:
        """What `embed_query` returns; queries that wait together share a forward pass."""
        [vector] = _lists(await self._source.aencode_queries([text]))
        return vector

    async def aembed_queries(self, texts: Iterable[str]) -> list[list[float]]:
        """What `embed_queries` returns, without holding up the event loop."""
        return await asyncio.to_thread(_lists, await self._source.aencode_queries(texts))

    # -- for those who want arrays

    def encode_documents(self, texts: Iterable[str]) -> Vectors:
        """What `embed_documents` returns, as a float32 array (texts, dimensions)."""
        return self._source.encode_documents(texts)

    def encode_queries(self, texts: Iterable[str]) -> Vectors:
        """What `embed_queries` returns, as a float32 array (texts, dimensions)."""
        return self._source.encode_queries(texts)

    # -- copies and pickles hold settings; what was loaded is found again, since equal settings share it

    def _settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in type(self).model_fields if name != "cache"}

    def _of_encoder(self) -> dict[str, Any]:
        return {name: value for name, value in self._settings().items() if name != "on_blank"}

    def __copy__(self) -> Self:
        return self.model_construct(set(self.model_fields_set), **self._settings(), cache=self.cache)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self.__copy__()

    def __getstate__(self) -> dict[Any, Any]:
        return {**super().__getstate__(), "__dict__": {**self._settings(), "cache": None}}


def _lists(vectors: Vectors) -> list[list[float]]:
    """Python's floats, a vector at a time, so that an event loop beside it gets its turn."""
    return [vector.tolist() for vector in vectors]
