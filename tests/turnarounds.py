"""A local proxy between a client and a server that counts round trips, and can delay everything.

In a round trip, a client sends something and receives an answer. All messages that it sends before the answer count as
one. The `delay` must be longer than the client takes to send them, because a server may answer the first before the
last is sent. For measurements, run the proxy as a program:

    python turnarounds.py PORT-OR-SOCKET DELAY     prints its port, and ends with its standard input
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager


def _nothing() -> None:
    """Ignore a read or write in a direction that is not counted."""


class Proxy:
    """Forward connections to a port or Unix socket; each direction takes half of the delay."""

    def __init__(self, server: int | str, delay: float = 0.0) -> None:
        self.port = 0
        self.turnarounds = 0  # of all connections
        self.delay = delay
        self._server = server

    async def serve(self, started: Callable[[], object], until: Callable[[], Awaitable[object]]) -> None:
        """Listen, call `started`, and serve until stopped."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        started()
        await until()
        server.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if isinstance(self._server, int):
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._server)
        else:
            from_server, to_server = await asyncio.open_unix_connection(self._server)
        answered = True  # the server spoke last

        def asks() -> None:
            nonlocal answered
            self.turnarounds += answered
            answered = False

        def answers() -> None:
            nonlocal answered
            answered = True

        try:
            await asyncio.gather(
                self._forward(reader, to_server, read=asks),
                self._forward(from_server, writer, written=answers),
                return_exceptions=True,
            )
        except asyncio.CancelledError:  # at the end of the program; the streams would log it
            pass
        finally:
            for each in (writer, to_server):
                each.transport.abort()

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        read: Callable[[], None] = _nothing,
        written: Callable[[], None] = _nothing,
    ) -> None:
        held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        async def send() -> None:
            while True:
                at, data = await held.get()
                if (wait := at - loop.time()) > 0:
                    await asyncio.sleep(wait)
                if not data:
                    writer.close()
                    return
                written()
                writer.write(data)
                await writer.drain()

        sending = asyncio.ensure_future(send())
        while data := await reader.read(1 << 20):
            read()
            held.put_nowait((loop.time() + self.delay / 2, data))
        held.put_nowait((loop.time() + self.delay / 2, b""))
        await sending


@contextmanager
def proxied(server: int | str) -> Iterator[Proxy]:
    """Yield a proxy on a thread."""
    proxy, started, over = Proxy(server), threading.Event(), threading.Event()
    serving = proxy.serve(started.set, lambda: asyncio.to_thread(over.wait))
    thread = threading.Thread(target=asyncio.run, args=[serving])
    thread.start()
    try:
        assert started.wait(30)
        yield proxy
    finally:
        over.set()
        thread.join()


def main(place: str, delay: float) -> None:
    """Serve until standard input ends."""
    proxy = Proxy(int(place) if place.isdecimal() else place, delay)

    def tell() -> None:
        sys.stdout.write(f"{proxy.port}\n")
        sys.stdout.flush()

    asyncio.run(proxy.serve(tell, lambda: asyncio.to_thread(sys.stdin.read)))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
