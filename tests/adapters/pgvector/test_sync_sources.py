"""Changes of a live sync's source: unreadable rows, triggers, partitions, keys and settings."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from typing import Any

import pytest
from harrier_pgvector.sync import SyncWorker, sync_statuses
from ingesting import Hashing
from psycopg.conninfo import make_conninfo
from syncs import Execute, opened, running, wait_for

from harrier_core import Chunking
from harrier_core.errors import StoreUnsuitable


def declare(database: str, source: str = "articles", text: str = "body", table: str = "chunks", **options: Any) -> Any:
    sync = opened(database, table=table)
    sync.create(source, Hashing().space, text=text, chunking=Chunking(tokens=16), **options)
    return sync


def drain(database: str) -> list[str]:
    encoder = Hashing()
    SyncWorker(database, encoder, poll=0.2).drain()
    return encoder.encoded


def texts(execute: Execute) -> dict[str, str]:
    return dict(execute("SELECT record_id, text FROM chunks"))


class TestRowsThatCannotBeRead:
    """Such rows are marked as failed without their text, and their neighbours are processed."""

    @pytest.mark.parametrize(
        ("raised", "kind"),
        [
            ("RAISE EXCEPTION 'cannot summarize: %', $1", "RaiseException (P0001)"),
            ("RAISE 'bad %', $1 USING ERRCODE = 'undefined_table'", "UndefinedTable (42P01)"),
            ("RAISE 'bad %', $1 USING ERRCODE = 'insufficient_privilege'", "InsufficientPrivilege (42501)"),
            ("RAISE 'bad %', $1 USING ERRCODE = 'external_routine_exception'", "ExternalRoutineException (38000)"),
            ("RAISE 'bad %', $1 USING ERRCODE = 'HV001'", "HV001"),
            ("PERFORM (SELECT * FROM (VALUES (1), (2)) AS v)", "CardinalityViolation (21000)"),
            ("ASSERT false, $1", "AssertFailure (P0004)"),
            ("PERFORM $1::public.small", "CheckViolation (23514)"),
            ("PERFORM $1::int", "InvalidTextRepresentation (22P02)"),
        ],
    )
    def test_any_error(
        self, database: str, execute: Execute, caplog: pytest.LogCaptureFixture, raised: str, kind: str
    ) -> None:
        caplog.set_level(logging.DEBUG)
        execute("CREATE DOMAIN small AS text CHECK (length(value) < 3)")
        execute(
            "CREATE FUNCTION summary(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN "
            f"IF $1 LIKE '%SECRET%' THEN {raised}; END IF; RETURN $1; END $$"
        )
        execute("CREATE TABLE articles (id int PRIMARY KEY, body text)")
        execute("INSERT INTO articles SELECT i, 'body' FROM generate_series(1, 300) AS i")
        execute("UPDATE articles SET body = 'a SECRET TEXT' WHERE id = 137")
        sync = declare(database, text="summary(body)")
        drain(database)
        assert len(texts(execute)) == 299
        status = sync.status()
        assert (status.state, status.failed, status.pending) == ("active", 1, 0)
        [failure] = sync.failures()
        assert failure.record_id == "137"
        assert kind in failure.reason
        told = repr([status, failure, execute("SELECT * FROM harrier_sync.queue_1"), caplog.text])
        assert "SECRET" not in told
        execute("UPDATE articles SET body = 'mended' WHERE id = 137")
        drain(database)
        assert (texts(execute)["137"], sync.status().failed) == ("mended", 0)

    def test_a_function_that_fails_for_every_row(self, database: str, execute: Execute) -> None:
        """If a function fails for every row, no row is marked as failed."""
        execute("CREATE TABLE needed (x int)")
        execute(
            "CREATE FUNCTION summary(text) RETURNS text LANGUAGE plpgsql AS "
            "$$ BEGIN PERFORM FROM public.needed; RETURN $1; END $$"
        )
        execute("CREATE TABLE articles (id int PRIMARY KEY, body text)")
        execute("INSERT INTO articles SELECT i, 'body' FROM generate_series(1, 10) AS i")
        sync = declare(database, text="summary(body)")
        execute("DROP TABLE needed")
        drain(database)
        status = sync.status()
        assert (status.state, status.failed) == ("broken", 0)
        assert "UndefinedTable (42P01)" in str(status.reason)
        execute("CREATE TABLE needed (x int)")
        drain(database)
        assert len(texts(execute)) == 10


class TestMissedChanges:
    """Changes that triggers would miss are reported."""

    def test_a_partition_created_later(self, database: str, execute: Execute) -> None:
        execute("CREATE TABLE parts (id int, part int, body text, PRIMARY KEY (part, id)) PARTITION BY LIST (part)")
        execute("CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1)")
        sync = declare(database, "parts")
        execute("INSERT INTO parts VALUES (1, 1, 'one')")
        drain(database)
        execute("CREATE TABLE parts_2 PARTITION OF parts FOR VALUES IN (2)")
        execute("INSERT INTO parts_2 VALUES (1, 2, 'direct')")
        drain(database)
        assert sync.status().state == "broken"
        assert "changes of public.parts_2 are not detected" in str(sync.status().reason)
        sync.rescan()
        drain(database)
        assert sync.status().state == "active"
        execute("UPDATE parts_2 SET body = 'noticed'")
        drain(database)
        assert texts(execute) == {'["1", "1"]': "one", '["2", "1"]': "noticed"}
        execute("ALTER TABLE parts DETACH PARTITION parts_1")
        drain(database)
        assert texts(execute) == {'["2", "1"]': "noticed"}

    @pytest.mark.parametrize(
        ("change", "back"),
        [
            ("ALTER TABLE articles DISABLE TRIGGER ALL", "ALTER TABLE articles ENABLE TRIGGER ALL"),
            (
                "ALTER TABLE articles ENABLE REPLICA TRIGGER harrier_sync_1_update",
                "ALTER TABLE articles ENABLE TRIGGER harrier_sync_1_update",
            ),
            ("DROP TRIGGER harrier_sync_1_update ON articles", ""),
        ],
    )
    def test_triggers_that_do_not_fire(self, database: str, execute: Execute, change: str, back: str) -> None:
        execute("CREATE TABLE articles (id int PRIMARY KEY, body text)")
        execute("INSERT INTO articles VALUES (1, 'one')")
        sync = declare(database)
        drain(database)
        execute(change)
        execute("UPDATE articles SET body = 'unseen'")
        drain(database)
        assert "triggers are missing or disabled" in str(sync.status().reason)
        if back:
            execute(back)
        else:
            sync.rescan()
        drain(database)
        assert (sync.status().state, texts(execute)) == ("active", {"1": "unseen"})
        execute("UPDATE articles SET body = 'seen'")
        drain(database)
        assert texts(execute) == {"1": "seen"}

    def test_triggers_that_are_off_for_a_moment(self, database: str, execute: Execute) -> None:
        """A data-only restore disables them and enables them in one transaction, and no look sees them disabled."""
        execute("CREATE TABLE articles (id int PRIMARY KEY, body text)")
        execute("INSERT INTO articles VALUES (1, 'one'), (2, 'two'), (3, 'three')")
        sync = declare(database)
        assert len(drain(database)) == 3
        assert execute("SELECT count(*) FROM harrier_sync.scans") == [(0,)]
        execute(
            "BEGIN; ALTER TABLE articles DISABLE TRIGGER ALL; DELETE FROM articles WHERE id = 1; "
            "UPDATE articles SET body = 'new' WHERE id = 2; INSERT INTO articles VALUES (4, 'four'); "
            "ALTER TABLE articles ENABLE TRIGGER ALL; COMMIT"
        )
        assert sorted(drain(database)) == ["four", "new"]
        assert texts(execute) == {"2": "new", "3": "three", "4": "four"}
        assert sync.status().state == "active"

    def test_a_partition_that_is_out_for_a_moment(self, database: str, execute: Execute) -> None:
        """Its rows seemed to be deleted meanwhile."""
        execute("CREATE TABLE parts (id int PRIMARY KEY, body text) PARTITION BY RANGE (id)")
        execute("CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10)")
        execute("INSERT INTO parts VALUES (1, 'one'), (2, 'two')")
        declare(database, "parts")
        with running(database):
            wait_for(lambda: len(texts(execute)) == 2)
            execute("ALTER TABLE parts DETACH PARTITION parts_1")
            execute("UPDATE parts_1 SET body = 'new' WHERE id = 2")
            wait_for(lambda: "2" not in texts(execute))
        execute("ALTER TABLE parts ATTACH PARTITION parts_1 FOR VALUES FROM (0) TO (10)")
        drain(database)
        assert texts(execute) == {"1": "one", "2": "new"}

    def test_changes_of_the_catalog_that_miss_nothing(self, database: str, execute: Execute) -> None:
        """They cause no scan."""
        execute("CREATE TABLE articles (id int PRIMARY KEY, body text)")
        sync = declare(database)
        drain(database)
        seen = execute("SELECT seen FROM harrier_sync.tables")
        for change in (
            "VACUUM FULL FREEZE pg_trigger",
            "VACUUM FREEZE pg_inherits",
            "ALTER TABLE articles ADD COLUMN other int DEFAULT 1",
            "CREATE INDEX ON articles (body)",
            "CREATE TABLE later (id int)",
            "VACUUM FULL articles",
        ):
            execute(change)
        drain(database)
        assert execute("SELECT seen FROM harrier_sync.tables") == seen
        assert sync.status().state == "active"

    @pytest.mark.parametrize(
        ("change", "back"),
        [
            ("", "ADD PRIMARY KEY (id)"),
            (", ADD PRIMARY KEY (other)", "DROP CONSTRAINT articles_pkey, ADD PRIMARY KEY (id)"),
            (", ADD PRIMARY KEY (id, other)", "DROP CONSTRAINT articles_pkey, ADD PRIMARY KEY (id)"),
        ],
    )
    def test_a_key_that_moves(self, database: str, execute: Execute, change: str, back: str) -> None:
        execute("CREATE TABLE articles (id int PRIMARY KEY, other int NOT NULL, body text)")
        execute("INSERT INTO articles VALUES (1, 1, 'one')")
        sync = declare(database)
        drain(database)
        execute(f"ALTER TABLE articles DROP CONSTRAINT articles_pkey{change}")
        drain(database)
        assert "and was (id) when it was declared" in str(sync.status().reason)
        execute(f"ALTER TABLE articles {back}")
        drain(database)
        assert sync.status().state == "active"

    def test_a_key_that_includes_a_column(self, database: str, execute: Execute) -> None:
        execute("CREATE TABLE articles (id int, other float8, body text, PRIMARY KEY (id) INCLUDE (other))")
        execute("INSERT INTO articles VALUES (1, 0.1, 'one')")
        declare(database)
        drain(database)
        assert texts(execute) == {"1": "one"}

    def test_without_writes(self, database: str, execute: Execute, monkeypatch: pytest.MonkeyPatch) -> None:
        """An idle worker notices the change too."""
        monkeypatch.setattr("harrier_pgvector.sync.tables._REFRESHED_IDLE", 0.2)
        execute("CREATE TABLE articles (id int PRIMARY KEY, body text)")
        sync = declare(database)
        worker = SyncWorker(database, Hashing(), poll=0.1)
        thread = threading.Thread(target=worker.run)
        thread.start()
        try:
            while execute("SELECT (SELECT count(*) FROM harrier_sync.workers), count(*) FROM harrier_sync.scans") != [
                (1, 0)
            ]:
                assert thread.is_alive()
            execute("ALTER TABLE articles DISABLE TRIGGER ALL")
            while sync.status().state != "broken":
                assert thread.is_alive()
        finally:
            worker.stop()
            thread.join(60)


class TestSettings:
    """Texts and metadata do not depend on the settings of a worker's session."""

    def test_times(self, database: str, execute: Execute) -> None:
        execute(
            "CREATE TABLE articles (id int PRIMARY KEY, body text, at timestamptz, day date, took interval, "
            "weight float8, data bytea)"
        )
        execute(
            "INSERT INTO articles "
            "VALUES (1, 'one', '2026-11-25 12:00+00', '2026-11-25', '1 day 2 hours', 0.1, '\\x00ff')"
        )
        sync = declare(
            database,
            text="concat_ws(' ', body, at, day, took, weight, data)",
            metadata=["at", "day", "took", "weight", "data"],
        )
        content = "SELECT record_id, number, text, metadata, hash FROM chunks"
        found = []
        others = (
            "-c TimeZone=America/New_York -c DateStyle=German -c IntervalStyle=sql_standard -c extra_float_digits=-10 "
            "-c bytea_output=escape"
        )
        for options in ("", others):
            sync.rescan()
            drain(make_conninfo(database, options=options))
            found.append(execute(content))
        assert found[0] == found[1]
        [(_, _, text, metadata, _)] = found[0]
        assert text == "one 2026-11-25 12:00:00+00 2026-11-25 P1DT2H 0.1 \\x00ff"
        assert metadata == {
            "at": "2026-11-25T12:00:00+00:00", "day": "2026-11-25", "took": "P1DT2H", "weight": 0.1, "data": "\\x00ff",
        }  # fmt: skip

    def test_constants_of_an_expression(self, database: str, execute: Execute) -> None:
        """They have the meaning of the declaring session."""
        execute("CREATE TABLE articles (id int PRIMARY KEY, body text, at timestamptz)")
        execute("INSERT INTO articles VALUES (1, 'one', '2026-02-01 03:00+00')")
        there = make_conninfo(database, options="-c TimeZone=America/New_York -c DateStyle=ISO,DMY")
        declare(there, text="CASE WHEN at < '01/02/2026 00:00' THEN 'before' ELSE 'after' END || body")
        drain(database)
        assert texts(execute) == {"1": "beforeone"}


