"""Patience with a server: transient failures are retried, others are reported in the kit's words.

REST and gRPC say the same things differently; `Trouble.of` is the only place that knows both.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TypeVar

import grpc
from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

from harrier_core.errors import StoreError, StoreUnavailable, StoreUnsuitable
from harrier_core.retrying import Backoff

T = TypeVar("T")

STOPPED = "the call that this request belonged to has ended"

ERRORS = (QdrantException, ApiException, grpc.RpcError)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0
_MOST_SHOWN = 300  # characters of a server's message

# As worded by local mode, the client, httpx and gRPC.
_OF_CLOSED = re.compile(r"QdrantLocal instance is closed|Client was closed|client has been closed|closed channel")

_Code = grpc.StatusCode
_STATUS = {  # the REST status that corresponds to a gRPC code
    _Code.INVALID_ARGUMENT: 400,
    _Code.FAILED_PRECONDITION: 400,
    _Code.OUT_OF_RANGE: 413,  # a message beyond the limit
    _Code.UNAUTHENTICATED: 401,
    _Code.PERMISSION_DENIED: 403,
    _Code.NOT_FOUND: 404,
    _Code.ALREADY_EXISTS: 409,
    _Code.RESOURCE_EXHAUSTED: 429,
    _Code.UNIMPLEMENTED: 501,
}


class NotDone(Exception):
    """A server accepted a request, and says that it has not carried it out yet."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """The failure of a server, or of the connection to it."""

    status: int | None  # as over REST; None: there was no answer
    said: str
    retry_after: float | None = None

    @classmethod
    def of(cls, error: Exception) -> Trouble:
        """Return the trouble in an error of the client or of gRPC."""
        if isinstance(error, NotDone):
            return cls(None, "it accepted the request and did not finish it in time")
        if isinstance(error, ResourceExhaustedResponse):
            return cls(429, error.message, float(error.retry_after_s))
        if isinstance(error, UnexpectedResponse):
            return cls(error.status_code, _detail(error))
        if isinstance(error, ResponseHandlingException):
            return cls(None, f"{type(error.source).__name__}: {error.source}")
        if isinstance(error, grpc.RpcError):
            return cls._of_rpc(error)
        return cls(
            429, "there were too many requests", _seconds(str(error))
        )  # a Retry-After that the client cannot read

    @classmethod
    def _of_rpc(cls, error: grpc.RpcError) -> Trouble:
        code, said = error.code(), error.details() or ""
        metadata = dict(error.trailing_metadata() or ())
        if code is _Code.RESOURCE_EXHAUSTED and "larger than max" in said:
            return cls(413, said)
        if code in (_Code.INTERNAL, _Code.UNKNOWN, _Code.ABORTED, _Code.DATA_LOSS):
            return cls(500, said)
        return cls(_STATUS.get(code), said or code.name.lower(), _seconds(str(metadata.get("retry-after", ""))))

    @classmethod
    def of_local_mode(cls, error: Exception) -> Trouble:
        """Return the trouble in an exception of local mode, with the status that a server would have returned."""
        said = str(error)
        if isinstance(error, LookupError):  # an update of a point that does not exist
            return cls(404, f"Not found: No point with id {said} found")
        if isinstance(error, NotImplementedError):
            return cls(501, said)
        return cls(404 if said.endswith("not found") else 409 if "already exists" in said else 400, said)

    @property
    def passes(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status is None or self.status in (408, 425, 429) or (self.status >= 500 and self.status != 501)

    @property
    def too_large(self) -> bool:
        """Whether a part of the request might be accepted."""
        return self.status == 413 or (self.status == 400 and "larger than allowed" in self.said)

    @property
    def refused(self) -> bool:
        """Whether the content of the request was refused."""
        return self.status in (400, 422)

    @property
    def shown(self) -> str:
        """The message, shortened: it may quote what was sent."""
        return self.said[:_MOST_SHOWN]

    def error(self, where: str) -> StoreError:
        """Return the kit's error for this trouble."""
        said = self.shown
        if self.passes:
            return StoreUnavailable(f"Qdrant at {where} cannot be reached, or is too busy: {said}")
        if self.status in (401, 403):
            return StoreUnsuitable(
                f"Qdrant at {where} refuses this API key: {said}; use one with the required permission"
            )
        if "Index required" in said:  # strict mode
            said += "; for a field of metadata, pass indexes={name: kind} to the store and call build_indexes()"
        return StoreError(f"Qdrant at {where} refused ({self.status}): {said}")


def _detail(error: UnexpectedResponse) -> str:
    try:
        said = error.structured()["status"]["error"]
    except (ValueError, KeyError, TypeError):
        return error.reason_phrase or "without a reason"
    return str(said)


def is_closed(error: Exception) -> bool:
    """Return whether the error means that the client is closed."""
    source = error.source if isinstance(error, ResponseHandlingException) else error
    return isinstance(source, RuntimeError | ValueError) and _OF_CLOSED.search(str(source)) is not None


def _seconds(text: str) -> float | None:
    """Return a Retry-After in seconds: integral or fractional, or a date; also at the end of a sentence."""
    value = text.rpartition("integer: ")[2].strip()
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


class Patience:
    """Retries requests, each for a limited number of seconds."""

    def __init__(self, where: str, retry_for: float) -> None:
        self._where = where
        self._retry_for = retry_for
        self._ended = threading.Condition()
        self.closed = threading.Event()

    def end(self, event: threading.Event) -> None:
        """Set an event, `closed` or one that was passed to `run`, and wake what waits for it."""
        with self._ended:
            event.set()
            self._ended.notify_all()

    def run(self, request: Callable[[], T], stopped: threading.Event | None = None) -> T:
        """Return what a request returns; repeat it while its failure may be temporary, until `stopped` is set."""
        until, backoff = time.monotonic() + self._retry_for, Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        while True:
            try:
                return request()
            except (*ERRORS, NotDone) as error:
                trouble = Trouble.of(error)
                pause = backoff.pause()
                wait = pause if trouble.retry_after is None else trouble.retry_after
                if not trouble.passes or time.monotonic() + wait >= until:
                    raise Refused(trouble, self._where) from None
            self._pause(wait, stopped)

    def _pause(self, seconds: float, stopped: threading.Event | None) -> None:
        def ended() -> bool:
            return self.closed.is_set() or (stopped is not None and stopped.is_set())

        with self._ended:
            self._ended.wait_for(ended, seconds)
        if self.closed.is_set():
            raise StoreUnavailable("this store was closed while it waited for the server") from None
        if ended():
            raise StoreUnavailable(STOPPED) from None


class Refused(StoreError):
    """A request that was given up, for the adapter to examine; users see the error that it becomes."""

    def __init__(self, trouble: Trouble, where: str) -> None:
        super().__init__(str(trouble.error(where)))
        self.trouble = trouble
