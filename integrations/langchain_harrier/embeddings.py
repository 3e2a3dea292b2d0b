"""HarrierEmbeddings: an Encoder, local or behind a URL, or another Embedder, as LangChain's Embeddings."""

from __future__ import annotations

import os
from functools import cached_property
from typing import Any, Literal, Self, Unpack

from langchain_core.stores import BaseStore, ByteStore
from langchain_core.utils import from_env
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_serializer, field_validator, model_validator
from pydantic.json_schema import SkipJsonSchema

from harrier_core import CachedEncoder, Embedder, Encoder, RemoteEncoder, SettingError, Task
from harrier_core.blanks import BlanksLast
from harrier_core.choosing import AnyEncoder, encoder_of, no_model
from harrier_core.tasks import DEFAULT_TASK
from langchain_harrier.given import Settings, located, settled
from langchain_harrier.verbs import InBothRoles, Verbs

_HELD = ("cache", "embedder")  # fields that are not settings
_OWN = ("on_blank", "show_progress")  # settings that are not the Encoder's


def _setting(variable: str, **otherwise: str | None) -> Any:
    """Return a field whose default is taken from the environment."""
    return Field(default_factory=from_env(variable, **otherwise))


class HarrierEmbeddings(BaseModel, Verbs):
    """Harrier embeddings: a query is embedded after its task's instruction, a document as it is, byte for byte.

    It holds only immutable settings: making one loads nothing, and all with equal settings, including copies and
    Encoders, share one loaded model. A pickle contains only the settings, not the cache.

    Setup:
        Install the kit with its extra. Each setting that is not given is taken from the environment, from
        `HARRIER_MODEL`, `HARRIER_DEVICE` and so on, before its default.

        ```bash
        pip install 'harrier-kit[langchain,torch]'
        export HARRIER_MODEL=microsoft/harrier-oss-v1-0.6b
        ```

    Key init args:
        model: A name on the hub, harrier-270m, harrier-0.6b or harrier-27b, or a folder. It may be positional, and
            `model_name` is an alias.
        task: What queries are embedded for: one of the model's own tasks by its name, or a Task.
        device: Such as "cuda" or "cpu"; chosen for this machine unless given. "cuda:0,cuda:1" spreads the layers over
            both, for a model larger than one of them.
        dtype: Such as "bfloat16" or "float32"; chosen for this machine unless given.
        revision: A branch, tag or commit on the hub.
        max_tokens: A limit below the model's own.
        on_overflow: What to do with a text of more tokens: "error" or "truncate".
        on_blank: What to do with a document of nothing but white space: raise an "error", or rank it "last", by a
            vector that points away from every query. A blank query is an error.
        token_budget: How many tokens run in one forward pass.
        url: The address of a server run by `harrier serve`. Its model embeds, and none is loaded here: `model`, if
            given, is the server's name for it, and device, dtype and the like are the server's own. `HARRIER_URL` is
            used only if neither `url` nor `model` is given.
        api_key: That server's key, by default `HARRIER_API_KEY`. No dump or pickle contains it.
        show_progress: Whether embedding documents shows a progress bar.
        cache: A ByteStore to look into before a text is embedded. It never mixes roles, tasks or models.
        embedder: The Embedder that makes the vectors, if it is not an Encoder of these settings; see `from_encoder`.

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

    model: str = _setting("HARRIER_MODEL", error_message=str(no_model("model=")))
    url: str | None = None
    api_key: SecretStr | None = Field(default=None, exclude=True, repr=False)
    task: str | Task | None = _setting("HARRIER_TASK", default=DEFAULT_TASK)
    device: str | None = _setting("HARRIER_DEVICE", default=None)
    dtype: str | None = _setting("HARRIER_DTYPE", default=None)
    revision: str | None = _setting("HARRIER_REVISION", default=None)
    max_tokens: int | None = _setting("HARRIER_MAX_TOKENS", default=None)
    on_overflow: Literal["error", "truncate"] = _setting("HARRIER_ON_OVERFLOW", default="error")
    token_budget: int | None = _setting("HARRIER_TOKEN_BUDGET", default=None)
    on_blank: Literal["error", "last"] = _setting("HARRIER_ON_BLANK", default="error")
    show_progress: bool = False
    cache: SkipJsonSchema[ByteStore | None] = Field(default=None, exclude=True, repr=False)
    embedder: SkipJsonSchema[Embedder | None] = Field(default=None, repr=False)

    def __init__(self, model: str | os.PathLike[str] | None = None, **settings: Unpack[Settings]) -> None:
        """Take settings, including those of HuggingFaceEmbeddings that are unambiguous."""
        given = settings if model is None else {"model": model, **settings}
        super().__init__(**located(settled(given, type(self).model_fields)))

    @property
    def model_name(self) -> str:
        """The model, under HuggingFaceEmbeddings' name for it; empty for that of a RemoteEncoder without a `model`."""
        return self.model

    @field_validator("model", "device", "dtype", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        """Convert a Path, a torch.device or a torch.dtype, which are accepted as by an Encoder."""
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        return str(value).removeprefix("torch.") if type(value).__module__ == "torch" else value

    @model_validator(mode="after")
    def _checked(self) -> Self:
        """Refuse invalid settings with the encoder's own errors; nothing is loaded yet."""
        if self.embedder is None:
            self._an_encoder()
        elif self._settings() != {**_settings_of(self.embedder), **{name: getattr(self, name) for name in _OWN}}:
            raise SettingError(
                "settings differ from those of the embedder; use HarrierEmbeddings.from_encoder(embedder)"
            )
        return self

    @field_serializer("embedder")
    def _dumped(self, _: Embedder | None) -> SkipJsonSchema[Any]:
        return self._stranger()

    @classmethod
    def from_encoder(
        cls,
        encoder: Embedder,
        *,
        cache: ByteStore | None = None,
        on_blank: Literal["error", "last"] = "error",
        show_progress: bool = False,
    ) -> Self:
        """Return embeddings that use this very encoder, or any other Embedder, and stop working when it is closed."""
        if cache is not None:
            encoder = CachedEncoder(_encoder_of(encoder, "omit cache"), cache)
        elif isinstance(encoder, CachedEncoder) and isinstance(encoder.store, BaseStore):
            cache = encoder.store  # shared with embeddings of other tasks
        own: Settings = {"on_blank": on_blank, "show_progress": show_progress}
        return cls(**{**_settings_of(encoder), **own, "cache": cache, "embedder": encoder})

    def with_task(self, task: str | Task) -> Self:
        """Return a copy with another task for its queries; it shares the loaded model."""
        if self._stranger() is not None:
            name = type(self.index_encoder).__name__
            raise SettingError(f"with_task needs an Encoder, got {name}; pass one with that task to from_encoder")
        return type(self)(**{**self._settings(), "task": task}, cache=self.cache)

    @property
    def encoder(self) -> Encoder:
        """The underlying Encoder: `prompt`, `count_tokens`, `space`, `stats`, and `close` to release the model."""
        return _encoder_of(self.index_encoder, "use index_encoder")

    @cached_property
    def index_encoder(self) -> Embedder:
        """The Embedder to pass to an Index, with the cache if there is one."""
        if self.embedder is not None:
            return self.embedder
        encoder = self._an_encoder()
        return encoder if self.cache is None else CachedEncoder(encoder, self.cache)

    @cached_property
    def _source(self) -> InBothRoles:
        return self.index_encoder if self.on_blank == "error" else BlanksLast(self.index_encoder)

    # -- copies and pickles contain settings; the loaded model is found again, since equal settings share it

    def _settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in type(self).model_fields if name not in _HELD}

    def _an_encoder(self) -> AnyEncoder:
        """Return an Encoder or a RemoteEncoder for the settings; None leaves a setting to it."""
        return encoder_of(**{name: value for name, value in self._settings().items() if name not in _OWN})

    def _stranger(self) -> Embedder | None:
        """Return the embedder, unless settings describe an equal one."""
        return None if self.embedder is None or self.embedder.settings is not None else self.embedder

    def _kept(self) -> dict[str, Any]:
        return {**self._settings(), "cache": self.cache, "embedder": self._stranger()}

    def __eq__(self, other: object) -> bool:
        """Compare settings and caches, not Encoders: those with equal settings make the same vectors."""
        return self._kept() == other._kept() if isinstance(other, HarrierEmbeddings) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self._kept().values()))

    def __copy__(self) -> Self:
        return self.model_construct(set(self.model_fields_set), **self._kept())

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self.__copy__()

    def __getstate__(self) -> dict[Any, Any]:
        return {**super().__getstate__(), "__dict__": {**self._kept(), "cache": None, "api_key": None}}


def _settings_of(embedder: Embedder) -> dict[str, Any]:
    """Return the settings of an embedder; if it is not an Encoder, those that it has in common with Encoders."""
    nothing = dict.fromkeys(set(HarrierEmbeddings.model_fields) - {*_HELD, *_OWN})
    own = embedder.settings or {"model": _model_of(embedder), "on_overflow": embedder.on_overflow}
    return {**nothing, **own}


def _model_of(embedder: Embedder) -> str:
    """Return the model's name; of a RemoteEncoder only if it has been given one, so that no server is asked."""
    made_by = embedder.uncached
    return made_by.model or "" if isinstance(made_by, RemoteEncoder) else embedder.name


def _encoder_of(embedder: Embedder, remedy: str) -> Encoder:
    """Return the Encoder that makes the vectors. Raise SettingError if it is something else."""
    found = embedder.uncached
    if not isinstance(found, Encoder):
        raise SettingError(f"this needs an Encoder, got {type(found).__name__}; {remedy}")
    return found
