"""The work of an ingest for some records, given what is stored of them. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harrier_core.records import Chunk
from harrier_core.store import Hashes, Write

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Plan:
    """The changes to make to some records. Those that are stored as they are have no part in it."""

    chunks: Mapping[str, Sequence[Chunk]]  # all chunks of each record, changed or not
    known: Mapping[str, Hashes]  # what is stored of each record
    encoded: Sequence[Chunk]  # chunks that need a vector
    described: Sequence[Chunk]  # chunks whose text, and so their vector, is unchanged, but not the rest
    unchanged: int = 0  # chunks, of all planned records

    @property
    def texts(self) -> list[str]:
        """The texts that need a vector."""
        return [chunk.text for chunk in self.encoded]

    def without(self, record_ids: Collection[str]) -> Plan:
        """Return the plan for the other records."""
        kept = self.chunks.keys() - set(record_ids)
        return Plan(
            {record_id: chunks for record_id, chunks in self.chunks.items() if record_id in kept},
            {record_id: known for record_id, known in self.known.items() if record_id in kept},
            [chunk for chunk in self.encoded if chunk.record_id in kept],
            [chunk for chunk in self.described if chunk.record_id in kept],
            self.unchanged,
        )

    def write(self, vectors: NDArray[np.float32]) -> Write:
        """Return the Write for the store, given the vectors of `texts`."""
        sizes = {record_id: len(chunks) for record_id, chunks in self.chunks.items()}
        return Write(sizes, self.encoded, vectors, self.described, self.known)


class Portions:
    """A plan that is taken in portions of some records each. It is truthy while any are left."""

    def __init__(self, planned: Plan) -> None:
        self._plan = planned
        self._encoded = _by_record(planned.encoded)
        self._described = _by_record(planned.described)
        self._left = deque(planned.chunks)

    def __bool__(self) -> bool:
        return bool(self._left)

    def take(self, most: int | None = None) -> Plan:
        """Return the next records, with at most `most` characters of new texts, but at least one record; None: all."""
        taken: list[str] = []
        room = most
        while self._left:
            size = sum(len(chunk.text) for chunk in self._encoded.get(self._left[0], ()))
            if room is not None and taken and size > room:
                break
            room = None if room is None else room - size
            taken.append(self._left.popleft())
        return Plan(
            {record_id: self._plan.chunks[record_id] for record_id in taken},
            {record_id: self._plan.known[record_id] for record_id in taken},
            [chunk for record_id in taken for chunk in self._encoded.get(record_id, ())],
            [chunk for record_id in taken for chunk in self._described.get(record_id, ())],
        )


def _by_record(chunks: Sequence[Chunk]) -> dict[str, list[Chunk]]:
    found: dict[str, list[Chunk]] = {}
    for chunk in chunks:
        found.setdefault(chunk.record_id, []).append(chunk)
    return found


def plan(chunks: Mapping[str, Sequence[Chunk]], known: Mapping[str, Hashes]) -> Plan:
    """Return what has to be done for records, given all of their chunks and what is known to be stored of them."""
    needed: dict[str, Sequence[Chunk]] = {}
    encoded: list[Chunk] = []
    described: list[Chunk] = []
    unchanged = 0
    for record_id, own in chunks.items():
        stored = known.get(record_id, {})
        if stored == {chunk.number: chunk.hash for chunk in own}:
            unchanged += len(own)
            continue
        changed = [chunk for chunk in own if stored.get(chunk.number) != chunk.hash]
        unchanged += len(own) - len(changed)
        needed[record_id] = own
        for chunk in changed:
            same_text = stored.get(chunk.number, b"")[: len(chunk.text_hash)] == chunk.text_hash
            (described if same_text else encoded).append(chunk)
    return Plan(needed, {record_id: known.get(record_id, {}) for record_id in needed}, encoded, described, unchanged)
