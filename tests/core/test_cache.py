"""A cache that never mixes roles, tasks, models or limits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harrier_core import CachedEncoder, Chunking, EmptyText, Encoder, Index, NotText, Record, Task, TextTooLong
from harrier_core.testing import MemoryStore, build_model


class Values(dict[str, bytes]):
    """A key-value store that counts its reads."""

    asked = 0

    def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        self.asked += len(keys)
        return [self.get(key) for key in keys]

    def mset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        self.update(key_value_pairs)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(build_model(tmp_path_factory.mktemp("model")))


def vectors_of(cached: CachedEncoder, texts: list[str], how: str) -> np.ndarray[Any, Any]:
    match how:
        case "documents":
            return cached.encode_documents(texts)
        case "queries":
            return cached.encode_queries(texts)
        case "adocuments":
            return asyncio.run(cached.aencode_documents(texts))
    return asyncio.run(cached.aencode_queries(texts))


@pytest.mark.parametrize("how", ["documents", "queries", "adocuments", "aqueries"])
def test_the_same_vectors(folder: str, how: str) -> None:
    """Vectors are bit-identical with any mixture of cached and new texts, and none is encoded twice."""
    with Encoder(folder) as encoder:
        values = Values()
        cached = CachedEncoder(encoder, values)
        texts = ["one", "two", "one", "three"]
        plain = encoder.encode_documents if "documents" in how else encoder.encode_queries
        assert np.array_equal(vectors_of(cached, texts[:2], how), plain(texts[:2]))
        before = encoder.stats.texts
        again = vectors_of(CachedEncoder(encoder, values), texts, how)
        assert encoder.stats.texts == before + 1
        assert len(values) == 3
        assert {len(value) for value in values.values()} == {4 * encoder.dimensions}
        np.testing.assert_allclose(again, plain(texts), atol=1e-6)
        assert again.dtype == np.float32
        before = encoder.stats.texts
        assert np.array_equal(vectors_of(cached, texts, how), again)
        assert vectors_of(cached, [], how).shape == (0, encoder.dimensions)
        assert encoder.stats.texts == before


def test_nothing_is_mixed(folder: str, tmp_path: Path) -> None:
    """Each role, task, model and limit has a separate entry for one text."""
    values = Values()
    other = str(build_model(tmp_path, seed=5))
    settings: list[dict[str, Any]] = [{}, {"max_tokens": 99, "on_overflow": "truncate"}, {"max_tokens": 99}]
    encoders = [Encoder(folder, **each) for each in settings] + [Encoder(other)]
    law = Task("Given a legal question, retrieve the statutes that answer it")
    for number, encoder in enumerate(encoders):
        cached = CachedEncoder(encoder, values)
        cached.encode_documents(["a"])
        for task in (None, "sts_query", law):
            np.testing.assert_allclose(
                cached.encode_queries(["a"], task=task), encoder.encode_queries(["a"], task=task), atol=1e-6
            )
        assert len(values) == 4 * number + 4
    with Encoder(folder, task="sts_query") as sts:  # the task's name does not matter
        before = len(values)
        CachedEncoder(sts, values).encode_queries(["a"])
        assert len(values) == before


def test_errors_count_all_texts(folder: str) -> None:
    """Error positions include cached texts, and a failed call stores nothing."""
    with Encoder(folder) as encoder:
        values = Values()
        cached = CachedEncoder(encoder, values)
        cached.encode_documents(["one", "two"])
        with pytest.raises(EmptyText, match="text 2 is empty") as caught:
            cached.encode_documents(["one", "two", "", "three", " "])
        assert [problem.position for problem in caught.value.problems] == [2, 4]
        with pytest.raises(NotText, match="text 1 is int"):
            cached.encode_documents(["one", 5])  # type: ignore[list-item]
        assert len(values) == 2


def test_a_truncated_value(folder: str) -> None:
    """It is computed again."""
    with Encoder(folder) as encoder:
        values = Values()
        cached = CachedEncoder(encoder, values)
        whole = cached.encode_documents(["one"])
        [key] = values
        values[key] = values[key][:-1]
        assert np.array_equal(cached.encode_documents(["one"]), whole)
        assert len(values[key]) == 4 * encoder.dimensions


def test_a_str_is_not_a_list(folder: str) -> None:
    """A str is refused, because it would be treated as a list of letters."""
    with Encoder(folder) as encoder:
        cached = CachedEncoder(encoder, Values())
        with pytest.raises(NotText, match="put a single text in a list"):
            cached.encode_documents("abc")
        with pytest.raises(NotText, match="put a single text in a list"):
            asyncio.run(cached.aencode_queries("abc"))


# -- under an Index


def test_an_index_over_a_cache(folder: str) -> None:
    """It has the Encoder's space and vectors, and encodes only what is not cached."""
    with Encoder(folder) as encoder:
        cached = CachedEncoder(encoder, Values())
        records = [Record(str(number), f"text number {number}") for number in range(30)]
        cached.encode_documents([record.text for record in records[:20]])
        before = encoder.stats.texts
        index = Index(MemoryStore(), cached, chunking=Chunking(50))
        assert index.ingest(records).written == 30
        assert encoder.stats.texts == before + 10
        plain = Index(MemoryStore(), encoder)
        plain.ingest(records)
        for query in ("text number 3", "what"):
            expected = {match.id: match.score for match in plain.search(query, k=30)}
            assert {match.id: match.score for match in index.search(query, k=30)} == pytest.approx(expected, abs=1e-5)
        before = encoder.stats.texts
        other = Index(MemoryStore(), cached)
        other.ingest(records)
        other.search("what")
        assert asyncio.run(other.asearch("what"))
        assert encoder.stats.texts == before
        assert other.verify(sample=1_000).sound
        assert encoder.stats.texts == before + 30  # verification does not use cached vectors


