"""Incoming records: checked, grouped into windows, and paired with vectors that were made for them earlier."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harrier_core.foreign import as_record
from harrier_core.given import GivenVectors, paired
from harrier_core.records import Deferred, Ingestible, IngestReport, Record, Skipped, Unstorable, checked, id_hash
from harrier_core.seen import Seen

if TYPE_CHECKING:
    from harrier_core.store import Hashes
    from harrier_core.types import Vector


@dataclass(slots=True)
class Arrived:
    """A window of valid records, and a report on the others."""

    records: dict[str, Record] = field(default_factory=dict)  # by their ids
    recalled: dict[str, tuple[Deferred, Hashes]] = field(default_factory=dict)  # not read: probably unchanged
    deferred: dict[str, Deferred] = field(default_factory=dict)  # those of the records that were read after all
    vectors: dict[str, Vector] = field(default_factory=dict)  # by record ids, if vectors were given
    again: bool = False  # whether one of them occurred in an earlier window
    report: IngestReport = field(default_factory=IngestReport)
    characters: int = 0

    def leave_out_cut(self, counts: Mapping[str, int], most: int) -> None:
        """Reject records with more tokens than a chunk may have: one vector cannot stand for several chunks."""
        for record_id in [each for each in self.records if counts[each] > most]:
            del self.records[record_id]
            reason = (
                f"has {counts[record_id]:,} tokens, and was given one vector, but records of more than {most:,} are "
                "cut into chunks; split the record, or raise the chunking's tokens"
            )
            self.report.rejected.append((record_id, reason))


class Intake:
    """The incoming records of one ingest. It remembers which ids occurred."""

    def __init__(
        self,
        most_records: int,
        most_characters: int,
        given: GivenVectors | None = None,
        recall: Callable[[Deferred], Hashes | None] | None = None,
    ) -> None:
        """Make windows of this many records or characters.

        given: checks the vector that comes with each record. recall: returns what is remembered of a Deferred record.
        """
        self._most = most_records, most_characters
        self._given = given
        self._recall = recall
        self._first = True
        self.seen = Seen()
        self.nameless: list[str] = []  # why records without an id were rejected

    def windows(self, records: Iterable[Ingestible], vectors: object = None) -> Iterator[Arrived]:
        """Yield windows; the last one may have a report and no records."""
        arrived = Arrived()
        for number, (item, vector) in enumerate(paired(records, vectors)):
            self._take(item, vector, number, arrived)
            most_records, most_characters = self._most
            if len(arrived.records) + len(arrived.recalled) >= most_records or arrived.characters >= most_characters:
                yield arrived
                self.seen.settle()
                arrived = Arrived()
        if arrived.records or arrived.recalled or arrived.report != IngestReport():
            yield arrived

    def limit(self, most_records: int, most_characters: int) -> None:
        """Make windows of this size from now on."""
        self._most = most_records, most_characters

    def read(self, arrived: Arrived, record_ids: Collection[str]) -> None:
        """Read records of a window that the store does not hold as they are remembered."""
        for record_id in record_ids:
            deferred, _ = arrived.recalled.pop(record_id)
            self.seen.discard(id_hash(record_id))  # it must not count as repeated
            arrived.report.records -= 1
            self._take_read(deferred, None, 0, arrived)

    def _take(self, item: object, vector: object, number: int, arrived: Arrived) -> None:
        if not isinstance(item, Deferred):
            self._take_read(item, vector, number, arrived)
        elif self._recall and not self._given and (hashes := self._recall(item)) is not None:
            self._first = False
            arrived.report.records += 1
            self._come(item.id, arrived)
            arrived.recalled[item.id] = (item, hashes)
        else:
            self._take_read(item, vector, number, arrived)

    def _take_read(self, item: object, vector: object, number: int, arrived: Arrived) -> None:
        deferred = item if isinstance(item, Deferred) else None
        if deferred is not None:
            item = deferred.read()
        if isinstance(item, Skipped):
            self._skip(item, arrived.report)
            return
        first, self._first = self._first, False
        arrived.report.records += 1
        record = as_record(item, first=first)
        try:
            sound = checked(record)
            row = self._given.sound(vector) if self._given else None
        except Unstorable as error:
            self._leave_out(record, number, str(error), arrived.report)
            return
        self._come(sound.id, arrived)
        arrived.records[sound.id] = sound
        arrived.characters += len(sound.text)
        if deferred is not None and deferred.id == sound.id:
            arrived.deferred[sound.id] = deferred
        if row is not None:
            arrived.vectors[sound.id] = row

    def _skip(self, item: Skipped, report: IngestReport) -> None:
        if item.blank:
            report.blank.append(item.id)
            return
        if not item.gone:
            self.seen.add(id_hash(item.id))
        report.rejected.append((item.id, item.reason))

    def _come(self, record_id: str, arrived: Arrived) -> None:
        """Note that a record occurred. If its id occurred before, the last record counts."""
        hash_ = id_hash(record_id)
        before = record_id in arrived.records or record_id in arrived.recalled
        if hash_ in self.seen:
            arrived.report.repeated.append(record_id)
            arrived.again = arrived.again or not before
        self.seen.add(hash_)
        for known in (arrived.records, arrived.recalled, arrived.deferred):
            known.pop(record_id, None)

    def _leave_out(self, record: object, number: int, problem: str, report: IngestReport) -> None:
        record_id = getattr(record, "id", None)
        if isinstance(record_id, str):
            self.seen.add(id_hash(record_id))  # it still exists in the source, so it must not be pruned
            report.rejected.append((record_id, problem))
        else:
            self.nameless.append(problem)
            report.rejected.append((f"number {number}" if record_id is None else str(record_id), problem))
