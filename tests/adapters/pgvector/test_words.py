"""Keyword search on a real Postgres: the contract, and behaviour specific to Postgres."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
import psycopg
import pytest
from harrier_pgvector import PgVectorStore, by_word
from harrier_pgvector.opened import OpenTable
from harrier_pgvector.words import words_of
from psycopg import sql
from psycopg.conninfo import make_conninfo
from syncs import Execute

from harrier_core import EmbeddingSpace, Record, SettingError, StoreUnsuitable
from harrier_core.filters import parse
from harrier_core.lexical import VERSION, Terms, document_terms, query_terms
from harrier_core.query import Search, WordSearch
from harrier_core.records import Chunk, Match
from harrier_core.store import VectorStore, Write
from harrier_core.testing.wording import WordingContract


class TestPgVectorStore(WordingContract):
    """Run the whole contract, with separate tables for each test."""

    @pytest.fixture
    def new_store(self, postgres: str, table: str) -> Callable[[], VectorStore]:
        return lambda: PgVectorStore(postgres, table=table, keywords=True)

    @pytest.fixture
    def wordless_store(self, postgres: str, table: str) -> Callable[[], VectorStore]:
        return lambda: PgVectorStore(postgres, table=f"{table} wordless")


@pytest.mark.slow
class TestFloat32(TestPgVectorStore):
    """Run the contract with float32 vectors."""

    @pytest.fixture
    def new_store(self, postgres: str, table: str) -> Callable[[], VectorStore]:
        return lambda: PgVectorStore(postgres, table=table, keywords=True, precision="float32")


SPACE = EmbeddingSpace("made", None, "w", "t", 4, "last token", "l2", "{text}")
STATE = """
    SELECT a.attname, a.attnotnull, a.attstorage, a.attstattarget, format_type(a.atttypid, a.atttypmod),
        col_description(a.attrelid, a.attnum)
    FROM pg_attribute a WHERE a.attrelid = 'docs'::regclass AND a.attnum > 0 AND NOT a.attisdropped"""


def fill(store: PgVectorStore, records: Sequence[Record]) -> OpenTable:
    """Store each record as one chunk, and build the indexes."""
    opened = store.open(SPACE, create=True)
    for begin in range(0, len(records), 2_000):
        chunks = [Chunk.of(record, 0, 0, record.text) for record in records[begin : begin + 2_000]]
        vectors = np.random.default_rng(begin).normal(size=(len(chunks), 4)).astype(np.float32)
        new: dict[str, dict[int, bytes]] = {chunk.record_id: {} for chunk in chunks}
        opened.write(Write(dict.fromkeys(new, 1), chunks, vectors, [], new))
    opened.build_indexes()
    return opened


def asked(opened: OpenTable, query: str, k: int = 10, where: dict[str, Any] | None = None) -> list[Match]:
    """Return the matches of a keyword search."""
    [(found, near)] = opened.search_words(WordSearch([query_terms(query)], k, parse(where)))
    assert near == []
    return list(found)


def ids(matches: Sequence[Match]) -> list[str]:
    return [match.record_id for match in matches]


def from_metadata(opened: OpenTable, query: str, where: dict[str, Any]) -> int:
    """Return how many rows the metadata index passes to a keyword search."""
    search = WordSearch([query_terms(query)], 10, parse(where))
    [(statement, values, _)], settings = by_word.request(opened._opened, search, [0])

    def explain(connection: psycopg.Connection) -> Any:
        with connection.transaction():
            for name, value in settings.items():
                connection.execute("SELECT set_config(%s, %s, true)", [name, value])
            [(plan,)] = connection.execute(
                sql.SQL("EXPLAIN (ANALYZE, FORMAT JSON) {}").format(statement), values
            ).fetchall()
        return plan[0]["Plan"]

    plans, rows = [opened._connections.run(explain)], 0
    while plans:
        plan = plans.pop()
        plans += plan.get("Plans", [])
        if plan.get("Index Name") == "docs_metadata_idx":
            rows += plan["Actual Rows"] * plan["Actual Loops"]
    return int(rows)


class Exact:
    """Compute exact BM25 over all rows."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records
        self._terms = [dict(zip(t.ids, t.weights, strict=True)) for t in (document_terms(r.text) for r in records)]
        self._df = Counter(term for own in self._terms for term in own)

    def best(
        self, query: str, k: int, where: Callable[[Mapping[str, Any]], object] = lambda metadata: True
    ) -> list[str]:
        terms, number = query_terms(query), len(self._records)
        idf = {term: math.log(1 + (number - self._df[term] + 0.5) / (self._df[term] + 0.5)) for term in terms.ids}
        weights = {term: idf[term] * boost for term, boost in zip(terms.ids, terms.weights, strict=True)}
        scores = [
            (-sum(weight * own.get(term, 0.0) for term, weight in weights.items()), record.id)
            for own, record in zip(self._terms, self._records, strict=True)
            if where(record.metadata)
        ]
        return [record_id for score, record_id in sorted(scores)[:k] if score]


