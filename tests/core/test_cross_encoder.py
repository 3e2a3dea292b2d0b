"""A CrossEncoder of sentence-transformers as a reranker: equal scores in any order, from any thread."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rerankers import build_cross_encoder, build_qwen_reranker
from sentence_transformers import CrossEncoder

from harrier_core import (
    BadVectors,
    CrossEncoderReranker,
    DeviceError,
    EmptyText,
    Encoder,
    EncoderClosed,
    Index,
    ModelNotFound,
    ModelUnsupported,
    NotText,
    Record,
    Reranker,
    SettingError,
)
from harrier_core.cross_encoder import _models
from harrier_core.testing import PROSE, MemoryStore

QUERY = "How does a vaccine work?"


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_cross_encoder(tmp_path_factory.mktemp("cross"))


@pytest.fixture(scope="module")
def expected(bert: Path) -> list[float]:
    """Return the scores of sentence-transformers, one text at a time."""
    own = CrossEncoder(str(bert), device="cpu")
    return [float(own.predict([(QUERY, text)])[0]) for text in PROSE]


@pytest.fixture
def reranker(bert: Path) -> Iterator[CrossEncoderReranker]:
    with CrossEncoderReranker(bert, device="cpu") as reranker:
        yield reranker


def test_scores_equal_predict(reranker: CrossEncoderReranker, expected: list[float]) -> None:
    """Scores equal those of `predict` in any batch and order, and are Python floats."""
    assert isinstance(reranker, Reranker)
    assert max(expected) - min(expected) > 0.1
    found = reranker.scores(QUERY, PROSE)
    assert all(type(score) is float for score in found)
    assert np.abs(np.subtract(found, expected)).max() < 1e-5
    assert np.abs(np.subtract(reranker.scores(QUERY, PROSE[::-1]), expected[::-1])).max() < 1e-5
    assert reranker.scores(QUERY, []) == []


def test_batches_have_similar_lengths(bert: Path, expected: list[float]) -> None:
    """The longest texts come first, in batches of the given size."""
    own = CrossEncoder(str(bert), device="cpu")
    run, batches = own.predict, []

    def watched(pairs: Any, **how: Any) -> Any:
        batches.append(([len(text) for _, text in pairs], how["batch_size"]))
        return run(pairs, **how)

    own.predict = watched
    with CrossEncoderReranker(own, batch_size=3) as reranker:
        assert np.abs(np.subtract(reranker.scores(QUERY, PROSE), expected)).max() < 1e-5
    assert batches == [(sorted(map(len, PROSE), reverse=True), 3)]


def test_a_given_model(bert: Path, expected: list[float]) -> None:
    """It is used unchanged, with its device and limit, and may be shared by rerankers."""
    own = CrossEncoder(str(bert), device="cpu")
    one, two = CrossEncoderReranker(own), CrossEncoderReranker(own)
    assert np.abs(np.subtract(one.scores(QUERY, PROSE), expected)).max() < 1e-5
    two.scores(QUERY, ["a"])
    assert one._loaded is two._loaded
    assert one._loaded._model is own
    assert repr(one) == "CrossEncoderReranker(<CrossEncoder>)"
    with pytest.raises(SettingError, match="device applies only to a model that is loaded by name"):
        CrossEncoderReranker(own, device="cpu")


def test_long_texts_are_truncated_by_the_model(bert: Path) -> None:
    """Texts are truncated at the model's limit, or at a lower one."""
    long = " ".join(PROSE)
    own = CrossEncoder(str(bert), device="cpu", max_length=20)
    with CrossEncoderReranker(bert, device="cpu", max_length=20) as short, CrossEncoderReranker(bert) as whole:
        assert abs(short.scores(QUERY, [long])[0] - float(own.predict([(QUERY, long)])[0])) < 1e-5
        assert short.scores(QUERY, [long]) != whole.scores(QUERY, [long])
        assert whole.scores(QUERY, [long, long + " more"])[0] == pytest.approx(whole.scores(QUERY, [long])[0], abs=1e-5)


def test_threads_share_one_model(bert: Path, expected: list[float]) -> None:
    """Equal settings load the model once, and the last close releases it."""
    one, two = CrossEncoderReranker(bert, device="cpu"), CrossEncoderReranker(str(bert), device="cpu")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: (one, two)[number % 2].scores(QUERY, PROSE), range(16)))
    assert np.abs(np.array(found) - expected).max() < 1e-5
    assert one._loaded is two._loaded
    gone = weakref.ref(one._loaded._model)
    one.close()
    assert np.abs(np.subtract(two.scores(QUERY, PROSE), expected)).max() < 1e-5
    two.close()
    gc.collect()
    assert gone() is None
    assert not any(str(bert) in str(key) for key in _models._entries)
    with pytest.raises(EncoderClosed, match="this reranker is closed; create a new one"):
        one.scores(QUERY, ["a"])


