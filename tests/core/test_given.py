"""Vectors given with records: accepted if they match the encoder's, otherwise refused or reported."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingesting import DIMENSIONS, Hashing
from numpy.typing import NDArray

from harrier_core import (
    BadVectors,
    Chunking,
    Encoded,
    Encoder,
    HarrierError,
    Index,
    OutOfMemory,
    Problem,
    Record,
    SettingError,
    Skipped,
    TextTooLong,
    WrongSpace,
)
from harrier_core.given import GivenVectors
from harrier_core.records import Unstorable
from harrier_core.testing import MemoryStore

RECORDS = [Record(f"r{number}", f"text number {number}") for number in range(250)]


def made(records: list[Record]) -> NDArray[np.float32]:
    return Hashing().encode_documents([record.text for record in records])


@pytest.fixture
def encoder() -> Hashing:
    return Hashing()


@pytest.fixture
def index(encoder: Hashing) -> Index:
    return Index(MemoryStore(), encoder)


def stored(index: Index) -> dict[str, NDArray[np.float32]]:
    return {each.chunk.record_id: each.vector for each in index.read()}


# -- accepted vectors


def test_a_sample_of_each_window(index: Index, encoder: Hashing, monkeypatch: pytest.MonkeyPatch) -> None:
    """One in a hundred, and at least one, is compared; the others are stored as given."""
    monkeypatch.setattr("harrier_core.ingest.WINDOW_RECORDS", 120)
    vectors = made(RECORDS)
    report = index.ingest(RECORDS, vectors=vectors)
    assert (report.records, report.written, report.encoded, report.rejected) == (250, 250, 0, [])
    assert encoder.encoded == [RECORDS[at].text for at in (0, 100, 120, 220, 240)]
    for record, vector in zip(RECORDS, vectors, strict=True):
        np.testing.assert_allclose(stored(index)[record.id], vector, atol=1e-6)


def test_only_new_records_are_compared(index: Index, encoder: Hashing) -> None:
    """A second run encodes nothing, and a change has its own sample."""
    index.ingest(RECORDS, vectors=made(RECORDS))
    encoder.encoded.clear()
    assert index.ingest(RECORDS, vectors=np.ones((250, DIMENSIONS))).unchanged == 250
    assert encoder.encoded == []
    changed = [*RECORDS[:7], replace(RECORDS[7], text="another text"), *RECORDS[8:]]
    report = index.ingest(changed, vectors=made(changed))
    assert (report.written, report.unchanged) == (1, 249)
    assert encoder.encoded == ["another text"]
    described = [replace(RECORDS[8], metadata={"year": 2021})]
    assert index.ingest(described, vectors=[[1.0] * DIMENSIONS]).written == 1
    assert encoder.encoded == ["another text"]


FORMS: dict[str, Callable[[NDArray[np.float32]], Any]] = {
    "an array": lambda vectors: vectors,
    "float64": lambda vectors: vectors.astype(np.float64),
    "lists": lambda vectors: vectors.tolist(),
    "rows": list,
    "a generator": iter,
    "any length": lambda vectors: vectors * np.linspace(1e-30, 1e30, len(vectors), dtype=np.float64)[:, None],
    "half precision": lambda vectors: vectors.astype(np.float16),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_vectors(index: Index, form: str) -> None:
    """All array types are accepted, and stored at unit length."""
    records = RECORDS[:5]
    report = index.ingest(iter(records), vectors=FORMS[form](made(records)))
    assert (report.written, report.rejected) == (5, [])
    assert index.verify().sound
    assert index.verify().least_cosine > 0.999


def test_vectors_of_another_dtype(index: Index) -> None:
    """Vectors in bfloat16 are accepted, even if their cosine to float32 is only 0.985."""
    vectors = made(RECORDS)
    aside = np.roll(vectors, 1, axis=1)
    aside -= (aside * vectors).sum(axis=1, keepdims=True) * vectors
    aside /= np.linalg.norm(aside, axis=1, keepdims=True)
    some = np.arange(250)[:, None] == 100  # one of the three that are compared: most agree to more
    assert index.ingest(RECORDS, vectors=np.where(some, 0.98 * vectors + 0.199 * aside, vectors)).written == 250
    with pytest.raises(WrongSpace, match=r"a cosine of 0\.980"):
        index.ingest([replace(each, id=f"again {each.id}") for each in RECORDS], vectors=0.98 * vectors + 0.199 * aside)
    with pytest.raises(WrongSpace, match=r"a cosine of 0\.9"):
        index.ingest([Record("again", RECORDS[0].text)], vectors=(0.9 * vectors + 0.436 * aside)[:1])


def test_a_generator_is_read_lazily(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors are kept no longer than their window."""
    monkeypatch.setattr("harrier_core.ingest.WINDOW_RECORDS", 10)
    read: list[int] = []
    told: list[int] = []

    def vectors() -> Iterator[NDArray[np.float32]]:
        for number, vector in enumerate(made(RECORDS)):
            read.append(number)
            yield vector

    index.ingest(iter(RECORDS), vectors=vectors(), on_progress=lambda report: told.append(len(read)))
    assert told[0] <= 70
    assert told[-1] == 250


