"""The result of encoding besides vectors: token counts and truncated texts."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harrier_core import CachedEncoder, Encoder, digests
from harrier_core.testing import build_model

LONG = "a word or two " * 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("model"))


class Values(dict[str, bytes]):
    """A key-value store for a cache."""

    def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        return [self.get(key) for key in keys]

    def mset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        self.update(key_value_pairs)


def test_tokens(folder: Path) -> None:
    """Counts include prompt and end token, for each text wherever and however often it occurs."""
    with Encoder(folder) as encoder:
        texts = ["one", "two words more", "one", *(f"text {number}" for number in range(1_100))]
        encoded = encoder.submit_documents(texts).result(60)
        assert list(encoded.tokens) == encoder.count_tokens(texts)
        assert (encoded.truncated, len(encoded)) == ((), len(texts))
        prompt = encoder.prompt("one")
        [query] = encoder.submit_queries(["one"]).result(60).tokens
        assert query == encoder.count_tokens([prompt])[0] > encoded.tokens[0]
        assert list(encoder.submit_documents([]).result(60).tokens) == []


def test_truncated_positions(folder: Path) -> None:
    """Positions refer to the caller's texts, even if others encode at the same time."""
    with Encoder(folder, max_tokens=20, on_overflow="truncate") as encoder:
        futures = [encoder.submit_documents(["short", LONG, "short too", LONG]), encoder.submit_documents(["short"])]
        first, second = (future.result(60) for future in futures)
        assert (list(first.truncated), list(second.truncated)) == ([1, 3], [])
        assert list(first.tokens)[1] == 20
        assert encoder.truncations == 2


def test_through_a_cache(folder: Path) -> None:
    """Cached texts cost no tokens, and truncation is remembered."""
    with Encoder(folder, max_tokens=20, on_overflow="truncate") as encoder:
        cached = CachedEncoder(encoder, Values())
        whole = encoder.encode_documents([LONG, "two"])
        cached.encode_documents(["one"])
        texts = ["one", LONG, "two", LONG]
        for tokens in ([0, 20, *encoder.count_tokens(["two"]), 20], [0, 0, 0, 0]):
            encoded = cached.submit_documents(texts).result(60)
            assert (list(encoded.tokens), list(encoded.truncated)) == (tokens, [1, 3])
            assert np.array_equal(encoded.vectors[1:3], whole)


def test_settings(folder: Path) -> None:
    """Settings create an equal encoder, and are immutable."""
    encoder = Encoder(folder, max_tokens=20, task="sts_query")
    assert Encoder(**encoder.settings).settings == encoder.settings == pickle.loads(pickle.dumps(encoder)).settings
    assert encoder.settings["max_tokens"] == 20
    with pytest.raises(TypeError):
        encoder.settings["max_tokens"] = 30  # type: ignore[index]


def test_the_space_is_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All encoders of a model read it once, until its files change."""
    reads: list[str] = []
    read = digests.weights_digest

    def counting(*given: Any) -> str:
        reads.append("weights")
        return read(*given)

    monkeypatch.setattr(digests, "weights_digest", counting)
    with Encoder(folder) as encoder, Encoder(folder, task="sts_query") as other:
        assert encoder.space == other.space == encoder.space
        assert reads == ["weights"]
