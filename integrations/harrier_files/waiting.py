"""Pipes and terminals, read so that Ctrl-C ends the wait for their input.

A signal interrupts a system call only if that has already begun, and only on the thread that gets the signal. A signal
that comes a moment before a read would be noticed when the read is over, which is never for a pipe that stays open and
silent.
"""

from __future__ import annotations

import io
import os
import select
from typing import IO, Any

_TURN = 0.1  # seconds after which Python checks for signals


def waited_for(stream: IO[bytes]) -> io.BufferedReader:
    """Return a reader of an unread stream, which stays open when the reader is closed."""
    return io.BufferedReader(_InTurns(stream))


class _InTurns(io.RawIOBase):
    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__()
        self._stream = stream
        # Below the stream's buffer, which `select` does not know. On Windows it supports only sockets.
        self._raw = getattr(stream, "raw", None) if os.name == "posix" else None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> Any:  # a writable buffer; the bytes read, or None
        if self._raw is None:
            read: Any = self._stream
            return read.readinto1(buffer)
        while not select.select([self._raw], [], [], _TURN)[0]:
            pass
        return self._raw.readinto(buffer)
