"""A server's description of its model: names with their roles, limits, and the space of its vectors."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harrier_core.counting import packed
from harrier_core.encoder import Encoder
from harrier_core.errors import TaskError
from harrier_core.models import open_model
from harrier_core.tasks import Task
from harrier_server.naming import Names
from harrier_server.refusals import Refusal

if TYPE_CHECKING:
    from starlette.datastructures import Headers

    from harrier_core.space import EmbeddingSpace
    from harrier_server.settings import Limits, Settings

# The digests of the spaces of a client's vectors, and of the server's.
SPACE_HEADER = "harrier-space"

_MARK = "instruction-goes-here"


@dataclass(slots=True)
class Served:
    """A model whose files have been read."""

    encoder: Encoder
    names: Names
    space: EmbeddingSpace
    digest: str  # digest of the space, for a header
    limits: Limits
    _packed: bytes = b""
    _told: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, encoder: Encoder, settings: Settings) -> Served:
        """Read what an encoder reports about its model."""
        names = Names(settings.name, encoder.tasks, instructions=settings.instructions)
        space = _published(encoder.space)
        return cls(encoder, names, space, space.digest, settings.limits)

    def described(self, name: str) -> dict[str, Any]:
        """Return a model as OpenAI lists it, with additional data for the kit's own clients."""
        return {"id": name, "object": "model", "created": 0, "owned_by": "harrier-kit", "harrier": self.told}

    def tokenizer(self) -> bytes:
        """Return the packed files of the model's tokenizer; they are read at the first call."""
        if not self._packed:
            self._packed = packed(open_model(self.encoder.settings["model"], self.space.revision).folder)
        return self._packed

    @property
    def told(self) -> dict[str, Any]:
        """The additional data for the kit's own clients."""
        if not self._told:
            encoder = self.encoder
            self._told = {
                "name": self.names.name,
                "space": json.loads(self.space.to_json()),
                "digest": self.digest,
                "max_tokens": encoder.max_tokens,
                "max_bytes": self.limits.body,  # limit of a request
                "max_texts": self.limits.texts,
                "tasks": dict(encoder.tasks),
                "template": _template(encoder),
            }
        return self._told

    def check_space(self, headers: Headers) -> None:
        """Raise Refusal if a client's vectors have another space than this server's."""
        asked = headers.get(SPACE_HEADER)
        if asked is not None and asked != self.digest:
            raise Refusal(
                409,
                f"embedding space mismatch: server {self.digest} ({self.space}), client {asked[:100]}",
                code="wrong_space",
            )


def _published(space: EmbeddingSpace) -> EmbeddingSpace:
    """Return the space, with a model's folder shortened to its last part: its location does not concern callers."""
    folder = Path(space.model)
    return replace(space, model=folder.name) if folder.is_absolute() else space


def _template(encoder: Encoder) -> list[str] | None:
    """Return the text around an instruction before a query, or None if the model takes only its own instructions."""
    try:
        before, _, after = encoder.prompt("", task=Task(_MARK)).partition(_MARK)
    except TaskError:
        return None
    return [before, after]
