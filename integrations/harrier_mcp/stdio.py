"""A server over standard input and output, as started by editors and desktop assistants."""

from __future__ import annotations

import asyncio
import logging
import os
import select
import signal
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from mcp.server.stdio import stdio_server

from harrier_core import EncoderClosed, HarrierError

if TYPE_CHECKING:
    from mcp.server import Server

    from harrier_core import Index, Mode

log = logging.getLogger(__name__)

_PART = 65_536  # bytes, the capacity of a pipe


def run(server: Server[Any]) -> None:
    """Serve until standard input ends, or SIGINT or SIGTERM arrives. Other output goes to standard error."""
    asyncio.run(_serve(server))


async def _serve(server: Server[Any]) -> None:
    with _ended_by_signals():
        async with stdio_server() as (read, write):
            await server.run(read, write, server.create_initialization_options())


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Replace standard input by a pipe, which ends when a signal arrives.

    The SDK reads on a thread, and nothing but the end of its input ends that thread, and so the process.
    """
    if os.name != "posix":
        yield
        return
    loop = asyncio.get_running_loop()
    own, (reading, writing), (woken, waking) = os.dup(0), os.pipe(), os.pipe()
    os.dup2(reading, 0)
    os.close(reading)
    os.set_blocking(writing, False)
    copying = threading.Thread(target=_copy, args=(own, writing, woken), name="harrier-stdin", daemon=True)
    copying.start()
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    for each in before:
        loop.add_signal_handler(each, os.write, waking, b"!")
    try:
        yield
    finally:
        for each, handler in before.items():
            loop.remove_signal_handler(each)
            signal.signal(each, handler)
        os.write(waking, b"!")
        copying.join()
        os.dup2(own, 0)
        for descriptor in (own, woken, waking):
            os.close(descriptor)


def _copy(own: int, writing: int, woken: int) -> None:
    """Copy to a pipe until there is no more, the pipe's reader is gone, or something arrives on `woken`."""
    waits: bytes = b""
    try:
        while True:
            ready, writable, _ = select.select([woken] if waits else [own, woken], [writing] if waits else [], [])
            if woken in ready:
                return
            if writable:
                waits = waits[os.write(writing, waits) :]
            elif not (waits := os.read(own, _PART)):
                return
    except OSError:  # the reader is gone
        return
    finally:
        os.close(writing)


def warm(index: Index, meanwhile: AbstractContextManager[None] | None = None) -> None:
    """Load the model on a thread, so that the first query does not wait for all of it.

    meanwhile: entered while it is loaded.
    """

    def load() -> None:
        try:
            with meanwhile or nullcontext():
                index.encoder.encode_queries(["ready"])
        except EncoderClosed:  # the client went away before it asked anything
            pass
        except HarrierError as error:  # a search reports it as well
            log.warning("the model could not be loaded: %s", error)

    threading.Thread(target=load, name="harrier-warming", daemon=True).start()


def check(index: Index, mode: Mode, seconds: float = 10.0) -> None:
    """Raise an error if the index cannot be searched with this model in this mode, unless that takes long to find out.

    Fetching a model first takes minutes, and clients wait for seconds: then the tools report what is wrong.
    """
    failed: list[HarrierError] = []

    def look() -> None:
        try:
            index.missing(["ready"])
            if mode != "dense":
                index.search_words("ready", 1)
        except HarrierError as error:
            failed.append(error)

    thread = threading.Thread(target=look, name="harrier-checking", daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
