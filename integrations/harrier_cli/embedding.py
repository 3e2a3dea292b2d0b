"""Encode the lines of standard input: to JSON lines as they come, or to an array in a file, all or nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from harrier_files.waiting import waited_for

from harrier_cli.progress import CountBar
from harrier_core import Embedder, InputError, SettingError, Task
from harrier_core.errors import positions_of_all

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harrier_core.types import Vectors

_WINDOW = 1_000  # lines that are encoded together

Encode = Callable[[list[str]], "Vectors"]


def embed(encoder: Embedder, out: str | None, *, queries: bool, task: str | Task | None) -> int:
    """Encode all lines, and return how many could not be encoded."""

    def encode(texts: list[str]) -> Vectors:
        return encoder.encode_queries(texts, task=task) if queries else encoder.encode_documents(texts)

    with CountBar("encoding", "lines") as bar:
        if out is None:
            return _to_json_lines(encode, bar)
        _to_array(encode, Path(out), encoder.dimensions, bar)
        return 0


def _windows() -> Iterator[tuple[int, list[str]]]:
    """Yield windows of lines, each with the number of its first one; only line ends are removed."""
    lines = enumerate(waited_for(sys.stdin.buffer), 1)
    while window := list(islice(lines, _WINDOW)):
        yield window[0][0], [_text(line) for _, line in window]


def _text(line: bytes) -> str:
    """Return a line as text. Invalid UTF-8 becomes lone surrogates, which the encoder refuses by position."""
    return line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8", "surrogateescape")


def _to_json_lines(encode: Encode, bar: CountBar) -> int:
    rejected = 0
    for first, texts in _windows():
        vectors, reasons = _encoded(encode, texts)
        rejected += len(reasons)
        for position in range(len(texts)):
            said: dict[str, object] = {"line": first + position}
            said |= {"error": reasons[position]} if position in reasons else {"vector": vectors[position].tolist()}
            sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()
        bar.count(first - 1 + len(texts))
    return rejected


def _encoded(encode: Encode, texts: list[str]) -> tuple[dict[int, NDArray[np.float32]], dict[int, str]]:
    """Return vectors by position, and reasons by position for the texts that have none."""
    reasons: dict[int, str] = {}
    while True:
        positions = [position for position in range(len(texts)) if position not in reasons]
        try:
            with positions_of_all(positions.__getitem__):
                return dict(zip(positions, encode([texts[each] for each in positions]), strict=True)), reasons
        except InputError as error:
            reasons |= {each.position: each.reason for each in error.problems}


def _to_array(encode: Encode, path: Path, dimensions: int, bar: CountBar) -> None:
    """Write a window at a time; the header, which has room for any number of rows, is rewritten at the end."""
    if path.suffix != ".npy":
        raise SettingError(f"--out must be the name of an .npy file, got {path.name!r}")
    beside = path.with_name(f".{path.name}.partial")
    rows = 0
    with ExitStack() as cleaning:
        file = cleaning.enter_context(beside.open("wb"))
        cleaning.callback(beside.unlink, missing_ok=True)
        _write_header(file, rows, dimensions)
        for first, texts in _windows():
            try:
                file.write(encode(texts).astype("<f4", copy=False).tobytes())
            except InputError as error:
                problem = error.problems[0]
                raise SettingError(
                    f"line {first + problem.position} {problem.reason}; an array has a row for each line, and nothing "
                    "was written: fix the line, or omit --out"
                ) from None
            rows += len(texts)
            bar.count(rows)
        file.seek(0)
        _write_header(file, rows, dimensions)
        file.flush()
        beside.replace(path)


def _write_header(file: IO[bytes], rows: int, dimensions: int) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": (rows, dimensions)}
    np.lib.format.write_array_header_1_0(file, header)
