"""Look up in an index which of the judged records are missing, and which records hold a text that answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harrier_core.evaluation.question import Question, Tell
from harrier_core.index import Index
from harrier_core.records import Chunk, Match, Metadata

_TOGETHER = 5_000  # records that are asked for at once
_PROBE = 24  # characters of a text by which chunks that may contain it are found
_SAID = 1_000  # chunks between two progress reports


def missing(index: Index, records: Iterable[str]) -> list[str]:
    """Return those of these records that are not in the index."""
    ids = list(dict.fromkeys(records))
    return [each for some in _windows(ids) for each in index.missing(some)]


def metadata_of(index: Index, records: Iterable[str]) -> dict[str, Metadata]:
    """Return the metadata of records, taken from their first chunks."""
    found: dict[str, tuple[int, Metadata]] = {}
    for some in _windows(list(dict.fromkeys(records))):
        for stored in index.read(some):
            chunk = stored.chunk
            if chunk.record_id not in found or chunk.number < found[chunk.record_id][0]:
                found[chunk.record_id] = chunk.number, chunk.metadata
    return {record: metadata for record, (_, metadata) in found.items()}


def resolved(questions: Sequence[Question], index: Index, tell: Tell) -> tuple[list[Question], list[str]]:
    """Return questions whose answers are records, and the ids of questions with a text that no record contains.

    A record answers a question if it contains one of the question's texts; case and white space do not count.
    """
    wanted = {_plain(text) for each in questions for text in each.texts} - {""}
    if not wanted:
        return list(questions), []
    holders = _holders(index, wanted, tell)
    unplaced: list[str] = []
    made: list[Question] = []
    for each in questions:
        places = [holders.get(_plain(text), set()) for text in each.texts]
        if not all(places):
            unplaced.append(each.id)
        found = dict.fromkeys(sorted(set[str]().union(*places)), 1)
        made.append(replace(each, grades={**found, **each.grades}) if places else each)
    return made, unplaced


def _holders(index: Index, wanted: set[str], tell: Tell) -> dict[str, set[str]]:
    """Return the records that contain each text.

    A text may span several chunks, so records are found by parts of texts, and then checked as a whole.
    """
    size = min(_PROBE, *map(len, wanted))
    probes: dict[str, set[str]] = {}
    for text in wanted:
        for begin in (0, (len(text) - size) // 2, len(text) - size):
            probes.setdefault(text[begin : begin + size], set()).add(text)
    candidates: dict[str, set[str]] = {}  # texts that a record may contain
    total = index.count()
    for number, stored in enumerate(index.read(), 1):
        plain = _plain(stored.chunk.text)
        for begin in range(len(plain) - size + 1):
            if (probe := plain[begin : begin + size]) in probes:
                candidates.setdefault(stored.chunk.record_id, set()).update(probes[probe])
        if number % _SAID == 0:
            tell("looking for answers", number, total)
    holders: dict[str, set[str]] = {}
    for record, text in _whole(index, list(candidates)):
        plain = _plain(text)
        for each in candidates[record]:
            if each in plain:
                holders.setdefault(each, set()).add(record)
    return holders


def _whole(index: Index, records: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the whole texts of records."""
    for some in _windows(records):
        chunks: dict[str, list[Chunk]] = {}
        for stored in index.read(some):
            chunks.setdefault(stored.chunk.record_id, []).append(stored.chunk)
        for record, own in chunks.items():
            ordered = tuple(sorted(own, key=lambda chunk: chunk.number))
            yield record, Match(ordered[0], 0.0, around=ordered).passage


def value_of(question: Question, field: str, metadata: Mapping[str, Metadata]) -> str | None:
    """Return a field of a question's metadata, or else of the first record that answers it."""
    value: Any = question.metadata.get(field)
    for record in question.relevant:
        if value is not None:
            break
        value = metadata.get(record, {}).get(field)
    return None if value is None or isinstance(value, list | Mapping) else str(value)


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _windows(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for begin in range(0, len(ids), _TOGETHER):
        yield ids[begin : begin + _TOGETHER]
