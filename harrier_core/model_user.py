"""The base class of objects that run a model on the kit's engine: equal settings share one loaded model."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from harrier_core.errors import SettingError
from harrier_core.extras import require_encoding
from harrier_core.light import Light
from harrier_core.models import Model, identify, open_model
from harrier_core.shared import Lease, ProcessLock, Shared

if TYPE_CHECKING:
    from harrier_core.device import Placement
    from harrier_core.engine import Engine
    from harrier_core.stats import Stats
    from harrier_core.tokens import Tokens

_models: Shared[Model] = Shared()
_tokens: Shared[Tokens] = Shared()
_counting = ProcessLock()


class ModelUser(Light):
    """A user of one model. Any number of threads and event loops may use it at once."""

    _needs: ClassVar[str]  # in errors about a missing package
    _unsaid: ClassVar[Mapping[str, Any]]  # settings that a repr leaves out

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        revision: str | None,
        device: str | None,
        dtype: str | None,
        max_tokens: int | None,
        on_overflow: str,
        token_budget: int | None,
        **others: Any,  # noqa: ANN401  # a subclass's own settings
    ) -> None:
        if on_overflow not in ("error", "truncate"):
            raise SettingError(f"on_overflow must be 'error' or 'truncate', got {on_overflow!r}")
        if not isinstance(revision, str | None):
            raise SettingError(f"revision must be a str, got {type(revision).__name__}")
        for name, number in (("max_tokens", max_tokens), ("token_budget", token_budget)):
            if number is not None and not (type(number) is int and number > 0):
                raise SettingError(f"{name} must be a positive integer, got {number!r}")
        settings: dict[str, Any] = {
            "model": os.fspath(model),
            "revision": revision,
            "device": str(device) if device is not None else None,  # a torch.device is welcome
            "dtype": str(dtype).removeprefix("torch.") if dtype is not None else None,  # and a torch.dtype
            "max_tokens": max_tokens,
            "on_overflow": on_overflow,
            **others,
            "token_budget": token_budget,
        }
        super().__init__(settings)
        self._truncations = 0

    # -- looking inside

    @property
    def name(self) -> str:
        """The model's folder or name, as it was given."""
        given: str = self._settings["model"]
        return given

    @property
    def max_tokens(self) -> int:
        """The highest number of tokens that a text may have, its prompt included."""
        limit = self._model.max_tokens
        asked = self._settings["max_tokens"]
        if asked is not None and asked > limit:
            raise SettingError(f"max_tokens={asked} is more than the {limit} that {self._model.name} takes; lower it")
        return asked or limit

    @property
    def on_overflow(self) -> Literal["error", "truncate"]:
        """What to do with a text of more than `max_tokens`: "error" or "truncate" it."""
        chosen: Literal["error", "truncate"] = self._settings["on_overflow"]
        return chosen

    @property
    def placement(self) -> Placement:
        """The device or devices and the dtype that this computes on, and why. It loads no model."""
        model = self._model  # before importing torch, which may not be installed
        from harrier_core.spreading import place

        return place(model, self._settings["device"], self._settings["dtype"])

    @property
    def stats(self) -> Stats:
        """Statistics of the loaded model, for all that share it. It loads nothing."""
        from harrier_core.stats import Stats

        lease = self._held.lease("engine")
        if lease is None or lease.inherited:
            return Stats(truncations=self._truncations)
        engine: Engine = lease.value
        return engine.stats(self._truncations)

    @property
    def truncations(self) -> int:
        """How many texts were truncated; always 0 unless on_overflow='truncate'."""
        return self._truncations

    def __repr__(self) -> str:
        given = dict(self._settings)
        model = given.pop("model")
        plain = {"on_overflow": "error", **self._unsaid}
        said = [f"{name}={value!r}" for name, value in given.items() if value != plain.get(name)]
        return f"{type(self).__name__}({', '.join([repr(model), *said])})"

    # -- what is shared

    @staticmethod
    @abstractmethod
    def _check(folder: Path, config: Mapping[str, Any]) -> None:
        """Refuse a model that was made for another purpose."""

    @property
    def _model(self) -> Model:
        name, revision, check = self._settings["model"], self._settings["revision"], type(self)._check

        def use() -> Lease[Model]:
            require_encoding(self._needs)
            return _models.use((identify(name, revision), check), lambda: open_model(name, revision, check))

        return self._shared("model", use)

    @property
    def _tokenizer(self) -> Tokens:
        from harrier_core.tokens import Tokens

        model = self._model
        return self._shared("tokens", lambda: _tokens.use((model.folder, model.signature), lambda: Tokens(model)))

    @property
    def _engine(self) -> Engine:
        from harrier_core.engine import refuse_inherited, use_engine

        if lease := self._held.lease("engine"):
            refuse_inherited(lease)
        model, device, dtype = self._model, self._settings["device"], self._settings["dtype"]
        return self._shared("engine", lambda: use_engine(model, device, dtype))

    def _count_cut(self, texts: int) -> None:
        with _counting:
            self._truncations += texts
