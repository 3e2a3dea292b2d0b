"""Writers that insert, change, delete and prune, and readers that search, while the model of an index is changed."""

from __future__ import annotations

import json
import os
import random
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ingesting import CHUNKING
from reembeds import check_found, models

from harrier_core import Index, Pruning, Record

STABLE = [
    Record(f"stable{each}", f"The old record number {each} that nobody changes.", {"w": -1}) for each in range(20)
]
WRITERS = 2

Records = dict[str, Record]


class Noted(NamedTuple):
    """The records that a writer has, the ids that it is about to write, and the records that it will have then."""

    done: Records
    doing: set[str]
    after: Records


class Notes:
    """The writers' notes before and after each write, in files that outlive their process, or in memory."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._noted = [self._read(number) for number in range(WRITERS)]

    def of(self, number: int) -> Noted:
        return self._noted[number]

    def note(self, number: int, noted: Noted) -> None:
        self._noted[number] = noted
        if self._folder is not None:
            held = [[[each.text, each.metadata, each.id] for each in own.values()] for own in (noted.done, noted.after)]
            file = self._file(number)
            file.with_suffix(".new").write_text(json.dumps([held[0], [*noted.doing], held[1]]))
            file.with_suffix(".new").replace(file)

    def _read(self, number: int) -> Noted:
        if self._folder is None or not self._file(number).exists():
            return Noted({}, set(), {})
        done, doing, after = json.loads(self._file(number).read_text())
        held = [{id_: Record(id_, text, metadata) for text, metadata, id_ in own} for own in (done, after)]
        return Noted(held[0], set(doing), held[1])

    def _file(self, number: int) -> Path:
        assert self._folder is not None
        return self._folder / f"writer{number}.json"


class Traffic:
    """Two writers and two readers, each with an Index of both models, and the records expected in the end."""

    def __init__(self, place: str, notes: Path | None = None, *, deadly: bool = False) -> None:
        """notes: a folder, needed if the process may be killed. deadly: whether an error ends the process."""
        self._place = place
        self._deadly = deadly
        self._over = threading.Event()
        self._notes = Notes(notes)
        self.written = self.searched = 0
        self.errors: list[BaseException] = []

    @property
    def records(self) -> list[Record]:
        return [*STABLE, *(record for number in range(WRITERS) for record in self._notes.of(number).done.values())]

    def recover(self) -> None:
        """Check that everything written before a kill is there, and repeat the writes that the kill interrupted."""
        with Index(self._place, encoders=models(), chunking=CHUNKING) as index:
            stored = set(index.record_ids())
            for number in range(WRITERS):
                done, doing, after = self._notes.of(number)
                kept = [record for record in done.values() if record.id not in doing]
                lost = index.plan(kept).written if kept else 0
                assert lost == 0, f"{lost} chunks that were written before the kill are gone, or not as they were"
                back = {each for each in stored if each.startswith(f"w{number}-")} - done.keys() - doing
                assert not back, f"{back} were deleted before the kill, and are there"
                if after or done:
                    index.ingest(after.values(), prune=Pruning({"w": number}), build_indexes=False)
                self._notes.note(number, Noted(after, set(), after))

    @contextmanager
    def going(self) -> Iterator[None]:
        work = [(self._write, 0), (self._write, 1), (self._read, 2), (self._read, 3)]
        threads = [threading.Thread(target=self._guarded, args=each) for each in work]
        self._over.clear()
        for each in threads:
            each.start()
        try:
            yield
        finally:
            self._over.set()
            for each in threads:
                each.join()
        assert self.errors == []

    def wait(self, written: int) -> None:
        """Wait until this many more writes and searches are done."""
        before = self.written, self.searched
        while not self.errors and min(self.written - before[0], self.searched - before[1]) < written:
            time.sleep(0.01)

    def _guarded(self, work: Any, number: int) -> None:
        chance = random.Random(number + 10 * len(self._notes.of(number % WRITERS).done))
        try:
            with Index(self._place, encoders=models(), chunking=CHUNKING) as index:
                while not self._over.wait(0.005):  # the processes need their turns as well
                    work(index, number, chance)
        except BaseException as error:
            if self._deadly:
                traceback.print_exc()
                os._exit(1)
            self.errors.append(error)

    def _write(self, index: Index, number: int, chance: random.Random) -> None:
        own = self._notes.of(number).done
        kind = chance.random()
        if kind < 0.6 or len(own) < 10:
            changed = {}
            for _ in range(chance.randrange(1, 4)):
                id_ = f"w{number}-{chance.randrange(60)}"
                said = " ".join(f"Sentence {each} says {chance.random()}." for each in range(chance.randrange(1, 8)))
                changed[id_] = Record(id_, said, {"w": number, "n": chance.randrange(3)})
            after = own | changed
            self._notes.note(number, Noted(own, set(changed), after))
            report = index.ingest(changed.values(), build_indexes=False)
            assert report.rejected == []
        elif kind < 0.9:
            gone = set(chance.sample([*own], 2))
            after = {id_: record for id_, record in own.items() if id_ not in gone}
            self._notes.note(number, Noted(own, gone, after))
            index.delete(gone)
        else:
            after = dict(chance.sample([*own.items()], len(own) - 2))
            self._notes.note(number, Noted(own, own.keys() - after.keys(), after))
            report = index.ingest(after.values(), prune=Pruning({"w": number}), build_indexes=False)
            assert report.rejected == []
        self._notes.note(number, Noted(after, set(), after))
        self.written += 1

    def _read(self, index: Index, _: int, chance: random.Random) -> None:
        k = chance.choice([1, 5, 20])
        where = {"w": -1} if k == 20 else None
        check_found(index.search(f"a question {chance.random()}", k, where, with_vectors=True), k)
        self.searched += 1
