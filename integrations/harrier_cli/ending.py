"""SIGTERM, as sent by `docker stop`, `systemctl stop` and `timeout`, ends a command like Ctrl-C."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer

TERMINATED = 128 + signal.SIGTERM


class _Received:
    """Whether SIGTERM has arrived. A command may catch the exception, and raise its own with a better message."""

    terminated = False


@contextmanager
def terminable() -> Iterator[None]:
    """Raise KeyboardInterrupt in the main thread at the first SIGTERM.

    Without a handler the process would die with its embedded server still running; as PID 1 of a container it would not
    even die. Further signals are ignored: `timeout` sends two, and the second must not interrupt the cleanup.
    """
    _Received.terminated = False
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  # signal's
    if not _Received.terminated:
        _Received.terminated = True
        raise KeyboardInterrupt("terminated")


def code_of_interrupt(interrupted: int) -> int:
    """Return the exit code of a KeyboardInterrupt: that of SIGTERM if one has arrived, else `interrupted`."""
    return TERMINATED if _Received.terminated else interrupted


def leave_within(seconds: float, code: int) -> None:
    """End this process with an exit code if threads keep it from ending on its own by then.

    Python waits for all threads before it exits, and one that waits for a database, or reads a model, cannot be ended.
    """
    threading.Thread(target=_leave, args=(seconds, code), name="harrier-leaving", daemon=True).start()


def _leave(seconds: float, code: int) -> None:
    time.sleep(seconds)
    busy = [each.name for each in threading.enumerate() if not each.daemon and each is not threading.main_thread()]
    if not busy:
        return  # the main thread is about to end
    typer.echo(f"left without waiting for: {', '.join(busy)}", err=True)
    sys.stdout.flush()
    logging.shutdown()
    os._exit(code)
