"""Requests to an embedding server: what it serves, its tokenizer, and vectors. Each answer is checked."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

import orjson

from harrier_core.embedder import Encoded
from harrier_core.errors import (
    BadVectors,
    EmptyText,
    HarrierError,
    InputError,
    InvalidText,
    NotText,
    OutOfMemory,
    Problem,
    ServerRefused,
    SpaceChanged,
    TextTooLong,
    raise_problems,
)
from harrier_core.http import Server, printable
from harrier_core.space import EmbeddingSpace
from harrier_core.tasks import Prompts

if TYPE_CHECKING:
    import httpx

# Raised while reading a malformed answer. SpaceError and binascii.Error are ValueErrors.
_MALFORMED = (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True, slots=True)
class Described:
    """A server's description of its model."""

    name: str
    space: EmbeddingSpace
    max_tokens: int
    max_bytes: int  # limit of a request
    max_texts: int
    prompts: Prompts


async def described_by(server: Server, model: str | None) -> Described:
    """Return what a server reports about its model, or about the one with this name."""
    path = "/v1/models" if model is None else f"/v1/models/{quote(model, safe='')}"
    response = await server.ask("GET", path)
    try:
        answer = response.json()
        said = (answer["data"][0] if model is None else answer)["harrier"]
        template = said["template"]
        space = EmbeddingSpace.from_json(json.dumps(said["space"]))
        document = space.document_template.removesuffix("{text}")
        prompts = Prompts(said["tasks"], None if template is None else (template[0], template[1]), document)
        tokens, size, texts = (int(said[name]) for name in ("max_tokens", "max_bytes", "max_texts"))
        return Described(said["name"], space, tokens, size, texts, prompts)
    except _MALFORMED:
        raise ServerRefused(
            f"the server at {server.url} does not identify its embedding space; it must be one that `harrier "
            "serve` runs"
        ) from None


async def tokenizer_of(server: Server, model: str) -> bytes:
    """Return the packed files of a model's tokenizer."""
    response = await server.ask("GET", f"/v1/models/{quote(model, safe='')}/tokenizer")
    return response.content


async def encoded_by(
    server: Server, described: Described, texts: Sequence[str], role: Mapping[str, str], *, splits: bool = False
) -> Encoded:
    """Return the vectors of one request. splits: raise TimedOut if it takes too long."""
    headers = {"Content-Type": "application/json", "Harrier-Space": described.space.digest}
    try:
        response = await server.ask("POST", "/v1/embeddings", _body(described, texts, role), headers, splits=splits)
    except ServerRefused as refused:
        raise _translated(refused, described, len(texts)) from None
    try:
        return _read(response, len(texts), described.space)
    except _MALFORMED:
        raise ServerRefused(f"the server at {server.url} sent a malformed answer") from None


def sizes_of(texts: Sequence[str], described: Described, role: Mapping[str, str]) -> list[int]:
    """Return how many bytes each text adds to a request. Raise TextTooLong if one is larger than any request may be."""
    sizes = [len(orjson.dumps(text)) + 1 for text in texts]  # and a comma
    room = room_of(described, role)
    long = f"has more bytes as JSON than the {room:,} that the server takes; split it"
    raise_problems([Problem(at, TextTooLong, long) for at, size in enumerate(sizes) if size > room])
    return sizes


def room_of(described: Described, role: Mapping[str, str]) -> int:
    """Return how many bytes of texts fit into a request."""
    return described.max_bytes - len(_body(described, [], role))


def _body(described: Described, texts: Sequence[str], role: Mapping[str, str]) -> bytes:
    return orjson.dumps({"model": described.name, "input": texts, "encoding_format": "base64", **role})


def _read(response: httpx.Response, texts: int, space: EmbeddingSpace) -> Encoded:
    """Return the vectors in an answer. Raise ValueError, KeyError or the like if it is malformed."""
    import numpy as np

    answer = response.json()
    data, own = answer["data"], answer["harrier"]
    rows = [b64decode(each["embedding"], validate=True) for each in data]
    tokens, cut = own["tokens"], own["truncated"]
    if (
        response.headers.get("Harrier-Space") != space.digest
        or [each["index"] for each in data] != list(range(texts))
        or any(len(row) != 4 * space.dimensions for row in rows)
        or len(tokens) != texts
        or not all(type(count) is int and count >= 0 for count in tokens)
        or not all(type(at) is int and 0 <= at < texts for at in cut)
    ):
        raise ValueError
    vectors = np.frombuffer(b"".join(rows), "<f4").reshape(texts, space.dimensions).astype(np.float32)
    if not np.isfinite(vectors).all():
        raise ValueError
    return Encoded(vectors, tokens, cut)


_KINDS = {kind.__name__: kind for kind in (EmptyText, InvalidText, NotText, TextTooLong)}


def _translated(refused: ServerRefused, described: Described, texts: int) -> HarrierError:
    """Return the error that an Encoder in this process would have raised."""
    if refused.status == 409:
        return SpaceChanged(f"{refused}; the server's first answer was in {described.space}")
    try:
        found = [
            (int(str(each["position"])), str(each["kind"]), printable(str(each["reason"]))) for each in refused.problems
        ]
    except (KeyError, ValueError):
        return refused
    if not found or not all(0 <= at < texts for at, _, _ in found):
        return refused
    at, kind, reason = found[0]
    if kind == OutOfMemory.__name__:
        return OutOfMemory(reason, at)
    if kind == BadVectors.__name__:
        return BadVectors(reason, [at for at, _, _ in found])
    problems = [Problem(at, _KINDS.get(kind, InputError), reason) for at, kind, reason in found]
    return problems[0].kind(problems)
