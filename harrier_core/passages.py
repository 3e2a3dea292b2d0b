"""Matches with the adjacent chunks of their records, read together for all matches of a search."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from harrier_core.options import Expand
from harrier_core.records import Chunk, Match
from harrier_core.store import OpenStore

# A store is asked for at most this many different chunk numbers. Beyond that, reading whole records costs less.
_MOST_NUMBERS = 1_000


def expanded(found: Sequence[list[Match]], expand: Expand, store: OpenStore) -> list[list[Match]]:
    """Return the matches of each query with the chunks around them: `expand` on either side, or the whole record."""
    matches = [match for own in found for match in own]
    if expand == 0 or not matches:
        return list(found)
    records: dict[str, dict[int, Chunk]] = {match.record_id: {} for match in matches}
    numbers = None if expand == "record" else _numbers({match.number for match in matches}, expand)
    for stored in store.read(list(records), None, numbers):
        records[stored.chunk.record_id][stored.chunk.number] = stored.chunk
    return [[_expanded(match, expand, records[match.record_id]) for match in own] for own in found]


def _numbers(found: Collection[int], expand: int) -> list[int] | None:
    """Return the numbers of chunks that may be around these, in any record; None stands for all."""
    if len(found) * (2 * expand + 1) > _MOST_NUMBERS:
        return None
    near = (range(max(0, number - expand), number + expand + 1) for number in found)
    return sorted(set[int]().union(*near))


def _expanded(match: Match, expand: Expand, chunks: Mapping[int, Chunk]) -> Match:
    own = match.chunk
    now = chunks.get(own.number)
    if now is None or (now.text, now.start) != (own.text, own.start):
        return replace(match, around=(own,))  # the record changed after the search: these chunks are not its neighbours
    near = [number for number in chunks if expand == "record" or abs(number - own.number) <= expand]
    return replace(match, around=tuple(own if number == own.number else chunks[number] for number in sorted(near)))
