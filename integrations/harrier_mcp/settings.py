"""Settings for offering an Index to assistants."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from harrier_core import Mode, SettingError, Task

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_MODES: tuple[str, ...] = get_args(Mode)


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on the arguments of a call, and on the length of an answer. A client's model has to read all of it."""

    k: int = 50  # results
    query: int = 10_000  # characters
    where: int = 10_000  # characters of its JSON
    passage: int = 4_000  # characters of a result
    answer: int = 60_000  # characters of all results of a search
    fetched: int = 100_000  # characters of a record, per call
    metadata: int = 2_000  # characters of one result's metadata
    at_once: int = 8  # calls of a caller that are processed
    waiting: int = 256  # calls of a caller that wait, these included
    fresh: float = 60.0  # seconds for which data read from the index is reused

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if getattr(self, name) <= 0:
                raise SettingError(f"{name} must be above 0, got {getattr(self, name)!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of a server: what is offered, and to whom.

    name: part of the addresses of records, harrier://NAME/. about: a sentence that tells a model what the texts are.
    where: conditions on metadata that no caller can widen. mode, task: defaults for searches. writing: whether calls
    may add and delete records. local: whether the client runs for the user on this machine, so that a file's path is
    useful to it.
    """

    name: str = "index"
    about: str | None = None
    where: Mapping[str, Any] | None = None
    mode: Mode = "dense"
    task: str | Task | None = None
    writing: bool = False
    local: bool = False
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise SettingError(
                f"name must have up to 63 ASCII letters, digits, - and _, and begin with a letter or digit, got "
                f"{self.name!r}"
            )
        if self.mode not in _MODES:
            raise SettingError(f"mode must be one of {', '.join(map(repr, _MODES))}, got {self.mode!r}")
        if self.about is not None and not self.about.strip():
            raise SettingError("about must be a sentence, got nothing but white space")
