"""Requests to an embedding server, on one thread that all RemoteEncoders of the process share."""

from __future__ import annotations

import asyncio
import logging
import threading
import urllib.request
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from contextlib import suppress
from ipaddress import ip_address
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from harrier_core.embedder import closed
from harrier_core.errors import ServerRefused, ServerUnavailable
from harrier_core.retrying import Backoff
from harrier_core.shared import Lease, Shared
from harrier_core.tracing import with_trace

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

log = logging.getLogger(__name__)

_BUSY = 429
_LATE = frozenset([408, 504])  # the request did not arrive in time; a proxy did not wait for the answer
_PASSING = frozenset([*_LATE, _BUSY, 502, 503])  # statuses after which the same request may succeed
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 10.0
_CONNECTIONS = 16  # kept open, of a server
_LONGEST = 2_000  # characters of a server's message
_NO_PROXIES = {"http://": None, "https://": None, "all://": None}  # instead of those from the environment


class TimedOut(ServerUnavailable):
    """The server did not answer in time, or the request did not reach it in time."""


class Loop:
    """An event loop on a thread, with the connections that were opened on it."""

    def __init__(self) -> None:
        self.clients: set[httpx.AsyncClient] = set()
        self._letting_go: set[asyncio.Task[None]] = set()
        self._running: Future[asyncio.AbstractEventLoop] = Future()
        self._ending = asyncio.Event()
        threading.Thread(target=self._run, name="harrier-http", daemon=True).start()
        self._loop = self._running.result()

    def run(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine; cancelling the future cancels it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def let_go(self, take: Callable[[], httpx.AsyncClient | None]) -> None:
        """Close the client that `take` returns on this loop, because that is where it was opened."""
        with suppress(RuntimeError):  # another user, closed meanwhile, was the last one
            self._loop.call_soon_threadsafe(self._let_go, take)

    def _let_go(self, take: Callable[[], httpx.AsyncClient | None]) -> None:
        client = take()
        if client is None:
            return
        self.clients.discard(client)
        closing = self._loop.create_task(client.aclose())
        self._letting_go.add(closing)
        closing.add_done_callback(self._letting_go.discard)

    def close(self) -> None:
        """End the thread, once the pending work has been cancelled. It waits for nothing."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._ending.set)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._running.set_result(asyncio.get_running_loop())
        await self._ending.wait()
        others = asyncio.all_tasks() - {asyncio.current_task(), *self._letting_go}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, *self._letting_go, return_exceptions=True)
        for client in list(self.clients):
            await client.aclose()


_loops: Shared[Loop] = Shared(Loop.close)


def use_loop() -> Lease[Loop]:
    """Return a lease on the process's loop."""
    return _loops.use("loop", Loop)


class Server:
    """A server by its URL. Its coroutines run on its loop."""

    def __init__(self, loop: Loop, url: str, api_key: str | None, timeout: float, retry_for: float) -> None:
        """Create it. timeout: seconds per attempt. retry_for: seconds for which attempts are repeated."""
        self.url = url
        self.loop = loop
        self._loopback = _is_loopback(urlsplit(url).hostname or "")
        proxy = None if self._loopback else _proxy_of(url)
        self._named = f"the server at {url}" + (f", through the proxy {proxy}," if proxy else "")
        self._key = api_key
        self._timeout = timeout
        self._retry_for = retry_for
        self._client: httpx.AsyncClient | None = None
        self._lock = threading.Lock()
        self._under_way: set[Future[Any]] = set()
        self._away = False  # and that was logged
        self._closed = False

    def run(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine that asks this server; closing it cancels the future."""
        with self._lock:
            if self._closed:
                work.close()
                raise closed()
            future = self.loop.run(work)
            self._under_way.add(future)
        future.add_done_callback(self._forget)
        return future

    def _forget(self, future: Future[Any]) -> None:
        self._under_way.discard(future)  # without the lock, which `close` may hold on this thread

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        splits: bool = False,
    ) -> httpx.Response:
        """Return a successful response.

        Raise ServerUnavailable if no response arrives in time, and ServerRefused if the server refuses the request.
        splits: raise TimedOut if one attempt takes too long, because the caller can ask for less.
        """
        until: float | None = None  # set at the first failure, because the attempt itself may take long
        backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        timed_out = False
        while True:
            pause: float | None = None
            busy = False
            answer = await self._attempt(method, path, body, headers)
            if isinstance(answer, ServerUnavailable):
                failed = answer
            elif answer.is_success:
                self._away = False
                return answer
            else:
                refused = _refused(self._named, answer)
                if answer.status_code not in _PASSING:
                    raise refused
                kind = TimedOut if answer.status_code in _LATE else ServerUnavailable
                failed, busy = kind(str(refused)), answer.status_code == _BUSY
                pause = _told_to_wait(answer)
            if isinstance(failed, TimedOut):
                if splits:
                    raise failed
                if not timed_out:
                    timed_out, until = True, None  # it may last longer than `retry_for`, and gets another attempt
            wait = max(backoff.pause(), pause or 0.0)
            now = monotonic()
            until = now + self._retry_for if until is None else until
            if now + wait > until:
                raise failed
            if not (self._away or busy):
                self._away = True
                log.warning("%s; trying again for %.0f s", failed, until - now)
            await asyncio.sleep(wait)

    async def _attempt(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str] | None
    ) -> httpx.Response | ServerUnavailable:
        """Return the response, or the error if no response came. Raise ServerUnavailable if there can never be one."""
        import httpx

        try:
            return await self._opened().request(method, path, content=body, headers=with_trace(headers))
        except (httpx.LocalProtocolError, httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            # Its message may contain a header, and so the key.
            raise ServerUnavailable(
                f"{self._named} cannot be queried ({type(error).__name__}); check its address and key"
            ) from None
        except httpx.RequestError as error:  # also an answer that cannot be decoded
            said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            kind = TimedOut if isinstance(error, httpx.ReadTimeout) else ServerUnavailable
            return kind(f"{self._named} cannot be reached ({said})")

    def _opened(self) -> httpx.AsyncClient:
        import httpx

        if self._closed:
            raise closed()
        if self._client is None:
            headers = {} if self._key is None else {"Authorization": f"Bearer {self._key}"}
            limits = httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS)
            self._client = httpx.AsyncClient(
                base_url=self.url,
                headers=headers,
                timeout=httpx.Timeout(self._timeout, pool=None),  # a request that waits for others has not begun
                limits=limits,
                mounts=_NO_PROXIES if self._loopback else None,
                follow_redirects=False,
            )
            self.loop.clients.add(self._client)
        return self._client

    def close(self) -> None:
        """Cancel the pending requests, and close the connections."""
        with self._lock:
            self._closed = True
            under_way = list(self._under_way)
        for each in under_way:
            each.cancel()
        self.loop.let_go(self._let_go)

    def _let_go(self) -> httpx.AsyncClient | None:
        """Take the client, on the loop, where clients are opened: no new one can appear meanwhile."""
        client, self._client = self._client, None
        return client


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _proxy_of(url: str) -> str | None:
    """Return the host and port of the proxy that the environment names for a server, without its password."""
    parts, proxies = urlsplit(url), urllib.request.getproxies()
    named = proxies.get(parts.scheme) or proxies.get("all")
    if not named or urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    return urlsplit(named if "://" in named else f"//{named}").netloc.rpartition("@")[2]


def _refused(named: str, response: httpx.Response) -> ServerRefused:
    """Return the error for a refusal, with the message of a server that answers in OpenAI's form."""
    try:
        error = response.json()["error"]
        message, code = str(error["message"]), error.get("code")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        error, message, code = {}, f"HTTP status {response.status_code}", None
    problems = error.get("problems") if isinstance(error, dict) else None
    listed = [each for each in problems if isinstance(each, dict)] if isinstance(problems, list) else []
    return ServerRefused(f"{named} refused: {printable(message)}", response.status_code, code, listed)


def printable(said: str) -> str:
    """Return a server's message, which may be anyone's, made safe for an error: it goes to terminals and logs."""
    return "".join(each if each.isprintable() else " " for each in said[:_LONGEST])


def _told_to_wait(response: httpx.Response) -> float | None:
    told = response.headers.get("retry-after", "")
    return float(told) if told.isdecimal() else None
