"""HarrierEmbedding: an Encoder, local or behind a URL, or another Embedder, as LlamaIndex's embedding."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from typing import Any, Literal, Self, Unpack

from llama_index.core.bridge.pydantic import (
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    field_serializer,
    field_validator,
)
from llama_index.embeddings.harrier.cache import KeyValues
from llama_index.embeddings.harrier.settings import OF_ENCODER, Settings, setting, settled
from llama_index.embeddings.harrier.windows import BATCH, Windows

from harrier_core import CachedEncoder, Embedder, Encoder, SettingError, Task
from harrier_core.blanks import BlanksLast
from harrier_core.choosing import MODEL_VARIABLE, encoder_of
from harrier_core.tasks import DEFAULT_TASK

# A repr shows what differs from these or, for other fields, from None.
_SHOWN = {
    "model_name": "",
    "task": DEFAULT_TASK,
    "on_overflow": "error",
    "on_blank": "error",
    "embed_batch_size": BATCH,
}


class HarrierEmbedding(Windows):
    """Harrier embedding models: a query is embedded after its instruction, a text as it is.

    Making one loads nothing, and all with equal settings share one loaded model. A setting that is not given is taken
    from the environment, from `HARRIER_MODEL`, `HARRIER_DEVICE` and so on, before its default. When pickled, copied or
    sent to another process, it consists only of its settings, and of another Embedder if `from_encoder` was given one.
    Copies share that Embedder and the cache; JSON has the Embedder's name. Fields that vectors depend on cannot be
    changed afterwards. Unknown arguments are refused, and so are those of other classes, unless they ask for what is
    always the case.

    With `url`, the address of a server run by `harrier serve`, the server's model embeds and none is loaded here.
    `model_name`, if given, is the server's name for it, and device, dtype and the like are the server's own.
    `HARRIER_URL` is used only if neither is given. `api_key` is the server's key, by default `HARRIER_API_KEY`; no
    dict, JSON or pickle contains it.

    ```python
    from llama_index.core import Settings
    from llama_index.embeddings.harrier import HarrierEmbedding

    Settings.embed_model = HarrierEmbedding("harrier-0.6b")
    ```
    """

    model_config = ConfigDict(extra="forbid", validate_default=True)

    model_name: str = setting(MODEL_VARIABLE, None, "A folder, a name on the hub, or harrier-270m, -0.6b or -27b.")
    url: str | None = Field(
        default=None, frozen=True, description="URL of a server whose model embeds, instead of a local one."
    )
    api_key: SecretStr | None = Field(
        default=None, frozen=True, exclude=True, repr=False, description="API key of the server."
    )
    revision: str | None = setting("HARRIER_REVISION", None, "Revision of a model on the hub.")
    device: str | None = setting("HARRIER_DEVICE", None, "Device; chosen for this machine by default.")
    dtype: str | None = setting("HARRIER_DTYPE", None, "Dtype; chosen for the device by default.")
    max_tokens: int | None = setting("HARRIER_MAX_TOKENS", None, "A limit below the model's own.")
    on_overflow: Literal["error", "truncate"] = setting(
        "HARRIER_ON_OVERFLOW", "error", "Whether a longer text is an error or is truncated."
    )
    on_blank: Literal["error", "last"] = setting(
        "HARRIER_ON_BLANK",
        "error",
        "Whether a blank text is an error, or a text that ranks last. A blank query is always an error.",
    )
    task: str | Task | None = setting(
        "HARRIER_TASK", DEFAULT_TASK, "Task of the queries: a name that the model knows, or a Task."
    )
    token_budget: int | None = setting("HARRIER_TOKEN_BUDGET", None, "Tokens in one forward pass.")
    embeddings_cache: Any | None = Field(
        default=None,
        frozen=True,
        description="A BaseKVStore as a cache of vectors. Keys cover all that a vector depends on; it may be shared.",
    )
    embedder: Any | None = Field(
        default=None, frozen=True, description="The Embedder that makes the vectors, if it is not an Encoder."
    )

    _made_by: Embedder = PrivateAttr()

    def __init__(self, model_name: str | os.PathLike[str] | None = None, **settings: Unpack[Settings]) -> None:
        """Take the settings of an Encoder, and LlamaIndex's own. `model` is an alias of the model's name.

        Settings that are not given are taken from HARRIER_MODEL, HARRIER_TASK, HARRIER_DEVICE and so on, before their
        defaults.
        """
        super().__init__(**settled(type(self).model_fields, model_name, settings))

    @field_validator("model_name", mode="before")
    @classmethod
    def _path(cls, value: object) -> object:
        return os.fspath(value) if isinstance(value, os.PathLike) else value

    @field_validator("device", "dtype", mode="before")
    @classmethod
    def _name(cls, value: object) -> str | None:
        """Convert a torch.device or a torch.dtype to its name."""
        return None if value is None else str(value).removeprefix("torch.")

    @field_serializer("embedder", when_used="json")
    def _named(self, embedder: Embedder | None) -> str | None:
        return None if embedder is None else embedder.name

    def model_post_init(self, context: Any, /) -> None:
        """Make the encoder, which refuses invalid settings and loads nothing."""
        super().model_post_init(context)
        self._encode_by(self._an_encoder() if self.embedder is None else self._checked(self.embedder))

    def _an_encoder(self) -> Embedder:
        given = {name: getattr(self, name) for name in ("url", "api_key", *OF_ENCODER)}
        encoder, values = encoder_of(self.model_name, **given), self.embeddings_cache
        return encoder if values is None else CachedEncoder(encoder, KeyValues(values))

    def _checked(self, embedder: object) -> Embedder:
        """Return the embedder, unless settings contradict it."""
        if not isinstance(embedder, Embedder):
            raise SettingError(f"embedder must be an Embedder, got {type(embedder).__name__}")
        named = [
            name for name in ("url", "api_key", *OF_ENCODER, "embeddings_cache") if getattr(self, name) is not None
        ]
        if other := [name for name in named if name != "on_overflow"]:
            raise SettingError(f"{other[0]} is a setting of embedder; pass {other[0]}=None, or configure the embedder")
        return embedder

    def _encode_by(self, embedder: Embedder) -> None:
        self._made_by = embedder
        self._source = embedder if self.on_blank == "error" else BlanksLast(embedder)

    @classmethod
    def from_encoder(cls, encoder: Embedder, **options: Any) -> Self:
        """Return an embedding that uses the loaded model and the cache of an Encoder, or any other Embedder itself."""
        options = {"on_blank": "error", **options}  # the environment must not affect an existing encoder
        if encoder.settings is None:
            return cls(embedder=encoder, **options)
        made = cls(**{**encoder.settings, **options})
        if encoder.uncached is not encoder and made.embeddings_cache is None:
            made._encode_by(encoder)
        return made

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which it is stored."""
        return "HarrierEmbedding"

    @property
    def encoder(self) -> Encoder:
        """The Encoder underneath: `prompt`, `space`, `stats`, `close`. Raise SettingError if it is not an Encoder."""
        found = self._made_by.uncached
        if not isinstance(found, Encoder):
            raise SettingError(f"this needs an Encoder, got {type(found).__name__}; use that embedder itself")
        return found

    @property
    def index_encoder(self) -> Embedder:
        """The Embedder to pass to an Index, with the cache if there is one."""
        return self._made_by

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name in ("model_name", "url", *OF_ENCODER, "on_blank", "embed_batch_size", "num_workers", "embedder"):
            value = getattr(self, name)
            if value is not None and value != _SHOWN.get(name):
                yield name, value

    def __eq__(self, other: object) -> bool:
        """Compare settings; callbacks, and whether the model is loaded, do not matter."""
        return isinstance(other, HarrierEmbedding) and self.to_dict() == other.to_dict()

    def to_json(self, **kwargs: Any) -> str:
        """Return the settings as JSON, with the name of another Embedder, which `from_json` cannot make."""
        return str(super().to_json(**{"mode": "json", **kwargs}))

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Copy the settings. An Embedder and a cache that were passed in are shared, not copied."""
        shared = {} if memo is None else memo
        given = self._made_by if self.embeddings_cache is None else self.embeddings_cache
        if not isinstance(given, Encoder):
            shared[id(given)] = given
        return super().__deepcopy__(shared)

    def __getstate__(self) -> dict[str, Any]:
        try:  # LlamaIndex leaves out what cannot be pickled, and an Encoder would take its place
            pickle.dumps(self.embedder)
        except Exception as error:  # whatever the embedder raises
            raise SettingError(
                f"this HarrierEmbedding cannot be pickled: its embedder, {type(self.embedder).__name__}, cannot "
                f"({error}); create it again where it is needed"
            ) from error
        # LlamaIndex also takes what it leaves out from the object itself.
        copied = self.model_copy(update={"api_key": None})
        return super(HarrierEmbedding, copied).__getstate__()

    __hash__ = None  # type: ignore[assignment]  # as of every pydantic model that can be changed
