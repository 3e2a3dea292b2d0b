"""The part of the contract of stores on pages, neighbours, conditions for removal, and given vectors.

StoreContract includes these tests and their fixtures.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harrier_core.chunking import Chunking
from harrier_core.encoder import Encoder
from harrier_core.errors import SettingError, WrongSpace
from harrier_core.index import Index
from harrier_core.records import Match, Record

# Nine paragraphs on one thing each, of which a chunk takes one or two.
_THINGS = ("bread", "rivers", "vaccines", "bridges", "violins", "glaciers", "harbours", "lanterns", "orchards")
_TEXT = "\n\n".join(f"Chapter on {each}: {each} are what this part of the book is about." for each in _THINGS)
BOOK = Record("book", _TEXT, {"kind": "book", "year": 1999})
NOTES = [Record(f"note {number}", f"a note on bread, number {number}", {"kind": "note"}) for number in range(7)]


class FindingContract:
    """Searches with options, and partial reads and removals."""

    @pytest.fixture
    def library(self, index: Index) -> Index:
        """Return an index that splits records, with a book of many chunks and notes of one each."""
        index.chunking = Chunking(tokens=48)
        index.ingest([BOOK, *NOTES])
        assert index.count() >= len(NOTES) + 5
        return index

    def test_chunks_by_their_numbers(self, library: Index, encoder: Encoder) -> None:
        """Chunks are read by number: of all records, of some, or of those that meet a condition."""

        def read(*arguments: Any, **options: Any) -> list[tuple[str, int]]:
            opened = library.store.open(encoder.space)
            return sorted((each.chunk.record_id, each.chunk.number) for each in opened.read(*arguments, **options))

        assert read(None, None, [0]) == sorted([("book", 0), *((note.id, 0) for note in NOTES)])
        assert read(["book", "note 1"], None, (1, 2, 10_000)) == [("book", 1), ("book", 2)]
        assert read(["book"], numbers=[]) == read(None, None, []) == []

    def test_pages_of_matches(self, library: Index) -> None:
        """Pages in sequence make up the whole list, which ends; a minimum score ends it earlier."""
        found = library.search("bread", k=50)
        whole = [match.id for match in found]  # scores of two searches may differ in the last digit
        assert len(whole) == library.count()
        pages = [library.search("bread", k=4, offset=offset) for offset in range(0, 50, 4)]
        assert [match.id for page in pages for match in page] == whole
        assert pages[-1] == []
        least = (found[3].score + found[4].score) / 2
        assert [match.id for match in library.search("bread", k=50, min_score=least)] == whole[:4]
        [many] = library.search_many(["bread"], k=3, offset=2)
        assert [match.id for match in many] == whole[2:5]

    def test_pages_of_equal_matches(self, index: Index) -> None:
        """Equal scores are in the order of their keys, so that pages neither repeat a match nor lose one."""
        chance = random.Random(4)
        names = [f"same {at:03}" for at in range(80)]
        shuffled = chance.sample(names, len(names))
        for some in (shuffled[at::3] for at in range(3)):
            index.ingest(Record(name, "a note that is there many times") for name in some)
        index.ingest(Record(f"other {at:03}", f"another note, on {at} rivers") for at in range(30))
        for exact in (False, True):
            query = "a note that is there many times"
            pages = [index.search(query, k=7, offset=at, exact=exact) for at in range(0, 70, 7)]
            assert [match.record_id for page in pages for match in page] == names[:70]

    def test_neighbours(self, library: Index) -> None:
        """A match gets the chunks before and after it in its record, as far as there are any, or the whole record."""
        chunks = sorted((each.chunk for each in library.read(["book"])), key=lambda each: each.number)
        for number in (0, 2, len(chunks) - 1):
            [match] = library.search(chunks[number].text, k=1, expand=1)
            assert match.number == number
            assert [each.number for each in match.around] == [
                each for each in range(number - 1, number + 2) if 0 <= each < len(chunks)
            ]
            assert [each.text for each in match.around] == [chunks[each.number].text for each in match.around]
            first, last = match.around[0], match.around[-1]
            assert match.passage.split() == _TEXT[first.start : last.end].split()
        matches = library.search("a note on bread", k=20, expand="record")
        assert {match.passage for match in matches if match.record_id == "book"} == {
            next(match.passage for match in matches if match.record_id == "book")
        }
        for match in matches:
            whole = chunks if match.record_id == "book" else [match.chunk]
            assert [each.number for each in match.around] == [each.number for each in whole]

    def test_neighbours_in_every_search(self, library: Index, encoder: Encoder) -> None:
        """Sync and async searches, by text or vector, find the same; without `expand` there are no neighbours."""
        [plain] = library.search("glaciers", k=1)
        assert (plain.around, plain.passage) == ((), plain.text)
        vectors = encoder.encode_queries(["glaciers"])

        async def main() -> list[list[Match]]:
            return [
                await library.asearch("glaciers", k=1, expand=2),
                (await library.asearch_many(["glaciers"], k=1, expand=2))[0],
                await library.asearch_diverse("glaciers", k=1, expand=2),
                (await library.asearch_vectors(vectors, k=1, expand=2))[0],
            ]

        found = [
            library.search("glaciers", k=1, expand=2),
            library.search_many(["glaciers"], k=1, expand=2)[0],
            library.search_diverse("glaciers", k=1, expand=2),
            library.search_vectors(vectors, k=1, expand=2)[0],
            *asyncio.run(main()),
        ]
        numbers = {tuple(each.number for each in match.around) for [match] in found}
        assert len(numbers) == 1
        assert {match.number for [match] in found} == {plain.number}
        assert len(numbers.pop()) > 2

    def test_delete_by_metadata(self, library: Index) -> None:
        """Removal affects chunks that meet a condition, among all or certain records; never everything by mistake."""
        before = library.count()
        assert library.delete(["note 1", "book"], where={"kind": "note"}) == 1
        assert library.delete([], where={"kind": "note"}) == library.delete(where={"kind": "letter"}) == 0
        assert library.delete(where={"year": {"$lt": 2000}}) == before - len(NOTES)
        assert asyncio.run(library.adelete(where={"kind": "note"})) == len(NOTES) - 1
        assert library.count() == 0
        library.ingest(NOTES)
        nothings: list[dict[str, Any]] = [{}, {"where": None}, {"where": {}}, {"record_ids": None}]
        for nothing in nothings:
            with pytest.raises(SettingError, match=r"neither record_ids nor conditions in where; use clear\(\)"):
                library.delete(**nothing)
        assert library.count() == len(NOTES)

    def test_read_in_parts(self, library: Index) -> None:
        """Parts in sequence make up the whole, in the same order."""
        whole = [each.chunk.id for each in library.read()]
        parts = [[each.chunk.id for each in library.read(limit=3, offset=offset)] for offset in range(0, 100, 3)]
        assert [id_ for part in parts for id_ in part] == whole
        assert [each.chunk.id for each in library.read(offset=2)] == whole[2:]
        assert list(library.read(limit=0)) == []
        [note] = library.read(where={"kind": "note"}, limit=1)
        assert note.chunk.metadata == {"kind": "note"}

    def test_the_rest_of_async(self, library: Index) -> None:
        """The other async methods count chunks, read ids and chunks, and remove everything."""

        async def main() -> None:
            assert await library.acount() == library.count()
            assert sorted(await library.arecord_ids()) == sorted(library.record_ids())
            read = await library.aread(["note 1", "note 2"], {"kind": "note"}, limit=1, offset=1)
            assert len(read) == 1
            assert await library.aclear() > len(NOTES)
            assert await library.acount() == 0

        asyncio.run(main())

    def test_given_vectors(self, index: Index, encoder: Encoder) -> None:
        """Given vectors are stored after a sample is compared with the encoder's; unchanged records need no sample."""
        vectors = encoder.encode_documents([note.text for note in NOTES])
        before = encoder.stats.texts
        report = index.ingest(NOTES, vectors=3 * vectors)
        assert (report.written, report.encoded, report.rejected) == (len(NOTES), 0, [])
        assert encoder.stats.texts == before + 1
        assert index.verify().sound
        before = encoder.stats.texts
        assert asyncio.run(index.aingest(iter(NOTES), vectors=iter(vectors))).unchanged == len(NOTES)
        assert encoder.stats.texts == before
        described = [replace(note, metadata={"kind": "letter"}) for note in NOTES]
        assert index.ingest(described, vectors=np.zeros_like(vectors) + 1).written == len(NOTES)
        assert index.verify().sound

    def test_given_vectors_of_something_else(self, index: Index, encoder: Encoder) -> None:
        """Vectors of other texts are refused, and nothing is stored."""
        others = encoder.encode_documents(["something else", *(note.text for note in NOTES[1:])])
        with pytest.raises(WrongSpace, match="to its own for the same text"):
            index.ingest(NOTES, vectors=others)
        assert index.count() == 0
