"""A write in one transaction: a reader sees a record's old chunks or its new ones, and never a mix."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, LiteralString

from psycopg import Connection, errors, sql
from psycopg.adapt import Buffer, Dumper
from psycopg.pq import Format

from harrier_core.errors import StoreError
from harrier_core.records import Chunk
from harrier_core.store import Hashes, Write, Written
from harrier_pgvector.failures import UNTRANSLATABLE
from harrier_pgvector.rows import Sent, copy_blocks
from harrier_pgvector.schema import ANY_OF, Table, ids
from harrier_pgvector.session import transaction

if TYPE_CHECKING:
    from harrier_core.types import Vectors

# How often other writers may add chunks to our records while we write or remove them.
_ATTEMPTS = 5

_ROWS = 1_000  # per statement: a few megabytes, which the server holds in memory


class _OvertakenError(Exception):
    """Another writer added chunks to records that were being written."""


class _SentDumper(Dumper):
    """Dumps bytes whose type is named by the statement."""

    format = Format.BINARY

    def dump(self, obj: Buffer) -> Buffer:
        """Return the bytes unchanged."""
        return obj


class Writing:
    """One write to one table, on a connection that is in a transaction with our search path."""

    def __init__(self, connection: Connection[Any], table: Table, name: str) -> None:
        self._connection = connection
        self._table = table
        self._name = name  # for errors

    def write(self, write: Write) -> Written:
        """Do all of a write, and return its result."""
        if not any(write.known.values()) and self._copied(write):
            return Written(0, [])
        for _ in range(_ATTEMPTS):
            with suppress(_OvertakenError), transaction(self._connection):
                return self._replace(write)
        raise self._contended()

    def delete(self, record_ids: Sequence[str]) -> int:
        """Remove records, and return how many chunks they had."""
        delete = self._sql("DELETE FROM {table} WHERE record_id = {any_of}")
        deleted = 0
        for _ in range(_ATTEMPTS):
            # A statement does not see what others added while it waited for them; the next one does.
            found = self._connection.execute(delete, [ids(record_ids)]).rowcount
            if not found:
                return deleted
            deleted += found
        raise self._contended()

    def write_apart(self, write: Write) -> Written:
        """Write the records that the database's encoding can represent; bisect to find and reject the others."""
        try:
            with transaction(self._connection):
                return self.write(write)
        except UNTRANSLATABLE:
            if len(write.sizes) == 1:
                encoding = self._connection.info.parameter_status("server_encoding")
                reason = f"has a character that the database's encoding, {encoding}, does not have"
                return Written(0, [], dict.fromkeys(write.sizes, reason))
        first = set(islice(write.sizes, len(write.sizes) // 2))
        parts = [self.write_apart(write.only(part)) for part in (first, write.sizes.keys() - first)]
        rejected = {record_id: reason for part in parts for record_id, reason in part.rejected.items()}
        return Written(
            sum(part.deleted for part in parts), [changed for part in parts for changed in part.changed], rejected
        )

    def _copied(self, write: Write) -> bool:
        """Copy new records straight into the table, unless another writer was faster; return whether that was done.

        Writers to whom row-level security applies may not copy, and insert instead.
        """
        try:
            with transaction(self._connection):
                self._copy(write.encoded, write.vectors)
        except (errors.UniqueViolation, errors.FeatureNotSupported):
            return False
        return True

    def _replace(self, write: Write) -> Written:
        split = write.split(self._locked(list(write.sizes)))
        kept = split.write
        self._put(kept.encoded, kept.vectors)
        self._describe(kept.described)
        self._remove(split.stale)
        # No lock keeps another writer from adding chunks. Those it added while we waited for it are visible by now.
        if self._number(kept.sizes) != sum(map(len, kept.after().values())):
            raise _OvertakenError
        return Written(len(split.stale), split.changed)

    def _locked(self, record_ids: Sequence[str]) -> dict[str, Hashes]:
        """Return the hashes of these records' chunks, and lock the chunks until the transaction ends."""
        lock = self._sql(
            "SELECT record_id, number, hash FROM {table} WHERE record_id = {any_of} "
            "ORDER BY record_id, number FOR UPDATE"
        )
        return by_record(self._connection.execute(lock, [ids(record_ids)], binary=True).fetchall())

    def _number(self, record_ids: Iterable[str]) -> int:
        """Return how many chunks these records have."""
        count = self._sql("SELECT count(*) FROM {table} WHERE record_id = {any_of}")
        [[number]] = self._connection.execute(count, [ids(record_ids)]).fetchall()
        return int(number)

    def _put(self, chunks: Sequence[Chunk], vectors: Vectors) -> None:
        """Write chunks, which may replace others."""
        # Sorted like the locks, so that two writers of the same records wait for each other in the same order.
        order = sorted(range(len(chunks)), key=lambda row: (chunks[row].record_id, chunks[row].number))
        for begin in range(0, len(order), _ROWS):
            rows = order[begin : begin + _ROWS]
            send(self._connection, *self._table.put([chunks[row] for row in rows], vectors[rows]))

    def _copy(self, chunks: Sequence[Chunk], vectors: Vectors) -> None:
        columns = sql.SQL(", ").join(map(sql.Identifier, self._table.columns))
        # Without parameters, a percent sign is just that.
        copy = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(self._table.identifier, columns)
        with self._connection.cursor() as cursor, cursor.copy(copy) as copying:
            for block in copy_blocks(chunks, vectors, self._table.precision, words=self._table.words is not None):
                copying.write(block)

    def _describe(self, chunks: Sequence[Chunk]) -> None:
        """Update the metadata of chunks whose texts, and so whose vectors, are unchanged."""
        if not chunks:
            return
        update = self._sql(
            "UPDATE {table} AS old SET metadata = (new.row ->> 2)::jsonb, start_at = (new.row ->> 3)::int, "
            "end_at = (new.row ->> 4)::int, hash = decode(new.row ->> 5, 'hex') "
            "FROM jsonb_array_elements(%s::jsonb) AS new (row) "
            "WHERE old.record_id = new.row ->> 0 AND old.number = (new.row ->> 1)::int"
        )
        rows = [(c.record_id, c.number, c.metadata_json.decode(), c.start, c.end, c.hash.hex()) for c in chunks]
        self._connection.execute(update, [json.dumps(rows)])

    def _remove(self, gone: Sequence[tuple[str, int]]) -> None:
        if gone:
            delete = self._sql(
                "DELETE FROM {table} AS old USING jsonb_array_elements(%s::jsonb) AS gone (row) "
                "WHERE old.record_id = gone.row ->> 0 AND old.number = (gone.row ->> 1)::int"
            )
            self._connection.execute(delete, [json.dumps(list(gone))])

    def _contended(self) -> StoreError:
        return StoreError(
            f"records of {self._name} were written by another process {_ATTEMPTS} times in a row; try again"
        )

    def _sql(self, text: LiteralString) -> sql.Composed:
        return sql.SQL(text).format(table=self._table.name, any_of=ANY_OF)


def send(connection: Connection[Any], statement: sql.Composed, columns: Sequence[object]) -> None:
    """Run a statement that takes columns as arrays, in their binary form."""
    with connection.cursor() as cursor:
        cursor.adapters.register_dumper(Sent, _SentDumper)
        cursor.execute(statement, columns)


HASHES: LiteralString = "SELECT record_id, number, hash FROM {table} WHERE record_id = {any_of}"


def by_record(rows: Sequence[tuple[str, int, bytes]]) -> dict[str, Hashes]:
    """Return the hashes of chunks, by record and number."""
    found: dict[str, Hashes] = {}
    for record_id, number, hash_ in rows:
        found.setdefault(record_id, {})[number] = bytes(hash_)
    return found
