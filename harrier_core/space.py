"""The identity that makes two vectors comparable. Pure: it knows no model, only what a model reported about itself."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from hashlib import blake2b

from harrier_core.errors import SpaceError

_FORMAT = 1
_OPTIONAL = ("task", "dtype")


@dataclass(frozen=True, slots=True)
class EmbeddingSpace:
    """Identifies which vectors may be compared: those whose spaces are equal, and no others.

    Names do not decide that, weights do: a copied folder is the same space, a fine-tune under an old name is not. So
    `model`, `revision`, `task` (the query task by default, which documents never carry) and `dtype` are for
    information, and are not compared.
    """

    model: str = field(compare=False)
    revision: str | None = field(compare=False)
    weights: str  # a digest of the weights, however they are split into files
    tokenizer: str  # a digest of what turns text into token ids
    dimensions: int
    pooling: str
    normalization: str
    document_template: str
    task: str | None = field(default=None, compare=False)
    dtype: str | None = field(default=None, compare=False)  # what the vectors were computed in

    def differences(self, other: EmbeddingSpace) -> list[str]:
        """Return what keeps vectors of the two spaces apart, one phrase each; empty if they may be compared."""
        return [
            _PHRASES[name].format(ours=getattr(self, name), theirs=getattr(other, name))
            for name in (each.name for each in fields(self) if each.compare)
            if getattr(self, name) != getattr(other, name)
        ]

    def explain(self, other: EmbeddingSpace) -> str:
        """Return a sentence that says whether vectors of the two spaces may be compared, and what differs if not."""
        differences = self.differences(other)
        if not differences:
            return f"vectors of {self} and of {other} may be compared"
        return f"vectors of {self} and of {other} may not be compared: {'; '.join(differences)}"

    @property
    def digest(self) -> str:
        """A short string that is the same for spaces whose vectors may be compared, and for no others."""
        compared = {each.name: getattr(self, each.name) for each in fields(self) if each.compare}
        return blake2b(json.dumps([_FORMAT, compared]).encode(), digest_size=16).hexdigest()

    def __str__(self) -> str:
        return f"{self.model}@{self.revision}" if self.revision else self.model

    def to_json(self) -> str:
        """Return the space as a string, to be stored with the vectors."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> EmbeddingSpace:
        """Return the space that `to_json` wrote."""
        try:
            stored = json.loads(text)
        except (TypeError, ValueError):
            raise SpaceError("not an embedding space: the stored text is not JSON") from None
        found = stored.get("format") if isinstance(stored, dict) else None
        if found != _FORMAT:
            raise SpaceError(f"not an embedding space of format {_FORMAT}: found {found!r}; update harrier-kit")
        # A newer kit may add fields for information; whatever changes what is comparable requires a new format number.
        known = {each.name: stored[each.name] for each in fields(cls) if each.name in stored}
        missing = [each.name for each in fields(cls) if each.name not in stored and each.name not in _OPTIONAL]
        if missing:
            raise SpaceError(f"not an embedding space: {', '.join(missing)} missing")
        space = cls(**known)
        _check_types(space)
        return space


_PHRASES = {
    "weights": "the weights differ ({ours} and {theirs})",
    "tokenizer": "the tokenizers differ ({ours} and {theirs})",
    "dimensions": "the vectors have {ours} and {theirs} dimensions",
    "pooling": "the pooling differs ({ours} and {theirs})",
    "normalization": "the normalization differs ({ours} and {theirs})",
    "document_template": "documents are written differently ({ours!r} and {theirs!r})",
}


def _check_types(space: EmbeddingSpace) -> None:
    """Raise if a type is wrong: it would compare as a difference ever after, with no hint as to why."""
    for each in fields(space):
        value = getattr(space, each.name)
        kind = int if each.name == "dimensions" else str
        optional = each.name in ("revision", *_OPTIONAL) and value is None
        if not (optional or type(value) is kind):
            raise SpaceError(f"not an embedding space: {each.name} is a {type(value).__name__}")
