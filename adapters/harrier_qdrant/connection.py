"""A store's QdrantClient: connected by gRPC if its port is known and answers, by REST otherwise, or in local mode."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
import threading
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from functools import partial
from ipaddress import ip_address
from typing import Any, TypeVar
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import grpc
from qdrant_client import AsyncQdrantClient, QdrantClient
from qdrant_client import grpc as messages

from harrier_core.errors import SettingError, StoreError, StoreFull, StoreUnavailable, StoreWarning
from harrier_qdrant.aside import Begun, Later, Work
from harrier_qdrant.backend import CLOSED
from harrier_qdrant.given import MEMORY
from harrier_qdrant.wire import ERRORS, STOPPED, Patience, Refused, Trouble, is_closed

T = TypeVar("T")
Part = TypeVar("Part")

_UPLOADS = 4  # requests in flight of one write
_LOOKS = 16  # requests in flight, in addition to those of callers' threads
_PROBE = 3.0  # seconds after which a gRPC port counts as closed
_PORT, _GRPC_PORT = 6333, 6334  # a server's ports, unless its administrator chose others
_HOST_AND_PORT = re.compile(r"(?:[\w.-]+|\[[\da-fA-F:.]+\]):\d{1,5}", re.ASCII)


class Connection:
    """A QdrantClient, created at first use or passed in by the caller. It is safe to share between threads."""

    def __init__(
        self,
        server: str | QdrantClient,
        *,
        api_key: str | None,
        grpc_port: int | None = None,
        retry_for: float,
        timeout: float,
    ) -> None:
        self._given = server if isinstance(server, QdrantClient) else None
        self._url = None if isinstance(server, QdrantClient) else _checked(server, api_key)
        if self._given is not None and api_key is not None:
            raise SettingError("a client has its own API key; set the key on the client")
        self.where = _where(self._given) if self._given is not None else _shown(str(self._url))
        self.local = self._url == MEMORY or (self._given is not None and _is_local(self._given))
        self.grpc_port = _grpc_port(self._url, grpc_port)
        self.timeout = timeout
        self.grpc = False  # known once there is a client
        self._api_key = api_key
        self._patience = Patience(self.where, retry_for)
        self._caller = threading.local()  # for work on this thread: the event that ends it
        self._lock = threading.Lock()
        self._client: QdrantClient | None = None
        self._uploads: ThreadPoolExecutor | None = None
        self._looks: ThreadPoolExecutor | None = None
        self._process: int | None = None  # the process that connected
        self._version: tuple[int, int] | None = None  # the server's version, once it has been asked

    # -- connecting

    def connected(self) -> QdrantClient:
        """Return the client; create it first if necessary."""
        if self._inherited:
            raise StoreUnavailable(
                "this store was connected before this process was forked; open the store after the fork"
            )
        with self._lock:
            if self._patience.closed.is_set():
                raise StoreUnavailable(CLOSED)
            if self._client is None:
                self._client, self.grpc = self._connect()
                self._uploads = ThreadPoolExecutor(_UPLOADS, thread_name_prefix="harrier-upload")
                self._looks = ThreadPoolExecutor(_LOOKS, thread_name_prefix="harrier-look")
                self._process = os.getpid()
            return self._client

    @property
    def _inherited(self) -> bool:
        """Whether the connections were inherited by a fork: they and their threads belong to the parent process."""
        return self._process not in (None, os.getpid())

    def _connect(self) -> tuple[QdrantClient, bool]:
        if self._given is not None:
            return self._given, bool(self._given.init_options.get("prefer_grpc")) and not self.local
        if self.local:
            return QdrantClient(MEMORY), False
        settings: dict[str, Any] = {
            "url": self._url,
            "api_key": self._api_key,
            "timeout": max(1, round(self.timeout)),
            "check_compatibility": False,  # it makes a request, and issues a warning instead of the kit's own error
        }
        with warnings.catch_warnings():  # about a key on an insecure connection: already reported
            warnings.filterwarnings("ignore", "Api key is used with an insecure connection", UserWarning)
            if self.grpc_port is not None:
                client = QdrantClient(**settings, grpc_port=self.grpc_port, prefer_grpc=True)
                if _answers(client):
                    return client, True
                client.close()
            return QdrantClient(**settings), False

    def is_at_least(self, version: tuple[int, int]) -> bool:
        """Return whether the server reports this release or a later one. It is asked only once."""
        if self._version is None:
            try:
                said = self._attempt(self.connected(), lambda client: client.info()).version
            except ERRORS as error:
                if Trouble.of(error).passes:  # ask again next time
                    return False
                said = ""
            found = re.match(r"v?(\d+)\.(\d+)", said)
            self._version = (int(found[1]), int(found[2])) if found else (0, 0)
        return self._version >= version

    # -- requests

    def ask(self, request: Callable[[QdrantClient], T]) -> T:
        """Make a request, and retry it for as long as its failure may be temporary. Raise Refused if it fails."""
        client = self.connected()
        if self.local:
            return self._ask_local(client, request)
        stopped: threading.Event | None = getattr(self._caller, "stopped", None)
        return self._patience.run(lambda: self._attempt(client, request), stopped)

    def run(self, request: Callable[[QdrantClient], T]) -> T:
        """Make a request as `ask` does. Raise a StoreError that names the server if it fails."""
        try:
            return self.ask(request)
        except Refused as refused:
            raise refused.trouble.error(self.where) from None

    def uploaded(self, upload: Callable[[Part], T], parts: Iterable[Part]) -> list[T]:
        """Upload parts concurrently, and return the result of each. If one fails, all have stopped when this raises."""
        self.connected()
        assert self._uploads is not None  # noqa: S101  # made together with the client
        own, futures, stopped = list(parts), list[Future[T]](), threading.Event()
        try:
            for part in own:
                futures.append(self._uploads.submit(self._until, stopped, partial(upload, part)))
        except RuntimeError:
            if self._patience.closed.is_set():  # at this very moment
                raise StoreUnavailable(CLOSED) from None
            # The interpreter is shutting down: pools accept no more work, but this thread may finish its own.
            return [upload(part) for part in own]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            failed = [error for each in done if (error := each.exception()) is not None]
            if failed:
                raise failed[0]
            return [each.result() for each in futures]
        finally:
            self._patience.end(stopped)
            wait([each for each in futures if not each.cancel()])

    def beside(self, work: Callable[[], T]) -> Work[T]:
        """Begin work that makes requests, on another thread: the caller's own requests need not wait for it.

        In local mode, which takes one request at a time, the work is done when its result is requested.
        """
        self.connected()
        assert self._looks is not None  # noqa: S101  # made together with the client
        if not self.local:
            stopped = threading.Event()
            try:
                future = self._looks.submit(self._until, stopped, work)
            except RuntimeError:  # just closed, which `work` will notice; or the interpreter is shutting down
                pass
            else:
                return Begun(future, partial(self._patience.end, stopped))
        return Later(work)

    def _until(self, stopped: threading.Event, work: Callable[[], T]) -> T:
        """Do work on a thread of a pool; its requests are not retried after the event is set."""
        if stopped.is_set():
            raise StoreUnavailable(STOPPED)
        self._caller.stopped = stopped
        try:
            return work()
        finally:
            del self._caller.stopped

    def _attempt(self, client: QdrantClient, request: Callable[[QdrantClient], T]) -> T:
        try:
            return request(client)
        except Exception as error:
            if not is_closed(error):
                raise
            raise self._closed() from None

    def _ask_local(self, client: QdrantClient, request: Callable[[QdrantClient], T]) -> T:
        """Make a request in local mode, which is not thread-safe and raises built-in exceptions instead of statuses."""
        with lock_of(client):
            try:
                return request(client)
            except (LookupError, ValueError, RuntimeError) as error:
                if is_closed(error):
                    raise self._closed() from None
                raise Refused(Trouble.of_local_mode(error), self.where) from None
            except (sqlite3.Error, OSError) as error:
                full = "full" in str(error) or getattr(error, "errno", None) == errno.ENOSPC
                kind = StoreFull if full else StoreError
                raise kind(f"the local mode of qdrant-client at {self.where} failed: {error}") from None

    def _closed(self) -> StoreUnavailable:
        if self._patience.closed.is_set():
            return StoreUnavailable(CLOSED)
        return StoreUnavailable("the QdrantClient of this store is closed; pass an open one")

    def close(self) -> None:
        """Close the client if it is our own; a caller's client stays open."""
        if self._inherited:
            return
        self._patience.end(self._patience.closed)
        with self._lock:  # but not while it waits for uploads, which need their client
            pools, client = (self._uploads, self._looks), self._client
        for pool in pools:
            if pool is not None:
                pool.shutdown()
        if client is not None and self._given is None:
            client.close()


