"""Records that a store no longer holds when they have been encoded."""

from __future__ import annotations

from dataclasses import replace

from ingesting import Hashing

from harrier_core import Record
from harrier_core.ingest import Ingest
from harrier_core.store import Write, Written
from harrier_core.testing.memory import MemoryStore


class Losing(MemoryStore):
    """A store that does not write records whose id begins with "lost"."""

    def write(self, write: Write) -> Written:
        lost = {record_id for record_id in write.sizes if record_id.startswith("lost")}
        return replace(super().write(write.only(write.sizes.keys() - lost)), lost=lost)


def test_a_record_that_is_lost_is_left_out_of_the_report() -> None:
    """It counts as neither written nor rejected, and the others are counted."""
    store, encoder = Losing(), Hashing()
    store.open(encoder.space, create=True)
    records = [Record("lost", "one"), Record("kept", "two"), Record("lost too", "three")]
    report = Ingest(encoder).run(store, records, build_indexes=False)
    assert (report.records, report.written, report.encoded, report.unchanged) == (3, 1, 1, 0)
    assert report.rejected == []
    assert list(store.record_ids()) == ["kept"]
