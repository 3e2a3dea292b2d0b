"""CrossEncoderReranker: any CrossEncoder of sentence-transformers as the reranker of a search.

    reranker = CrossEncoderReranker("BAAI/bge-reranker-v2-m3")
    matches = index.search("how do I reset my password", k=5, rerank=reranker, among=50)

sentence-transformers is imported when the first score is needed, never with this module.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Never

from harrier_core.embedder import closed
from harrier_core.ending import refuse_at_end
from harrier_core.errors import BadVectors, ModelNotFound, ModelUnsupported, SettingError, raise_problems
from harrier_core.extras import require
from harrier_core.foreign import unknown_keyword
from harrier_core.light import Light
from harrier_core.models import identify
from harrier_core.shared import Lease, Shared
from harrier_core.texts import listed, unusable, usable_query
from harrier_core.tracing import span

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

    from harrier_core.device import Placement

_OF_A_NAME = ("revision", "device", "dtype", "max_length")
_SAID = {"batch_size": 32}


class CrossEncoderReranker(Light):
    """Scores texts by how well they answer a query, with a CrossEncoder of sentence-transformers.

    A score is the output of the model's own activation, usually between 0 and 1. The model silently truncates a query
    and a text that are together longer than its limit: use chunks that fit, or a model with a higher limit.

    It holds only settings: making one loads nothing, pickling or copying one carries only the settings, and rerankers
    with equal settings share one loaded model, which is released when the last of them is closed or collected. A
    CrossEncoder passed as an object is used, and pickled, as it is. Any number of threads may use one, in turns.

        with Encoder("harrier-0.6b") as encoder, CrossEncoderReranker("BAAI/bge-reranker-v2-m3") as reranker:
            index = Index(store, encoder)
            for match in index.search("reset a password", k=5, rerank=reranker, among=50):
                print(match.score, match.text)
    """

    _called = "reranker"

    def __init__(
        self,
        model: str | os.PathLike[str] | CrossEncoder,
        *,
        revision: str | None = None,
        device: str | None = None,
        dtype: str | None = None,
        max_length: int | None = None,
        batch_size: int = 32,
        **foreign: Never,
    ) -> None:
        """Create a reranker for a folder, a name on the hub, or an existing CrossEncoder.

        device: chosen for this machine unless given, as an Encoder's. dtype: float32 unless given, because rounded
        scores have many ties. max_length: the number of tokens of query and text together, beyond which the model
        truncates; its own limit unless given. batch_size: how many texts of similar lengths go through at once.
        """
        named = isinstance(model, str | os.PathLike)
        if not named and not callable(getattr(model, "predict", None)):
            raise SettingError(f"model must be a name, a folder or a CrossEncoder, got {type(model).__name__}")
        for name, number in (("max_length", max_length), ("batch_size", batch_size)):
            if not (type(number) is int and number > 0) and (name, number) != ("max_length", None):
                raise SettingError(f"{name} must be a positive integer, got {number!r}")
        settings: dict[str, Any] = {
            "model": os.fspath(model) if isinstance(model, str | os.PathLike) else model,
            "revision": revision,
            "device": str(device) if device is not None else None,
            "dtype": str(dtype).removeprefix("torch.") if dtype is not None else None,
            "max_length": max_length,
            "batch_size": batch_size,
        }
        if "," in (settings["device"] or ""):
            raise SettingError(f"device must be one device for a CrossEncoderReranker, got {settings['device']!r}")
        if foreign:
            raise unknown_keyword("CrossEncoderReranker", next(iter(foreign)), settings)
        if not named and (given := next((name for name in _OF_A_NAME if settings[name] is not None), None)):
            raise SettingError(f"{given} applies only to a model that is loaded by name; this CrossEncoder has its own")
        super().__init__(settings)

    def scores(self, query: str, texts: Iterable[str]) -> list[float]:
        """Return for each text how well it answers the query; higher is better."""
        refuse_at_end()
        plain = usable_query(query)
        given = listed(texts)
        raise_problems(list(unusable(given)))
        with span("rerank", self.name) as tell:
            scores = self._loaded.scores(plain, [str.__str__(text) for text in given], self._settings["batch_size"])
            tell(len(scores))
        return scores

    @property
    def name(self) -> str:
        """The model's folder or name, as it was given; for a CrossEncoder object, its class."""
        model = self._settings["model"]
        return model if isinstance(model, str) else type(model).__name__

    def __repr__(self) -> str:
        model = self._settings["model"]
        first = repr(model) if isinstance(model, str) else f"<{self.name}>"
        said = [f"{name}={value!r}" for name, value in self._settings.items() if value != _SAID.get(name)]
        return f"CrossEncoderReranker({', '.join([first, *said[1:]])})"

    @property
    def _loaded(self) -> _Loaded:
        return self._shared("model", self._use)

    def _use(self) -> Lease[_Loaded]:
        require("a CrossEncoderReranker", "sentence_transformers")
        model, revision = self._settings["model"], self._settings["revision"]
        if not isinstance(model, str):
            return _models.use(("given", id(model)), lambda: _Loaded(model, self.name, None))
        from harrier_core.device import choose

        placement = choose("", self._settings["device"], self._settings["dtype"] or "float32")
        most = self._settings["max_length"]
        key = (identify(model, revision), placement.device, placement.dtype, most)
        return _models.use(key, lambda: _Loaded(_load(model, revision, placement, most), model, placement))


