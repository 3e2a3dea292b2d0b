"""The contract of every VectorStore, as tests: subclass StoreContract, give it a `new_store` fixture, and run pytest.

class TestMyStore(StoreContract):
    @pytest.fixture
    def new_store(self):
        return lambda: MyStore(...)  # the same place at every call of one test, empty at the first
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from enum import IntEnum, StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import uuid4

import pytest

from harrier_core.chunking import Chunking
from harrier_core.contents import Contents
from harrier_core.encoder import Encoder
from harrier_core.errors import FilterError, SettingError, StoreMissing, WrongSpace
from harrier_core.filters import meets, parse
from harrier_core.index import Index
from harrier_core.pruning import Pruning
from harrier_core.query import Search
from harrier_core.records import Chunk, IngestReport, Record, Skipped
from harrier_core.store import Neighbours, Write
from harrier_core.testing.conditions import random_metadata, random_where
from harrier_core.testing.finding import FindingContract
from harrier_core.testing.models import build_model
from harrier_core.testing.places import InAPlace, NewStore
from harrier_core.values import plain

BREAD = Record("bread", "Bread rises because yeast turns sugar into gas.", {"topic": "food", "year": 2021})
VIRUS = Record("virus", "Vaccines train the immune system against a virus.", {"topic": "health", "year": 2023})
RIVER = Record(
    "river", "Rivers carry sand from the mountains to the sea.", {"topic": "earth", "tags": ["water", "sand"]}
)
RECORDS = [BREAD, VIRUS, RIVER]

# Ids, texts and metadata that something between here and a disk may misinterpret.
AWKWARD = [
    Record("a b/c#1'\";--%s{}\\", "quotes ' \" and \\ and %s and {braces} and \t tabs", {"k'\"\\": "v'\"\\"}),
    Record(
        "ünï-漢字-🦅",
        "Über 漢字 and 🦅 and \u2028 and \U0010ffff",
        {"ключ": "значение", "nested": {"a": [1, {"b": None}]}},
    ),
    Record("1", "numbers", {"int": -7, "float": 0.1, "big": 2**53, "true": True, "none": None, "empty": [], "": ""}),
    Record("x" * 2_000, "a long id", {"long": "y" * 5_000}),
    Record("null", "null", {"null": "null"}),
]


class StoreContract(InAPlace, FindingContract):
    """The tests of a store. Each test gets a separate place."""

    # -- storing

    def test_found_by_meaning(self, index: Index, encoder: Encoder) -> None:
        """The nearest chunks come first, with everything that was stored, and their cosine as the score."""
        report = index.ingest(RECORDS)
        assert (report.records, report.written, report.encoded, report.unchanged, report.deleted) == (3, 3, 3, 0, 0)
        matches = index.search("why does bread rise with yeast", k=3)
        assert (matches[0].record_id, matches[0].text, matches[0].metadata) == ("bread", BREAD.text, BREAD.metadata)
        assert (matches[0].number, matches[0].start, matches[0].end) == (0, 0, len(BREAD.text))
        assert sorted((match.score for match in matches), reverse=True) == [match.score for match in matches]
        [query], [document] = encoder.encode_queries(["bread"]), encoder.encode_documents([BREAD.text])
        [match] = index.search("bread", k=1, where={"topic": "food"})
        assert abs(match.score - float(query @ document)) < 2e-3  # some stores keep half precision
        assert index.count() == 3

    def test_a_second_run_changes_nothing(self, new_store: NewStore, index: Index, encoder: Encoder) -> None:
        """A second run neither writes nor encodes anything, even through another store object."""
        index.ingest(RECORDS)
        before = encoder.stats.texts
        with Index(new_store(), encoder) as again:
            report = again.ingest(RECORDS)
        assert (report.written, report.unchanged, report.encoded) == (0, 3, 0)
        assert encoder.stats.texts == before

    def test_changes_are_taken_over(self, index: Index, encoder: Encoder) -> None:
        """A new text is encoded; new metadata is written next to the old vector."""
        index.ingest(RECORDS)
        before = encoder.stats.texts
        changed = [replace(BREAD, text="Bread is baked in an oven."), replace(VIRUS, metadata={"year": 1999}), RIVER]
        report = index.ingest(changed)
        assert (report.written, report.encoded, report.unchanged, report.deleted) == (2, 1, 1, 0)
        assert encoder.stats.texts == before + 1
        assert index.search("oven", k=1)[0].text == "Bread is baked in an oven."
        [virus] = index.search("vaccines virus", k=1)
        assert (virus.record_id, virus.metadata) == ("virus", {"year": 1999})
        assert index.count() == 3

    def test_chunks(self, new_store: NewStore, encoder: Encoder) -> None:
        """Each chunk is within its limit, and has its offset; a record that shrinks loses its surplus chunks."""
        text = "\n\n".join(record.text for record in RECORDS * 5)
        with Index(new_store(), encoder, chunking=Chunking(tokens=32)) as index:
            report = index.ingest([Record("all", text), BREAD])
            assert report.written == index.count() > 5
            matches = index.search("sand", k=100)
            assert {match.record_id for match in matches} == {"all", "bread"}
            for match in matches:
                assert encoder.count_tokens([match.text])[0] <= 32
                source = text if match.record_id == "all" else BREAD.text
                assert source[match.start : match.end] == match.text
            shrunk = index.ingest([Record("all", RIVER.text), BREAD])
            assert shrunk.deleted == report.written - 2
            assert index.count() == 2

    def test_awkward_records(self, index: Index) -> None:
        """Awkward records come back as they were."""
        assert index.ingest(AWKWARD).rejected == []
        found = {match.record_id: match for match in index.search("anything", k=10)}
        assert {id_: (match.text, match.metadata) for id_, match in found.items()} == {
            record.id: (record.text, record.metadata) for record in AWKWARD
        }
        assert index.ingest(AWKWARD).unchanged == len(AWKWARD)
        assert index.delete([record.id for record in AWKWARD]) == len(AWKWARD)

    def test_bad_records_are_reported(self, index: Index) -> None:
        """Each bad record is reported with its reason; others are stored, and stored versions of bad ones stay."""
        index.ingest([BREAD])
        bad: list[Any] = [
            Record("nul", "a \0 b"),
            Record("object", "a text", {"x": [object()]}),
            "not a record",
            replace(BREAD, text="word " * 2_000),
        ]
        report = index.ingest([*bad, *RECORDS[1:]])
        reasons = dict(report.rejected)
        assert len(report.rejected) == len(bad)
        for record_id, reason in {"nul": "NUL", "object": "object", "bread": "tokens"}.items():
            assert reason in reasons[record_id]
        assert index.count() == 3
        assert index.search("bread yeast", k=1)[0].text == BREAD.text

    def test_as_deep_as_may_be(self, new_store: NewStore, encoder: Encoder) -> None:
        """The deepest and largest metadata allowed come back from a place that was closed in the meantime."""
        metadata = {**_nested(22), "large": 10**300, "list": [[[1]]]}
        with Index(new_store(), encoder) as index:
            index.ingest([Record("deep", "a text", metadata), *RECORDS])
        with Index(new_store(), encoder) as index:
            assert index.search("a text", k=1)[0].metadata == metadata
            assert index.delete(["deep"]) == 1
            assert index.count() == 3

    def test_subclasses_of_json_types(self, index: Index) -> None:
        """Members of an enumeration and the like are stored as the strings and numbers that they stand for."""

        class Topic(StrEnum):
            FOOD = "food"

        class Year(IntEnum):
            NOW = 2021

        class Text(str):
            __slots__ = ()

        def found(where: dict[str, Any]) -> set[str]:
            return {match.record_id for match in index.search("anything", k=10, where=where)}

        metadata = MappingProxyType({Text("topic"): Topic.FOOD, "year": Year.NOW})
        index.ingest([Record(Text("bread"), Text(BREAD.text), metadata), *RECORDS[1:]])
        assert index.ingest(RECORDS).unchanged == 3
        assert found({"topic": Topic.FOOD}) == found({"year": Year.NOW}) == {"bread"}
        assert found({"topic": {"$ne": Topic.FOOD}, Text("year"): {"$exists": True}}) == {"virus"}
        assert index.delete([Text("bread")]) == 1

    def test_the_last_of_equal_ids_wins(self, index: Index) -> None:
        """The last record counts, within one window and across windows, and the report names the repeated ids."""
        many = [Record(f"r{number}", f"text number {number}") for number in range(1_100)]
        report = index.ingest([replace(BREAD, text="first"), *many, replace(BREAD, text="second"), BREAD])
        assert report.repeated == ["bread", "bread"]
        assert index.search("bread yeast", k=1)[0].text == BREAD.text
        assert index.count() == 1_101
        back = index.ingest([replace(BREAD, text="first"), *many, BREAD])
        assert (back.repeated, index.search("bread yeast", k=1)[0].text) == (["bread"], BREAD.text)

    def test_delete_and_prune(self, index: Index) -> None:
        """Records are removed by id, or if the source no longer has them, unless it has none at all."""
        index.ingest(RECORDS)
        assert index.delete(["bread", "unknown"]) == 1
        assert index.count() == 2
        report = index.ingest([BREAD, RIVER], prune=True)
        assert (report.written, report.unchanged, report.deleted) == (1, 1, 1)
        assert {match.record_id for match in index.search("a", k=9)} == {"bread", "river"}
        assert (
            index.ingest([replace(BREAD, text=" "), RIVER], prune=True).deleted == 0
        )  # a bad record does not count as gone
        with pytest.raises(SettingError, match="there were no records"):
            index.ingest([], prune=True)
        with pytest.raises(SettingError, match="put a single one in a list"):
            index.delete("bread")
        assert index.count() == 2

    def test_prune_and_records_without_an_id(self, index: Index) -> None:
        """A record without an id may be any of those stored: nothing is removed."""
        index.ingest(RECORDS)
        nameless: list[Any] = [{"id": "virus", "body": VIRUS.text}, Record(7, "a text")]  # type: ignore[arg-type]
        for bad in nameless:
            with pytest.raises(
                SettingError, match="prune=True, but records had no id, 1 in all, .*; nothing was removed"
            ):
                index.ingest([replace(BREAD, text="a new text"), bad], prune=True)
            assert index.count() == 3
        assert index.search("a new text", k=1)[0].record_id == "bread"
        assert index.ingest([BREAD, Record("virus", "")], prune=True).deleted == 1

    def test_invalid_ids(self, index: Index) -> None:
        """Something that is not a str is an error; an id that no store can hold belongs to no record."""
        index.ingest([*RECORDS, Record("7", "seven")])
        for wrong in ([7], [None], [uuid4()]):
            with pytest.raises(SettingError, match="a record's id must be a str, got "):
                index.delete(wrong)  # type: ignore[arg-type]
            with pytest.raises(SettingError, match="a record's id must be a str, got "):
                index.read(wrong)  # type: ignore[arg-type]
        assert index.delete(["a\0b", "\ud83d", "i" * 3_000, "bread"]) == 1
        assert [each.chunk.record_id for each in index.read(["a\0b", "\ud83d", "virus"])] == ["virus"]
        assert index.count() == 3

    def test_progress(self, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
        """Progress is reported repeatedly while a generator is read."""
        monkeypatch.setattr("harrier_core.ingest.WINDOW_RECORDS", 100)
        read: list[int] = []
        seen: list[tuple[int, int]] = []

        def records() -> Iterator[Record]:
            for number in range(1_000):
                read.append(number)
                yield Record(str(number), f"text {number}")

        def tell(report: IngestReport) -> None:
            seen.append((report.written, len(read)))

        assert index.ingest(records(), on_progress=tell).written == 1_000
        assert len(seen) > 2
        assert seen == sorted(seen)
        assert seen[0][1] <= 600
        assert seen[-1][0] == 1_000

    def test_an_error_of_the_source(self, index: Index) -> None:
        """An error of the source reaches the caller, and a run over the whole source then converges."""

        def failing() -> Iterator[Record]:
            yield from (Record(str(number), f"text {number}") for number in range(2_500))
            raise OSError("the source is gone")

        with pytest.raises(OSError, match="the source is gone"):
            index.ingest(failing())
        report = index.ingest(Record(str(number), f"text {number}") for number in range(2_600))
        assert report.written + report.unchanged == 2_600
        assert report.written >= 100
        assert index.count() == 2_600

    # -- inspecting

    def test_read(self, index: Index, encoder: Encoder) -> None:
        """Reading everything, some records, or a condition's matches yields chunks as they were given, and vectors."""
        index.ingest([*RECORDS, *AWKWARD])
        stored = {each.chunk.record_id: each for each in index.read()}
        assert stored.keys() == {record.id for record in [*RECORDS, *AWKWARD]}
        for record in [*RECORDS, *AWKWARD]:
            chunk, vector = stored[record.id].chunk, stored[record.id].vector
            assert (chunk.text, chunk.metadata, chunk.number) == (record.text, record.metadata, 0)
            assert (chunk.start, chunk.end, chunk.hash) == (
                0,
                len(record.text),
                Chunk.of(record, 0, 0, record.text).hash,
            )
            assert float(vector @ encoder.encode_documents([record.text])[0]) > 0.999
        assert {each.chunk.record_id for each in index.read(["bread", "river", "unknown"])} == {"bread", "river"}
        assert [each.chunk.record_id for each in index.read(["bread", "river"], {"topic": "food"})] == ["bread"]
        assert {each.chunk.record_id for each in index.read(where={"topic": {"$exists": True}})} == {
            record.id for record in RECORDS
        }
        assert list(index.read([])) == []
        many = [Record(f"r{number:04}", f"text {number}") for number in range(1_300)]
        index.ingest(many)
        assert sorted(each.chunk.record_id for each in index.read(record.id for record in many)) == [
            record.id for record in many
        ]

    def test_verify(self, new_store: NewStore, index: Index, encoder: Encoder) -> None:
        """A sound index passes; the vector of another text, and a text that was changed by hand, are found."""
        index.ingest([Record(f"r{number}", f"text {number} of many") for number in range(300)])
        seen: list[int] = []
        report = index.verify(sample=50, on_progress=lambda report: seen.append(report.checked))
        assert report.sound
        assert report.checked == seen[-1] == 300
        assert 20 < report.encoded < 90
        assert report.least_cosine > 0.999
        store = new_store()
        opened = store.open(encoder.space)
        moved = Chunk.of(Record("moved", ""), 0, 0, "bread rises")
        changed = replace(Chunk.of(Record("changed", ""), 0, 0, "before"), text="after")
        vectors = encoder.encode_documents(["rivers carry sand", "before"])
        opened.write(Write({"moved": 1, "changed": 1}, [moved, changed], vectors, [], {"moved": {}, "changed": {}}))
        store.close()
        report = index.verify(sample=10_000)
        assert not report.sound
        problems = dict(report.problems)
        assert problems.keys() == {"moved", "changed"}
        assert "to that of its text (chunk 0)" in problems["moved"]
        assert "differs from the encoded one" in problems["changed"]
        assert index.ingest([Record("moved", "a new text")]).written == 1

    # -- searching

    def test_where(self, index: Index) -> None:
        """Each operator works, in a form that users write."""
        index.ingest(RECORDS)

        def found(where: dict[str, Any]) -> set[str]:
            return {match.record_id for match in index.search("anything", k=10, where=where)}

        assert found({"topic": "food"}) == {"bread"}
        assert found({"year": {"$gte": 2021, "$lt": 2023}}) == {"bread"}
        assert found({"topic": {"$in": ["food", "earth"]}}) == {"bread", "river"}
        assert found({"topic": {"$ne": "food"}}) == {"virus", "river"}
        assert found({"tags": "sand"}) == {"river"}
        assert found({"year": {"$exists": False}}) == {"river"}
        assert found({"$or": [{"topic": "food"}, {"$not": {"year": {"$exists": True}}}]}) == {"bread", "river"}
        assert found({"topic": {"$contains": "oo"}}) == {"bread"}
        assert found({"topic": {"$contains": "o."}}) == found({"year": {"$contains": "2"}}) == set()
        assert found({"topic": {"$nin": ["food", "earth"]}}) == {"virus"}
        assert found({"year": {"$between": [2021, 2022]}}) == {"bread"}
        assert found({"topic": {"$like": "%_th"}}) == {"virus", "river"}
        assert found({"topic": {"$ilike": "FO%"}}) == {"bread"}
        assert found({"topic": {"$like": "FO%"}}) == found({"topic": {"$like": "oo"}}) == set()
        assert found({"topic": "food", "year": 1}) == set()
        assert found({}) == {"bread", "virus", "river"}
        with pytest.raises(FilterError):
            index.search("anything", where={"$nor": []})

    def test_where_with_dates_and_fields_of_dicts(self, index: Index) -> None:
        """Values have the same form in a condition as in metadata."""
        id_, early, late = uuid4(), datetime(2024, 5, 1, 23, tzinfo=timezone(timedelta(hours=2))), date(2024, 6, 1)
        records = [
            Record("a", "a", {"when": early, "id": id_, "by": {"ada", "bob"}}),
            Record("b", "b", {"when": late}),
            Record("c", "c", {"a.when": late}),
        ]
        assert index.ingest(records).rejected == []
        assert index.ingest(replace(record, metadata=plain(record.metadata)) for record in records).unchanged == 3
        index.ingest([Record("d", "d", {"a": {"when": early, "by": []}}), Record("e", "e", {"a": [{"when": early}]})])

        def found(where: dict[str, Any]) -> set[str]:
            return {match.record_id for match in index.search("anything", k=10, where=where)}

        assert found({"when": early}) == found({"when": early.astimezone(UTC)}) == found({"id": id_}) == {"a"}
        assert found({"when": {"$gte": date(2024, 5, 2)}}) == {"b"}
        assert found({"when": {"$between": [date(2024, 5, 1), date(2024, 5, 2)]}}) == {"a"}
        assert found({"by": "bob"}) == {"a"}
        assert found({"a.when": early}) == found({"a.when": {"$lt": date(2024, 5, 2)}}) == {"d"}
        assert found({"a.when": {"$exists": True}}) == found({"a.when": {"$like": "2024-%"}}) == {"c", "d"}
        assert found({"a.by": {"$exists": True}}) == {"d"}
        assert found({"$not": {"a.when": {"$exists": True}}}) == {"a", "b", "e"}

    def test_the_deepest_where(self, index: Index) -> None:
        """A filter with as many levels as `parse` accepts is accepted by the store."""
        index.ingest(RECORDS)
        deep: dict[str, Any] = {"a.b.c": {"$in": ["x", None], "$ne": 1}}
        wide: dict[str, Any] = deep
        for level in range(32):
            deep = {"$not": deep} if level % 2 else {"$or": [deep, {"topic.a": {"$between": [1, 2]}}]}
            wide = {"$or": [wide], "topic": {"$ne": "food"}} if level % 2 else wide  # two levels: its keys are joined
        for where in (deep, wide):
            with pytest.raises(FilterError):
                parse({"$not": where})
            found = {match.record_id for match in index.search("anything", k=10, where=where)}
            assert found == {record.id for record in RECORDS if meets(record.metadata, parse(where))}

    def test_where_means_the_same_everywhere(self, index: Index, encoder: Encoder) -> None:
        """Thousands of random conditions on awkward metadata find exactly what they mean."""
        chance = random.Random(0)
        records = [Record(f"r{number}", f"text {number}", plain(random_metadata(chance))) for number in range(60)]
        index.ingest(records)
        [vector] = encoder.encode_queries(["text"])
        opened = index.store.open(encoder.space)
        for _ in range(600):
            condition = parse(random_where(chance, depth=2))
            [matches] = opened.search(Search(vector[None], 100, condition))
            assert {match.record_id for match in matches} == {
                record.id for record in records if meets(record.metadata, condition)
            }, condition

    def test_many_queries(self, index: Index) -> None:
        """Many queries find what single ones find; asking for too many finds all there are; tasks apply."""
        index.ingest(RECORDS)
        queries = ["bread yeast", "virus vaccine", "sand sea"]
        together = index.search_many(queries, k=2)
        singly = [index.search(query, k=2) for query in queries]
        assert [[match.record_id for match in each] for each in together] == [
            [match.record_id for match in each] for each in singly
        ]
        assert len(index.search("bread", k=1_000)) == 3
        assert index.search("bread yeast", k=1, task="sts_query")[0].record_id == "bread"
        assert index.search_many([], k=2) == []
        for k in (0, -1, 2.0, True, 2**31):
            with pytest.raises(SettingError, match="k must be (a positive|an) integer"):
                index.search("bread", k=k)  # type: ignore[arg-type]

    def test_queries_that_were_encoded_before(self, index: Index, encoder: Encoder) -> None:
        """Encoded queries find what their texts find, at any length; anything but a vector of this space is refused."""
        index.ingest(RECORDS)
        queries = ["bread yeast", "sand sea"]
        vectors = encoder.encode_queries(queries)
        by_text, by_vector = index.search_many(queries, k=2), index.search_vectors(7 * vectors, k=2)
        assert [[match.record_id for match in each] for each in by_vector] == [
            [match.record_id for match in each] for each in by_text
        ]
        assert by_vector[0][0].score == pytest.approx(by_text[0][0].score, abs=1e-3)
        assert by_vector[0][0].vector is None
        [[match]] = index.search_vectors(vectors[:1], k=1, where={"topic": "earth"}, with_vectors=True)
        assert match.vector is not None
        assert float(match.vector @ encoder.encode_documents([RIVER.text])[0]) > 0.999
        for wrong in (vectors[0], vectors[:, :5], 0 * vectors, float("nan") * vectors):
            with pytest.raises(SettingError, match="rows of|has no direction"):
                index.search_vectors(wrong)

    def test_diverse(self, index: Index) -> None:
        """Of three matches that say the same, one is enough."""
        again = [replace(BREAD, id=f"bread {number}") for number in range(3)]
        index.ingest([*again, VIRUS, RIVER])
        query = "bread rises because yeast turns sugar into gas, rivers carry sand"
        assert {match.text for match in index.search(query, k=3)} == {BREAD.text}
        diverse = index.search_diverse(query, k=3)
        assert {match.text for match in diverse} == {BREAD.text, RIVER.text, VIRUS.text}
        assert diverse[0].text == BREAD.text
        assert [match.text for match in index.search_diverse(query, k=3, relevance=1.0)] == [BREAD.text] * 3
        assert len(index.search_diverse(query, k=100, where={"topic": "food"})) == 3
        assert index.search_diverse(query, where={"topic": "none"}) == []
        with pytest.raises(SettingError, match="relevance must be a number from 0 to 1"):
            index.search_diverse(query, relevance=2)

    def test_async(self, index: Index) -> None:
        """Async searches find the same, and do not hold up the event loop."""

        async def main() -> None:
            seen: list[int] = []
            report = await index.aingest(RECORDS, on_progress=lambda report: seen.append(report.written))
            assert report.written == 3
            found = await asyncio.gather(*(index.asearch("bread yeast", k=1) for _ in range(20)))
            assert {matches[0].record_id for matches in found} == {"bread"}
            await asyncio.sleep(0)
            assert seen[-1] == 3

        asyncio.run(main())

    # -- spaces, other users

    def test_another_space_is_refused(self, new_store: NewStore, index: Index, tmp_path: Path) -> None:
        """Searches and ingests refuse it before anything is encoded; the error says what differs."""
        index.ingest(RECORDS)
        with (
            Encoder(build_model(tmp_path, "gemma3", vectors="words", seed=1)) as other,
            Index(new_store(), other) as wrong,
        ):
            for use in (lambda: wrong.search("bread"), lambda: wrong.ingest(RECORDS), lambda: wrong.delete(["bread"])):
                with pytest.raises(WrongSpace, match="the weights differ"):
                    use()
            assert other.stats.texts == 0
        assert index.count() == 3

    def test_space_and_describe(self, new_store: NewStore, index: Index, encoder: Encoder) -> None:
        """A store, whichever model it belongs to, reports nothing before an ingest, and then its space and size."""
        store = new_store()
        assert store.space() is None
        with pytest.raises(StoreMissing, match="ingest something"):
            store.describe()
        index.ingest(RECORDS)
        assert store.space() == encoder.space
        facts = store.describe()
        assert (facts.space, facts.chunks, facts.health) == (encoder.space, 3, "fine")
        assert facts.records in (3, None)
        store.close()

    def test_records_of_several_chunks(self, new_store: NewStore, encoder: Encoder) -> None:
        """A store that can count its records counts each once."""
        text = "".join(f"Sentence {number} says something about bread. " for number in range(40))
        with Index(new_store(), encoder, chunking=Chunking(tokens=30)) as index:
            index.ingest([Record("long", text), BREAD])
            facts = index.store.describe()
            assert facts.chunks == index.count() > 10
            assert facts.records in (2, None)

    def test_contents_without_a_model(self, new_store: NewStore, index: Index, encoder: Encoder) -> None:
        """Stored chunks can be counted, read and removed, whichever model made the vectors."""
        with Contents(new_store()) as contents:
            for use in (contents.space, contents.count, lambda: contents.missing(["bread"])):
                with pytest.raises(StoreMissing, match="ingest something"):
                    use()
            assert contents.clear() == contents.delete(["bread"]) == 0
            index.ingest(RECORDS)
            assert (contents.space(), contents.count()) == (encoder.space, 3)
            assert contents.missing(["bread", "nope", "bad\0", "nope", "river"]) == ["nope", "bad\0"]
            assert contents.missing([]) == []
            assert contents.delete(["bread"]) == 1
            assert contents.delete(where={"topic": "earth"}) == 1
            assert [stored.chunk.record_id for stored in contents.read()] == ["virus"]
            assert contents.clear() == 1
        assert index.count() == 0

    def test_neighbouring_stores(self, new_store: NewStore, index: Index) -> None:
        """Existing stores are listed by name: a store that can list others lists itself as well."""
        store = new_store()
        if isinstance(store, Neighbours):
            index.ingest(RECORDS)
            found = store.neighbours()
            assert [each.describe().chunks for each in found if str(each) == str(store)] == [3]
            assert [str(each) for each in found] == sorted(str(each) for each in found)
            for each in found:
                each.close()
        store.close()

    def test_an_exact_search(self, index: Index, encoder: Encoder) -> None:
        """An exact search finds what any search of a few chunks finds."""
        index.ingest(RECORDS)
        vectors = encoder.encode_queries(["bread yeast"])
        assert index.search_vectors(vectors, k=3, exact=True) == index.search_vectors(vectors, k=3)
        [[match]] = index.search_vectors(vectors, k=1, where={"topic": "earth"}, exact=True)
        assert match.record_id == "river"
        assert match.cosine == match.score

    def test_a_plan(self, index: Index, encoder: Encoder) -> None:
        """A plan reports what an ingest would do, even if there is nothing yet, and does none of it."""
        first = index.plan(RECORDS)
        assert (first.records, first.written, first.encoded) == (3, 3, 3)
        with pytest.raises(StoreMissing):
            index.count()
        index.ingest(RECORDS)
        before = encoder.stats.texts
        changed = [replace(BREAD, text="Bread is baked."), replace(VIRUS, metadata={}), Record("new", "word " * 2_000)]
        planned = index.plan(changed, prune=True)
        assert encoder.stats.texts == before
        done = index.ingest(changed, prune=True)
        for name in ("records", "written", "encoded", "unchanged", "deleted", "rejected", "repeated", "blank"):
            assert getattr(planned, name) == getattr(done, name), name
        assert done.deleted == 1

    def test_records_that_could_not_be_read(self, index: Index) -> None:
        """Records that could not be read are reported, and their stored versions stay."""
        index.ingest(RECORDS)
        report = index.ingest([BREAD, Skipped("virus", "cannot be read")], prune=True)
        assert (report.records, report.unchanged, report.deleted) == (1, 1, 1)
        assert report.rejected == [("virus", "cannot be read")]
        assert set(index.record_ids()) == {"bread", "virus"}
        report = index.ingest([BREAD, Skipped("virus", "has no text any more", gone=True)], prune=True)
        assert (report.deleted, report.rejected) == (1, [("virus", "has no text any more")])
        assert set(index.record_ids()) == {"bread"}

    def test_records_that_are_blank(self, index: Index) -> None:
        """Blank records are not errors, and their stored versions are removed if pruning was asked for."""
        index.ingest(RECORDS)
        for prune, left in ((False, {"bread", "river", "virus"}), (True, {"bread"})):
            report = index.ingest([BREAD, Skipped("virus", "is empty", blank=True)], prune=prune)
            assert (report.records, report.rejected, report.blank) == (1, [], ["virus"])
            assert set(index.record_ids()) == left

    def test_prune_some(self, index: Index) -> None:
        """Only records that meet a condition, and that a function reports as gone, are removed."""
        index.ingest(RECORDS)
        assert index.ingest([BREAD], prune=Pruning({"topic": "health"}, lambda id_, _: id_ == "river")).deleted == 0
        report = index.ingest([BREAD], prune=Pruning(gone=lambda _, metadata: metadata["topic"] == "earth"))
        assert report.deleted == 1
        assert set(index.record_ids()) == {"bread", "virus"}
        assert index.ingest([BREAD], prune=Pruning({"topic": {"$in": ["health", "earth"]}})).deleted == 1
        with pytest.raises(FilterError):
            index.ingest([BREAD], prune=Pruning({"$nor": []}))

    def test_prune_leaves_what_was_changed_meanwhile(self, new_store: NewStore, index: Index, encoder: Encoder) -> None:
        """A record that another ingest describes again while `gone` is asked no longer meets the condition."""
        index.ingest(RECORDS)
        other = Index(new_store(), encoder)
        moved = replace(RIVER, metadata={"topic": "water"})

        def gone(id_: str, _: object) -> bool:
            if id_ == "river":
                assert other.ingest([moved]).written == 1
            return True

        pruning = Pruning({"topic": {"$in": ["health", "earth"]}}, gone)
        assert index.ingest([BREAD], prune=pruning).deleted == 1
        assert {each.chunk.record_id: each.chunk.metadata for each in index.read()} == {
            "bread": BREAD.metadata, "river": moved.metadata
        }  # fmt: skip

    def test_clear(self, index: Index) -> None:
        """All records are removed; if there is no place, none is made."""
        assert index.clear() == index.delete(["bread"]) == 0
        with pytest.raises(StoreMissing):
            index.count()
        index.ingest(RECORDS)
        assert index.clear() == 3
        assert (index.count(), list(index.record_ids()), index.search("bread")) == (0, [], [])

    def test_drop(self, new_store: NewStore, index: Index, encoder: Encoder) -> None:
        """Nothing is left after a drop, even for others that had it open, until something is ingested again."""
        store = new_store()
        store.drop()
        index.ingest(RECORDS)
        opened = store.open(encoder.space)
        assert opened.count() == 3
        store.drop()
        vectors = encoder.encode_queries(["bread"])
        uses: list[Callable[[], Any]] = [
            *(lambda: store.open(encoder.space), store.describe, index.count, lambda: index.search("bread")),
            *(opened.count, lambda: opened.search(Search(vectors, 3)), lambda: list(opened.read())),
        ]
        for use in uses:
            with pytest.raises(StoreMissing, match="ingest something"):
                use()
        assert store.space() is None
        store.drop()
        assert index.ingest(RECORDS[:2]).written == 2
        assert [match.record_id for match in index.search("bread yeast", k=1)] == ["bread"]
        assert (index.count(), opened.count(), store.space()) == (2, 2, encoder.space)
        store.close()

    def test_a_list_of_candidates(self, index: Index, encoder: Encoder) -> None:
        """The number of candidates is accepted, whatever the store does with it; few chunks are found anyway."""
        index.ingest(RECORDS)
        vectors = encoder.encode_queries(["bread yeast", "sand sea"])
        opened = index.store.open(encoder.space)
        for ef in (1, 100, 5_000):
            assert opened.search(Search(vectors, 2, ef=ef)) == opened.search(Search(vectors, 2))

    def test_indexes_apart(self, index: Index) -> None:
        """Indexes are built on request, and searches are right before and after."""
        index.ingest(RECORDS, build_indexes=False)
        assert index.search("bread yeast", k=1)[0].record_id == "bread"
        index.build_indexes()
        assert index.search("bread yeast", k=1)[0].record_id == "bread"

    def test_nothing_there(self, index: Index) -> None:
        """A search before any ingest is an error, because a wrong name is more likely than an empty index."""
        for use in (lambda: index.search("bread"), index.count):
            with pytest.raises(StoreMissing, match="ingest something"):
                use()

    def test_a_record_that_changed_meanwhile(self, new_store: NewStore, index: Index, encoder: Encoder) -> None:
        """A plan for a record that has changed since is not carried out; its other records are written."""
        index.ingest(RECORDS)
        store = new_store()
        opened = store.open(encoder.space, create=True)
        known = opened.known(["bread", "virus"])
        index.ingest([replace(BREAD, text="somebody else's")])
        chunks = [Chunk.of(replace(each, text="mine"), 0, 0, "mine") for each in (BREAD, VIRUS)]
        vectors = encoder.encode_documents(["mine", "mine"])
        write = Write({"bread": 1, "virus": 1}, chunks, vectors, [], known)
        written = opened.write(write)
        assert (list(written.changed), written.deleted) == (["bread"], 0)
        texts = {match.record_id: match.text for match in index.search("mine", k=9)}
        assert texts == {"bread": "somebody else's", "virus": "mine", "river": RIVER.text}
        assert list(opened.write(write).changed) == ["bread"]  # again, as after a lost answer: virus is as it should be
        store.close()

    def test_two_writers(self, new_store: NewStore, encoder: Encoder) -> None:
        """Two writers write the same records at once: each record ends up as one of them wrote it, whole."""
        start = threading.Barrier(2)

        def run(name: str) -> IngestReport:
            with Index(new_store(), encoder, chunking=Chunking(tokens=16)) as index:
                start.wait(60)
                lengths = range(1, 40) if name == "one" else range(39, 0, -1)
                return index.ingest(
                    Record(f"r{number}", f"{name} said this thing. " * length) for number, length in enumerate(lengths)
                )

        with ThreadPoolExecutor(2) as pool:
            for _ in range(3):
                for report in pool.map(run, ("one", "two")):
                    assert report.rejected == []
        with Index(new_store(), encoder) as index:
            records: dict[str, list[Any]] = {}
            for match in index.search("said", k=10_000):
                records.setdefault(match.record_id, []).append(match)
        assert len(records) == 39
        for number in range(39):
            parts = sorted(records[f"r{number}"], key=lambda match: match.number)
            assert [part.number for part in parts] == list(range(len(parts)))
            names = {word for part in parts for word in part.text.split() if word in ("one", "two")}
            assert len(names) == 1
            length = number + 1 if names == {"one"} else 39 - number
            assert sum(part.text.count("said") for part in parts) == length


def _nested(depth: int) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    for _ in range(depth):
        metadata = {"x": metadata}
    return metadata