@pytest.mark.slow
def test_a_large_table(database: str) -> None:
    """Beyond the budget, most of the best rows are found; under a selective condition, all of them."""
    chance = random.Random(5)
    words = [f"{chance.choice('bdfghklmnprst')}{chance.choice('aeiou')}{number:x}" for number in range(4_000)]
    records = [
        Record(
            f"r{number:05}",
            " ".join(["the"] * (number % 4 > 0) + [words[int(4_000 * chance.random() ** 3)] for _ in range(25)]),
            {
                "few": number % 500 == 0,
                "half": number % 2 == 0,
                "tenth": number % 10 == 3,
                "hundredth": number % 100 == 7,
            },
        )
        for number in range(20_000)
    ]
    exact = Exact(records)
    queries = [f"the {words[3 + 7 * at]} {words[100 + 90 * at]}" for at in range(12)]
    queries += [f"{words[at]} {words[2_000 + 31 * at]} {words[3_900 - at]}" for at in range(12)]
    with PgVectorStore(database, "docs", keywords=True) as store:
        opened = fill(store, records)
        found = [len({*ids(asked(opened, query))} & {*exact.best(query, 10)}) for query in queries]
        assert sum(found) >= 0.9 * sum(len(exact.best(query, 10)) for query in queries)
        for field, best in (("half", 0.9), ("tenth", 0.97), ("hundredth", 1.0), ("few", 1.0)):
            expected = [exact.best(query, 10, itemgetter(field)) for query in queries]
            those = [ids(asked(opened, query, 10, {field: True})) for query in queries]
            both = [len({*some} & {*others}) for some, others in zip(those, expected, strict=True)]
            assert sum(both) >= best * sum(map(len, expected)), field
        # The metadata index is used only for conditions that few rows meet.
        assert from_metadata(opened, queries[12], {"half": True}) == 0
        assert 0 < from_metadata(opened, queries[0], {"few": True}) <= 200
        often = ids(asked(opened, "the the", 10))
        assert len(often) == 10
        assert all(ids(asked(opened, "the the", 10)) == often for _ in range(5))
        assert len(asked(opened, f"the {records[7].text.split()[-1]} zzz", 10)) == 10


def test_tampered_words(database: str, execute: Execute) -> None:
    """Words that do not match the text are found, and only another write repairs them."""
    records = [Record(f"r{number}", f"text number {number}") for number in range(600)]
    with PgVectorStore(database, "docs", keywords=True) as store:
        opened = fill(store, records)
        assert list(opened.wrong_keywords()) == []
        execute("UPDATE docs SET terms = terms || 7 WHERE record_id = 'r3'")
        execute("UPDATE docs SET lex = (SELECT lex FROM docs WHERE record_id = 'r1') WHERE record_id = 'r599'")
        execute("UPDATE docs SET text = 'another' WHERE record_id = 'r5'")
        assert sorted(chunk.record_id for chunk in opened.wrong_keywords()) == ["r3", "r5", "r599"]


def test_words_of_another_version(database: str, execute: Execute) -> None:
    """Newer words are neither searched nor extended; older ones are renewed."""
    records = [Record(f"r{number}", f"text number {number}") for number in range(20)]
    with PgVectorStore(database, "docs", keywords=True) as store:
        opened = fill(store, records)
        for version, cure in ((VERSION + 1, "update harrier-kit"), (VERSION - 1, "renew them")):
            execute(f"COMMENT ON COLUMN docs.lex IS '{json.dumps({'words': version})}'")
            assert store.describe().keywords is False
            assert cure in store.describe().health
            for _ in range(2):  # the first search uses the open table, and checks it in the same round trip
                with pytest.raises(StoreUnsuitable, match=cure):
                    asked(opened, "number")
            assert opened.keywords_problem()
            with pytest.raises(StoreUnsuitable, match=cure):
                fill(store, [Record("new", "new")])
            assert len(opened.search(Search(np.eye(1, 4, dtype=np.float32), 3))[0]) == 3
            assert opened.delete([f"r{version}"]) == 1
            if version > VERSION:
                with pytest.raises(StoreUnsuitable, match=cure):
                    opened.add_keywords(print)
        execute("UPDATE docs SET terms = '{1}'")  # as an older version may have had them
        opened.add_keywords(lambda number: None)
        assert ids(asked(opened, "number 7", 1)) == ["r7"]
        assert list(opened.wrong_keywords()) == []


