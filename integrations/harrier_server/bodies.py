"""Requests as they are read, and answers as they are written.

Answers are written by orjson: vectors are passed as arrays, whose numbers it writes as float32, or as base64, which
takes a quarter of the bytes and a small part of the time.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec
import orjson
import pybase64

from harrier_server.refusals import Refusal, bad

if TYPE_CHECKING:
    from starlette.requests import Request

    from harrier_core.embedder import Encoded

T = TypeVar("T")

VALUES = 2**16  # in a body: 32 MiB could hold ten million lists, which block the event loop and take a gigabyte
_SLICE = 2**18  # bytes
_TOKENS_OF_BODY = re.compile(rb'"inputs?"\s*+:\s*+\[\s*+[\[\d]')

_CUT_HEADER = "harrier-truncated"

_TOKENS = (
    "input holds token ids of another tokenizer; send texts. LangChain's OpenAIEmbeddings sends token ids "
    "unless it gets check_embedding_ctx_length=False"
)


class EmbeddingsRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of /v1/embeddings: OpenAI's fields, and those for the role of the texts."""

    model: str
    input: Any
    encoding_format: Literal["float", "base64"] | None = "float"
    dimensions: int | None = None
    user: str | None = None
    input_type: str | None = None
    task: str | None = None
    instruction: str | None = None
    truncate: bool | Literal["NONE", "START", "END"] | None = False


class EmbedRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of TEI's /embed."""

    inputs: Any
    prompt_name: str | None = None
    truncate: bool | None = False
    truncation_direction: Literal["Left", "Right", "left", "right"] | None = None
    normalize: bool | None = True
    dimensions: int | None = None


class SearchRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of /v1/search. index: may be left out where the server has one only."""

    query: str | list[str]
    index: str = ""
    k: int = 5
    where: dict[str, Any] | None = None
    task: str | None = None
    mode: Literal["dense", "keyword", "hybrid"] = "dense"
    min_score: float | None = None
    offset: int = 0


async def read(request: Request, most: int, seconds: float, count: Callable[[int], None]) -> bytes:
    """Return a body. Raise Refusal if it is too long, or does not arrive in time.

    count: called with the number of bytes in each part; it may refuse them.
    """
    try:
        told = request.headers.get("content-length", "")
        if told.isdecimal() and int(told) > most:
            raise too_long(most)
        async with asyncio.timeout(seconds):
            return await _read(request, most, count)
    except TimeoutError:
        raise too_late("the body", seconds) from None
    except Refusal as refusal:
        refusal.unread = True
        raise


async def _read(request: Request, most: int, count: Callable[[int], None]) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise too_long(most)
        count(len(part))
        parts.append(part)
    return b"".join(parts)


def too_long(most: int) -> Refusal:
    """Return the refusal of a body that is too long. The rest of it is not read."""
    return Refusal(413, f"the body has more than {most:,} bytes; send fewer texts at once", code="too_large")


def too_late(what: str, seconds: float) -> Refusal:
    """Return the refusal of a body, or of a line of one, that does not arrive in time."""
    message = f"{what} did not arrive within {seconds:g} seconds; send fewer texts at once"
    return Refusal(408, message, code="timeout", headers={"Connection": "close"})


def decode(body: bytes, kind: type[T]) -> T:
    """Return a decoded body. Raise Refusal if it is invalid."""
    if has_too_many_values(body):
        if _TOKENS_OF_BODY.search(body):
            raise bad(_TOKENS, code="token_ids")
        raise bad(f"the body has more than {VALUES:,} values; send fewer texts at once", code="too_many")
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:  # it quotes names of fields, but no values
        raise bad(f"invalid request body: {error}") from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise bad("invalid request body: it is not JSON", code="invalid_json") from None


def has_too_many_values(written: bytes, most: int = VALUES) -> bool:
    """Return whether JSON has more strings, and commas outside of them, than allowed, without decoding any of it."""
    if _commas(written, most) <= most:
        return False
    if b"\\" in written:
        written = written.replace(rb"\\", b"").replace(rb"\"", b"")
    outside = written.split(b'"', 2 * most)[::2]
    found = len(outside)
    for each in outside:
        found += _commas(each, most)
        if found > most:
            return True
    return False


def _commas(written: bytes, most: int) -> int:
    """Return how many commas there are, or any number that is too large."""
    found = 0
    for at in range(0, len(written), _SLICE):
        found += written.count(b",", at, at + _SLICE)
        if found > most:
            break
    return found


def texts_of(given: object, most: int, param: str) -> list[Any]:
    """Return the texts of a request: one, or a list of them. The core checks each of them."""
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list):
        raise bad(f"{param} must be a string or a list of strings", param)
    if texts and any(isinstance(each, int | list) for each in texts):
        raise bad(_TOKENS, param, code="token_ids")
    if not texts:
        raise bad(f"{param} is empty", param)
    if len(texts) > most:
        raise bad(f"{param} has {len(texts):,} texts, but at most {most:,} are allowed at once", param, code="too_many")
    return texts


def truncates(given: bool | str | None) -> bool:
    """Return whether texts that are too long are to be truncated."""
    if given == "START":
        raise bad(
            'texts that are too long are cut at the end; truncate must be true, "END", false or "NONE"', "truncate"
        )
    return given is True or given == "END"


def cut(encoded: Encoded) -> dict[str, str]:
    """Return the header with the positions of truncated texts, if there are any."""
    return {_CUT_HEADER: ",".join(map(str, encoded.truncated))} if encoded.truncated else {}


def embeddings(encoded: Encoded, model: str, encoding: str | None, more: dict[str, Any] | None) -> bytes:
    """Return an answer in OpenAI's form; more: additional data for the kit's own clients."""
    vectors = encoded.vectors.astype("<f4", copy=False)
    rows: list[Any] = [pybase64.b64encode_as_string(row) for row in vectors] if encoding == "base64" else list(vectors)
    data = [{"object": "embedding", "index": at, "embedding": row} for at, row in enumerate(rows)]
    tokens = sum(encoded.tokens)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    answer = {"object": "list", "data": data, "model": model, "usage": usage}
    return dumped(answer if more is None else {**answer, "harrier": more})


def dumped(answer: Any) -> bytes:
    """Return an answer as JSON."""
    try:
        return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError:  # metadata may contain integers of more than 64 bits
        return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()
