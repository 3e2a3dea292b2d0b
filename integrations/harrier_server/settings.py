"""The configuration of a server, checked before anything is loaded."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from harrier_core.errors import SettingError

_LOOPBACK_NAMES = ("localhost",)


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one request, and of all that wait together; anything beyond is refused before tokenizing."""

    body: int = 32 * 2**20  # bytes
    texts: int = 2_048  # per request, as for OpenAI
    waiting: int = 64 * 2**20  # characters of all waiting requests
    answers: int = 256 * 2**20  # bytes of all answers that are being made, or that clients have yet to take
    arrival: float = 60.0  # seconds for a body or a line of an ingest to arrive, and for an answer to be taken
    drain: float = 30.0  # seconds for pending requests when the server ends

    def __post_init__(self) -> None:
        for each in fields(self):
            if getattr(self, each.name) <= 0:
                raise SettingError(f"{each.name} must be above 0, got {getattr(self, each.name)!r}")


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a server: what it offers, and to whom.

    name: the clients' name for the model, to which -query, -document and -query-TASK are added. keys: any of them
    grants access.
    hosts: names to accept in a Host header, in addition to `host`. origins: those of pages that may call it.
    instructions: whether a request may bring its own instruction. ingest: whether requests may write to indexes. where:
    conditions on metadata, by the names of indexes, that no caller can widen. about: sentences that tell assistants
    what the texts are, by the names of indexes. page: whether there is a web page at /.
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
            raise SettingError(f"the name of a model must be one word without white space, got {self.name!r}")
        if "/" in self.name:
            raise SettingError(f"the name of a model must have no /, got {self.name!r}; choose another one with --name")
        if any(len(key) < 16 or not key.isascii() for key in self.keys):
            raise SettingError("a key must have at least 16 characters, all ASCII")
        if not self.is_local and not self.keys:
            raise SettingError(f"a server on {self.host} is reachable by others; give it a key, or listen on 127.0.0.1")

    @property
    def is_local(self) -> bool:
        """Whether only programs on this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host in _LOOPBACK_NAMES