def test_async(index: Index, encoder: Hashing) -> None:
    """`aingest` accepts vectors too."""
    report = asyncio.run(index.aingest(iter(RECORDS), vectors=iter(made(RECORDS))))
    assert report.written == 250
    assert len(encoder.encoded) == 3


# -- errors of the whole call


@pytest.mark.parametrize("run", [Index.ingest, lambda *a, **o: asyncio.run(Index.aingest(*a, **o))])
def test_other_vectors(index: Index, run: Callable[..., Any]) -> None:
    """Another order, model or length stores nothing, and the error names the difference."""
    vectors = made(RECORDS)
    with pytest.raises(
        WrongSpace, match=r"they have a cosine of -?0\.\d+ to its own for the same text; make them with"
    ):
        run(index, RECORDS, vectors=vectors[::-1])
    with pytest.raises(WrongSpace, match="they have 15 dimensions instead of 16"):
        run(index, RECORDS, vectors=vectors[:, :15])
    assert index.count() == 0


def test_a_query_in_place_of_a_document(built: Callable[..., Path]) -> None:
    """The instruction alone is detected."""
    with Encoder(str(built())) as encoder:
        index = Index(MemoryStore(), encoder)
        with pytest.raises(WrongSpace):
            index.ingest(RECORDS[:3], vectors=encoder.encode_queries([each.text for each in RECORDS[:3]]))


