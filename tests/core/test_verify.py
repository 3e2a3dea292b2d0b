"""`verify` reports every damaged chunk, and samples the sound ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harrier_core import Chunking, Encoder, Index, Record, VerifyReport
from harrier_core.filters import Condition
from harrier_core.store import Stored
from harrier_core.testing import MemoryStore

Damage = Callable[[Stored], Stored]

SENTENCES = "Bread rises. Rivers carry sand. Vaccines train the immune system. "


class DamagedStore(MemoryStore):
    """A store that returns some of its chunks damaged."""

    def __init__(self) -> None:
        super().__init__()
        self.damages: dict[tuple[str, int], Damage] = {}

    def read(
        self,
        record_ids: Sequence[str] | None = None,
        where: Condition | None = None,
        numbers: Sequence[int] | None = None,
    ) -> Iterator[Stored]:
        for stored in super().read(record_ids, where, numbers):
            damage = self.damages.get((stored.chunk.record_id, stored.chunk.number))
            yield damage(stored) if damage else stored


@pytest.fixture
def store() -> DamagedStore:
    return DamagedStore()


@pytest.fixture
def index(store: DamagedStore, encoder: Encoder) -> Iterator[Index]:
    """Return an index of one record with at least six chunks, and one with a single chunk."""
    with Index(store, encoder, chunking=Chunking(tokens=32)) as index:
        index.ingest([Record("long", SENTENCES * 16), Record("short", "Bread rises.")])
        assert index.count() >= 7
        yield index


def zeros(stored: Stored) -> Stored:
    return replace(stored, vector=np.zeros_like(stored.vector))


def not_finite(stored: Stored) -> Stored:
    return replace(stored, vector=np.full_like(stored.vector, np.nan))


def halved(stored: Stored) -> Stored:
    return replace(stored, vector=stored.vector * np.float32(0.5))


def cut_short(stored: Stored) -> Stored:
    return replace(stored, vector=stored.vector[:5])


def without_vector(stored: Stored) -> Stored:
    return replace(stored, vector=np.empty(0, dtype=np.float32))


def reworded(stored: Stored) -> Stored:
    return replace(stored, chunk=replace(stored.chunk, text="Something else."))


def turned_round(stored: Stored) -> Stored:
    return replace(stored, vector=-stored.vector)


def towards_another(stored: Stored, cosine: float) -> Stored:
    """Rotate a vector until this cosine is left."""
    aside = np.roll(stored.vector, 1)
    aside -= (aside @ stored.vector) * stored.vector
    return replace(stored, vector=cosine * stored.vector + (1 - cosine**2) ** 0.5 * aside / np.linalg.norm(aside))


def of_another_text(stored: Stored) -> Stored:
    return towards_another(stored, 0.9)


def of_another_format(stored: Stored) -> Stored:
    return towards_another(stored, 0.98)


def test_another_dtype_is_not_damage(store: DamagedStore, index: Index) -> None:
    """Vectors in bfloat16 may have a cosine of 0.985 to those in float32."""
    store.damages = {("long", 2): of_another_format}
    report = index.verify(sample=1_000)
    assert report.sound
    assert 0.979 < report.least_cosine < 0.981


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (zeros, "has a vector of length 0.000, not 1"),
        (halved, "has a vector of length 0.500, not 1"),
        (not_finite, "has a vector that is not finite"),
        (cut_short, "has a vector of 5 dimensions, not 64"),
        (without_vector, "has a vector of 0 dimensions, not 64"),
        (reworded, "has a text that differs from the encoded one"),
        (turned_round, "has a vector with a cosine of -1.000 to that of its text"),
        (of_another_text, "has a vector with a cosine of 0.900 to that of its text"),
    ],
)
def test_each_problem_names_its_chunk(store: DamagedStore, index: Index, damage: Damage, problem: str) -> None:
    store.damages = {("long", 2): damage}
    report = index.verify(sample=1_000)
    assert report.problems == [("long", f"{problem} (chunk 2)")]
    assert not report.sound


def test_every_damaged_chunk_of_a_record_is_reported(store: DamagedStore, index: Index) -> None:
    """Damage that only encoding reveals is reported too."""
    store.damages = {("long", 0): zeros, ("long", 2): reworded, ("long", 4): not_finite, ("long", 5): turned_round}
    report = index.verify(sample=1_000)
    assert {record_id for record_id, _ in report.problems} == {"long"}
    assert sorted(problem.rpartition("(chunk ")[2] for _, problem in report.problems) == ["0)", "2)", "4)", "5)"]


def test_sound_chunks_of_a_damaged_record_are_sampled(store: DamagedStore, index: Index) -> None:
    """A sample of everything contains all but the damaged chunks."""
    store.damages = {("long", 0): zeros, ("long", 3): reworded}
    report = index.verify(sample=1_000)
    assert report.checked == index.count()
    assert report.encoded == index.count() - 2
    assert report.least_cosine > 0.999


def test_the_same_chunks_are_sampled_whatever_is_damaged(store: DamagedStore, encoder: Encoder) -> None:
    """A damaged chunk leaves the sample, and the rest of the sample stays the same."""
    with Index(store, encoder) as index:
        index.ingest(Record(f"r{number}", f"text {number}") for number in range(40))
        store.damages = {(f"r{number}", 0): turned_round for number in range(1, 40)}
        sampled = {record_id for record_id, _ in index.verify(sample=20).problems}
        assert 5 < len(sampled) < 35
        store.damages[("r0", 0)] = zeros
        assert {record_id for record_id, _ in index.verify(sample=20).problems} == sampled | {"r0"}


def test_no_sample(store: DamagedStore, index: Index) -> None:
    """Nothing is encoded, and every chunk is checked."""
    store.damages = {("short", 0): halved}
    report = index.verify(sample=0)
    assert (report.checked, report.encoded, len(report.problems)) == (index.count(), 0, 1)


def test_a_text_that_has_become_too_long(built: Callable[..., Path]) -> None:
    """It is reported as a problem of its chunk, and the others are encoded."""
    store = MemoryStore()
    with Encoder(built()) as encoder:
        Index(store, encoder).ingest(
            [Record("long", SENTENCES), Record("short", "Bread rises."), Record("other", "Sand.")]
        )
    with Encoder(built(), max_tokens=16) as encoder:
        report = Index(store, encoder).verify(sample=100)
    [(record_id, problem)] = report.problems
    assert record_id == "long"
    assert re.fullmatch(r"has a text that cannot be encoded again, which has .*tokens.* \(chunk 0\)", problem)
    assert (report.checked, report.encoded) == (3, 2)


def test_progress_is_reported_in_copies(store: DamagedStore, encoder: Encoder) -> None:
    """Later windows do not change an earlier report."""
    told: list[VerifyReport] = []
    with Index(store, encoder) as index:
        index.ingest(Record(f"r{number}", f"text {number}") for number in range(300))
        store.damages = {("r0", 0): zeros, ("r299", 0): halved}
        report = index.verify(sample=10, on_progress=told.append)
    assert [(each.checked, len(each.problems)) for each in told] == [(256, 1), (300, 2)]
    assert told[-1] == report
    assert all(each is not report for each in told)