def test_a_foreign_column(database: str, execute: Execute) -> None:
    """It is left alone."""
    with PgVectorStore(database, "docs") as store:
        opened = fill(store, [Record("r", "text")])
        execute("ALTER TABLE docs ADD COLUMN terms text DEFAULT 'mine'")
        with pytest.raises(StoreUnsuitable, match="'terms', and search by word needs that name; rename it"):
            opened.add_keywords(lambda number: None)
        assert execute("SELECT terms FROM docs") == [("mine",)]


def test_a_reader_under_row_level_security(database: str, execute: Execute, new_role: Callable[[str], str]) -> None:
    """SELECT on the table suffices, and hidden rows are not found."""
    odd = "100% {x} 'a' \"b\" \\ %s"
    records = [
        Record(f"r{number:04}", f"the text number {number}", {"tenant": number % 2, odd: odd})
        for number in range(1_500)
    ]
    with PgVectorStore(database, "docs", keywords=True) as store:
        fill(store, records)
        role = new_role("reader")
        execute(f"GRANT SELECT ON docs TO {role}")
        execute("ALTER TABLE docs ENABLE ROW LEVEL SECURITY")
        execute("CREATE POLICY own ON docs USING (metadata @> '{\"tenant\": 1}')")
        with PgVectorStore(make_conninfo(database, user=role), "docs") as theirs:
            opened = theirs.open(SPACE)
            assert ids(asked(opened, "number 7", 1, {odd: odd})) == ["r0007"]
            assert asked(opened, "8") == []
            assert len(asked(opened, "the text", 1_000)) == 750
            assert asked(opened, "number 7", 1, {odd: "%s"}) == []


def test_a_concurrent_writer(database: str, execute: Execute) -> None:
    """Rows written meanwhile get words, also from an older store or plain SQL."""
    records = [Record(f"r{number:04}", f"text number {number}") for number in range(1_200)]
    plain = "INSERT INTO docs SELECT %s, number, text, metadata, start_at, end_at, hash, embedding FROM docs LIMIT 1"
    with PgVectorStore(database, "docs") as store, PgVectorStore(database, "docs") as other:
        opened, before = fill(store, records), other.open(SPACE)
        told: list[int] = []

        def beside(number: int) -> None:
            at = len(told)
            told.append(number)
            new: dict[str, dict[int, bytes]] = {f"new{at}": {}}
            vectors = np.ones((1, 4), np.float32)
            before.write(Write({f"new{at}": 1}, [Chunk(f"new{at}", 0, f"zeppelin{at}", {}, 0, 9)], vectors, [], new))
            if at < 6:
                execute(plain, [f"plain{at}"])

        opened.add_keywords(beside)
        assert told == sorted(told)
        assert before.keywords_problem() is None
        assert list(before.wrong_keywords()) == []
        assert execute("SELECT count(*) FROM docs WHERE record_id LIKE 'plain%'") == [(6,)]
        assert ids(asked(before, "zeppelin3", 1)) == ["new3"]
        with pytest.raises(psycopg.errors.NotNullViolation):
            execute(plain, ["late"])


ADDING = """
import sys
from harrier_pgvector import PgVectorStore, by_word
from harrier_core.contents import Contents
with Contents(PgVectorStore(sys.argv[1], sys.argv[2])) as contents:
    print("begin", flush=True)
    contents.add_keywords()
"""


def test_killed_while_words_are_added(database: str, execute: Execute, pytestconfig: pytest.Config) -> None:
    """After a kill at any point, adding continues and ends like a table created with words."""
    records = [Record(f"r{number:04}", f"a text {number % 97} of number {number}") for number in range(2_500)]
    words = "SELECT record_id, terms, lex::text, hash FROM docs ORDER BY 1"
    indexes = "SELECT indexdef FROM pg_indexes WHERE tablename = 'docs' ORDER BY 1"
    with PgVectorStore(database, "docs", keywords=True) as store:
        fill(store, records)
        clean = execute(words), execute(STATE), [each for (each,) in execute(indexes)]
    execute("DROP TABLE docs")
    with PgVectorStore(database, "docs") as store:
        fill(store, records)
        chance = random.Random(3)
        caught = 0
        for _ in range(pytestconfig.getoption("--kills")):
            command = [sys.executable, "-c", ADDING, database, "docs"]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout
                assert process.stdout.readline() == "begin\n"
                time.sleep(chance.uniform(0, 1))  # kill at a random moment
                caught += process.poll() is None
                process.kill()
        assert caught
        opened = store.open(SPACE)
        if opened.keywords_problem():
            opened.add_keywords(lambda number: None)
        left = execute(words), execute(STATE), sorted(each.replace("_idx1", "_idx") for (each,) in execute(indexes))
        assert left == (clean[0], clean[1], sorted(clean[2]))
        assert execute("SELECT 1 FROM pg_constraint WHERE conname = 'harrier_words'") == []
        assert execute("SELECT 1 FROM pg_index WHERE NOT indisvalid") == []