def test_pickling_and_copying(bert: Path, expected: list[float]) -> None:
    """Pickles and copies load nothing until a score is requested."""
    reranker = CrossEncoderReranker(bert, device="cpu", batch_size=7)
    assert reranker._held.lease("model") is None
    for other in (pickle.loads(pickle.dumps(reranker)), copy.copy(reranker), CrossEncoderReranker(**reranker.settings)):
        assert dict(other.settings) == dict(reranker.settings)
        assert np.abs(np.subtract(other.scores(QUERY, PROSE), expected)).max() < 1e-5
    assert repr(CrossEncoderReranker("a/b")) == "CrossEncoderReranker('a/b')"
    assert repr(reranker) == f"CrossEncoderReranker({str(bert)!r}, device='cpu', batch_size=7)"


def test_bad_texts(reranker: CrossEncoderReranker) -> None:
    """Invalid texts and queries are reported by position."""
    texts: Any = ["a", None]
    with pytest.raises(EmptyText, match="text 1 is empty"):
        reranker.scores(QUERY, ["a", " "])
    with pytest.raises(NotText, match="text 1 is NoneType"):
        reranker.scores(QUERY, texts)
    with pytest.raises(EmptyText, match=r"text 0 \(the query\) is empty"):
        reranker.scores("", ["a"])
    with pytest.raises(NotText, match="put a single text in a list"):
        reranker.scores(QUERY, "one text")


def test_invalid_settings(bert: Path) -> None:
    """The error lists the valid values."""
    wrong: list[tuple[Any, dict[str, Any], str]] = [
        (7, {}, "model must be a name, a folder or a CrossEncoder, got int"),
        (bert, {"batch_size": 0}, "batch_size must be a positive integer, got 0"),
        (bert, {"batch_size": None}, "batch_size must be a positive integer, got None"),
        (bert, {"max_length": -1}, "max_length must be a positive integer, got -1"),
        (bert, {"trust_remote_code": True}, "unknown keyword, 'trust_remote_code'"),
    ]
    for given, settings, message in wrong:
        with pytest.raises(SettingError, match=message):
            CrossEncoderReranker(given, **settings)
    with pytest.raises(DeviceError, match="unknown device 'gpu'"):
        CrossEncoderReranker(bert, device="gpu").scores(QUERY, ["a"])
    with pytest.raises(DeviceError, match="unknown dtype 'int8'"):
        CrossEncoderReranker(bert, dtype="int8").scores(QUERY, ["a"])


def test_other_models_are_refused(tmp_path: Path, built: Callable[..., Path]) -> None:
    """sentence-transformers would use a random head, or omit the prompt."""
    headless = build_cross_encoder(tmp_path / "bert", head=False)
    with pytest.raises(ModelUnsupported, match="has no head that scores .* says BertModel, .* pass it to Encoder, if"):
        CrossEncoderReranker(headless).scores(QUERY, ["a"])
    with pytest.raises(ModelUnsupported):
        CrossEncoderReranker(built()).scores(QUERY, ["a"])
    qwen = build_qwen_reranker(tmp_path / "qwen")
    with pytest.raises(ModelUnsupported, match="says Qwen3ForCausalLM, .* pass it to QwenReranker"):
        CrossEncoderReranker(qwen).scores(QUERY, ["a"])
    saved = tmp_path / "saved"
    own = CrossEncoder(str(qwen), device="cpu")
    own.save_pretrained(str(saved))
    found = CrossEncoderReranker(saved, device="cpu").scores(QUERY, PROSE[:3])
    assert np.abs(np.subtract(found, own.predict([(QUERY, text) for text in PROSE[:3]]))).max() < 1e-5
    three = build_cross_encoder(tmp_path / "three", labels=3)
    with pytest.raises(ModelUnsupported, match="returns 3 numbers for a query and a text; a reranker must return one"):
        CrossEncoderReranker(three).scores(QUERY, ["a"])
    with pytest.raises(ModelNotFound, match="sentence-transformers cannot load '/no/such/model' as a CrossEncoder: "):
        CrossEncoderReranker("/no/such/model").scores(QUERY, ["a"])


def test_nan_scores(bert: Path) -> None:
    """Damaged weights raise an error instead of an arbitrary order."""
    own = CrossEncoder(str(bert), device="cpu")
    own.model.classifier.bias.data.fill_(float("nan"))
    with pytest.raises(BadVectors, match=r"the score of text 0 is not a number \(2 of 2 texts\)"):
        CrossEncoderReranker(own).scores(QUERY, ["a", "b"])


def test_in_a_search(reranker: CrossEncoderReranker, encoder: Encoder, expected: list[float]) -> None:
    """A search returns the best by the reranker's scores, also from asyncio."""
    with Index(MemoryStore(), encoder) as index:
        index.ingest(Record(str(number), text) for number, text in enumerate(PROSE))
        found = index.search(QUERY, 3, rerank=reranker, among=len(PROSE))
        best = sorted(expected, reverse=True)[:3]
        assert np.abs(np.subtract([match.score for match in found], best)).max() < 1e-5
        again = asyncio.run(index.asearch(QUERY, 3, rerank=reranker, among=len(PROSE)))
        assert [match.record_id for match in again] == [match.record_id for match in found]
