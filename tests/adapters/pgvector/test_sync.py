"""The live sync: chunks follow every change of a table's rows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from harrier_pgvector import PgVectorStore
from harrier_pgvector.sync import SyncWorker, TableSync, sync_statuses
from ingesting import Hashing
from psycopg.conninfo import make_conninfo
from syncs import Execute, opened

from harrier_core import Chunking, Encoded, Encoder, Index
from harrier_core.errors import SettingError, StoreMissing, StoreUnavailable, StoreUnsuitable, WrongSpace


@pytest.fixture
def articles(execute: Execute) -> None:
    """Return a table with three rows."""
    execute("CREATE TABLE articles (id int PRIMARY KEY, title text, body text, lang text, views int DEFAULT 0)")
    execute("INSERT INTO articles SELECT i, 'title ' || i, 'body ' || i, 'en' FROM generate_series(1, 3) AS i")


def declare(database: str, source: str = "articles", table: str = "chunks", **options: Any) -> TableSync:
    settings: dict[str, Any] = {"text": ["title", "body"], "chunking": Chunking(tokens=16), **options}
    sync = opened(database, table=table)
    sync.create(source, Hashing().space, **settings)
    return sync


def drain(database: str, encoder: Any = None, **options: Any) -> Any:
    """Run a worker until the queue is empty, and return the texts that it encoded."""
    encoder = encoder or Hashing()
    worker = SyncWorker(database, encoder, poll=0.2, **options)
    worker.drain()
    return getattr(encoder, "encoded", None)


def texts(execute: Execute, table: str = "chunks") -> dict[str, list[str]]:
    """Return the texts of all chunks by record."""
    found: dict[str, list[str]] = {}
    for record_id, text in execute(f'SELECT record_id, text FROM "{table}" ORDER BY record_id, number'):
        found.setdefault(record_id, []).append(text)
    return found


_PLAIN = "CREATE TABLE articles (id int PRIMARY KEY, title text)"


class TestChanges:
    """Relevant changes of every kind are applied, and irrelevant ones cause no work."""

    @pytest.mark.usefixtures("articles")
    def test_existing_and_new_rows(self, database: str, execute: Execute) -> None:
        sync = declare(database, metadata=["lang"])
        assert sorted(drain(database)) == [f"title {i}\n\nbody {i}" for i in (1, 2, 3)]
        execute("INSERT INTO articles VALUES (4, 'new', NULL, 'fr')")
        execute("UPDATE articles SET body = 'other' WHERE id = 1")
        execute("DELETE FROM articles WHERE id = 2")
        assert sync.status().pending == 3
        assert sorted(drain(database)) == ["new", "title 1\n\nother"]
        assert texts(execute) == {"1": ["title 1\n\nother"], "3": ["title 3\n\nbody 3"], "4": ["new"]}
        assert execute("SELECT metadata FROM chunks WHERE record_id = '4'") == [({"lang": "fr"},)]

    @pytest.mark.usefixtures("articles")
    def test_words_follow_changes(self, database: str, execute: Execute) -> None:
        """Words are kept for tables declared with keywords, and for tables that get keywords later."""
        wanted: dict[str, Any] = {"text": "body", "keywords": True, "dry_run": True}
        assert "lex public.sparsevec" in opened(database).create("articles", Hashing().space, **wanted).replace('"', "")
        declare(database, keywords=True)
        declare(database, table="wordless")
        drain(database)
        with Index(PgVectorStore(database, "wordless"), Hashing()) as index:
            index.add_keywords()
        execute("UPDATE articles SET body = 'zeppelin' WHERE id = 1")
        drain(database)
        for table in ("chunks", "wordless"):
            with Index(PgVectorStore(database, table), Hashing()) as index:
                assert [match.record_id for match in index.search("zeppelin", mode="keyword")] == ["1"]
                assert [match.record_id for match in index.search("3", mode="keyword")] == ["3"]
                assert index.verify().sound

    @pytest.mark.usefixtures("articles")
    def test_other_columns(self, database: str, execute: Execute) -> None:
        sync = declare(database, metadata=["lang"])
        drain(database)
        execute("UPDATE articles SET views = views + 1")
        execute("UPDATE articles SET body = body")
        assert sync.status().pending == 0

    @pytest.mark.usefixtures("articles")
    def test_metadata_only(self, database: str, execute: Execute) -> None:
        declare(database, metadata=["lang"])
        drain(database)
        execute("UPDATE articles SET lang = 'de'")
        assert drain(database) == []
        assert execute("SELECT DISTINCT metadata FROM chunks") == [({"lang": "de"},)]

    @pytest.mark.usefixtures("articles")
    def test_unchanged_chunks_of_a_changed_row(self, database: str, execute: Execute) -> None:
        declare(database)
        long = [f"Sentence number {i} has a few words, and then it ends." for i in range(20)]
        execute("UPDATE articles SET body = %s WHERE id = 1", [" ".join(long)])
        drain(database)
        execute("UPDATE articles SET body = %s WHERE id = 1", [" ".join([*long[:-1], "The last one is new here."])])
        assert len(drain(database)) <= 2
        assert len(texts(execute)["1"]) >= 18

    @pytest.mark.usefixtures("articles")
    def test_no_text(self, database: str, execute: Execute) -> None:
        sync = declare(database)
        drain(database)
        execute("UPDATE articles SET title = NULL, body = ' ' WHERE id < 3")
        drain(database)
        assert list(texts(execute)) == ["3"]
        assert sync.status().failed == 0

    @pytest.mark.usefixtures("articles")
    def test_truncate(self, database: str, execute: Execute) -> None:
        declare(database)
        drain(database)
        execute("TRUNCATE articles")
        execute("INSERT INTO articles VALUES (2, 'new', NULL)")
        drain(database)
        assert texts(execute) == {"2": ["new"]}

    @pytest.mark.usefixtures("articles")
    def test_swapped_keys(self, database: str, execute: Execute) -> None:
        execute("ALTER TABLE articles DROP CONSTRAINT articles_pkey, ADD PRIMARY KEY (id) DEFERRABLE")
        declare(database)
        drain(database)
        execute("UPDATE articles SET id = 4 - id")
        drain(database)
        assert texts(execute) == {str(i): [f"title {4 - i}\n\nbody {4 - i}"] for i in (1, 2, 3)}

    @pytest.mark.usefixtures("articles")
    def test_statements_with_several_changes(self, database: str, execute: Execute) -> None:
        declare(database)
        drain(database)
        execute(
            "INSERT INTO articles VALUES (3, 'again', ''), (4, 'new', '') "
            "ON CONFLICT (id) DO UPDATE SET title = excluded.title, body = ''"
        )
        merge = (
            "MERGE INTO articles a USING (VALUES (1), (5)) AS v (id) ON a.id = v.id "
            "WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (id, title) VALUES (v.id, 'merged')"
        )
        if execute("SELECT current_setting('server_version_num')::int >= 150000") == [(True,)]:
            execute(merge)
        else:
            execute(
                "WITH d AS (DELETE FROM articles WHERE id = 1) INSERT INTO articles (id, title) VALUES (5, 'merged')"
            )
        drain(database)
        assert texts(execute) == {
            "2": ["title 2\n\nbody 2"], "3": ["again\n\n"], "4": ["new\n\n"], "5": ["merged"]
        }  # fmt: skip

    def test_deletes_that_cascade(self, database: str, execute: Execute) -> None:
        execute("CREATE TABLE authors (id int PRIMARY KEY)")
        execute("CREATE TABLE articles (id int PRIMARY KEY, title text, by int REFERENCES authors ON DELETE CASCADE)")
        execute("INSERT INTO authors VALUES (1), (2)")
        execute("INSERT INTO articles VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 1)")
        declare(database, text="title")
        drain(database)
        execute("DELETE FROM authors WHERE id = 1")
        drain(database)
        assert texts(execute) == {"2": ["b"]}

    def test_partitions(self, database: str, execute: Execute) -> None:
        """Rows written through the parent or directly, and moved rows, are followed."""
        execute("CREATE TABLE parts (id int, part int, title text, PRIMARY KEY (part, id)) PARTITION BY LIST (part)")
        for part in (1, 2):
            execute(f"CREATE TABLE parts_{part} PARTITION OF parts FOR VALUES IN ({part})")
        declare(database, "parts", text="title")
        execute("INSERT INTO parts VALUES (1, 1, 'a'), (2, 1, 'b'), (1, 2, 'c')")
        execute("INSERT INTO parts_2 VALUES (9, 2, 'direct')")
        drain(database)
        execute("UPDATE parts SET part = 2 WHERE id = 2")
        execute("UPDATE parts_1 SET title = 'new' WHERE id = 1")
        execute("DELETE FROM parts_2 WHERE id = 9")
        drain(database)
        assert texts(execute) == {'["1", "1"]': ["new"], '["2", "1"]': ["c"], '["2", "2"]': ["b"]}

    @pytest.mark.usefixtures("articles")
    def test_rescan_finds_changes_that_triggers_missed(self, database: str, execute: Execute) -> None:
        sync = declare(database)
        drain(database)
        execute("SET session_replication_role = replica")
        execute("UPDATE articles SET title = 'unseen' WHERE id = 1")
        execute("DELETE FROM articles WHERE id = 2")
        execute("SET session_replication_role = origin")
        assert drain(database) == []
        sync.rescan()
        assert drain(database) == ["unseen\n\nbody 1"]
        assert set(texts(execute)) == {"1", "3"}


class TestKeys:
    """Keys of every type have one written form, whatever the session's settings."""

    @pytest.mark.parametrize(
        ("kind", "values"),
        [
            ("bigint", ["-5", "9007199254740993"]),
            ("uuid", ["6f1f9b2e-0f5b-4f5e-9a53-0d6a3bd0a001", "6f1f9b2e-0f5b-4f5e-9a53-0d6a3bd0a002"]),
            ("text", ["a b", 'quo"ted\\ 100% {}, \u2603']),
            ('text COLLATE "en_US"', ["Ä", "a"]),
            ("varchar(20)", ["{1,2}", "NULL"]),
            ("numeric", ["1.50", "2"]),
            ("boolean", ["true", "false"]),
            ("date", ["2026-02-01", "infinity"]),
            ("date", ["0044-03-15", "0044-03-15 BC"]),
            ("date", ["infinity", "-infinity"]),
            ("timestamp", ["2026-02-01 10:00:00.5", "2026-02-01 10:00:00.25"]),
            ("timestamp", ["0044-03-15 10:00:00.5", "0044-03-15 10:00:00.5 BC"]),
            ("timestamp", ["infinity", "-infinity"]),
            ("timestamptz", ["2026-02-01 10:00:00+05", "2026-02-01 10:00:00+06"]),
            ("timestamptz", ["0044-03-15 10:00:00+05", "0044-03-15 10:00:00+05 BC"]),
            ("timestamptz", ["0001-01-01 02:00:00+05", "0001-12-31 02:00:00+00 BC"]),
            ("timestamptz", ["infinity", "-infinity"]),
            ("mood", ["ok", "not so good"]),
            ("positive", ["7", "8"]),
        ],
    )
    def test_of_one_column(self, database: str, execute: Execute, kind: str, values: list[str]) -> None:
        execute("CREATE TYPE mood AS ENUM ('ok', 'not so good')")
        execute("CREATE DOMAIN positive AS int CHECK (value > 0)")
        if "COLLATE" in kind:
            execute('CREATE COLLATION "en_US" FROM "C"')
        execute(f'CREATE TABLE "Odd, table%s" ("the ""key" {kind} PRIMARY KEY, note text)')
        plain = kind.partition(" ")[0]
        for value in values:
            execute(f"""INSERT INTO "Odd, table%%s" VALUES (%s::{plain}, 'note')""", [value])
        declare(database, "Odd, table%s", text="note")
        drain(database)
        first = list(texts(execute))
        assert len(first) == 2
        execute("SET TimeZone = 'Asia/Tokyo'")
        execute("SET DateStyle = 'German'")
        execute("""UPDATE "Odd, table%s" SET note = note || '!'""")
        drain(database)
        assert texts(execute) == {id_: ["note!"] for id_ in first}
        joined = execute("""SELECT s.note FROM "Odd, table%s" AS s JOIN chunks_by_key AS c USING ("the ""key")""")
        assert joined == [("note!",)] * 2
        execute("""DELETE FROM "Odd, table%s" """)
        drain(database)
        assert texts(execute) == {}

    def test_bc_and_ad_dates(self, database: str, execute: Execute) -> None:
        """BC dates are separate records, and the form of AD dates has not changed."""
        execute("CREATE TABLE days (day date, at timestamptz, note text, PRIMARY KEY (day, at))")
        for era in ("", " BC"):
            values = [f"0044-03-15{era}", f"0044-03-15 10:00+00{era}", f"note{era}"]
            execute("INSERT INTO days VALUES (%s, %s, %s)", values)
        declare(database, "days", text="note")
        drain(database)
        ours = '["0044-03-15", "0044-03-15T10:00:00.000000Z"]'
        assert texts(execute) == {
            ours: ["note"], '["0044-03-15 BC", "0044-03-15T10:00:00.000000Z BC"]': ["note BC"]
        }  # fmt: skip
        execute("DELETE FROM days WHERE note = 'note BC'")
        drain(database)
        assert texts(execute) == {ours: ["note"]}

    @pytest.mark.parametrize(
        ("create", "said"),
        [
            ("CREATE TABLE articles (id int, title text)", "no primary key"),
            ("CREATE TABLE articles (id float8 PRIMARY KEY, title text)", "more than one textual form"),
            ("CREATE VIEW articles AS SELECT 1 AS id, 'a' AS title", "not an ordinary table"),
            (f"{_PLAIN}; ALTER TABLE articles SET UNLOGGED", "run ALTER TABLE .* SET LOGGED"),
            (f"{_PLAIN}; CREATE UNLOGGED TABLE part () INHERITS (articles)", "public.part is UNLOGGED"),
            ("SELECT 1", "no table 'articles'"),
        ],
    )
    def test_unsuitable_keys(self, database: str, execute: Execute, create: str, said: str) -> None:
        execute(create)
        with pytest.raises(SettingError, match=said):
            declare(database, text="title")

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("titel", 'column "titel" does not exist'),
            ("title ||", "syntax error|operator does not exist"),
            ("(SELECT max(title) FROM articles)", "cannot use subquery"),
            ("max(title)", "aggregate functions are not allowed"),
            ("'fixed'", "names no column"),
            ([], "no text is named"),
        ],
    )
    @pytest.mark.usefixtures("articles")
    def test_unsuitable_texts(self, database: str, text: Any, said: str) -> None:
        with pytest.raises(SettingError, match=said):
            declare(database, text=text)

    @pytest.mark.usefixtures("articles")
    def test_expressions(self, database: str, execute: Execute) -> None:
        """Only the columns that an expression uses are watched."""
        sync = declare(database, text="title || ' 100% ' || upper(body)")
        drain(database)
        assert texts(execute)["1"] == ["title 1 100% BODY 1"]
        execute("UPDATE articles SET lang = 'xx', views = 7")
        assert sync.status().pending == 0

    @pytest.mark.parametrize("text", ["title || ' ' || (to_jsonb(s) ->> 'body')", "to_jsonb(s) ->> 'body'"])
    @pytest.mark.usefixtures("articles")
    def test_a_whole_row(self, database: str, execute: Execute, text: str) -> None:
        """A whole-row expression watches all columns."""
        declare(database, text=text)
        drain(database)
        execute("UPDATE articles SET body = 'other' WHERE id = 1")
        drain(database)
        assert texts(execute)["1"][0].endswith("other")

    def test_a_computed_column(self, database: str, execute: Execute) -> None:
        virtual = "VIRTUAL" if execute("SHOW server_version_num") >= [("180000",)] else "STORED"
        execute(
            "CREATE TABLE articles (id int PRIMARY KEY, a text, both_ text GENERATED ALWAYS AS (a || a) "
            + virtual
            + ")"
        )
        declare(database, text="both_")
        execute("INSERT INTO articles (id, a) VALUES (1, 'x')")
        drain(database)
        execute("UPDATE articles SET a = 'y'")
        drain(database)
        assert texts(execute) == {"1": ["yy"]}


