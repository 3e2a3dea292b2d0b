"""The content of pages, as it arrives."""

from __future__ import annotations

import codecs
import io
import time
from collections.abc import Iterator
from typing import Any

import httpx

from harrier_files.limits import Unreadable

BUFFER = 1 << 16
_WHOLE = 600.0  # seconds for a whole page, in case a server sends only a byte now and then


class Body(io.RawIOBase):
    """The content of an answer, unpacked as it arrives."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__()
        self._parts = _recoded(response)
        self._part = b""
        self._until = time.monotonic() + _WHOLE

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read the next part, or as much of it as fits into the buffer."""
        try:
            while not self._part:
                if time.monotonic() > self._until:
                    raise Unreadable(f"takes more than {_WHOLE:,.0f} s to fetch")
                self._part = next(self._parts)
        except StopIteration:
            return 0
        except httpx.HTTPError as error:
            raise Unreadable(f"cannot be fetched completely: {reason_of(error)}") from None
        except UnicodeError:
            raise Unreadable("is not in the encoding that the server declares") from None
        count = min(len(buffer), len(self._part))
        buffer[:count], self._part = self._part[:count], self._part[count:]
        return count


def _recoded(response: httpx.Response) -> Iterator[bytes]:
    """Yield the body. A text in an encoding named by the server becomes UTF-8 with a byte order mark."""
    charset = response.charset_encoding or "utf-8"
    try:
        known = codecs.lookup(charset).name
    except LookupError:
        known = "utf-8"
    if known in ("utf-8", "ascii", "utf-8-sig") or not media_type(response).startswith("text/"):
        return response.iter_bytes(BUFFER)
    return _as_utf8(response.iter_bytes(BUFFER), known)


def _as_utf8(parts: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    yield codecs.BOM_UTF8
    for part in codecs.iterdecode(parts, encoding):
        yield part.encode(errors="surrogatepass")


def media_type(response: httpx.Response) -> str:
    """Return the media type in the server's answer, without parameters."""
    return str(response.headers.get("content-type", "")).partition(";")[0].strip().lower()


def reason_of(error: httpx.HTTPError) -> str:
    """Return why there is no answer, in words that quote nothing."""
    if isinstance(error, httpx.TimeoutException):
        return "the server did not respond in time"
    if isinstance(error, httpx.ConnectError):
        return "no connection to the server"
    return f"the connection was lost ({type(error).__name__})"