def test_an_ingest_over_a_cache_rejects_the_same(folder: str) -> None:
    """Only the record that cannot be encoded is rejected, wherever it stands."""
    with Encoder(folder, max_tokens=20) as encoder:
        values = Values()
        CachedEncoder(encoder, values).encode_documents(["text 0", "text 2"])
        texts = ["text 0", "far too long " * 40, "text 2", "text 3"]
        report = Index(MemoryStore(), CachedEncoder(encoder, values)).ingest(
            Record(str(number), text) for number, text in enumerate(texts)
        )
        assert [id_ for id_, _ in report.rejected] == ["1"]
        assert report.written == 3


def test_submitted_documents(folder: str) -> None:
    """Errors have all positions, and futures are cancelled by the caller or when the encoder closes."""
    encoder = Encoder(folder, max_tokens=20)
    values = Values()
    cached = CachedEncoder(encoder, values)
    expected = cached.encode_documents(["one", "two"])
    assert np.array_equal(cached.submit_documents(["two", "one"]).result(60).vectors, expected[::-1])
    assert cached.submit_documents([]).result(60).vectors.shape == (0, encoder.dimensions)
    with pytest.raises(EmptyText, match="text 1 is empty"):
        cached.submit_documents(["one", " ", "three"]).result(60)
    late = [*(f"text {number}" for number in range(3_000)), "far too long " * 40]
    with pytest.raises(TextTooLong, match="text 3001 has"):
        cached.submit_documents(["one", *late]).result(60)
    texts = [f"another text {number} " * 3 for number in range(5_000)]
    cancelled = cached.submit_documents(texts)
    assert cancelled.cancel()
    waiting = cached.submit_documents(texts)
    encoder.close()
    with pytest.raises(CancelledError):
        waiting.result(60)
    threads = [thread for thread in threading.enumerate() if thread.name == "harrier-cache"]
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert len(values) == 2


def test_an_error_of_the_cache(folder: str) -> None:
    """The caller gets the error of the key-value store."""

    class Full(Values):
        def mset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:  # noqa: ARG002
            raise OSError("no room")

    with Encoder(folder) as encoder:
        with pytest.raises(OSError, match="no room"):
            CachedEncoder(encoder, Full()).submit_documents(["one"]).result(60)
        with pytest.raises(OSError, match="no room"):
            Index(MemoryStore(), CachedEncoder(encoder, Full())).ingest([Record("1", "one")])
