"""The time of the last change of a table: kept by its owner, visible to everyone, used for no decision."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import psycopg
import pytest
from databases import url_of
from harrier_pgvector import PgVectorStore
from ingesting import Hashing

from harrier_core import Index, Record

RECORDS = [Record("a", "a text"), Record("b", "another text")]


def noted(index: Index) -> datetime | None:
    return index.describe().ingested


def test_only_a_change_is_noted(postgres: str, table: str) -> None:
    """A run that changes nothing does not update the time."""
    with Index(PgVectorStore(postgres, table=table), Hashing()) as index:
        index.ingest([])
        assert noted(index) is None
        begun = datetime.now(UTC).replace(microsecond=0)
        index.ingest(RECORDS)
        first = noted(index)
        assert first is not None
        assert begun <= first <= datetime.now(UTC)
        index.store.note_ingest(datetime(2020, 1, 1, tzinfo=UTC))  # type: ignore[attr-defined]
        index.ingest(RECORDS)
        assert noted(index) == datetime(2020, 1, 1, tzinfo=UTC)
        index.ingest(RECORDS[:1], prune=True)
        assert noted(index) != datetime(2020, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("comment", ["of somebody else's", "harrier-kit: ingested whenever"])
def test_a_comment_of_others(postgres: str, table: str, comment: str) -> None:
    """If the comment is foreign or unreadable, the time is unknown."""
    with Index(PgVectorStore(postgres, table=table), Hashing()) as index:
        index.ingest(RECORDS)
        with psycopg.connect(postgres, autocommit=True) as connection:
            connection.execute(psycopg.sql.SQL("COMMENT ON COLUMN {}.hash IS {}").format(
                psycopg.sql.Identifier(table), comment
            ))  # fmt: skip
        assert noted(index) is None


def test_a_writer_that_is_not_the_owner(postgres: str, table: str, new_role: Callable[[str], str]) -> None:
    """Everything is stored, the time is not recorded, and no error is raised."""
    with Index(PgVectorStore(postgres, table=table), Hashing()) as index:
        index.ingest([])
        writer = new_role("writer")
        with psycopg.connect(postgres, autocommit=True) as connection:
            names = psycopg.sql.Identifier(table), psycopg.sql.Identifier(writer)
            grant = psycopg.sql.SQL("GRANT SELECT, INSERT, UPDATE, DELETE ON {} TO {}").format(*names)
            connection.execute(grant)
        with Index(PgVectorStore(url_of(postgres, user=writer), table=table), Hashing()) as other:
            assert other.ingest(RECORDS).written == 2
        assert noted(index) is None


def test_no_wait_for_a_lock(postgres: str, table: str) -> None:
    """An ingest ends even if the table is being vacuumed or indexed."""
    with Index(PgVectorStore(postgres, table=table), Hashing()) as index:
        index.ingest([])
        with psycopg.connect(postgres) as connection:
            lock = psycopg.sql.SQL("LOCK TABLE {} IN SHARE UPDATE EXCLUSIVE MODE").format(psycopg.sql.Identifier(table))
            connection.execute(lock)
            assert index.ingest(RECORDS).written == 2
        assert noted(index) is None