class Poisoned(Hashing):
    """An encoder that crashes on certain texts."""

    def submit_documents(self, texts: Iterable[str]) -> Future[Encoded]:
        if any("poison" in text for text in texts):
            raise RuntimeError("a text, which nobody shall read")
        return super().submit_documents(texts)


class TestRowsThatCannotBeEmbedded:
    """Such rows are marked as failed with the reason, and their neighbours are processed."""

    @pytest.mark.usefixtures("articles")
    def test_an_expression_that_fails(self, database: str, execute: Execute) -> None:
        execute("INSERT INTO articles SELECT i, 'title', '', 'en', i FROM generate_series(10, 300) AS i")
        sync = declare(database, text="title || 1000 / (views - 77)", chunking=Chunking(tokens=16))
        drain(database)
        [failure] = sync.failures()
        assert failure.record_id == "77"
        assert failure.reason == "has a text or metadata that cannot be computed: DivisionByZero (22012)"
        assert len(texts(execute)) == 293
        assert (sync.status().failed, sync.status().pending) == (1, 0)
        execute("UPDATE articles SET views = 78 WHERE id = 77")
        drain(database)
        assert (sync.status().failed, len(texts(execute))) == (0, 294)

    @pytest.mark.usefixtures("articles")
    def test_a_text_that_is_too_long(self, database: str, execute: Execute, encoder: Encoder) -> None:
        sync = opened(database, table="chunks")
        sync.create("articles", encoder.space, text="body", chunking=Chunking(tokens=1_000_000))
        execute("UPDATE articles SET body = repeat('word ', 100000) WHERE id = 2")
        drain(database, encoder)
        [failure] = sync.failures()
        assert failure.record_id == "2"
        assert "tokens" in failure.reason
        assert "word" not in failure.reason
        assert set(texts(execute)) == {"1", "3"}

    @pytest.mark.usefixtures("articles")
    def test_a_row_that_crashes_the_encoder(self, database: str, execute: Execute, monkeypatch: Any) -> None:
        """It is retried in smaller and smaller batches, and then marked as failed."""
        monkeypatch.setattr("harrier_pgvector.sync.embedding._LONGEST_PAUSE", 0.01)
        monkeypatch.setattr("harrier_pgvector.sync.health._LOOK_AGAIN", 0.02)
        execute("INSERT INTO articles SELECT i, 'title', 'body' || i FROM generate_series(10, 100) AS i")
        execute("UPDATE articles SET body = 'poison' WHERE id = 50")
        sync = declare(database)
        drain(database, Poisoned())
        [failure] = sync.failures()
        assert failure.record_id == "50"
        assert "8 attempts" in failure.reason
        assert "unexpected RuntimeError" in failure.reason
        assert "nobody shall read" not in failure.reason
        assert len(texts(execute)) == 93
        assert sync.retry() == 1
        assert drain(database) == ["title\n\npoison"]

    @pytest.mark.usefixtures("articles")
    def test_truncated_meanwhile(self, database: str, execute: Execute) -> None:
        sync = declare(database, text="title || 1 / views")
        drain(database)
        assert sync.status().failed == 3
        execute("TRUNCATE articles")
        drain(database)
        assert sync.status().failed == 0


