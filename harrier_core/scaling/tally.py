"""The ids of all parts of an ingest, and hashes of their contents: 12 bytes per id."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from harrier_core.scaling.part import CONTENT_BYTES, ID_BYTES
from harrier_core.seen import unseen

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BUCKETS = 256  # by the first byte of a hash, so that only one of them is sorted at a time


class Tally:
    """Counts ids by their hashes. One thread uses it."""

    def __init__(self) -> None:
        self._ids = [bytearray() for _ in range(_BUCKETS)]
        self._contents = [bytearray() for _ in range(_BUCKETS)]
        self.number = 0  # of ids; those that occurred twice count twice

    def add(self, ids: bytes, contents: bytes) -> None:
        """Add the ids and the contents of a part, as in its report."""
        import numpy as np

        hashes, said = np.frombuffer(ids, f">u{ID_BYTES}"), np.frombuffer(contents, f"<u{CONTENT_BYTES}")
        order = np.argsort(hashes)
        hashes, said = hashes[order], said[order]
        ends = np.searchsorted(hashes >> 56, np.arange(_BUCKETS), side="right")
        begin = 0
        for bucket, end in enumerate(ends.tolist()):
            if end > begin:
                self._ids[bucket] += hashes[begin:end].astype("<u8").tobytes()
                self._contents[bucket] += said[begin:end].tobytes()
            begin = end
        self.number += len(hashes)

    def doubles(self) -> dict[int, bool]:
        """Return the id hashes of valid records that occurred more than once, and whether their contents differed."""
        import numpy as np

        found: dict[int, bool] = {}
        for ids, contents in zip(self._ids, self._contents, strict=True):
            hashes, said = np.frombuffer(ids, "<u8"), np.frombuffer(contents, f"<u{CONTENT_BYTES}")
            order = np.lexsort((said, hashes))
            hashes, said = hashes[order], said[order]
            same = np.flatnonzero((hashes[1:] == hashes[:-1]) & (said[:-1] != 0))
            differs = said[same] != said[same + 1]
            for hash_, differing in zip(hashes[same].tolist(), differs.tolist(), strict=True):
                found[hash_] = found.get(hash_, False) or differing
        return found

    def unseen(self, record_ids: Iterable[str]) -> list[str]:
        """Return those of these ids that did not occur."""
        return unseen(record_ids, [self._sorted()]) if self.number else list(record_ids)

    def _sorted(self) -> NDArray[np.uint64]:
        """Return all id hashes, sorted. The contents are forgotten."""
        import numpy as np

        self._contents = []
        every = np.empty(self.number, np.uint64)
        begin = 0
        for bucket, ids in enumerate(self._ids):
            own = every[begin : begin + len(ids) // ID_BYTES]
            own[:] = np.frombuffer(ids, "<u8")
            own.sort()
            begin += len(own)
            self._ids[bucket] = bytearray()
        return every
