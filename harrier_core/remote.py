"""RemoteEncoder: an Encoder behind HTTP, on a server that `harrier serve` runs. It needs no torch."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import weakref
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from functools import partial
from time import perf_counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from harrier_core.asking import Described, described_by, encoded_by, room_of, sizes_of, tokenizer_of
from harrier_core.closing import Closing
from harrier_core.embedder import Embedder, Encoded, closed
from harrier_core.errors import (
    NotText,
    Problem,
    ServerRefused,
    SettingError,
    TextTooLong,
    raise_problems,
)
from harrier_core.extras import require
from harrier_core.http import Server, TimedOut, use_loop
from harrier_core.pacing import Pace
from harrier_core.portions import encoded_in_parts
from harrier_core.shared import Held, Lease, ProcessLock
from harrier_core.space import EmbeddingSpace
from harrier_core.tasks import DEFAULT_TASK, Task
from harrier_core.texts import listed, unusable

if TYPE_CHECKING:
    from harrier_core.counting import Counter

T = TypeVar("T")

# Seconds of work in one request: the server takes the requests of one caller in turn with those of others.
_MOST_TEXTS, _SECONDS, _LEAST_SECONDS = 256, 2.0, 0.01
_AT_ONCE = 8  # concurrent requests of one call
_CALLERS = 4  # that may share the server before a request of such a size takes longer than the timeout
_HALVINGS = 2  # of a request that took longer nevertheless
_KEY = re.compile("[!-~]+")  # no other characters are allowed in a header
KEY_VARIABLE = "HARRIER_API_KEY"

_opening = ProcessLock()


class RemoteEncoder(Embedder, Closing):
    """An Embedder whose model is loaded by a server, `harrier serve`. Any number of threads and tasks may use it.

    It holds only settings: making one connects to nothing, and it can be pickled, including its key unless that is from
    the environment. The server's embedding space is read once, and sent with every request: a server that has another
    one by then refuses it, which raises SpaceChanged. So an Index is as safe with it as with an Encoder.
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        *,
        api_key: str | None = None,
        task: str | Task = DEFAULT_TASK,
        timeout: float = 120.0,
        retry_for: float = 60.0,
    ) -> None:
        """Take the address of a server, such as http://127.0.0.1:8000.

        model: its name there, if the server must have this one. api_key: the server's key, by default HARRIER_API_KEY
        from the environment. task: what queries are encoded for unless a call says otherwise. timeout: seconds per
        attempt; several texts that take longer are sent again in parts. retry_for: seconds for which a request is
        repeated while the server cannot be reached, is busy, or restarts.
        """
        _refuse_address(url)
        key = (os.environ.get(KEY_VARIABLE) or None) if api_key is None else api_key
        if key is not None and not (isinstance(key, str) and _KEY.fullmatch(key)):
            said = KEY_VARIABLE if api_key is None else "api_key"
            raise SettingError(f"{said} must be printable ASCII characters without spaces")
        for name, seconds in (("timeout", timeout), ("retry_for", retry_for)):
            if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds < 0:
                raise SettingError(f"{name} must be a number of at least 0, got {seconds!r}")
        self._url = url.rstrip("/").removesuffix("/v1")
        self._model = model
        self._given_key = api_key
        self._key = key
        self._task = task
        self._timeout = timeout
        self._retry_for = retry_for
        self._pace = Pace(max(min(_SECONDS, timeout / (_CALLERS * _AT_ONCE)), _LEAST_SECONDS))
        self._most_bytes = sys.maxsize  # of texts in a request, if less than the server's limit gets through
        self._held = Held()
        self._server: Server | None = None
        self._described: Described | None = None
        self._counter: Counter | None = None
        self._closed = False

    # -- encoding

    def submit_queries(self, texts: Iterable[str], *, task: str | Task | None = None) -> Future[Encoded]:
        """Begin to encode queries on the server; the future can be cancelled."""
        chosen = self._task if task is None else task
        self._description.prompts.query(chosen)  # raises if the task is invalid
        told = {"instruction": chosen.instruction} if isinstance(chosen, Task) else {"task": chosen}
        return self._submit(texts, {"input_type": "query", **told})

    def submit_documents(self, texts: Iterable[str]) -> Future[Encoded]:
        """Begin to encode documents on the server; the future can be cancelled."""
        return self._submit(texts, {"input_type": "document"})

    def _submit(self, texts: Iterable[str], role: Mapping[str, str]) -> Future[Encoded]:
        given = listed(texts)
        raise_problems(list(unusable(given)))
        plain = [str.__str__(text) for text in given]
        sizes = sizes_of(plain, self._description, role)
        return self._run(self._encode(plain, sizes, role, self._description, self._opened()))

    async def _encode(
        self, texts: Sequence[str], sizes: Sequence[int], role: Mapping[str, str], described: Described, server: Server
    ) -> Encoded:
        """Encode in several requests, a few of them at once."""
        import numpy as np

        if not texts:
            return Encoded(np.empty((0, described.space.dimensions), np.float32), [])
        turns = asyncio.Semaphore(_AT_ONCE)

        async def part(given: Sequence[tuple[str, int]], halvings: int = _HALVINGS) -> Encoded:
            size = sum(each for _, each in given)
            splits = len(given) > 1 and halvings > 0
            try:
                async with turns:
                    begun = perf_counter()
                    encoded = await encoded_by(server, described, [text for text, _ in given], role, splits=splits)
            except TimedOut:  # the server is slower than it was, or busy
                if not splits:
                    raise
                halvings -= 1
            except ServerRefused as refused:
                if refused.status != 413:
                    raise
                if len(given) == 1:
                    reason = (
                        f"is too long for the server at {self._url}, or for a proxy in front of it (HTTP status 413)"
                    )
                    raise TextTooLong([Problem(0, TextTooLong, reason)]) from None
                # The server or a proxy accepts less than it announced, now and from now on.
                self._most_bytes = min(self._most_bytes, size // 2)
            else:
                self._pace.encoded(size, begun)
                return encoded
            half = partial(part, halvings=halvings)
            return await encoded_in_parts(given, [1] * len(given), -(-len(given) // 2), half)

        most = min(self._pace.most, self._most_bytes, room_of(described, role))
        least = -(-most // min(_MOST_TEXTS, described.max_texts))
        given = list(zip(texts, sizes, strict=True))
        return await encoded_in_parts(given, [max(each, least) for each in sizes], most, part)

    # -- looking inside

    def prompt(self, text: str, *, task: str | Task | None = None) -> str:
        """Return the exact string that the server's tokenizer gets for this query."""
        if not isinstance(text, str):
            raise NotText([Problem(0, NotText, f"is {type(text).__name__}, not str; pass its text")])
        return self._description.prompts.query(self._task if task is None else task) + str.__str__(text)

    def count_tokens(self, texts: Iterable[str]) -> list[int]:
        """Return how many tokens each text has as a document, by the server's tokenizer, which is fetched once."""
        given = listed(texts)
        raise_problems(list(unusable(given)))
        if self._counter is None:
            from harrier_core.counting import Counter

            described = self._description
            archive = _result(self._run(tokenizer_of(self._opened(), described.name)))
            self._counter = Counter(archive, described.space, described.prompts.document)
        return self._counter.count([str.__str__(text) for text in given])

    @property
    def name(self) -> str:
        """The model's name on the server."""
        return self._model or self._description.name

    @property
    def model(self) -> str | None:
        """The model's name as it was given, which needs no answer of the server."""
        return self._model

    @property
    def _traced_as(self) -> str:
        return self._model or (self._described.name if self._described else self._url)  # without asking the server

    @property
    def url(self) -> str:
        """The server's address."""
        return self._url

    @property
    def tasks(self) -> Mapping[str, str]:
        """The model's own tasks: each name with the prefix that it puts before a query."""
        return MappingProxyType(dict(self._description.prompts.tasks))

    @property
    def space(self) -> EmbeddingSpace:
        """The embedding space of the server's vectors, as of the first request."""
        return self._description.space

    @property
    def max_tokens(self) -> int:
        """The highest number of tokens that a text may have, its prompt included."""
        return self._description.max_tokens

    @property
    def _description(self) -> Described:
        if self._described is None:
            self._described = _result(self._run(described_by(self._opened(), self._model)))
        return self._described

    def _opened(self) -> Server:
        server = self._in_use()
        if server is not None:
            return server
        require("a RemoteEncoder", "httpx", extra="remote")
        with _opening:  # otherwise two threads would open connections, and those of one would never be closed
            server = self._in_use()
            if server is None:
                self._refuse_if_closed()
                self._server = server = self._connected()
        if self._closed:  # meanwhile, by another thread
            server.close()
            self._held.release()
            raise closed()
        return server

    def _in_use(self) -> Server | None:
        """Return the server, unless it is not open yet; a forked child gets its own connections."""
        lease = self._held.lease("loop")
        return None if lease is None or lease.inherited else self._server

    def _connected(self) -> Server:
        loop = self._held.take("loop", use_loop)
        server = Server(loop, self._url, self._key, self._timeout, self._retry_for)
        lease = self._held.lease("loop")
        weakref.finalize(self, _close, server, lease).atexit = False
        return server

    def _run(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        try:
            self._refuse_if_closed()
            return self._opened().run(work)
        except BaseException:
            work.close()  # it was never started, which would cause a warning
            raise

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise closed()

    # -- life

    def close(self) -> None:
        """Close the connections; calls under way end in EncoderClosed."""
        self._closed = True
        server = self._in_use()
        self._server = None
        if server is not None:
            server.close()
        self._held.release()

    def __getstate__(self) -> dict[str, Any]:
        given = {"url": self._url, "model": self._model, "api_key": self._given_key, "task": self._task}
        return {**given, "timeout": self._timeout, "retry_for": self._retry_for}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def __repr__(self) -> str:
        model = "" if self._model is None else f", {self._model!r}"
        return f"RemoteEncoder({self._url!r}{model})"


def _close(server: Server, lease: Lease[Any] | None) -> None:
    """Close the connections of a RemoteEncoder that was collected, unless they are those of a parent process."""
    if lease is not None and not lease.inherited:
        server.close()


def _result(future: Future[T]) -> T:
    """Return the server's answer. Raise EncoderClosed if the request was cancelled by closing."""
    try:
        return future.result()
    except CancelledError:
        raise closed() from None
    except BaseException:  # Ctrl-C
        future.cancel()
        raise


def _refuse_address(url: object) -> None:
    """Raise SettingError unless it is the address of a server, without a password."""
    said = "url must be the address of a server, such as http://127.0.0.1:8000"
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        raise SettingError(said)
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise SettingError(said) from None
    if not host or any(character.isspace() or not character.isprintable() for character in url):
        raise SettingError(said)
    if parts.username is not None or parts.password is not None:
        raise SettingError("url must not contain a user or password; pass api_key")