def test_earlier_windows_are_kept(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows are compared separately; the one that differs and all later ones are not stored."""
    monkeypatch.setattr("harrier_core.ingest.WINDOW_RECORDS", 50)
    vectors = made(RECORDS)
    vectors[100:150] = vectors[0:50]
    with pytest.raises(WrongSpace):
        index.ingest(RECORDS, vectors=vectors)
    assert set(index.record_ids()) <= {record.id for record in RECORDS[:100]}


@pytest.mark.parametrize("kind", [list, iter])
@pytest.mark.parametrize("more", [-1, 1])
def test_as_many_vectors_as_records(index: Index, kind: Callable[..., Any], more: int) -> None:
    """A different number is an error as soon as it is known, and that window is not stored."""
    vectors = made([*RECORDS, Record("more", "more")])[: len(RECORDS) + more]
    got = (
        f"250 records and {250 + more} vectors"
        if kind is list
        else "(more records and 249|250 records and more) vectors"
    )
    with pytest.raises(
        SettingError, match=f"vectors must have one row for each record, got {got}; pass one for each, in order"
    ):
        index.ingest(kind(RECORDS), vectors=kind(vectors))
    assert index.count() == 0


@pytest.mark.parametrize("wrong", [made(RECORDS[:1])[0], 7, "vectors", {"r0": [1.0]}, np.ones((2, 2, 2))])
def test_arrays_without_rows(index: Index, wrong: Any) -> None:
    """A single vector or none is refused."""
    with pytest.raises(SettingError, match="vectors must be rows, one for each record, got"):
        index.ingest(RECORDS[:1], vectors=wrong)


def test_an_error_of_the_callers_generator(index: Index) -> None:
    """It reaches the caller unchanged."""

    def failing() -> Iterator[list[float]]:
        yield [1.0] * DIMENSIONS
        raise ValueError("the file is damaged")

    with pytest.raises(ValueError, match="^the file is damaged$"):
        index.ingest(RECORDS, vectors=failing())


# -- rejected records, while the others are stored


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (None, "not a row of numbers"),
        (0.5, "not a row of numbers"),
        ("vector", "not a row of numbers"),
        ([[1.0] * DIMENSIONS], "not a row of numbers"),
        (["x"] * DIMENSIONS, "not a row of numbers"),
        ([0.0] * DIMENSIONS, "zero or not finite"),
        ([float("nan"), *[1.0] * (DIMENSIONS - 1)], "zero or not finite"),
        ([1e300, *[1.0] * (DIMENSIONS - 1)], "zero or not finite"),
    ],
)
def test_one_bad_vector(index: Index, bad: Any, reason: str) -> None:
    """The stored version of its record is kept."""
    vectors: list[Any] = list(made(RECORDS[:4]))
    vectors[0] = vectors[2] = bad
    report = index.ingest(RECORDS[:4], vectors=vectors)
    assert report.rejected == [(each, f"was given a vector that is {reason}") for each in ("r0", "r2")]
    assert set(index.record_ids()) == {"r1", "r3"}
    assert index.ingest([RECORDS[0], RECORDS[1]], vectors=[bad, made(RECORDS[1:2])[0]], prune=True).deleted == 1


def test_records_that_would_be_split(encoder: Hashing) -> None:
    """They are reported, and their stored version is kept."""
    index = Index(MemoryStore(), encoder, chunking=Chunking(tokens=8))
    long, fits = Record("long", "word " * 9), Record("fits", "word " * 8)
    report = index.ingest([long, fits], vectors=made([long, fits]))
    assert report.written == 1
    [(record_id, reason)] = report.rejected
    assert record_id == "long"
    assert reason.startswith("has 9 tokens, and was given one vector, but records of more than 8 are cut into chunks; ")
    index.ingest([long])
    assert index.ingest([long], vectors=made([long]), prune=True).deleted == 1
    assert set(index.record_ids()) == {"long"}


def test_records_that_are_too_long_for_the_model(built: Callable[..., Path]) -> None:
    """They are rejected in and outside the sample, because the encoder cannot have made their vectors."""
    with Encoder(str(built()), max_tokens=16) as encoder:
        texts = ["short", "word " * 40, "short too"]
        records = [Record(f"r{at}", text) for at, text in enumerate(texts)]
        cut = Encoder(str(built()), max_tokens=16, on_overflow="truncate")
        vectors = cut.encode_documents(texts)
        report = Index(MemoryStore(), encoder).ingest(records, vectors=vectors)
        [(record_id, reason)] = report.rejected
        assert (record_id, report.written) == ("r1", 2)
        assert "tokens with its prompt, but the limit is 16" in reason
        with pytest.raises(TextTooLong, match="text 1 has"):
            GivenVectors(encoder).submit(texts, list(vectors))
        index = Index(MemoryStore(), cut)
        assert index.ingest(records, vectors=vectors).written == 3


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (BadVectors("the model's vector has no length", [2]), "gets an invalid vector from the model"),
        (OutOfMemory("the text is too long", 2), "is too long for the available memory"),
        (TextTooLong([Problem(2, TextTooLong, "has 9 tokens")]), "has 9 tokens"),
    ],
)
def test_a_text_of_the_sample_that_cannot_be_encoded(error: HarrierError, reason: str) -> None:
    """It is reported by its position among all, and the others are stored."""

    class Failing(Hashing):
        def submit_documents(self, texts: Iterable[str]) -> Future[Encoded]:
            listed = list(texts)
            if RECORDS[200].text not in listed:
                return super().submit_documents(listed)
            failed: Future[Encoded] = Future()
            failed.set_exception(error)
            return failed

    index = Index(MemoryStore(), Failing())
    report = index.ingest(RECORDS, vectors=made(RECORDS))
    assert (report.rejected, report.written) == ([("r200", reason)], 249)


def test_bad_records(index: Index) -> None:
    """Each has its own row, whether it is valid or not."""
    items: list[Any] = [RECORDS[0], Record("", "no id"), Skipped("s", "cannot be read"), Record("b", " "), RECORDS[1]]
    rows = [*made(RECORDS[:1]), [1.0] * DIMENSIONS, None, [1.0] * DIMENSIONS, *made(RECORDS[1:2])]
    report = index.ingest(items, vectors=rows)
    assert (report.written, len(report.rejected)) == (2, 3)
    np.testing.assert_allclose(stored(index)["r1"], rows[-1], atol=1e-6)


def test_a_vector_of_another_length(index: Index) -> None:
    """Only that record is rejected, once another had the right length."""
    rows: list[Any] = [*made(RECORDS[:1]), [1.0], *made(RECORDS[2:3])]
    report = index.ingest(RECORDS[:3], vectors=rows)
    assert report.rejected == [("r1", "was given a vector of 1 dimensions, and the encoder's have 16")]
    assert report.written == 2


def test_equal_ids(index: Index) -> None:
    """The last record and its vector count."""
    changed = replace(RECORDS[0], text="another text")
    report = index.ingest([RECORDS[0], RECORDS[1], changed], vectors=made([RECORDS[0], RECORDS[1], changed]))
    assert report.repeated == ["r0"]
    np.testing.assert_allclose(stored(index)["r0"], made([changed])[0], atol=1e-6)


VECTORS = st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=DIMENSIONS, max_size=DIMENSIONS)


@given(VECTORS)
def test_a_vector_gets_unit_length_or_a_reason(vector: list[float]) -> None:
    """Any vector is normalised, or rejected with a reason."""
    vectors = GivenVectors(Hashing())
    try:
        sound = vectors.sound(vector)
    except Unstorable:
        assert not np.isfinite(vector).all() or not np.any(vector)
    else:
        assert abs(float(np.linalg.norm(sound)) - 1) < 1e-5
        direction = np.asarray(vector, dtype=np.float64)
        assert float(sound @ (direction / np.linalg.norm(direction))) > 0.999
