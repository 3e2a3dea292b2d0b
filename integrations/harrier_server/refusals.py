"""Error answers of a server, for OpenAI's and TEI's clients. No answer contains a text."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from harrier_core.errors import (
    BadVectors,
    DeviceError,
    DeviceFull,
    EncoderClosed,
    FilterError,
    HarrierError,
    InputError,
    OutOfMemory,
    ServerUnavailable,
    SettingError,
    StoreError,
    StoreFull,
    StoreMissing,
    StoreUnavailable,
    StoreUnsuitable,
    TaskError,
    TextTooLong,
    WrongSpace,
)

log = logging.getLogger(__name__)


_SAID = 5  # problems in a message


class Refusal(Exception):
    """An answer with a status other than 200."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        """Take the HTTP status and the content of the body; more: keys in addition to OpenAI's."""
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.headers = dict(headers or {})
        self.more = dict(more or {})
        self.unread = False  # whether the client is still sending its body

    def for_openai(self) -> dict[str, Any]:
        """Return the body in the form for OpenAI's clients."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code, **self.more}
        return {"error": error}

    def for_tei(self) -> dict[str, Any]:
        """Return the body in the form for clients of Text Embeddings Inference."""
        return {"error": self.message, "error_type": _TEI_TYPES.get(self.status, "Backend")}


_TEI_TYPES = {400: "Validation", 413: "Validation", 422: "Tokenizer", 429: "Overloaded", 503: "Unhealthy"}


def bad(message: str, param: str | None = None, *, code: str = "invalid_value") -> Refusal:
    """Return a refusal of a request that can never succeed."""
    return Refusal(400, message, code=code, param=param)


def refusal_of(error: Exception) -> Refusal:
    """Return the answer for an error of the core, or for an unexpected one."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, InputError):
        return _of_texts(error)
    if isinstance(error, OutOfMemory):
        more = _problems(error, [(error.position, _in_http(str(error)))])
        return Refusal(413, _in_http(str(error)), code="too_large", param="input", more=more)
    if isinstance(error, BadVectors):
        more = _problems(error, [(at, str(error)) for at in error.positions])
        return Refusal(424, str(error), code="bad_vectors", param="input", more=more)
    for kind, status, code, param, message in _ANSWERS:
        if isinstance(error, kind):
            if kind in _LOGGED:
                log.error("a request failed: %s", error)
            headers = {"Retry-After": "1"} if status == 503 else {}
            return Refusal(status, message or str(error), code=code, param=param, headers=headers)
    log.error("a request failed", exc_info=error)
    return Refusal(500, "internal error; see the server's log", code="internal_error")


# Each error with its status, its code, the field that it concerns, and the text that replaces its message.
_ANSWERS: Sequence[tuple[type[HarrierError], int, str, str | None, str | None]] = (
    (TaskError, 400, "unknown_task", "task", None),
    (FilterError, 400, "invalid_value", "where", None),
    (SettingError, 400, "invalid_value", None, None),
    (DeviceFull, 503, "unavailable", None, "other programs use the device's memory; try again later"),
    (DeviceError, 503, "unavailable", None, "the device failed; see the server's log"),
    (EncoderClosed, 503, "unavailable", None, "the server is shutting down"),
    (StoreMissing, 404, "index_not_found", "index", None),
    (StoreUnsuitable, 400, "index_unsuitable", "index", None),
    (WrongSpace, 409, "wrong_space", "index", None),
    (StoreUnavailable, 503, "unavailable", "index", "the index's database cannot be reached, or is too slow"),
    (StoreFull, 507, "storage_full", "index", "the index's database has no room left; see the server's log"),
    (StoreError, 500, "index_failed", "index", "the index's database failed; see the server's log"),
    (ServerUnavailable, 503, "unavailable", "index", "the server that encodes for the index cannot be reached"),
)
_LOGGED = (StoreFull, StoreError, ServerUnavailable)  # their messages may contain paths and addresses


def _of_texts(error: InputError) -> Refusal:
    """Refuse a whole batch, listing each of its bad texts."""
    listed = [
        {"position": each.position, "kind": each.kind.__name__, "reason": _in_http(each.reason)}
        for each in error.problems
    ]
    said = "; ".join(f"text {each['position']} {each['reason']}" for each in listed[:_SAID])
    more = len(listed) - _SAID
    message = f"{said}; and {more} more of the texts cannot be encoded" if more > 0 else said
    code = "context_length_exceeded" if isinstance(error, TextTooLong) else "invalid_input"
    return Refusal(400, message, code=code, param="input", more={"problems": listed})


def _problems(error: HarrierError, found: Sequence[tuple[int, str]]) -> dict[str, Any]:
    kind = type(error).__name__
    return {"problems": [{"position": at, "kind": kind, "reason": reason} for at, reason in found]}


def _in_http(reason: str) -> str:
    """Return a remedy in terms of a request."""
    return reason.replace("pass on_overflow='truncate'", 'send "truncate": true')
