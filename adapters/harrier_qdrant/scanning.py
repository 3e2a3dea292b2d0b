"""The rest of a search whose condition Qdrant cannot express and few chunks meet.

The metadata of all chunks that may meet it is read, without their texts, and compared here. Those that do are searched
by their ids, a part at a time. So no answer is large, however many chunks there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from harrier_qdrant.backend import Query
from harrier_qdrant.filters import CHUNKS, Filter, both
from harrier_qdrant.points import END, EXACT, HASH, METADATA, NUMBER, RECORD, START, Found
from harrier_qdrant.search_loop import Loop

_PART = 1_000  # chunks per search, whose filter names them all
_QUERIES = 64  # per request: each has that filter

SCANNED = (RECORD, NUMBER, HASH, START, END, METADATA)

Scrolled = Callable[[Filter | None, Sequence[str]], Iterator[Found]]
Searched = Callable[[Sequence[Query]], Sequence[Sequence[Found]]]


def scan(loop: Loop, scrolled: Scrolled, searched: Searched) -> None:
    """Find the matches of the queries that the loop has left."""
    if not loop.left:
        return
    found = scrolled(both(loop.filter, CHUNKS), [*SCANNED, EXACT])
    ids = (each.id for each in found if not each.alien(SCANNED) and loop.meets(each))
    rows = list(loop.left)
    while part := list(islice(ids, _PART)):
        for begin in range(0, len(rows), _QUERIES):
            own = rows[begin : begin + _QUERIES]
            loop.add(own, _answers(loop, own, part, searched))
    loop.end()


def _answers(loop: Loop, rows: Sequence[int], ids: Sequence[str], searched: Searched) -> Sequence[Sequence[Found]]:
    """Return the best of these chunks, without points that have no text."""
    answers = searched(loop.among(rows, ids))
    alien = {each.id for found in answers for each in found if each.alien()}
    return _answers(loop, rows, [id_ for id_ in ids if id_ not in alien], searched) if alien else answers
