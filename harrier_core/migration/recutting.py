"""Change the chunking of an index: fill a place next to it from the source, with the same records."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from itertools import islice
from typing import TYPE_CHECKING

from harrier_core.index import Index
from harrier_core.migration.changing import RECUT, changing
from harrier_core.migration.comparing import not_among
from harrier_core.parts import embedder_of
from harrier_core.records import id_hash
from harrier_core.store import LaidOut
from harrier_core.view import Whole

if TYPE_CHECKING:
    from harrier_core.chunking import Chunking
    from harrier_core.embedder import Embedder
    from harrier_core.parts import HasIndexEncoder
    from harrier_core.progress import Progress
    from harrier_core.records import Chunk, Ingestible, IngestReport
    from harrier_core.store import Hashes, OpenStore, VectorStore

_RECORDS = 100  # records that are compared at once


def recut(
    place: VectorStore | str,
    encoder: Embedder | HasIndexEncoder,
    records: Iterable[Ingestible],
    *,
    chunking: Chunking | None,
    on_progress: Progress | None = None,
) -> IngestReport:
    """Fill a place next to an index from its source, with other chunks. Its name is the index's plus "_recut".

    This is an ingest with `prune=True`, and can be repeated any number of times. `switch(place, encoder, recut=True)`
    compares the texts and metadata of both places, and raises an error if the source was not ingested into both.
    """
    with changing(place) as index, index.beside(RECUT) as store:
        if store.space() is None:
            if isinstance(store, LaidOut):
                store.adopt(index.layout)
            store.open(embedder_of(encoder).space, create=True)
        index.exchange(RECUT).share()  # also if it existed: an earlier run may have been killed just before
        return Index(store, encoder, chunking=chunking).ingest(records, prune=True, on_progress=on_progress)


class Recut:
    """Compares two places by the texts of their records. A second comparison reads only those that changed since."""

    def __init__(self, old: OpenStore, new: OpenStore) -> None:
        self.use(old, new)
        self._same: dict[int, bytes] = {}  # what both places held of each record, by the hash of its id

    def use(self, old: OpenStore, new: OpenStore) -> None:
        """Continue with other handles of the same two places."""
        self._old, self._new = old, new

    def differing(self) -> Iterator[list[str]]:
        """Yield the ids of the records that differ between the two places, some at a time."""
        seen = array("Q")
        ids = self._old.record_ids()
        while batch := list(islice(ids, _RECORDS)):
            seen.extend(map(id_hash, batch))
            one, other = self._old.known(batch), self._new.known(batch)
            states = {each: _state(one.get(each), other.get(each)) for each in batch}
            asked = [each for each in batch if self._same.get(id_hash(each)) != states[each]]
            ours, theirs = (_wholes(store, asked) for store in (self._old, self._new))
            differing = [each for each in asked if not _is_same(ours.get(each), theirs.get(each))]
            self._same |= {id_hash(each): states[each] for each in asked if each not in differing}
            if differing:
                yield differing
        extras = not_among(seen, self._new.record_ids())
        while batch := list(islice(extras, _RECORDS)):
            yield batch


def _state(one: Hashes | None, other: Hashes | None) -> bytes:
    digest = blake2b(digest_size=16)
    for own in (one or {}, other or {}):
        for number in sorted(own):
            digest.update(own[number])
        digest.update(b"|")
    return digest.digest()


def _wholes(store: OpenStore, record_ids: list[str]) -> Mapping[str, Whole]:
    found: dict[str, list[Chunk]] = {}
    for each in store.read(record_ids) if record_ids else ():
        found.setdefault(each.chunk.record_id, []).append(each.chunk)
    return {id_: Whole(id_, tuple(sorted(own, key=lambda chunk: chunk.number))) for id_, own in found.items()}


def _is_same(one: Whole | None, other: Whole | None) -> bool:
    """Return whether texts are equal apart from white space, and metadata apart from those of single chunks."""
    if one is None or other is None:
        return one is other
    if "".join(one.text.split()) != "".join(other.text.split()):
        return False
    names = [{name for chunk in each.chunks for name in chunk.metadata} for each in (one, other)]
    shared = one.metadata.keys() & other.metadata.keys()
    return names[0] == names[1] and all(one.metadata[name] == other.metadata[name] for name in shared)
