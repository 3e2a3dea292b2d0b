"""Token counts without a model: from its tokenizer's files, which a server packs and a client unpacks."""

from __future__ import annotations

import io
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harrier_core.digests import tokenizer_digest
from harrier_core.errors import ServerRefused
from harrier_core.extras import require
from harrier_core.space import EmbeddingSpace

_FILES = ("tokenizer.json", "tokenizer_config.json")
_MOST = 64 * 2**20  # bytes of a file


def packed(folder: Path) -> bytes:
    """Return the files of a model's tokenizer as a zip archive."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1, strict_timestamps=False) as files:
        for name in _FILES:
            files.write(folder / name, name)
    return archive.getvalue()


@dataclass(frozen=True, slots=True)
class _Files:
    """A tokenizer's folder, standing in for a model's."""

    name: str
    folder: Path
    vocabulary: int = 2**31  # the server has checked the real size


class Counter:
    """Counts tokens as the model of an embedding space does."""

    def __init__(self, archive: bytes, space: EmbeddingSpace, prompt: str) -> None:
        """Take the result of `packed`, from any machine. prompt: what stands before a document.

        Raise ServerRefused if the files are not those of the space.
        """
        require("counting tokens", "tokenizers", extra="remote")
        from harrier_core.tokens import Tokens

        with tempfile.TemporaryDirectory(prefix="harrier-") as folder:
            _unpack(archive, Path(folder))
            self._tokens = Tokens(_Files(space.model, Path(folder)))
            digest = tokenizer_digest(Path(folder, _FILES[0]), self._tokens.frame)
        if digest != space.tokenizer:
            raise ServerRefused("the server's tokenizer is not that of its embedding space")
        self._prompt = prompt

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each text has as a document."""
        return self._tokens.count(texts, self._prompt)


def _unpack(archive: bytes, folder: Path) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as files:
            for name in _FILES:
                with files.open(name) as file:
                    content = file.read(_MOST + 1)
                if len(content) > _MOST:
                    raise ServerRefused(f"the server's {name} is too long")
                (folder / name).write_bytes(content)
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, NotImplementedError, RuntimeError):
        raise ServerRefused("the server's tokenizer cannot be read") from None