class _Loaded:
    """A model, for one thread at a time: each call reconfigures its tokenizer."""

    def __init__(self, model: CrossEncoder, name: str, placement: Placement | None) -> None:
        self._model: CrossEncoder | None = model
        self._name = name
        self._placement = placement
        self._lock = threading.Lock()

    def scores(self, query: str, texts: list[str], batch: int) -> list[float]:
        if not texts:
            return []
        order = sorted(range(len(texts)), key=lambda at: -len(texts[at]))
        pairs = [(query, texts[at]) for at in order]
        with self._lock:
            if self._model is None:
                raise closed("reranker")
            found = self._model.predict(pairs, batch_size=batch, show_progress_bar=False, convert_to_numpy=True)
        if found.ndim != 1:
            raise ModelUnsupported(
                f"{self._name} returns {found.shape[1]} numbers for a query and a text; a reranker must return one"
            )
        scores = [0.0] * len(texts)
        for at, score in zip(order, found, strict=True):
            scores[at] = float(score)
        if bad := [at for at, score in enumerate(scores) if math.isnan(score)]:
            raise BadVectors(f"the score of text {bad[0]} is not a number ({len(bad)} of {len(texts)} texts)", bad)
        return scores

    def close(self) -> None:
        """Drop the model; a call under way keeps its own reference."""
        self._model = None
        if self._placement is not None:
            from harrier_core.device import release_memory

            release_memory(self._placement.device)


_models: Shared[_Loaded] = Shared(_Loaded.close)


def _load(name: str, revision: str | None, placement: Placement, max_length: int | None) -> CrossEncoder:
    import torch
    from sentence_transformers import CrossEncoder

    how = {"dtype": getattr(torch, placement.dtype), "use_safetensors": True}
    try:
        model = CrossEncoder(name, revision=revision, device=placement.device, max_length=max_length, model_kwargs=how)
    except MemoryError:
        raise
    except Exception as error:  # those of transformers, of the hub and of its HTTP library
        kind = ModelNotFound if isinstance(error, OSError) else ModelUnsupported
        raise kind(f"sentence-transformers cannot load {name!r} as a CrossEncoder: {_first_line(error)}") from error
    _check(model, name, revision)
    return model


def _check(model: CrossEncoder, name: str, revision: str | None) -> None:
    """Refuse a model without a trained head: sentence-transformers adds one with random weights, or guesses."""
    kinds = model.model.config.architectures or ["no known architecture"]
    if kinds[0].endswith("ForSequenceClassification") or _was_saved_as_such(name, revision):
        return
    instead = "QwenReranker" if kinds[0] == "Qwen3ForCausalLM" else "Encoder, if it makes vectors"
    raise ModelUnsupported(
        f"{name} has no head that scores a query and a text: its config.json says {kinds[0]}, and no modules.json says "
        f"how it reranks; pass it to {instead}"
    )


def _was_saved_as_such(name: str, revision: str | None) -> bool:
    """Return whether a modules.json puts LogitScore after a language model."""
    from huggingface_hub import try_to_load_from_cache

    path = Path(name) / "modules.json"
    if not Path(name).is_dir():
        cached = try_to_load_from_cache(name, "modules.json", revision=revision)
        path = Path(cached) if isinstance(cached, str) else path
    return path.is_file() and "LogitScore" in path.read_text(encoding="utf-8")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