def test_an_index_that_a_kill_left_invalid(database: str, execute: Execute) -> None:
    """It is dropped and built again."""
    records = [Record(f"r{number}", f"text number {number}") for number in range(1_100)]
    with PgVectorStore(database, "docs") as store:
        opened = fill(store, records)
        opened.add_keywords(lambda number: None)
        execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'docs_terms_idx'::regclass")
        execute("COMMENT ON COLUMN docs.lex IS NULL")
        assert "call it again if it was interrupted" in store.describe().health
        opened.add_keywords(lambda number: None)
        found = execute(
            "SELECT x.relname, i.indisvalid FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid "
            "WHERE i.indrelid = 'docs'::regclass AND x.relname LIKE '%terms%'"
        )
        assert found == [("docs_terms_idx", True)]


def test_words_that_do_not_fit(monkeypatch: pytest.MonkeyPatch, database: str) -> None:
    """Colliding ids are merged, and the terms with the highest weights are kept."""
    with monkeypatch.context() as patched:
        terms = Terms((5, 7, 1_000_000_005, 2_000_000_006), (1.0, 2.0, 0.5, 3.0))
        patched.setattr("harrier_pgvector.words.document_terms", lambda text: terms)
        stored, weights = words_of("")
        assert (stored.tolist(), weights.tolist()) == ([5, 6, 7], [1.5, 3.0, 2.0])
    long = " ".join([*(f"{number:x}" for number in range(20_000)), "zeppelin zeppelin"])
    with PgVectorStore(database, "docs", keywords=True) as store:
        opened = fill(store, [Record("long", long), Record("none", "?!"), Record("short", "one")])
        assert ids(asked(opened, "zeppelin")) == ["long"]
        assert list(opened.wrong_keywords()) == []


def test_keywords_must_be_a_bool() -> None:
    """A configuration of another library is not accepted."""
    with pytest.raises(SettingError, match="keywords must be True or False, got str"):
        PgVectorStore("postgresql://h/db", keywords="english")  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="hybrid_search_config=; write keywords=True"):
        PgVectorStore("postgresql://h/db", hybrid_search_config=object())  # type: ignore[call-arg]


@pytest.mark.parametrize("adds", [False, True])
def test_words_that_wait_for_the_index(database: str, execute: Execute, *, adds: bool) -> None:
    """Postgres collects new words in a list, which each search reads for each of its terms; it stays short."""
    chance = random.Random(7)

    def some(name: str, number: int) -> list[Record]:
        texts = (" ".join(f"w{chance.randrange(9_000)}" for _ in range(60)) for _ in range(number))
        return [Record(f"{name}{at:04}", text) for at, text in enumerate(texts)]

    with PgVectorStore(database, "docs", keywords=not adds) as store:
        opened = fill(store, some("a", 1_100))
        if adds:
            opened.add_keywords(lambda number: None)
        execute("ALTER TABLE docs SET (autovacuum_enabled = false)")
        execute("SELECT gin_clean_pending_list('docs_terms_idx')")
        for at in range(10):
            fill(store, some(f"b{at}", 100))
        [(pages,)] = execute("SELECT gin_clean_pending_list('docs_terms_idx')")
        assert 8_192 * pages <= 2 * 256 * 1024


def test_a_list_of_any_length(database: str, execute: Execute, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows have the words, a search finds as many as it asks for, with and without conditions."""
    for name, value in (("_EXACT", 50), ("_BUDGET", 20), ("_MOST", 80)):  # as if the table had a million rows
        monkeypatch.setattr(by_word, name, value)
    words = ("bread", "river", "bridge", "bread rivers violin")
    own = [str(at).translate(str.maketrans("0123456789", "abcdefghij")) for at in range(1_200)]
    records = [Record(f"r{at:04}", f"{words[at % 4]} {own[at]}", {"half": at % 8 < 4}) for at in range(1_200)]
    with PgVectorStore(database, "docs", keywords=True) as store:
        opened = fill(store, records)
        for analyzed in (True, False):
            if not analyzed:
                execute("DELETE FROM pg_statistic WHERE starelid = 'docs'::regclass")
            for query, number in (("bread", 600), (f"bread {own[5]}", 601), ("violin bread river bridge", 1_200)):
                assert len(asked(opened, query, 1_100)) == min(number, 1_100)
                assert len(asked(opened, query, 2_000)) == number
                assert len({*ids(asked(opened, query, 250))}) == 250
                for served in ({"half": True}, {"half": {"$ne": False}}):
                    half = [record for record in records if record.metadata["half"]]
                    those = {*ids(asked(opened, query, 2_000, served))}
                    assert those == {each.id for each in half if {*each.text.split()} & {*query.split()}}