class TestNames:
    """Names of columns, views and tables may collide."""

    def test_columns_with_the_names_of_the_kit(self, database: str, execute: Execute) -> None:
        execute('CREATE TABLE articles (id int PRIMARY KEY, k1 text, k text, s text, "q.v" text, r text)')
        execute("INSERT INTO articles VALUES (1, 'a', 'b', 'c', 'd', 'e')")
        sync = declare(database, text='k1 || k || s || "q.v" || r')
        drain(database)
        assert (sync.status().state, texts(execute)) == ("active", {"1": "abcde"})

    @pytest.mark.parametrize("length", [55, 56, 57, 62, 63])
    def test_long_names(self, database: str, execute: Execute, length: int) -> None:
        execute("CREATE TABLE articles (id int PRIMARY KEY, body text)")
        execute("INSERT INTO articles VALUES (1, 'one')")
        syncs = []
        for last in "ab":
            name = "t" * (length - 1) + last
            syncs.append(declare(database, table=name))
        drain(database)
        views = "SELECT viewname FROM pg_views WHERE schemaname = 'public' AND viewname LIKE 't%by_key'"
        assert len(execute(views)) == 2
        for sync in syncs:
            sync.drop(chunks=True)
        assert execute(views) == []

    def test_the_view_of_a_lost_declaration(self, database: str, execute: Execute) -> None:
        execute("CREATE TABLE articles (id int PRIMARY KEY, body text)")
        declare(database)
        execute("DROP SCHEMA harrier_sync CASCADE")
        declare(database)
        drain(database)
        execute("DROP SCHEMA harrier_sync CASCADE")
        for other in ("CREATE TABLE chunks_by_key (x int)", "CREATE VIEW chunks_by_key AS SELECT 1 AS x"):
            execute("DROP VIEW IF EXISTS chunks_by_key")
            execute(other)
            with pytest.raises(StoreUnsuitable, match="drop or rename the object of that name"):
                declare(database)
            execute("DROP TABLE chunks_by_key" if "TABLE" in other else "SELECT 1")


