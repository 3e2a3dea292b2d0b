"""OpenCollection: the collection that an Index writes to and searches, checked at each call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from harrier_core.errors import StoreError, StoreMissing, WrongSpace
from harrier_core.filters import Condition, meets
from harrier_core.query import Search
from harrier_core.records import Match, chunk_id, id_hash
from harrier_core.store import Hashes, Split, Stored, Write, Written
from harrier_qdrant.filters import CHUNKS, Filter, both, compile_condition, of_hashes, of_numbers, of_records
from harrier_qdrant.points import HASH, NUMBER, RECORD, TOLD_BY
from harrier_qdrant.search_loop import SearchLoop
from harrier_qdrant.worded import WordedCollection

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_RECORDS = 1_000  # per look-up: a filter names them all
_SAME = 0.999  # the cosine of a vector and the same one as stored, possibly in half precision


class OpenCollection(WordedCollection):
    """A collection, opened for the vectors of one space. Any number of threads may use it at once.

    Each request is checked for whether the collection still belongs to that space. Qdrant has no transactions, so the
    check is a separate request. In a folder and in local mode it follows the request: an answer that is returned
    belongs to this space. A server gets both at once, so that a search takes one round trip: a replacement before the
    call is always noticed, one during the call only if the server makes the check later than that; the next call
    notices it then. A write is checked before it begins, before it changes or removes existing points, and when it is
    compared at the end.
    """

    # -- writing

    def known(self, record_ids: Sequence[str]) -> dict[str, Hashes]:
        """Return the hashes of the stored chunks of these records."""
        found: dict[str, Hashes] = {}
        for ids in _parts(record_ids):
            for each in self._scrolled(of_records(ids), TOLD_BY, with_vectors=False):
                if not each.alien(TOLD_BY):
                    own = found.setdefault(each.payload[RECORD], {})
                    own[each.payload[NUMBER]] = bytes.fromhex(each.payload[HASH])
        return found

    def write(self, write: Write) -> Written:
        """Write the new chunks durably, and only then remove those that their records no longer have.

        Qdrant has no transactions. If others may write at the same time, the records are compared once more afterwards:
        a writer that finds a mixture plans again, so the last one leaves each record whole. If the collection was
        replaced by one of another space in the meantime, what was written into that is removed again.
        """
        with self._backend.writing():
            split = write.split(self._stored(write))
            if self._last.has_later_words:  # this release cannot write those
                self._last.check_words(str(self._backend))
            try:
                return self._carry_out(split)
            except (WrongSpace, StoreMissing):
                with suppress(StoreError):  # there may be no collection now; the first error is the one to report
                    self._take_back(split.write)
                raise

    def _stored(self, write: Write) -> dict[str, Hashes]:
        if self._backend.may_race and not any(write.known.values()):
            self._check_now()  # others' writes to these records are found by the comparison at the end
            return {}
        return self.known(list(write.sizes))

    def _carry_out(self, split: Split) -> Written:
        backend, write = self._backend, split.write
        words = self._last.sparse
        rejected = self._checked(lambda: self._upsert(write, words=words))
        written = write.only(write.sizes.keys() - rejected.keys()) if rejected else write
        stale = [chunk_id(record_id, number) for record_id, number in split.stale if record_id not in rejected]
        if written.described or stale:
            self._check_now()
        if written.described:
            self._checked(lambda: backend.set_payloads(written.described, written.known))
        if stale:
            self._checked(lambda: backend.delete(stale))
        mixed = self._mixed(written.after()) if backend.may_race and written.sizes else []
        if written.encoded and not words and self._last.sparse:  # words are being added, and these chunks were missed
            self._checked(lambda: backend.words.write(written.encoded))
        return Written(len(stale), [*split.changed, *mixed], rejected)

    def _upsert(self, write: Write, *, words: bool) -> dict[str, str]:
        """Return why records were refused. Their new chunks are removed; an ingest rewrites the overwritten ones."""
        import numpy as np

        wrong = np.flatnonzero(~np.isfinite(write.vectors).all(axis=1))
        refused = {write.encoded[row].record_id: "got a vector that is not finite" for row in wrong.tolist()}
        sound = write.only(write.sizes.keys() - refused.keys()) if refused else write
        if sound.encoded:
            refused |= self._backend.upsert(sound.encoded, sound.vectors, words=words)
        new = [
            each.id
            for each in sound.encoded
            if each.record_id in refused and each.number not in write.known[each.record_id]
        ]
        if new:
            self._check_now()  # a collection of another length refuses all, and its own chunks may have the same ids
            self._backend.delete(new)
        return refused

    def _take_back(self, write: Write) -> None:
        """Remove what was written into a collection of another space, identified by its vectors."""
        if not self._backend.may_race or not write.encoded:  # a folder's engine goes with its collection
            return
        shape = self._backend.shape()
        if shape is None or shape.stored_space(str(self._backend)) == self._space:
            return
        rows = {chunk.id: row for row, chunk in enumerate(write.encoded)}
        for ids in _parts(list(write.sizes)):
            for request in self._backend.scroll(of_records(ids), TOLD_BY, with_vectors=True):
                found = [each for each in request() if each.id in rows]
                ours = [each.id for each in found if _same_direction(each.vector, write.vectors[rows[each.id]])]
                if ours:
                    self._backend.delete(ours)

    def _mixed(self, after: dict[str, Hashes]) -> list[str]:
        """Return the records that are not as they were just written: usually none, which two counts can tell."""
        where = of_records(list(after))
        hashes = sorted({hash_.hex() for own in after.values() for hash_ in own.values()})
        number = sum(map(len, after.values()))
        if (
            number
            == self._backend.count(where)
            == self._checked(lambda: self._backend.count(both(where, of_hashes(hashes))))
        ):
            return []
        now = self.known(list(after))
        return [record_id for record_id, own in after.items() if now.get(record_id, {}) != own]

    def delete(self, record_ids: Sequence[str]) -> int:
        """Remove records, and return how many chunks they had."""
        number = 0
        with self._backend.writing():
            for ids in _parts(record_ids):
                number += self._delete(of_records(ids))
        return number

    def _delete(self, where: Filter) -> int:
        found = self._checked(lambda: self._backend.count(where))
        if found:
            self._checked(lambda: self._backend.delete_where(where))
        return found

    def build_indexes(self) -> None:
        """Build the indexes for searches, which would slow down a load; a server builds most of them on its own."""
        self._check_now()
        self._checked(lambda: self._backend.build_indexes(self._layout))

    # -- reading

    def search(self, search: Search) -> list[list[Match]]:
        """Return for each vector the k nearest chunks that meet the condition, best first.

        Only queries whose answers contain too many other points are repeated.
        """
        loop = SearchLoop(search)
        while loop.goes_on(self._checked(lambda: self._backend.search(loop.queries))):
            pass
        self._finish(loop)
        return loop.matches

    def count(self) -> int:
        """Return how many chunks there are."""
        return self._checked(lambda: self._backend.count(CHUNKS))

    def read(
        self,
        record_ids: Sequence[str] | None = None,
        where: Condition | None = None,
        numbers: Sequence[int] | None = None,
    ) -> Iterator[Stored]:
        """Yield the chunks of these records, or of all, that meet the condition, as they are needed."""
        compiled = compile_condition(where)
        lists = [None] if record_ids is None else _parts(record_ids)
        for ids in lists:
            own = both(both(None if ids is None else of_records(ids), compiled.filter), of_numbers(numbers))
            for each in self._scrolled(own, None, with_vectors=True):
                if each.alien() or each.vector is None:
                    continue
                if compiled.exact or meets(each.metadata, where):
                    yield each.stored()

    def audit(self, tell: Callable[[tuple[str, str]], None]) -> Iterator[Stored]:
        """Yield all chunks; call `tell` with the id of each point that another program wrote, and the reason."""
        for each in self._scrolled(None, None, with_vectors=True):
            why = each.alien() or (f"no vector {self._vector!r}" if each.vector is None else None)
            if why:
                tell((each.id, f"was not written by an Index: it has {why}; it is ignored"))
            else:
                yield each.stored()

    def record_ids(self) -> Iterator[str]:
        """Yield the ids of all records, each once, in any order."""
        seen: set[int] = set()  # hashes: some 70 bytes per record
        for each in self._scrolled(None, TOLD_BY, with_vectors=False):
            if each.alien(TOLD_BY):
                continue
            record_id = each.payload[RECORD]
            if (hash_ := id_hash(record_id)) not in seen:
                seen.add(hash_)
                yield record_id


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[begin : begin + _RECORDS] for begin in range(0, len(ids), _RECORDS))


def _same_direction(stored: NDArray[np.float32] | None, given: NDArray[np.float32]) -> bool:
    """Return whether a stored vector is the given one: Qdrant normalizes vectors."""
    if stored is None or stored.shape != given.shape:
        return False
    lengths = float(stored @ stored) * float(given @ given)
    return bool(float(stored @ given) > _SAME * lengths**0.5)
