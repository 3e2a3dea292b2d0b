"""Results of an Index: matches, and reports of an ingest and of a verification."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from harrier_core import Chunk, IngestReport, Match, Record, VerifyReport


def test_a_match_has_the_fields_of_its_chunk() -> None:
    """Its vector is not compared or printed."""
    chunk = Chunk.of(Record("doc-1", "bread rises", {"topic": "food"}), 0, 0, "bread rises")
    match = Match(chunk, 0.5, 0.25, np.ones(3, dtype=np.float32))
    assert (match.id, match.record_id, match.number) == (chunk.id, "doc-1", 0)
    assert (match.text, match.metadata, match.start, match.end) == ("bread rises", {"topic": "food"}, 0, 11)
    assert match == Match(chunk, 0.5, 0.25)
    assert match != Match(chunk, 0.5)
    assert "vector" not in repr(match)


REPORTS = st.builds(
    IngestReport,
    *[st.integers(0, 9) for _ in range(5)],
    seconds=st.integers(0, 9).map(float),
    rejected=st.lists(st.tuples(st.text(max_size=2), st.text(max_size=2)), max_size=2),
    repeated=st.lists(st.text(max_size=2), max_size=2),
    blank=st.lists(st.text(max_size=2), max_size=2),
)


@given(REPORTS, REPORTS, REPORTS)
def test_reports_are_summed(one: IngestReport, two: IngestReport, three: IngestReport) -> None:
    """Counts and lists are added in any order, and the time is the longest."""
    both = one + two
    assert both + three == one + (two + three)
    assert one + IngestReport() == IngestReport() + one == one
    assert (both.records, both.written, both.deleted) == (
        one.records + two.records,
        one.written + two.written,
        one.deleted + two.deleted,
    )
    assert (both.unchanged, both.encoded) == (one.unchanged + two.unchanged, one.encoded + two.encoded)
    assert both.rejected == [*one.rejected, *two.rejected]
    assert both.repeated == [*one.repeated, *two.repeated]
    assert both.blank == [*one.blank, *two.blank]
    assert both.seconds == max(one.seconds, two.seconds)


def test_a_sum_shares_no_list_with_its_parts() -> None:
    """A later rejection appears in one report only."""
    one = IngestReport(rejected=[("a", "is wrong")])
    total = one + IngestReport()
    total.rejected.append(("b", "is wrong"))
    assert one.rejected == [("a", "is wrong")]


def test_str_of_an_ingest_report() -> None:
    """Thousands have commas, and zero counts are left out."""
    report = IngestReport(records=12_345, written=2_000, unchanged=9_876, deleted=3, encoded=1_999, seconds=2.0)
    expected = (
        "12,345 records in 2.0 s (999.5 encoded a second); 2,000 chunks written (1,999 encoded); "
        "9,876 unchanged, 3 deleted"
    )
    assert str(report) == expected
    report.rejected = [("a'b", "has a text that is empty or blank"), ("c", "is dict, not Record")]
    report.repeated = ["d"] * 1_001
    report.blank = ["e", "f"]
    assert str(report) == (
        f'{expected}; 2 records rejected, the first, "a\'b", because it has a text that is empty or blank; '
        "1,001 ids occurred more than once; 2 without text"
    )


def test_an_empty_report() -> None:
    """It does not divide by zero."""
    assert str(IngestReport()) == "0 records in 0.0 s; 0 chunks written (0 encoded); 0 unchanged, 0 deleted"


def test_singular_forms() -> None:
    """One item is in the singular, and is not called the first."""
    report = IngestReport(records=1, written=1, encoded=1, rejected=[("a", "is dict, not Record")], repeated=["b"])
    assert report.changes == (
        "1 chunk written (1 encoded); 0 unchanged, 0 deleted; 1 record rejected, 'a' because it is dict, not Record; "
        "1 id occurred more than once"
    )
    assert str(report).startswith("1 record in 0.0 s; 1 chunk written")
    checked = VerifyReport(checked=1, problems=[("a", "has no vector")])
    assert str(checked) == "1 chunk checked, 0 of them encoded again; 1 problem, the first: record 'a' has no vector"


def test_str_of_a_verify_report() -> None:
    """It has the lowest cosine if texts were encoded, and the first problem."""
    assert str(VerifyReport(checked=1_200)) == "1,200 chunks checked, 0 of them encoded again; all sound"
    report = VerifyReport(checked=1_200, encoded=100, least_cosine=0.99987, problems=[("r1", "has no vector")] * 2)
    assert str(report) == (
        "1,200 chunks checked, 100 of them encoded again (least cosine 0.9999); "
        "2 problems, the first: record 'r1' has no vector"
    )
    assert not report.sound