class TestLayout:
    """Objects of another release are not touched by any command."""

    def test_all_commands(self, database: str, execute: Execute, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("harrier_pgvector.sync.worker._PATIENCE", 1.0)
        execute("CREATE TABLE articles (id int PRIMARY KEY, body text)")
        sync = declare(database)
        execute("COMMENT ON SCHEMA harrier_sync IS 'Harrier Kit''s live sync, layout 99'")
        for work in (
            lambda: drain(database),
            lambda: declare(database, replace=True),
            lambda: sync_statuses(database),
            sync.status,
            sync.failures,
            sync.retry,
            sync.rescan,
            sync.pause,
            sync.resume,
            sync.drop,
        ):
            with pytest.raises(StoreUnsuitable, match="incompatible release"):
                work()

    def test_a_declaration_without_its_comment(self, database: str, execute: Execute) -> None:
        execute("CREATE TABLE articles (id int PRIMARY KEY, body text)")
        sync = declare(database)
        execute("COMMENT ON TABLE harrier_sync.queue_1 IS NULL")
        with pytest.raises(StoreUnsuitable, match="which keeps the declaration"):
            sync.status()


def test_the_application_name(database: str, execute: Execute) -> None:
    """It identifies the kit and the table for which a statement runs."""
    execute("CREATE TABLE articles (id int PRIMARY KEY, body text)")
    setting = "SELECT current_setting('application_name')"
    execute(f"CREATE FUNCTION named(text) RETURNS text LANGUAGE sql STABLE AS $$ {setting} $$")
    execute("INSERT INTO articles VALUES (1, 'one')")
    declare(database, text="named(body)")
    seen: set[str] = set()

    class Looking(Hashing):
        def submit_documents(self, texts: Iterable[str]) -> Any:
            activity = "SELECT application_name FROM pg_stat_activity WHERE datname = current_database()"
            seen.update(name for (name,) in execute(activity))
            return super().submit_documents(texts)

    SyncWorker(database, Looking(), poll=0.2).drain()
    assert "harrier-sync" in seen
    assert texts(execute) == {"1": "harrier-sync public.chunks"}


@pytest.mark.parametrize("style", ["SQL,DMY", "German", "Postgres,DMY"])
def test_keys_do_not_depend_on_the_date_style(database: str, execute: Execute, style: str) -> None:
    """One worker reads keys that another one wrote."""
    execute("CREATE TABLE articles (id date PRIMARY KEY, body text)")
    execute("INSERT INTO articles VALUES ('2026-03-04', 'one'), ('2026-11-25', 'two')")
    sync = declare(database)
    drain(database)
    execute("UPDATE articles SET body = body || '!'")
    assert sorted(drain(make_conninfo(database, options=f"-c DateStyle={style}"))) == ["one!", "two!"]
    assert texts(execute) == {"2026-03-04": "one!", "2026-11-25": "two!"}
    assert sync.failures() == []
