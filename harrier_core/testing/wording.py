"""The contract of a store that finds chunks by their words, as tests: subclass WordingContract, give it two fixtures.

class TestMyStoresWords(WordingContract):
    @pytest.fixture
    def new_store(self):
        return lambda: MyStore(..., keywords=True)  # the same place at every call of one test, empty at the first

    @pytest.fixture
    def wordless_store(self):
        return lambda: MyStore(...)  # the same for a place without words
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from harrier_core.contents import Contents
from harrier_core.encoder import Encoder
from harrier_core.errors import EmptyText, SettingError, StoreUnsuitable
from harrier_core.index import Index
from harrier_core.query import Mode
from harrier_core.records import Match, Record
from harrier_core.testing.memory import MemoryStore
from harrier_core.testing.places import InAPlace, NewStore

NOTES = [
    Record("conn", "A connection was refused: ERR_CONN_1042, so the service did not start.", {"kind": "error"}),
    Record("near", "A connection was refused: ERR_CONN_1043, so the service did not start.", {"kind": "error"}),
    Record("kb", "Install KB5034441 before the recovery partition is resized.", {"kind": "note"}),
    Record("tokyo", "東京都庁は新宿にあります。", {"kind": "note"}),
    Record("cafe", "Das Café am Fluß öffnet um acht.", {"kind": "note"}),
]

# Words of several scripts, from which records are made: a few are frequent, and most are rare.
_WORDS = (
    *("bread", "river", "engine", "violin", "harbour", "glacier", "lantern", "orchard", "vaccine", "bridge", "signal"),
    *("мост", "река", "сигнал", "ποτάμι", "γέφυρα", "جسر", "نهر", "נהר", "पुल", "नदी", "東京都", "大阪府", "สะพาน"),
    *("AB-1234", "AB-1235", "v1.2.3", "v12.3", "512GB", "ORA-00942", "café", "straße"),
)


def made(number: int, seed: int) -> list[Record]:
    """Return the given number of records with words of several scripts, of any length."""
    rng = random.Random(seed)  # the same in every run
    records = []
    for at in range(number):
        words = [_WORDS[min(int(rng.expovariate(0.12)), len(_WORDS) - 1)] for _ in range(rng.randint(3, 60))]
        records.append(Record(f"r{at:05}", " ".join(words), {"third": at % 3, "tenth": at % 10}))
    return records


class WordingContract(InAPlace):
    """The tests of a store with words. Each test gets two separate places, one with words and one without."""

    @pytest.fixture
    def wordless(self, wordless_store: NewStore, encoder: Encoder) -> Iterator[Index]:
        """Yield an index over a place without words."""
        with Index(wordless_store(), encoder) as index:
            yield index

    @pytest.mark.parametrize(
        ("query", "first"),
        [
            ("ERR_CONN_1042", "conn"),
            ("what does err-conn-1043 mean?", "near"),
            ("kb 5034441", "kb"),
            ("都庁", "tokyo"),
            ("FLUSS", "cafe"),
            ("cafe", "cafe"),
        ],
    )
    def test_found_by_word(self, index: Index, query: str, first: str) -> None:
        """Words are found in any spelling without the model, and by hybrid searches too."""
        index.ingest(NOTES)
        texts = _texts_of(index)
        [best, *_] = index.search(query, mode="keyword")
        assert (best.record_id, best.cosine, best.vector) == (first, None, None)
        assert best.score > 0
        assert _texts_of(index) == texts
        assert first in [match.record_id for match in index.search(query, 2, mode="hybrid")]

    def test_nothing_has_the_word(self, index: Index) -> None:
        """A keyword search finds nothing, and a hybrid search finds the nearest chunks."""
        index.ingest(NOTES)
        for query in ("zeppelin", "?!"):
            assert index.search(query, mode="keyword") == []
            near = index.search(query)
            both = index.search(query, mode="hybrid")
            assert [match.id for match in both] == [match.id for match in near]
        assert index.search("refused", mode="keyword", where={"kind": "note"}) == []

    def test_its_scores(self, index: Index) -> None:
        """A hybrid score is a share of the best possible one, next to the cosine; a minimum score is on that scale."""
        index.ingest(NOTES)
        query = NOTES[2].text
        best, *others = index.search(query, mode="hybrid")
        assert best.score == pytest.approx(1)
        assert best.cosine == pytest.approx(index.search(query, k=1)[0].score, abs=1e-3)
        assert all(0 < match.score < 1 for match in others)
        assert index.search(query, mode="hybrid", min_score=0.99) == [best]
        words = index.search("connection refused", mode="keyword")
        least = words[0].score
        assert [match.id for match in index.search("connection refused", mode="keyword", min_score=least)] == [
            match.id for match in words if match.score >= least
        ]

    def test_the_weight_of_words(self, index: Index) -> None:
        """With no weight, the order is that of vectors; with a very high one, it is that of words."""
        index.ingest(made(60, 1))
        query = "bread AB-1234 мост"
        near, words = index.search(query, k=8), index.search(query, k=8, mode="keyword")
        both = [index.search(query, k=8, mode="hybrid", keyword_weight=weight) for weight in (0, 1e9)]
        assert _ids(both[0]) == _ids(near)
        assert _ids(both[1]) == _ids(words)

    @pytest.mark.parametrize("mode", ["keyword", "hybrid"])
    def test_as_in_memory(self, index: Index, mode: Mode) -> None:
        """Fifty searches find the same first ten as a MemoryStore, in the same order, with and without conditions."""
        records = made(400, 2)
        index.ingest(records)
        memory = Index(MemoryStore(keywords=True), index.encoder)
        memory.ingest(records)
        for query in ("bread", "a bridge over the river", "мост", "東京", "AB-1234", "jar v1.2.3 512 GB", "נהר café"):
            for where in (None, {"third": 1}, {"tenth": {"$gt": 8}}):
                ours, theirs = (each.search(query, 10, where, mode=mode, exact=True) for each in (index, memory))
                assert _ids(ours) == _ids(theirs)
                assert [match.score for match in ours] == pytest.approx([match.score for match in theirs], abs=2e-3)
        once = _ids(index.search("bread river signal", 20, mode=mode))
        for _ in range(50):
            assert _ids(index.search("bread river signal", 20, mode=mode)) == once

    def test_a_longer_list_begins_like_a_shorter_one(self, index: Index) -> None:
        """Scores that are equal to four decimals are in the order of their keys, whatever the number of matches."""
        records = [*made(200, 6), *(Record(f"same {at:02}", "bread mountain") for at in range(40))]
        index.ingest(random.Random(5).sample(records, len(records)))
        for query in ("bread", "bread river", "mountain", "AB-1234 мост"):
            whole = _ids(index.search(query, 60, mode="keyword"))
            for k in (1, 2, 3, 5, 8, 13, 21, 34, 55):
                assert _ids(index.search(query, k, mode="keyword")) == whole[:k]
                assert _ids(index.search(query, 2, offset=k, mode="keyword")) == whole[k : k + 2]

    def test_every_search(self, index: Index) -> None:
        """Single, multiple, diverse and async searches, with pages and neighbours, find the same."""
        index.ingest(made(80, 3))
        queries = ["bread", "AB-1235", "мост"]
        modes: tuple[Mode, ...] = ("keyword", "hybrid")
        for mode in modes:
            one = asyncio.run(index.asearch(queries[0], 6, mode=mode))
            diverse = asyncio.run(index.asearch_diverse(queries[0], 6, mode=mode, relevance=1.0))
            many = asyncio.run(index.asearch_many(queries, 6, mode=mode))
            assert _ids(one) == _ids(diverse) == _ids(many[0])
            each = [_ids(index.search(query, 6, mode=mode)) for query in queries]
            assert [_ids(found) for found in index.search_many(queries, 6, mode=mode)] == each
            assert [_ids(found) for found in many] == each

            assert _ids(index.search_diverse(queries[0], 6, mode=mode, relevance=1.0)) == each[0]
            assert len({*_ids(index.search_diverse(queries[0], 6, mode=mode, relevance=0.1))}) == 6
            assert _ids(index.search(queries[0], 2, offset=3, mode=mode)) == each[0][3:5]
            assert index.search(queries[0], 1, mode=mode, expand=1)[0].around
            assert index.search_many([], mode=mode) == []

    def test_words_follow_the_texts(self, index: Index) -> None:
        """The words of a record follow when it is changed, gets new metadata or is removed."""
        index.ingest(NOTES)
        changed = replace(NOTES[2], text="Install KB5034442 instead.")
        index.ingest([changed, replace(NOTES[0], metadata={"kind": "moved"})])
        assert index.search("5034441", mode="keyword") == []
        assert _ids(index.search("KB5034442", mode="keyword")) == _ids(index.search("instead", mode="keyword"))
        [moved] = index.search("ERR_CONN_1042", 1, mode="keyword")
        assert moved.metadata == {"kind": "moved"}
        alone = index.search("connection", mode="keyword")[0].score
        index.delete(["conn"])
        assert [match.record_id for match in index.search("connection", mode="keyword")] == ["near"]
        assert index.search("connection", mode="keyword")[0].score > alone  # it is rarer now
        assert index.verify().sound

    @pytest.mark.parametrize("code", ["ERR_9999", "CVE-2024-12345", "2024-01-15"])
    def test_a_code_that_is_not_there(self, index: Index, code: str) -> None:
        """A code that is not in the index, or only in part, gives words no more weight than any other query."""
        index.ingest([*NOTES, Record("year", "Report of 2024")])
        query = f"connection {code}"
        weighed = index.search(query, 3, mode="hybrid", keyword_weight=0.5)
        assert index.search(query, 3, mode="hybrid") == weighed

    def test_refused_before_the_model_runs(self, wordless: Index) -> None:
        """If chunks have no words, the error says what to do; an invalid query is refused in every mode."""
        wordless.ingest(NOTES)
        assert wordless.store.describe().keywords is False
        texts = _texts_of(wordless)
        for mode in ("keyword", "hybrid"):
            with pytest.raises(StoreUnsuitable, match=r"with add_keywords\(\).*; or use mode='dense'"):
                wordless.search("bread", mode=mode)
        assert _texts_of(wordless) == texts
        wordless.add_keywords()
        with pytest.raises(EmptyText):
            wordless.search(" ", mode="keyword")
        with pytest.raises(SettingError, match="mode must be one of 'dense', 'keyword', 'hybrid', got 'sparse'"):
            wordless.search("bread", mode="sparse")  # type: ignore[arg-type]

    def test_words_are_added(self, wordless: Index, wordless_store: NewStore, index: Index) -> None:
        """Words can be added to an existing index without a model; it is then like one that was made with them."""
        records = made(700, 4)
        for each in (wordless, index):
            each.ingest(records)
        told: list[int] = []
        with Contents(wordless_store()) as contents:
            contents.add_keywords(told.append)
            contents.add_keywords(told.append)
        assert told[-1] == len(records)
        assert told == sorted(told)
        assert wordless.store.describe().keywords is index.store.describe().keywords is True
        assert wordless.verify(sample=0).sound
        for query in ("bread", "AB-1234 мост", "東京"):
            assert _ids(wordless.search(query, 10, mode="keyword")) == _ids(index.search(query, 10, mode="keyword"))
        assert wordless.ingest(records).unchanged == len(records)
        wordless.ingest([Record("new", "a zeppelin over the harbour", {})])
        assert [match.record_id for match in wordless.search("zeppelin", mode="keyword")] == ["new"]


def _texts_of(index: Index) -> int:
    """Return how many texts its encoder has encoded."""
    encoder = index.encoder
    assert isinstance(encoder, Encoder)
    return encoder.stats.texts


def _ids(matches: Sequence[Match]) -> list[str]:
    return [match.id for match in matches]
