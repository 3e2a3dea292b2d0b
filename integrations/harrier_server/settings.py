"""How a server is set up; checked before anything is loaded."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from harrier_core.errors import SettingError

_LOOPBACK_NAMES = ("localhost",)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request, and all that wait together, may have; anything beyond it is refused before it is tokenized."""

    body: int = 32 * 2**20  # bytes
    texts: int = 2_048  # of a request, as OpenAI has it
    waiting: int = 64 * 2**20  # characters of all requests that wait
    arrival: float = 60.0  # seconds in which headers, a body or a line of an ingest arrive, and an answer is taken
    drain: float = 30.0  # seconds that requests under way get when the server ends

    def __post_init__(self) -> None:
        for each in fields(self):
            if getattr(self, each.name) <= 0:
                raise SettingError(f"{each.name} must be above 0, got {getattr(self, each.name)!r}")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a server offers, and to whom.

    name: what clients call the model; -query, -document and -query-TASK follow it. keys: any of them opens the server.
    hosts: names in a Host header besides those of `host`. origins: of pages that may call it. instructions: whether a
    request may bring an instruction of its own. ingest: whether requests may write to indexes. where: conditions on
    metadata, by the names of indexes, that no caller can widen. about: sentences that tell assistants what the texts
    are, by the names of indexes. page: whether there is a page for people at /.
    """

    name: str
    host: str = "127.0.0.1"
    port: int = 8000
    keys: Sequence[str] = field(default=(), repr=False)
    hosts: Sequence[str] = ()
    origins: Sequence[str] = ()
    instructions: bool = False
    ingest: bool = False
    where: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    about: Mapping[str, str] = field(default_factory=dict)
    page: bool = True
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not self.name or any(character.isspace() for character in self.name):
            raise SettingError(f"the name of a model must be a word without blanks, got {self.name!r}")
        if "/" in self.name:
            raise SettingError(f"the name of a model must have no /, got {self.name!r}; choose another one with --name")
        if any(len(key) < 16 or not key.isascii() for key in self.keys):
            raise SettingError("a key must have at least 16 characters, all of them ASCII")
        if not self.is_local and not self.keys:
            raise SettingError(f"a server on {self.host} is open to others; give it a key, or listen on 127.0.0.1")

    @property
    def is_local(self) -> bool:
        """Whether only programs of this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host in _LOOPBACK_NAMES
