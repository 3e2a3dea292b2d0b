"""Call an HTTP server from callers that each send the next request when they have the answer to the last one.

They do as little as possible: requests are prepared as bytes; of an answer, the status and the length are read and the
remaining bytes are counted. `ceiling` measures how fast they are against a server that does nothing.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import re
import time
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, TypeVar, cast

import uvloop

T = TypeVar("T")

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)\r\n")


def request(path: str, body: Any) -> bytes:
    """Return a POST request with JSON."""
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
    )
    return f"{head}\r\n\r\n".encode() + content


@dataclass
class Done:
    """The result of a load."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)  # seconds of each request, in the order of the answers
    first: bytes = b""  # the body of an answer


class _Caller(asyncio.Protocol):
    """One connection."""

    def __init__(self, requests: Iterator[bytes], done: Done, ended: asyncio.Future[None]) -> None:
        self._requests = requests
        self._done = done
        self._ended = ended
        self._head = b""
        self._left: int | None = None  # bytes of the body that are missing, once the head is read
        self._begun = 0.0
        self._kept: list[bytes] | None = None
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it

    def send(self) -> None:
        """Send the next request, or end."""
        content = next(self._requests, None)
        if content is None:
            self._ended.set_result(None)
            return
        self._kept = [] if not self._done.latencies else None
        self._begun = time.perf_counter()
        self.transport.write(content)

    def data_received(self, data: bytes) -> None:
        if self._left is None:
            self._head += data
            head, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            length = _LENGTH.search(head + b"\r\n")
            if not head.startswith(b"HTTP/1.1 200") or length is None:
                if not self._ended.done():
                    self._ended.set_exception(RuntimeError(f"the server answers {(head + end + data)[:500]!r}"))
                return
            self._head, self._left = b"", int(length[1])
        if self._kept is not None:
            self._kept.append(data)
        self._left -= len(data)
        if not self._left:
            self._left = None
            self._done.latencies.append(time.perf_counter() - self._begun)
            if self._kept and not self._done.first:
                self._done.first = b"".join(self._kept)
            self.send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ended.done():
            self._ended.set_exception(RuntimeError(f"the server has closed the connection ({exc})"))


async def load(port: int, requests: Iterable[bytes], callers: int, address: str = "127.0.0.1") -> Done:
    """Send all requests, each from the first free caller. Callers connect from `address`."""
    done, left, loop = Done(), iter(requests), asyncio.get_running_loop()
    ended = [loop.create_future() for _ in range(callers)]
    connected = []
    for each in ended:
        _, caller = await loop.create_connection(
            lambda end=each: _Caller(left, done, end),  # type: ignore[misc]
            *("127.0.0.1", port),
            local_addr=(address, 0),
        )
        connected.append(caller)
    begin = time.perf_counter()
    for caller in connected:
        caller.send()
    try:
        await asyncio.gather(*ended)
    finally:
        for caller in connected:
            caller.transport.close()
    done.seconds = time.perf_counter() - begin
    return done


def loaded(port: int, requests: Sequence[bytes], callers: int) -> Done:
    """Send all requests, and wait for the answers."""
    return run(load(port, requests, callers))


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run the coroutine on a fast event loop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


class _Nothing(asyncio.Protocol):
    """Serve: read each request to its end, and answer it with the same bytes."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if not self._left:
            head, _, data = data.partition(b"\r\n\r\n")
            length = _LENGTH.search(head + b"\r\n")
            assert length is not None
            self._left = int(length[1])
        self._left -= len(data)
        if not self._left:
            self._transport.write(self._answer)


def _do_nothing(size: int, core: int, told: Connection) -> None:
    os.sched_setaffinity(0, {core})

    async def main() -> None:
        answer = f"HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n".encode() + b" " * size
        server = await asyncio.get_running_loop().create_server(lambda: _Nothing(answer), "127.0.0.1", 0)
        told.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    run(main())


@contextmanager
def nothing(size: int, core: int) -> Iterator[int]:
    """Yield the port of a server on its own core that only sends `size` bytes."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=_do_nothing, args=(size, core, there), daemon=True)
    process.start()
    try:
        yield here.recv()
    finally:
        process.terminate()
        process.join()


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Restrict this process to one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