class TestLeases:
    """A worker that lost its lease writes nothing; a row that changed in the meantime stays in the queue."""

    @pytest.mark.usefixtures("articles")
    def test_changed_while_it_was_encoded(self, database: str, execute: Execute) -> None:
        class Meddling(Hashing):
            def submit_documents(self, texts: Iterable[str]) -> Future[Encoded]:
                if not self.encoded:
                    execute("UPDATE articles SET body = 'newer' WHERE id = 1")
                    execute("DELETE FROM articles WHERE id = 2")
                    while execute("SELECT 1 FROM harrier_sync.changes_1"):  # until the other lane has noted it
                        pass
                return super().submit_documents(texts)

        declare(database)
        encoded = drain(database, Meddling())
        assert encoded[-1] == "title 1\n\nnewer"
        assert texts(execute) == {"1": ["title 1\n\nnewer"], "3": ["title 3\n\nbody 3"]}

    @pytest.mark.usefixtures("articles")
    def test_a_row_that_always_changes_while_it_is_encoded(self, database: str, execute: Execute) -> None:
        """Each of its texts that was read is written, so it is one pass behind, and no further."""
        seen: list[int] = []

        class Meddling(Hashing):
            def submit_documents(self, texts_: Iterable[str]) -> Future[Encoded]:
                given = list(texts_)
                if any(each.startswith("version") for each in given) and len(seen) < 20:
                    [stored] = texts(execute)["1"]
                    seen.append(int(float(stored.split()[1])))
                    execute("UPDATE articles SET body = %s WHERE id = 1", [f"version {len(seen)}"])
                    while execute("SELECT 1 FROM harrier_sync.changes_1"):  # until the other lane has noted it
                        pass
                return super().submit_documents(given)

        execute("UPDATE articles SET body = 'version 0' WHERE id = 1")
        sync = declare(database, text="body")
        drain(database)
        execute("UPDATE articles SET body = 'version 0.5' WHERE id = 1")
        drain(database, Meddling())
        assert len(seen) == 20
        assert seen == sorted(seen)
        assert seen[-1] >= 10
        assert texts(execute)["1"] == ["version 20"]
        assert (sync.status().left, sync.status().failed) == (0, 0)

    @pytest.mark.usefixtures("articles")
    def test_an_expired_lease(self, database: str, execute: Execute) -> None:
        """A worker that stalled past its lease does not overwrite the newer result of another worker."""
        begun, go_on = threading.Event(), threading.Event()

        class Hanging(Hashing):
            def submit_documents(self, texts: Iterable[str]) -> Future[Encoded]:
                begun.set()
                assert go_on.wait(60)
                return super().submit_documents([f"old {text}" for text in texts])

        declare(database)
        hanging = SyncWorker(database, Hanging(), lease=0.5, poll=0.1)
        hanging._keep = lambda: None  # type: ignore[method-assign]  # it does not extend its leases
        thread = threading.Thread(target=hanging.drain)
        thread.start()
        assert begun.wait(60)
        assert len(drain(database)) == 3
        before = execute("SELECT record_id, embedding::text, xmin FROM chunks ORDER BY 1")
        go_on.set()
        thread.join(60)
        assert execute("SELECT record_id, embedding::text, xmin FROM chunks ORDER BY 1") == before

    @pytest.mark.usefixtures("articles")
    def test_work_that_takes_longer_than_a_lease(self, database: str) -> None:
        class Slow(Hashing):
            def submit_documents(self, texts: Iterable[str]) -> Future[Encoded]:
                time.sleep(4)
                return super().submit_documents(texts)

        declare(database)
        one, other = Slow(), Slow()
        threads = [
            threading.Thread(target=drain, args=[database, each], kwargs={"lease": 3.0}) for each in (one, other)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(one.encoded + other.encoded) == 3

    @pytest.mark.usefixtures("articles")
    def test_no_transaction_while_it_encodes(self, database: str, execute: Execute) -> None:
        seen: list[Any] = []

        class Looking(Hashing):
            def submit_documents(self, texts: Iterable[str]) -> Future[Encoded]:
                seen.append(
                    execute(
                        "SELECT state, query FROM pg_stat_activity WHERE datname = current_database() "
                        "AND pid <> pg_backend_pid() AND xact_start IS NOT NULL AND now() - xact_start > '0.3 s'"
                    )
                )
                time.sleep(0.5)
                seen.append(
                    execute(
                        "SELECT state, query FROM pg_stat_activity WHERE datname = current_database() "
                        "AND pid <> pg_backend_pid() AND (state LIKE 'idle in%' OR now() - xact_start > '0.3 s')"
                    )
                )
                return super().submit_documents(texts)

        declare(database)
        drain(database, Looking())
        assert seen
        assert not any(seen)


class TestManyTables:
    """Several tables, workers, models and databases work together."""

    @pytest.mark.usefixtures("articles")
    def test_two_databases(self, database: str, new_database: Callable[[], str]) -> None:
        other = new_database()
        with psycopg.connect(other, autocommit=True) as connection:
            connection.execute("CREATE TABLE articles (id int PRIMARY KEY, title text)")
            connection.execute("INSERT INTO articles VALUES (1, 'over there')")
        declare(database)
        declare(other, text="title")
        encoder = Hashing()
        assert len(drain(database, encoder)) == 3
        assert drain(other, encoder)[3:] == ["over there"]
        assert [status.pending for place in (database, other) for status in sync_statuses(place)] == [0, 0]

    @pytest.mark.usefixtures("articles")
    def test_a_broken_one_among_sound_ones(self, database: str, execute: Execute) -> None:
        execute("CREATE TABLE doomed AS TABLE articles")
        execute("ALTER TABLE doomed ADD PRIMARY KEY (id)")
        declare(database, "doomed", "doomed_chunks")
        declare(database)
        execute("DROP TABLE doomed")
        drain(database)
        assert len(texts(execute)) == 3
        [broken, sound] = sync_statuses(database)
        assert (broken.state, sound.state) == ("broken", "active")
        assert "doomed, was dropped" in str(broken.reason)
        opened(database, table="doomed_chunks").drop()
        assert len(sync_statuses(database)) == 1

    @pytest.mark.usefixtures("articles")
    def test_a_table_of_another_space(self, database: str, execute: Execute, encoder: Encoder) -> None:
        """A worker skips tables of another model, and reports them."""
        declare(database)
        worker = SyncWorker(database, encoder, poll=0.1)
        worker.drain()
        assert "vectors of another space" in worker.troubles["public.chunks"]
        assert texts(execute) == {}
        with pytest.raises(WrongSpace):
            opened(database, table="chunks").create("articles", encoder.space, text="title", replace=True)

    def test_live_changes_overtake_a_back_fill(self, database: str, execute: Execute) -> None:
        execute("CREATE TABLE articles (id int PRIMARY KEY, title text)")
        execute("INSERT INTO articles SELECT i, 'old ' || i FROM generate_series(1, 7000) AS i")

        class Noting(Hashing):
            def submit_documents(self, texts: Iterable[str]) -> Future[Encoded]:
                if len(self.encoded) == 0:
                    execute("INSERT INTO articles VALUES (9000, 'live')")
                return super().submit_documents(texts)

        sync = declare(database, text="title")
        encoded = drain(database, Noting())
        assert len(encoded) == 7_001
        assert encoded.index("live") < 3_000
        assert sync.status().chunks > 6_000
        [[indexes]] = execute("SELECT count(*) FROM pg_indexes WHERE tablename = 'chunks' AND indexdef LIKE '%hnsw%'")
        assert indexes == 1

    @pytest.mark.parametrize("kind", ["a back-fill", "a truncation"])
    @pytest.mark.usefixtures("articles")
    def test_a_trickle_of_changes_does_not_stop_scans(
        self, database: str, execute: Execute, monkeypatch: pytest.MonkeyPatch, kind: str
    ) -> None:
        """A worker that always finds a change, but never a full batch, goes on with its scans."""
        monkeypatch.setattr("harrier_pgvector.sync.worker._LANES", 1)
        stored: list[set[str]] = []

        class Trickle(Hashing):
            def submit_documents(self, texts_: Iterable[str]) -> Future[Encoded]:
                stored.append(set(texts(execute)))
                if len(stored) < 20:
                    execute("INSERT INTO articles VALUES (%s, 'new')", [100 + len(stored)])
                return super().submit_documents(texts_)

        declare(database)
        if kind == "a truncation":
            drain(database)
            execute("TRUNCATE articles")
        execute("INSERT INTO articles VALUES (100, 'new')")
        drain(database, Trickle())
        assert len(stored) >= 20
        assert ({"1", "2", "3"} <= stored[10]) is (kind == "a back-fill")
        assert len(texts(execute)) == (23 if kind == "a back-fill" else 20)

    def test_indexed_when_it_has_grown(self, database: str, execute: Execute) -> None:
        """A worker builds the index once the table has enough rows."""
        execute("CREATE TABLE articles (id int PRIMARY KEY, title text)")
        declare(database, text="title")
        worker = SyncWorker(database, Hashing(), poll=0.1)
        thread = threading.Thread(target=worker.run)
        indexes = "SELECT count(*) FROM pg_indexes WHERE tablename = 'chunks' AND indexdef LIKE '%hnsw%'"
        thread.start()
        try:
            for number, indexed in ((5, 0), (1_000, 1)):
                more = "INSERT INTO articles SELECT %s + i, 'title ' || i FROM generate_series(1, %s::int) AS i"
                execute(more, [number, number])
                until = time.monotonic() + 60
                while execute("SELECT count(*) FROM chunks")[0][0] < number or execute(indexes) < [(indexed,)]:
                    assert time.monotonic() < until
                assert execute(indexes) == [(indexed,)]
        finally:
            worker.stop()
            thread.join(60)

    def test_tables_take_turns(self, database: str, execute: Execute) -> None:
        """A single change of one table does not wait for many changes of another."""
        for table, number in (("many", 4_000), ("few", 1)):
            execute(f"CREATE TABLE {table} (id int PRIMARY KEY, title text)")
            execute(f"INSERT INTO {table} SELECT i, '{table} ' || i FROM generate_series(1, {number}) AS i")
            declare(database, table, f"{table}_chunks", text="title")
        encoded = drain(database)
        assert len(encoded) == 4_001
        assert encoded.index("few 1") < 1_000

    @pytest.mark.usefixtures("articles")
    def test_two_models_of_one_table(self, database: str, execute: Execute, encoder: Encoder) -> None:
        declare(database)
        opened(database, table="others").create("articles", encoder.space, text="title")
        drain(database)
        drain(database, encoder)
        assert texts(execute).keys() == texts(execute, "others").keys() == {"1", "2", "3"}


class TestPersistentErrors:
    """A run until empty ends with the error, and a permanent run continues."""

    def test_a_server_that_is_away(self, monkeypatch: Any) -> None:
        monkeypatch.setattr("harrier_pgvector.sync.worker._PATIENCE", 1.0)
        begin = time.monotonic()
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            drain("postgresql://harrier@127.0.0.1:1/nothing")
        assert 1.0 <= time.monotonic() - begin < 20
        worker = SyncWorker("postgresql://harrier@127.0.0.1:1/nothing", Hashing(), poll=0.1)
        thread = threading.Thread(target=worker.run)
        thread.start()
        thread.join(3)  # three times its patience
        assert thread.is_alive()
        worker.stop()
        thread.join(60)

    @pytest.mark.parametrize("right", ["SELECT", "INSERT"])
    @pytest.mark.usefixtures("articles")
    def test_a_missing_privilege(
        self, database: str, execute: Execute, monkeypatch: Any, new_role: Callable[..., str], right: str
    ) -> None:
        """The other table is processed, and this one follows once the privilege is granted."""
        monkeypatch.setattr("harrier_pgvector.sync.health._LASTING", 1.0)
        monkeypatch.setattr("harrier_pgvector.sync.health._LOOK_AGAIN", 1.0)
        sync = declare(database)
        declare(database, table="others")
        role = new_role("worker")
        execute(f"GRANT USAGE ON SCHEMA harrier_sync TO {role}")
        execute(f"GRANT ALL ON ALL TABLES IN SCHEMA harrier_sync, public TO {role}")
        execute(f"REVOKE {right} ON chunks FROM {role}")
        as_role = make_conninfo(database, user=role)
        worker = SyncWorker(as_role, Hashing(), poll=0.1)
        thread = threading.Thread(target=worker.drain, daemon=True)
        thread.start()
        thread.join(30)
        ended = not thread.is_alive()
        worker.stop()
        thread.join(30)
        assert ended
        assert "permission denied for table chunks" in worker.troubles["public.chunks"]
        assert (len(texts(execute)), len(texts(execute, "others"))) == (0, 3)
        execute(f"GRANT {right} ON chunks TO {role}")
        drain(as_role)
        assert len(texts(execute)) == 3
        assert sync.status().pending == 0

    @pytest.mark.usefixtures("articles")
    def test_a_publication_of_all_tables(self, database: str, execute: Execute) -> None:
        """Postgres refuses to delete from a published table whose rows have no identity."""
        sync = declare(database)
        execute("CREATE PUBLICATION everything FOR ALL TABLES")
        execute("UPDATE articles SET body = 'other' WHERE id = 1")
        execute("DELETE FROM articles WHERE id = 2")
        drain(database)
        assert texts(execute) == {"1": ["title 1\n\nother"], "3": ["title 3\n\nbody 3"]}
        sync.rescan()
        drain(database)
        sync.pause()
        sync.resume()
        assert (sync.retry(), sync.status().left) == (0, 0)
        sync.drop()

    @pytest.mark.usefixtures("articles")
    def test_a_lasting_error_is_in_the_status(self, database: str, execute: Execute, monkeypatch: Any) -> None:
        """It is reported by the worker that has it, until that succeeds."""
        for setting in ("health._LASTING", "health._LOOK_AGAIN", "worker._SEEN"):
            monkeypatch.setattr(f"harrier_pgvector.sync.{setting}", 0.2)
        sync = declare(database)
        execute("CREATE PUBLICATION everything FOR ALL TABLES")
        execute("ALTER TABLE harrier_sync.changes_1 REPLICA IDENTITY NOTHING")
        execute("INSERT INTO articles VALUES (4, 'new')")
        worker = SyncWorker(database, Hashing(), poll=0.1)
        thread = threading.Thread(target=worker.run)
        thread.start()
        try:
            for state in ("failing", "active"):
                until = time.monotonic() + 60
                while (status := sync.status()).state != state or not status.workers:
                    assert time.monotonic() < until, status
                assert ("does not have a replica identity" in str(status.reason)) is (state == "failing")
                execute("ALTER TABLE harrier_sync.changes_1 REPLICA IDENTITY FULL")
        finally:
            worker.stop()
            thread.join(60)

    def test_more_metadata_than_a_function_takes(self, database: str, execute: Execute) -> None:
        names = [f"c{i}" for i in range(101)]
        execute(f"CREATE TABLE wide (id int PRIMARY KEY, note text, {', '.join(f'{name} int' for name in names)})")
        execute("INSERT INTO wide (id, note, c0, c50, c100) VALUES (1, 'note', 1, 2, 3)")
        sync = declare(database, "wide", text="note", metadata=names)
        worker = SyncWorker(database, Hashing(), poll=0.1)
        thread = threading.Thread(target=worker.drain, daemon=True)
        thread.start()
        thread.join(20)
        worker.stop()
        thread.join(60)
        assert sync.status().pending == 0
        [(found,)] = execute("SELECT metadata FROM chunks")
        assert {name: value for name, value in found.items() if value} == {"c0": 1, "c50": 2, "c100": 3}


class TestTheSourceChanges:
    """A migration breaks no application, and is reported."""

    @pytest.mark.parametrize(
        ("change", "back"),
        [
            ("ALTER TABLE articles RENAME title TO headline", "ALTER TABLE articles RENAME headline TO title"),
            ("ALTER TABLE articles DROP COLUMN title", "ALTER TABLE articles ADD COLUMN title text DEFAULT 'again'"),
            ("ALTER TABLE articles RENAME id TO key", "ALTER TABLE articles RENAME key TO id"),
            ("ALTER TABLE articles ALTER id TYPE bigint", "ALTER TABLE articles ALTER id TYPE int"),
        ],
    )
    @pytest.mark.usefixtures("articles")
    def test_columns(self, database: str, execute: Execute, change: str, back: str) -> None:
        sync = declare(database)
        drain(database)
        execute(change)
        execute("UPDATE articles SET body = 'unnoticed' WHERE views = 0")  # it succeeds
        execute("DELETE FROM articles WHERE body = 'unnoticed' AND lang IS NULL")
        drain(database)
        status = sync.status()
        assert status.state == "broken"
        assert "articles" in str(status.reason)
        assert len(texts(execute)) == 3
        execute(back)
        drain(database)
        assert sync.status().state == "active"
        assert all("unnoticed" in text for [text] in texts(execute).values())

    @pytest.mark.parametrize(
        "change",
        [
            "ADD COLUMN new text DEFAULT 'other', DROP COLUMN body; ALTER TABLE articles RENAME new TO body",
            "ALTER COLUMN body TYPE varchar(50) USING 'other'",
            "DROP COLUMN body; ALTER TABLE articles ADD COLUMN body text DEFAULT 'other'",
        ],
    )
    @pytest.mark.usefixtures("articles")
    def test_replaced_columns(self, database: str, execute: Execute, change: str) -> None:
        """Columns replaced while nothing was written are noticed."""
        sync = declare(database)
        drain(database)
        for statement in f"BEGIN; ALTER TABLE articles {change}; COMMIT".split("; "):
            execute(statement)
        drain(database)
        assert texts(execute) == {str(i): [f"title {i}\n\nother"] for i in (1, 2, 3)}
        assert (sync.status().state, sync.status().unscanned) == ("active", 0)
        scans = "SELECT last_value FROM harrier_sync.scans_id_seq"
        before = execute(scans)
        drain(database)
        assert execute(scans) == before  # once

    @pytest.mark.usefixtures("articles")
    def test_a_key_of_another_type(self, database: str, execute: Execute) -> None:
        sync = declare(database)
        drain(database)
        execute("ALTER TABLE articles ALTER id TYPE bigint")
        drain(database)
        assert sync.status().state == "broken"
        execute("ALTER TABLE articles ALTER id TYPE int")
        drain(database)
        assert sync.status().state == "active"
        assert len(texts(execute)) == 3

    @pytest.mark.usefixtures("articles")
    def test_a_rescan_that_fails(self, database: str, execute: Execute) -> None:
        """Repeated attempts wait only once."""
        sync = declare(database)
        drain(database)
        execute("UPDATE chunks SET record_id = 'no number' WHERE record_id = '2'")
        sync.rescan()
        for _ in range(3):
            drain(database)
            assert "not keys of its source" in str(sync.status().reason)
            kinds = execute("SELECT kind FROM harrier_sync.scans ORDER BY 1")
            assert kinds in ([("all",), ("orphans",)], [("orphans",)])
        execute("DELETE FROM chunks WHERE record_id = 'no number'")
        drain(database)
        assert set(texts(execute)) == {"1", "2", "3"}
        assert execute("SELECT count(*) FROM harrier_sync.scans") == [(0,)]

    @pytest.mark.usefixtures("articles")
    def test_a_retyped_column_that_is_still_a_text(self, database: str, execute: Execute) -> None:
        sync = declare(database)
        drain(database)
        execute("ALTER TABLE articles ALTER title TYPE varchar(500)")
        execute("UPDATE articles SET title = 'new' WHERE id = 1")
        drain(database)
        assert sync.status().state == "active"
        assert texts(execute)["1"] == ["new\n\nbody 1"]

    @pytest.mark.usefixtures("articles")
    def test_renamed_tables(self, database: str, execute: Execute) -> None:
        declare(database)
        execute("ALTER TABLE articles RENAME TO essays")
        execute("ALTER TABLE chunks RENAME TO pieces")
        drain(database)
        assert len(texts(execute, "pieces")) == 3

    @pytest.mark.usefixtures("articles")
    def test_declared_again(self, database: str, execute: Execute) -> None:
        """Only texts that differ are embedded."""
        declare(database, metadata=["lang"])
        drain(database)
        execute("ALTER TABLE articles RENAME title TO headline")
        with pytest.raises(SettingError, match="follows public.articles already"):
            declare(database, text=["headline", "body"])
        execute("UPDATE articles SET body = 'other' WHERE id = 3")
        declare(database, text=["headline", "body"], replace=True)
        assert drain(database) == ["title 3\n\nother"]
        assert execute("SELECT DISTINCT metadata FROM chunks") == [({},)]

    @pytest.mark.parametrize("step", ["LOCK TABLE chunks", "SELECT FROM chunks_by_key"])
    @pytest.mark.usefixtures("articles")
    def test_declared_again_while_the_application_works(self, database: str, execute: Execute, step: str) -> None:
        """It can work during the search for records without a row, and after it, and its changes are not missed."""
        declare(database)
        drain(database)
        waiting = "SELECT count(*) FROM pg_locks WHERE relation::regclass::text LIKE 'chunks%' AND NOT granted"
        execute("SET lock_timeout = '2s'")
        with ThreadPoolExecutor(1) as thread, psycopg.connect(database) as other:
            other.execute(step.encode())
            declaring = thread.submit(declare, database, replace=True, prune=True)
            while execute(waiting) == [(0,)]:
                assert not declaring.done(), declaring.result()
            for change in (
                "INSERT INTO articles VALUES (4, 'new')",
                "UPDATE articles SET body = 'other' WHERE id = 3",
                "DELETE FROM articles WHERE id = 1",
                "TABLE articles",
            ):
                execute(change)
            other.rollback()
            declaring.result(60)
        drain(database)
        assert texts(execute) == {"2": ["title 2\n\nbody 2"], "3": ["title 3\n\nother"], "4": ["new"]}

    @pytest.mark.usefixtures("articles")
    def test_missing_chunks(self, database: str, execute: Execute) -> None:
        sync = declare(database)
        drain(database)
        execute("DROP TABLE chunks CASCADE")
        execute("UPDATE articles SET body = 'other'")
        drain(database)
        assert "chunks, was dropped" in str(sync.status().reason)
        sync.drop()
        with pytest.raises(StoreMissing, match="follows no other table"):
            sync.status()

    def test_a_source_that_is_in_use(self, database: str, execute: Execute, monkeypatch: Any) -> None:
        """The wait for a source in use is bounded, because later sessions would wait too."""
        monkeypatch.setattr("harrier_pgvector.sync.declaring._LOCK_TIMEOUT", "100ms")
        execute("CREATE TABLE articles (id int PRIMARY KEY, title text, body text)")
        with psycopg.connect(database) as connection:
            connection.execute("INSERT INTO articles VALUES (1, 'not committed yet')")
            with pytest.raises(StoreUnavailable, match="in use by a transaction"):
                declare(database)
        assert len(drain(database)) == 0
        declare(database)
        assert drain(database) == ["not committed yet"]


class TestPrivileges:
    """Declaring, working and writing need the documented privileges, and hidden rows stay hidden."""

    @pytest.mark.usefixtures("articles")
    def test_a_role_that_may_only_read(self, database: str, execute: Execute, new_role: Callable[..., str]) -> None:
        reader = new_role("reader")
        execute(f"GRANT SELECT ON articles TO {reader}")
        with pytest.raises(StoreUnsuitable, match="permission denied for database"):
            declare(make_conninfo(database, user=reader))
        execute(f"ALTER ROLE {reader} SET default_transaction_read_only = on")
        with pytest.raises(StoreUnsuitable, match="read-only transaction"):
            declare(make_conninfo(database, user=reader))

    @pytest.mark.usefixtures("articles")
    def test_an_application_without_privileges(
        self, database: str, execute: Execute, new_role: Callable[..., str]
    ) -> None:
        """It writes to the source without privileges on the kit's objects."""
        declare(database)
        app = new_role("app")
        execute(f"GRANT ALL ON articles TO {app}")
        with psycopg.connect(make_conninfo(database, user=app), autocommit=True) as connection:
            connection.execute("INSERT INTO articles VALUES (4, 'of the app')")
            connection.execute("TRUNCATE articles")
            connection.execute("INSERT INTO articles VALUES (5, 'of the app')")
        drain(database)
        assert texts(execute) == {"5": ["of the app"]}

    @pytest.mark.usefixtures("articles")
    def test_rows_that_the_worker_may_not_see(
        self, database: str, execute: Execute, new_role: Callable[..., str]
    ) -> None:
        """The worker refuses to run, because hidden rows would seem deleted."""
        sync = declare(database, row_security=False)
        drain(database)
        role = new_role("worker")
        execute(f"GRANT USAGE ON SCHEMA harrier_sync TO {role}")
        execute(f"GRANT ALL ON ALL TABLES IN SCHEMA harrier_sync, public TO {role}")
        execute("ALTER TABLE articles ENABLE ROW LEVEL SECURITY")
        execute("CREATE POLICY own ON articles USING (lang = 'fr')")
        execute("UPDATE articles SET body = 'new'")
        drain(make_conninfo(database, user=role))
        assert len(texts(execute)) == 3
        assert "affected by row-level security" in str(sync.status().reason)

    @pytest.mark.usefixtures("articles")
    def test_rows_that_the_owner_may_not_see(
        self, database: str, execute: Execute, new_role: Callable[..., str]
    ) -> None:
        """Reading with the owner's rights, and declaring with prune, are refused: hidden rows would seem deleted."""
        role = new_role("owner")
        execute(f"GRANT CREATE ON SCHEMA public TO {role}")
        execute("CREATE EXTENSION IF NOT EXISTS vector")
        execute(f"DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO {role}', current_database()); END $$")
        execute(f"ALTER TABLE articles OWNER TO {role}")
        owner = make_conninfo(database, user=role)
        execute("ALTER TABLE articles ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
        execute("CREATE POLICY own ON articles USING (lang = 'fr')")
        declare(owner)  # there is nothing yet that it could take for deleted
        drain(owner)
        assert "row-level security" in str(opened(owner, table="chunks").status().reason)
        execute(f"ALTER ROLE {role} BYPASSRLS")
        drain(owner)
        assert len(texts(execute)) == 3
        execute(f"ALTER ROLE {role} NOBYPASSRLS")
        for prune in (True, False):
            with pytest.raises(StoreUnsuitable, match="row-level security"):
                declare(owner, replace=True, prune=prune)
        assert len(texts(execute)) == 3
        execute(f"ALTER ROLE {role} BYPASSRLS")
        declare(owner, replace=True, prune=True)
        assert len(texts(execute)) == 3

    @pytest.mark.usefixtures("articles")
    def test_tenants(self, database: str, execute: Execute, new_role: Callable[..., str]) -> None:
        """A policy on the copied column hides chunks as the source's policy hides rows."""
        declare(database, metadata=["lang"])
        execute("UPDATE articles SET lang = 'fr' WHERE id = 2")
        drain(database)
        execute("ALTER TABLE chunks ENABLE ROW LEVEL SECURITY")
        execute("CREATE POLICY own ON chunks USING (metadata ->> 'lang' = current_setting('app.lang'))")
        role = new_role("tenant")
        execute(f"GRANT SELECT ON chunks, chunks_by_key TO {role}")
        tenant = make_conninfo(database, user=role, options="-c app.lang=fr")
        with Index(PgVectorStore(tenant, table="chunks"), Hashing()) as index:
            assert [match.record_id for match in index.search("title", k=5)] == ["2"]
        with psycopg.connect(tenant) as connection:
            # Before Postgres 15 a view does not know who queries it, so it shows nothing to tenants.
            seen = [(2,)] if connection.info.server_version >= 150_000 else []
            assert connection.execute("SELECT id FROM chunks_by_key").fetchall() == seen
        assert len(execute("SELECT id FROM chunks_by_key")) == 3


class TestOperation:
    """Dry runs, status, pausing, waking up and removal work."""

    @pytest.mark.usefixtures("articles")
    def test_dry_run(self, database: str, execute: Execute) -> None:
        said = opened(database, table="chunks").create("articles", Hashing().space, text="title", dry_run=True)
        assert "CREATE TRIGGER" in said
        assert execute("SELECT to_regclass('chunks'), to_regnamespace('harrier_sync')") == [(None, None)]
        execute("CREATE EXTENSION IF NOT EXISTS vector")
        for statement in said.split(";\n\n"):  # it is the SQL that does it
            execute(statement)
        execute("INSERT INTO articles VALUES (4, 'new')")
        assert set(drain(database)) == {"new", "title 1", "title 2", "title 3"}

    @pytest.mark.usefixtures("articles")
    def test_dry_run_on_tables_in_use(self, database: str, execute: Execute, monkeypatch: Any) -> None:
        """It waits for no application, and none waits for it."""
        monkeypatch.setattr("harrier_pgvector.sync.declaring._LOCK_TIMEOUT", "100ms")
        with psycopg.connect(database) as application:
            application.execute("UPDATE articles SET body = 'not committed yet'")
            assert "CREATE TRIGGER" in opened(database, table="chunks").create(
                "articles", Hashing().space, text="title", dry_run=True
            )
        declare(database)
        drain(database)
        execute("ALTER TABLE articles ENABLE ROW LEVEL SECURITY")
        before = execute("SELECT oid, relname, relrowsecurity FROM pg_class ORDER BY 1"), texts(execute)
        execute("INSERT INTO chunks SELECT '9', number, text, metadata, 0, 0, hash, embedding FROM chunks LIMIT 1")
        with psycopg.connect(database) as application:
            application.execute("UPDATE articles SET body = 'not committed yet'")
            application.execute("SELECT FROM chunks_by_key")
            again: dict[str, Any] = {"text": "body", "replace": True, "dry_run": True}
            with pytest.raises(SettingError, match="does not have, such as '9'"):
                opened(database, table="chunks").create("articles", Hashing().space, **again)
            said = opened(database, table="chunks").create("articles", Hashing().space, prune=True, **again)
        assert "DROP FUNCTION" in said
        execute("DELETE FROM chunks WHERE record_id = '9'")
        assert (execute("SELECT oid, relname, relrowsecurity FROM pg_class ORDER BY 1"), texts(execute)) == before

    @pytest.mark.usefixtures("articles")
    def test_pause(self, database: str, execute: Execute) -> None:
        sync = declare(database)
        sync.pause()
        assert drain(database) == []
        assert sync.status().state == "paused"
        execute("UPDATE articles SET body = 'noted' WHERE id = 1")
        sync.resume()
        assert "title 1\n\nnoted" in drain(database)

    @pytest.mark.parametrize("wake", ["notify", "poll"])
    @pytest.mark.usefixtures("articles")
    def test_waking_up(self, database: str, execute: Execute, wake: str) -> None:
        """A worker with a poll interval of an hour is woken by NOTIFY, unless it was declared with poll."""
        declare(database, wake=wake)
        worker = SyncWorker(database, Hashing(), poll=3_600 if wake == "notify" else 0.2)
        thread = threading.Thread(target=worker.run)
        with psycopg.connect(database, autocommit=True) as listening:
            listening.execute("LISTEN harrier_sync")
            thread.start()
            try:
                for number in range(10, 13):
                    execute("INSERT INTO articles VALUES (%s, 'new')", [number])
                    until = time.monotonic() + 60
                    while not execute("SELECT 1 FROM chunks WHERE record_id = %s", [str(number)]):
                        assert time.monotonic() < until
            finally:
                worker.stop()
                thread.join(60)
            heard = len(list(listening.notifies(timeout=0.1)))
        assert heard == (3 if wake == "notify" else 0)

    @pytest.mark.usefixtures("articles")
    def test_status(self, database: str, execute: Execute) -> None:
        sync = declare(database)
        execute("INSERT INTO articles VALUES (4, 'new')")
        status = sync.status()
        assert (status.state, status.pending, status.leased, status.failed) == ("active", 1, 0, 0)
        assert status.oldest is not None
        assert status.unscanned > 0
        assert status.seconds_left is None
        drain(database)
        status = sync.status()
        assert (status.left, status.oldest, status.seconds_left) == (0, None, 0.0)

    @pytest.mark.usefixtures("articles")
    def test_drop(self, database: str, execute: Execute) -> None:
        everything = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        before = execute(everything)
        for chunks in (False, True):
            sync = declare(database)
            drain(database)
            sync.drop(chunks=chunks)
            execute("UPDATE articles SET body = 'nobody looks'")
            assert execute("SELECT to_regnamespace('harrier_sync'), count(*) FROM pg_trigger") == [(None, 0)]
            assert (execute("SELECT to_regclass('chunks')") == [(None,)]) is chunks
        assert execute(everything) == before

    @pytest.mark.usefixtures("articles")
    def test_a_table_with_other_records(self, database: str, execute: Execute) -> None:
        declare(database)
        drain(database)
        opened(database, table="chunks").drop()
        execute("DELETE FROM articles WHERE id = 1")
        with pytest.raises(SettingError, match="holds records that public.articles does not have, such as '1'"):
            declare(database)
        declare(database, prune=True)
        assert drain(database) == []
        assert set(texts(execute)) == {"2", "3"}

    def test_the_view_uses_the_index(self, database: str, execute: Execute) -> None:
        """The documented query uses the HNSW index, then joins the source by key."""
        execute("CREATE TABLE articles (id int PRIMARY KEY, title text)")
        execute("INSERT INTO articles SELECT i, 'title ' || i FROM generate_series(1, 3000) AS i")
        declare(database, text="title")
        drain(database)
        execute("ANALYZE articles")
        query = (
            "SELECT a.title, c.chunk_text FROM chunks_by_key AS c JOIN articles AS a USING (id) "
            "ORDER BY c.embedding <=> (SELECT embedding FROM chunks WHERE record_id = '7') LIMIT 5"
        )
        assert execute(query)[0] == ("title 7", "title 7")
        plan = "\n".join(line for (line,) in execute(f"EXPLAIN {query}"))
        assert "Index Scan using harrier_hnsw_" in plan
        assert "Index Scan using articles_pkey" in plan

    def test_a_worker_runs_once(self, database: str) -> None:
        """A worker that is stopped before it begins does not run."""
        worker = SyncWorker(database, Hashing())
        worker.stop()
        worker.run()
        with pytest.raises(SettingError, match="a worker runs only once"):
            worker.run()

    @pytest.mark.usefixtures("articles")
    def test_search(self, database: str, encoder: Encoder) -> None:
        """An ordinary Index searches the chunks with the instruction on the query."""
        opened(database, table="chunks").create("articles", encoder.space, text="body", metadata=["lang"])
        drain(database, encoder)
        with Index(PgVectorStore(database, table="chunks"), encoder) as index:
            assert index.search("body 2", k=3, where={"lang": "en"})
            assert index.verify().sound

    @pytest.mark.usefixtures("articles")
    def test_an_encoder_that_is_closed(self, database: str, built: Any) -> None:
        from harrier_core import EncoderClosed

        encoder = Encoder(str(built()))
        opened(database, table="chunks").create("articles", encoder.space, text="body")
        encoder.close()
        with pytest.raises(EncoderClosed):
            SyncWorker(database, encoder, poll=0.1).drain()
