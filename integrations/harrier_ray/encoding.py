"""Vectors of a batch of rows, for sinks other than an Index."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Mapping
from typing import Any

from harrier_core import Embedder


class EncodeBatch:
    """Adds the vectors of texts, as documents, to a batch: a mapping of columns, as Ray's `map_batches` has it.

    It pickles as the encoder's settings. A process loads the model once, however many copies it unpickles.
    """

    def __init__(self, encoder: Embedder, *, text: str = "text", into: str = "embedding") -> None:
        """Take an encoder. text: the column of the texts. into: that of the vectors."""
        self.encoder = encoder
        self.text = text
        self.into = into

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return the batch with its vectors, float32 (rows, dimensions)."""
        vectors = self.encoder.encode_documents([str(text) for text in batch[self.text]])
        return {**batch, self.into: vectors}

    def __getstate__(self) -> tuple[bytes, str, str]:
        return pickle.dumps(self.encoder), self.text, self.into

    def __setstate__(self, state: tuple[bytes, str, str]) -> None:
        settings, self.text, self.into = state
        with _lock:
            if settings not in _encoders:
                _encoders[settings] = pickle.loads(settings)  # noqa: S301  # of our own making, within a pickle
            self.encoder = _encoders[settings]


_lock = threading.Lock()
_encoders: dict[bytes, Embedder] = {}  # of this process, by their settings
