"""The pace in progress reports, and the progress bar."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from ingesting import Hashing

from harrier_core import Index, IngestReport, Record
from harrier_core.progress import ProgressBar, Pulse
from harrier_core.testing import MemoryStore


class Clock:
    """A clock that tests set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_while_the_source_is_being_read() -> None:
    clock = Clock()
    pulse = Pulse(clock)
    clock.now = 10.0
    pulse.follow(IngestReport(unchanged=10, written=10, pending=20, tokens=5_000), read=0.25)
    assert (pulse.done, pulse.planned, pulse.total, pulse.share) == (20, 40, 160, 0.125)
    assert pulse.tokens_a_second == 500
    assert pulse.seconds_left == pytest.approx(70)
    assert str(pulse) == "20 of ~160 chunks, 500 tokens/s"


def test_after_the_source_was_read() -> None:
    """The remaining chunks are counted; encoded but unwritten chunks count as done."""
    clock = Clock()
    pulse = Pulse(clock)
    pulse.follow(IngestReport(pending=40), read=1.0)
    clock.now = 4.0
    pulse.follow(IngestReport(pending=30, written=2, tokens=400), read=1.0)
    assert str(pulse) == "10 of 40 chunks, 100 tokens/s"
    assert pulse.seconds_left == pytest.approx(12)
    clock.now = 16.0
    pulse.follow(IngestReport(written=40, tokens=1_600), read=1.0)
    assert (pulse.share, pulse.seconds_left) == (1.0, 0.0)


def test_a_source_of_unknown_size() -> None:
    pulse = Pulse(Clock())
    pulse.follow(IngestReport(pending=5, written=5))
    assert (pulse.share, pulse.total, pulse.seconds_left) == (None, None, None)
    assert str(pulse) == "5 of 10 chunks"


def test_a_second_run_that_encodes_nothing() -> None:
    clock = Clock()
    pulse = Pulse(clock)
    clock.now = 1.0
    pulse.follow(IngestReport(unchanged=50), read=0.5)
    assert (pulse.share, pulse.tokens_a_second, pulse.seconds_left) == (0.5, 0.0, 1.0)


def test_the_speed_is_recent() -> None:
    clock = Clock()
    pulse = Pulse(clock)
    for second in range(1, 101):
        clock.now = float(second)
        tokens = 10 * min(second, 50) + 1_000 * max(second - 50, 0)
        pulse.follow(IngestReport(pending=100 - second, written=second, tokens=tokens), read=1.0)
    assert pulse.tokens_a_second == 1_000


REPORTS = st.builds(IngestReport, unchanged=st.integers(0, 9), written=st.integers(0, 9), pending=st.integers(0, 9))


@example(reports=[(IngestReport(pending=1), 2e-311)])
@given(reports=st.lists(st.tuples(REPORTS, st.none() | st.floats(-1, 2))))
def test_it_never_exceeds_100_percent(reports: list[tuple[IngestReport, float | None]]) -> None:
    pulse = Pulse(Clock())
    for report, read in reports:
        pulse.follow(report, read)
        assert 0 <= pulse.done <= pulse.planned
        assert pulse.share is None or 0 <= pulse.share <= 1
        assert str(pulse)


# -- a bar in Python


RECORDS = [Record(f"r{number}", f"text {number}") for number in range(50)]


def records() -> Iterator[Record]:
    yield from RECORDS


@pytest.mark.parametrize("how", ["ingest", "aingest", "plan"])
def test_true_shows_a_bar(how: str, capsys: pytest.CaptureFixture[str]) -> None:
    index = Index(MemoryStore(), Hashing())
    for given_ in (RECORDS, records()):
        if how == "aingest":
            asyncio.run(index.aingest(given_, on_progress=True))
        else:
            getattr(index, how)(given_, on_progress=True)
        assert "50/50" in capsys.readouterr().err
    for silent in (None, False):
        index.ingest(RECORDS, on_progress=silent)
        assert capsys.readouterr().err == ""


def test_a_bar_calls_the_next_callback(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[IngestReport] = []
    with ProgressBar(len(RECORDS), seen.append) as bar:
        report = Index(MemoryStore(), Hashing()).ingest(RECORDS, on_progress=bar)
    assert seen[-1] == report
    assert "chunks" in capsys.readouterr().err
