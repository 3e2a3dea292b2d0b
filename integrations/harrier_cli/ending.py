"""SIGTERM, as sent by `docker stop`, `systemctl stop` and `timeout`, ends a command like Ctrl-C."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

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
