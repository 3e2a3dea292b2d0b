"""The choice of an encoder by an integration's settings: one with a model loaded here, or a server's, by its URL."""

from __future__ import annotations

import os
from typing import Any, Protocol, Self, TypeAlias, runtime_checkable

from harrier_core.encoder import Encoder
from harrier_core.errors import SettingError
from harrier_core.foreign import unknown_keyword
from harrier_core.remote import RemoteEncoder

AnyEncoder: TypeAlias = Encoder | RemoteEncoder
Model: TypeAlias = str | os.PathLike[str]

# Settings of a model that is loaded here. A server has its own.
LOCAL = ("revision", "device", "dtype", "max_tokens", "on_overflow", "token_budget")
_REMOTE = ("task", "timeout", "retry_for")

MODEL_VARIABLE, URL_VARIABLE = "HARRIER_MODEL", "HARRIER_URL"


@runtime_checkable
class Secret(Protocol):
    """A key wrapped by pydantic or another framework."""

    def get_secret_value(self) -> str:
        """Return the key."""


class KeylessEncoder(RemoteEncoder):
    """A RemoteEncoder whose pickle omits the key: HARRIER_API_KEY takes its place where it is unpickled."""

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "api_key": None}

    def __copy__(self) -> Self:
        return type(self)(**super().__getstate__())

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self.__copy__()


def meant(model: Model | None, url: str | None) -> tuple[Model | None, str | None]:
    """Return the model and the URL of a server that apply.

    HARRIER_MODEL and HARRIER_URL in the environment count only if neither is given: a program that names a model gets
    that model, whatever the environment says.
    """
    if model or url:
        return model or None, url or None
    return os.environ.get(MODEL_VARIABLE) or None, os.environ.get(URL_VARIABLE) or None


def no_model(argument: str) -> SettingError:
    """Return the error for settings without a model or a server. argument: the name of the model's argument."""
    return SettingError(
        f"no model is given; pass {argument}, such as 'harrier-0.6b', or set {MODEL_VARIABLE}; for the model of a "
        f"server pass url=, or set {URL_VARIABLE}"
    )


def encoder_of(model: Model | None, *, url: str | None, api_key: str | Secret | None, **settings: Any) -> AnyEncoder:  # noqa: ANN401
    """Return an Encoder or, given the URL of a server, a RemoteEncoder; neither loads anything.

    model: with a URL, the server's name for the model, if it must be a particular one. settings: those of an Encoder
    or, with a URL, of a RemoteEncoder; None means not given.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    if url is None:
        if api_key is not None:
            raise SettingError("api_key needs url; pass the server's url, or omit api_key")
        if not model:
            raise no_model("model=")
        return Encoder(model, **given)
    for name in LOCAL:
        if name in given and (name, given[name]) != ("on_overflow", "error"):
            raise SettingError(f"{name} is for a locally loaded model, but url names a server; omit one of them")
    rest = {name: value for name, value in given.items() if name not in LOCAL}
    if unknown := rest.keys() - {*_REMOTE}:
        raise unknown_keyword("RemoteEncoder", min(unknown), _REMOTE)
    key = api_key.get_secret_value() if isinstance(api_key, Secret) else api_key
    return KeylessEncoder(url, None if model is None else os.fspath(model) or None, api_key=key, **rest)