# By client: several stores may share one in local mode.
_locks: WeakKeyDictionary[QdrantClient, threading.Lock] = WeakKeyDictionary()
_making_locks = threading.Lock()


def lock_of(client: QdrantClient) -> threading.Lock:
    """Return the lock that serializes the requests to a client in local mode."""
    with _making_locks:
        return _locks.setdefault(client, threading.Lock())


def _forked() -> None:
    """Drop the locks: threads of the parent process may have held them, and cannot release them here."""
    global _making_locks  # noqa: PLW0603  # it may be held as well
    _making_locks = threading.Lock()
    _locks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def _is_local(client: QdrantClient) -> bool:
    return client.init_options.get("location") == MEMORY or client.init_options.get("path") is not None


def _where(client: QdrantClient) -> str:
    return str(client.init_options.get("path") or MEMORY) if _is_local(client) else "the client's server"


def _answers(client: QdrantClient) -> bool:
    """Return whether the server's gRPC port can be reached; what it answers does not matter."""
    try:
        client.grpc_collections.List(messages.ListCollectionsRequest(), timeout=_PROBE)
    except grpc.RpcError as error:
        return error.code() not in (
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.DEADLINE_EXCEEDED,
            grpc.StatusCode.UNIMPLEMENTED,
        )
    except ERRORS as error:
        return Trouble.of(error).status is not None
    return True


