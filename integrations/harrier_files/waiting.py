"""Pipes and terminals, read so that Ctrl-C ends the wait for what comes through them.

A system call is ended by a signal only if it has begun, and only on the thread that gets the signal. One that comes a
moment before a read would be seen when the read is over, and from a pipe that stays open and silent that is never.
"""

from __future__ import annotations

import io
import os
import select
from typing import IO, Any

_TURN = 0.1  # seconds, after which Python looks for signals


def waited_for(stream: IO[bytes]) -> io.BufferedReader:
    """Return a reader of a stream of which nothing was read yet, and which stays open when the reader is closed."""
    return io.BufferedReader(_InTurns(stream))


class _InTurns(io.RawIOBase):
    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__()
        self._stream = stream
        # Below the stream's buffer, of whose content `select` knows nothing. Windows has it for sockets only.
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
