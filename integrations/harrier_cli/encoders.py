"""The source of a command's vectors: a model that is loaded here, or a server's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harrier_cli.defaults import FILE, Rank, found, setting, variable
from harrier_cli.keys import keys_of
from harrier_core import Encoder, RemoteEncoder, SettingError, Task
from harrier_core.choosing import AnyEncoder

_SOURCES = {Rank.OPTION: "--server", Rank.ENVIRONMENT: variable("url"), Rank.FILE: FILE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The options that choose a model, as they were given. Those that were not given have defaults."""

    model: str | None
    server: str | None = None
    api_key_file: Path | None = None
    device: str | None = None
    dtype: str | None = None

    def encoder(self) -> AnyEncoder:
        """Return an encoder of the chosen model."""
        return self.remote() or self.loaded_here()

    def remote(self) -> RemoteEncoder | None:
        """Return an encoder on the chosen server, or None if no server is chosen."""
        url, rank = found("url", self.server)
        if url is None:
            if self.api_key_file is not None:
                raise SettingError(f"--api-key-file needs --server, or {variable('url')}")
            return None
        for option, given in (("--device", self.device), ("--dtype", self.dtype)):
            if given:
                raise SettingError(
                    f"{option} is for a locally loaded model, but {_SOURCES[rank]} names a server; omit one of them "
                    "(--server '' for none)"
                )
        key = None if self.api_key_file is None else keys_of(self.api_key_file)[0]
        return RemoteEncoder(url, self._name_there(rank), api_key=key)

    def _name_there(self, rank: Rank) -> str | None:
        """Return the name that the server's model must have.

        A default that ranks below the source of the server's URL is meant for commands without a server.
        """
        name, of_name = found("model", self.model)
        return name if of_name <= rank else None

    def loaded_here(self) -> Encoder:
        """Return an encoder of the chosen model, ignoring any server among the defaults."""
        name = setting("model", self.model)
        if name is None:
            raise no_model()
        return self.of(name)

    def of(self, name: str, revision: str | None = None) -> Encoder:
        """Return an encoder of a model by its name, loaded here."""
        device, dtype = setting("device", self.device), setting("dtype", self.dtype)
        return Encoder(name, revision=revision, device=device, dtype=dtype)


def no_model(why: str = "no model is given") -> SettingError:
    """Return the error for a command that needs a model."""
    return SettingError(
        f"{why}; pass --model, such as harrier-0.6b, or set {variable('model')}; --server or {variable('url')} name "
        "a server that has one"
    )


def check_task(encoder: AnyEncoder, task: str | Task | None) -> None:
    """Raise SettingError if the model has no task of this name."""
    if isinstance(task, str) and task not in encoder.tasks:
        known = ", ".join(sorted(encoder.tasks)) or "none by name"
        raise SettingError(f"unknown task {task!r}; this model knows {known}; pass your own with --instruction")