# -- addresses


def _shown(url: str) -> str:
    """Return a URL without a user name and password."""
    if url == MEMORY:
        return url
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}:{parts.port}" if parts.port else f"{parts.scheme}://{host}"


def _checked(server: object, api_key: str | None) -> str:
    """Return a URL, or ":memory:". The error does not quote an invalid str, which may contain a password."""
    if not isinstance(server, str):
        raise _not_a_server(server)
    if server == MEMORY:
        if api_key is not None:
            raise SettingError("a store in memory has no API key; omit api_key")
        return server
    bare = bool(_HOST_AND_PORT.fullmatch(server))
    url = f"http://{server}" if bare else server
    try:
        parts = urlsplit(url)
        _ = parts.port  # a property that raises
    except ValueError:
        raise _not_a_server(server) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _not_a_server(server)
    if api_key and parts.scheme == "http" and not _loopback(parts.hostname):
        if bare:
            raise SettingError("with an API key, the server's address must begin with https:// or http://")
        warnings.warn(
            f"the API key goes to {_shown(url)} unencrypted; use https",
            StoreWarning,
            stacklevel=4,
        )
    return url


def _grpc_port(url: str | None, given: int | None) -> int | None:
    """Return the port of the gRPC interface, or None if it is not known.

    It is known if the REST interface has its usual port. Otherwise, there is no telling which server the usual gRPC
    port, or the next one, belongs to: there may be several on one host.
    """
    if given is None:
        return _GRPC_PORT if url not in (None, MEMORY) and urlsplit(url).port in (None, _PORT) else None
    if url in (None, MEMORY):
        raise SettingError("grpc_port belongs to a URL; a QdrantClient has its own")
    if type(given) is not int or not 0 < given < 2**16:
        raise SettingError(f"grpc_port must be an integer from 1 to 65535, got {given!r}")
    return given


def _not_a_server(given: object) -> SettingError:
    if isinstance(given, AsyncQdrantClient):
        return SettingError(
            "a store's client must be a QdrantClient, got AsyncQdrantClient; for asyncio, use asearch and aingest of "
            "an Index over a QdrantClient"
        )
    got = "" if isinstance(given, str) else f", got {type(given).__name__}"
    return SettingError(
        "a Qdrant server must be given as a URL, http://host:6333 or https://host:6333, or as a QdrantClient"
        f"{got}; for a collection in a folder, use QdrantStore.embedded(folder)"
    )


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
