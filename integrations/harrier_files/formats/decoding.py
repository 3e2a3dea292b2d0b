"""Bytes to text: by a byte order mark, as UTF-8, or in the encoding that the user named. Nothing is guessed."""

from __future__ import annotations

import codecs
import io
from typing import IO, cast

from harrier_core import SettingError
from harrier_files.limits import Unreadable

MARKS = {  # those of UTF-32 first: one begins like one of UTF-16
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
# Texts in these may be valid UTF-8 that stands for other characters.
_LIKE_UTF8 = ("utf-16", "utf-32", "utf-7", "iso2022", "hz")
_BLOCK = 1 << 20


def checked_encoding(name: str) -> str:
    """Return Python's name of a text encoding."""
    try:
        "".encode(name)
        return codecs.lookup(name).name
    except (LookupError, ValueError):
        raise SettingError(
            f"--encoding must be an encoding that Python knows, such as cp1252 or utf-16, got {name!r}"
        ) from None


def marked(content: bytes) -> tuple[str, int] | None:
    """Return the encoding that a byte order mark indicates, and the length of the mark."""
    return next(((name, len(mark)) for mark, name in MARKS.items() if content.startswith(mark)), None)


def decoded(content: bytes, encoding: str | None = None) -> str:
    """Decode a text. encoding: for one that is not UTF-8 and has no byte order mark."""
    if found := marked(content):
        name, begin = found
        return _strictly(content[begin:], name)
    if encoding is None or not encoding.startswith(_LIKE_UTF8):
        try:
            return content.decode()
        except UnicodeDecodeError:
            pass
    return _strictly(content, encoding or "utf-8")


def _strictly(content: bytes, name: str) -> str:
    try:
        return content.decode(name)
    except UnicodeDecodeError as error:
        raise Unreadable(f"is not {shown(name)} at byte {error.start:,}; {REMEDY}") from None


REMEDY = "convert it, or name its encoding, such as --encoding cp1252"


def shown(name: str) -> str:
    """Return an encoding's name for people."""
    return name.upper() if name.startswith("utf") else name


def as_utf8(stream: IO[bytes], encoding: str | None) -> tuple[IO[bytes], str]:
    """Return a stream of rows as UTF-8, and its original encoding; its lines then end with the byte of a line feed.

    A stream that can be read twice is UTF-8 if all of it is; for others, a named encoding is trusted.
    """
    stream = peekable(stream)
    found = marked(stream.peek(4)[:4])
    name = found[0] if found else encoding or "utf-8"
    if found:
        stream.read(found[1])
    elif encoding and not encoding.startswith(_LIKE_UTF8) and stream.seekable() and _is_utf8(stream):
        name = "utf-8"
    return (stream, name) if name == "utf-8" else (io.BufferedReader(_Recoded(stream, name)), name)


def peekable(stream: IO[bytes]) -> io.BufferedReader:
    """Return a stream that supports peeking."""
    if hasattr(stream, "peek"):
        return cast("io.BufferedReader", stream)
    return io.BufferedReader(cast("io.RawIOBase", stream))


def _is_utf8(stream: IO[bytes]) -> bool:
    decoder, begin = codecs.getincrementaldecoder("utf-8")(), stream.tell()
    try:
        while block := stream.read(_BLOCK):
            decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    finally:
        stream.seek(begin)
    return True


class _Recoded(io.RawIOBase):
    """A stream of another encoding as UTF-8."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        super().__init__()
        self._stream, self._name = stream, name
        self._decoder = codecs.getincrementaldecoder(name)()
        self._left = b""
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._left and not self._ended:
            block = self._stream.read(_BLOCK)
            self._ended = not block
            try:
                self._left = self._decoder.decode(block, final=self._ended).encode("utf-8", "surrogatepass")
            except UnicodeDecodeError:
                raise Unreadable(f"is not {shown(self._name)}; {REMEDY}") from None
        given, self._left = self._left[: len(buffer)], self._left[len(buffer) :]
        buffer[: len(given)] = given
        return len(given)
