"""OpenTable: a table that was opened for one embedding space, and the writes, searches and reads on it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, LiteralString, TypeVar

from psycopg import Connection, Cursor, errors, sql

from harrier_core.errors import StoreError, StoreUnavailable, StoreUnsuitable, StoreWarning
from harrier_core.filters import Condition
from harrier_core.lexical import VERSION
from harrier_core.query import Search, WordSearch
from harrier_core.records import Chunk, Match
from harrier_core.space import EmbeddingSpace
from harrier_core.store import Hashes, Lists, Stored, Write, Written
from harrier_pgvector import adding, by_word, near
from harrier_pgvector.building import build, is_small
from harrier_pgvector.catalogs import LOOK_UP
from harrier_pgvector.connections import Connections
from harrier_pgvector.failures import UNTRANSLATABLE
from harrier_pgvector.opening import Opened, TableName
from harrier_pgvector.rows import differ, vector_of
from harrier_pgvector.schema import ANY_OF, LOCK, ids
from harrier_pgvector.session import Request, Statement, as_ours, ask_each, ask_then_look, transaction
from harrier_pgvector.typed import compile_where
from harrier_pgvector.writing import HASHES, Writing, by_record

T = TypeVar("T")

_ATTEMPTS = 5  # on a table that keeps being replaced


class _ReplacedError(Exception):
    """The name belongs to another table now."""


class OpenTable:
    """A table of chunks. Each call goes to the table that has the name now; reads check that in the same round trip."""

    def __init__(self, connections: Connections, name: TableName, opened: Opened) -> None:
        self._connections = connections
        self._name = name
        self._opened = opened

    @property
    def space(self) -> EmbeddingSpace:
        """The embedding space of its vectors."""
        return self._opened.space

    def __repr__(self) -> str:
        return f"OpenTable({str(self._name)!r} at {self._connections}, {self.space})"

    # -- writing

    def known(self, record_ids: Sequence[str]) -> dict[str, Hashes]:
        """Return the hashes of the stored chunks of these records."""
        return self._connections.run(lambda connection: self._known(connection, record_ids))

    def _known(self, connection: Connection[Any], record_ids: Sequence[str]) -> dict[str, Hashes]:
        try:
            [found], _ = self._ask(connection, lambda opened: _one(opened, HASHES, [ids(record_ids)]))
        except UNTRANSLATABLE:  # ids that the database's encoding cannot represent cannot be stored
            if len(record_ids) == 1:
                return {}
        else:
            return by_record(found.fetchall())
        half = len(record_ids) // 2
        return self._known(connection, record_ids[:half]) | self._known(connection, record_ids[half:])

    def write(self, write: Write) -> Written:
        """Write everything in one transaction: a reader sees a record's old chunks or its new ones, never a mix."""
        return self._connections.run(lambda connection: self.write_on(connection, write), writes=True)

    def write_on(self, connection: Connection[Any], write: Write) -> Written:
        """Write on a connection of the caller's, as part of its transaction if there is one.

        That transaction must be READ COMMITTED: in any other, a record could become a mix of two writers' chunks.
        """
        with as_ours(connection):
            try:
                return self._hold(connection, lambda writing: writing.write(write))
            except UNTRANSLATABLE:
                return self._hold(connection, lambda writing: writing.write_apart(write))

    def delete(self, record_ids: Sequence[str]) -> int:
        """Remove records, and return how many chunks they had."""
        return self._connections.run(lambda connection: self.delete_on(connection, record_ids), writes=True)

    def delete_on(self, connection: Connection[Any], record_ids: Sequence[str]) -> int:
        """Remove records on a connection of the caller's, as part of its transaction if there is one.

        That transaction must be READ COMMITTED: in any other, chunks that another writer added would stay.
        """
        with as_ours(connection):
            return self._hold(connection, lambda writing: writing.delete(record_ids), adds=False)

    def build_indexes(self) -> None:
        """Build the missing indexes, which takes a fraction of the time that loading into them would.

        A table with few rows gets no indexes: comparing all rows is as fast, and a first trial should not make the
        following load write into an index. Nor are they built while another session writes, because the build would
        have to wait: the last of several loads builds them. If they cannot be built, a StoreWarning is issued, and
        everything is stored all the same.
        """
        self.try_to_build()

    def try_to_build(self) -> bool:
        """Build the missing indexes as `build_indexes` does, and return whether none is left to build."""
        self._opened = self._connections.run(self._look_again)
        try:
            self._connections.run(lambda connection: build(connection, self._opened.table, self._name))
        except StoreUnavailable:
            raise
        except StoreError as error:
            warnings.warn(
                f"the indexes of {self._name} were not built, and its searches compare all rows: {error}",
                StoreWarning,
                stacklevel=3,
            )
            return False
        if not self._opened.is_indexed:
            self._opened = self._connections.run(self._look_again)
        return True

    def is_small(self) -> bool:
        """Return whether the table has so few rows that it needs no index."""
        self._opened = self._connections.run(self._look_again)
        return self._connections.run(lambda connection: is_small(connection, self._opened.table))

    # -- reading

    def search(self, search: Search) -> list[list[Match]]:
        """Return for each vector the k nearest chunks that meet the condition, best first; all in one round trip.

        pgvector's index considers up to 1,000 candidates: a larger `ef` becomes 1,000, and one below k becomes k.
        """
        found, opened = self._connections.run(
            lambda connection: self._ask(connection, lambda opened: near.request(opened, search))
        )
        return [[_match(row, opened) for row in cursor.fetchall()] for cursor in found]

    def keywords_problem(self) -> str | None:
        """Return why its chunks cannot be found by their words and what to do, or None if they can be."""
        if not self._opened.has_words:  # someone may have added them
            self._opened = self._connections.run(self._look_again)
        return None if self._opened.has_words else self._opened.words_problem

    def search_words(self, search: WordSearch) -> list[Lists]:
        """Return for each query the k chunks with the highest BM25, and those near its vector, in one round trip.

        In a table of more than a few thousand rows, frequent terms only score chunks that rarer terms find.
        """
        if problem := self.keywords_problem():
            raise StoreUnsuitable(problem)
        asked = [at for at, terms in enumerate(search.terms) if terms]

        def request(opened: Opened) -> Request:
            if not opened.has_words:
                raise StoreUnsuitable(opened.words_problem)
            by_words, settings = by_word.request(opened, search, asked)
            by_vectors, others = near.request(opened, search.near) if search.near else ([], {})
            return [*by_words, *by_vectors], settings | others

        if not asked and search.near is None:
            return [([], []) for _ in search.terms]
        found, opened = self._connections.run(lambda connection: self._ask(connection, request))
        words = dict(zip(asked, found, strict=False))
        vectors = found[len(asked) :] if search.near else [None] * len(search.terms)
        return [
            (_scored(words.get(at), opened), [_match(row, opened) for row in cursor.fetchall()] if cursor else [])
            for at, cursor in enumerate(vectors)
        ]

    def add_keywords(self, tell: Callable[[int], None]) -> None:
        """Store the words of all chunks, while others read and write; after a crash, a new call resumes.

        It waits twice, for moments only, for transactions that use the table, and once, while the index of the words is
        built, for all transactions of the database. The build blocks no one.
        """
        adding.add_words(self._connections, self._name, self.space, tell)
        self._opened = self._connections.run(self._look_again)

    def wrong_keywords(self) -> Iterator[Chunk]:
        """Yield the chunks whose words do not match their texts."""

        def page(last: tuple[str, int]) -> list[Any]:
            return self._rows(lambda opened: ([(*by_word.read(opened.table, last), True)], {}))[0]

        if problem := self.keywords_problem():
            raise StoreUnsuitable(problem)
        rows = page(("", -1))
        while rows:
            for *chunk, terms, lex in rows:
                if differ(chunk[2], terms, lex):
                    yield Chunk(*chunk)
            rows = page(rows[-1][:2])

    def read(
        self,
        record_ids: Sequence[str] | None = None,
        where: Condition | None = None,
        numbers: Sequence[int] | None = None,
    ) -> Iterator[Stored]:
        """Yield the chunks of these records, or of all, that meet the condition, lazily and in key order."""

        def request(opened: Opened, last: tuple[str, int]) -> Request:
            return [(*opened.table.read(record_ids, compile_where(where, opened.typed), last, numbers), True)], {}

        def page(last: tuple[str, int]) -> tuple[list[Any], Opened]:
            return self._rows(lambda opened: request(opened, last))

        rows, opened = page(("", -1))
        while rows:
            for *chunk, stored in rows:
                yield Stored(Chunk(*chunk), vector_of(stored, opened.table.precision))
            rows, opened = page(rows[-1][:2])

    def record_ids(self) -> Iterator[str]:
        """Yield the ids of all records, each once, in any order."""
        query = "SELECT DISTINCT record_id FROM {table} WHERE record_id > %s ORDER BY record_id LIMIT 10000"

        def page(last: str) -> list[str]:
            rows, _ = self._rows(lambda opened: _one(opened, query, [last]))
            return [record_id for (record_id,) in rows]

        record_ids = page("")
        while record_ids:
            yield from record_ids
            record_ids = page(record_ids[-1])

    def count(self) -> int:
        """Return how many chunks there are."""
        [[number]], _ = self._rows(lambda opened: _one(opened, "SELECT count(*) FROM {table}", []))
        return int(number)

    # -- handling changes to the table

    def _rows(self, request: Callable[[Opened], Request]) -> tuple[list[Any], Opened]:
        def rows(connection: Connection[Any]) -> tuple[list[Any], Opened]:
            [cursor], opened = self._ask(connection, request)
            return cursor.fetchall(), opened

        return self._connections.run(rows)

    def _ask(
        self, connection: Connection[Any], request: Callable[[Opened], Request]
    ) -> tuple[list[Cursor[Any]], Opened]:
        """Read from the table; if it was replaced, open what is there instead, and read from that."""
        for _ in range(_ATTEMPTS):
            opened = self._opened
            statements, settings = request(opened)
            cursors, rows, error = ask_then_look(connection, statements, self._look, settings)
            if opened.was(rows):
                if error:
                    raise error
                return cursors, opened
            self._opened = self._look_again(connection)
        raise self._replaced()

    def _hold(self, connection: Connection[Any], work: Callable[[Writing], T], *, adds: bool = True) -> T:
        """Write in a transaction that keeps the table under its name; if it was replaced, open what is there.

        adds: chunks are written, not just removed.
        """
        for _ in range(_ATTEMPTS):
            opened = self._opened
            lock: Statement = (sql.SQL(LOCK).format(table=opened.table.name), [], False)
            with suppress(_ReplacedError), transaction(connection, current=True):
                try:
                    _, look = ask_each(connection, [lock, self._look])
                except errors.UndefinedTable:
                    raise _ReplacedError from None
                if not opened.was(look.fetchall()):
                    raise _ReplacedError
                if adds and opened.table.words is not None and opened.words_version not in (None, VERSION):
                    raise StoreUnsuitable(opened.words_problem)  # no one could tell which row has which version
                return work(Writing(connection, opened.table, str(self._name)))
            self._opened = self._look_again(connection)
        raise self._replaced()

    @property
    def _look(self) -> Statement:
        return LOOK_UP, [self._name.schema, self._name.name], False

    def _look_again(self, connection: Connection[Any]) -> Opened:
        return self._name.open(connection, self._opened.space, create=False)

    def _replaced(self) -> StoreUnavailable:
        return StoreUnavailable(f"table {self._name} was replaced {_ATTEMPTS} times in a row; try again")


def _one(opened: Opened, text: LiteralString, bound: list[Any]) -> Request:
    query = sql.SQL(text).format(table=opened.table.name, any_of=ANY_OF)
    return [(query, bound, True)], {}


def _match(row: Sequence[Any], opened: Opened) -> Match:
    *chunk, stored, far = row
    vector = vector_of(stored, opened.table.precision) if stored else None
    return Match(Chunk(*chunk), 1.0 - far, 1.0 - far, vector)


def _scored(found: Cursor[Any] | None, opened: Opened) -> list[Match]:
    """Return the matches found by words, whose distance is the negative score."""
    rows = [] if found is None else found.fetchall()
    return [replace(_match(row, opened), score=-row[-1], cosine=None) for row in rows]
