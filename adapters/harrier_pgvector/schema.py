"""The table, its indexes, and all SQL that is more than a line. Names are composed, values are bound.

All of it runs with the search path `pg_catalog, pg_temp` (session.py), so only the table and the extension's objects
need a schema here.

    record_id text, number integer      the record, and the number of this chunk in it, from 0; the primary key
    text text, metadata jsonb           the content, for readers of the table
    start_at integer, end_at integer    the chunk's offsets in the record's text
    hash bytea                          of the text (16 bytes) and of the rest (16): equal ones are not written again
    embedding halfvec(D) or vector(D)   its comment is the embedding space, as JSON

A table that can be searched by word has two more, described in words.py: `terms` and `lex`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, LiteralString

from psycopg import sql
from psycopg.abc import AdaptContext

from harrier_pgvector.filters import Compiled
from harrier_pgvector.hnsw import settings
from harrier_pgvector.rows import Precision, array_columns, key_columns, words_columns
from harrier_pgvector.words import COLUMNS as WORDS
from harrier_pgvector.words import DIMENSIONS
from harrier_pgvector.words import STAMP as WORDS_STAMP

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harrier_core.indexes import Hnsw
    from harrier_core.records import Chunk
    from harrier_core.space import EmbeddingSpace

COLUMNS = ("record_id", "number", "text", "metadata", "start_at", "end_at", "hash", "embedding")

BY_WORD = "gin", "terms"  # the access method and the column of the index that finds words

# The terms of new rows wait in a list, which a search reads once for each of its terms. Postgres' default of 4 MB holds
# those of two thousand rows, and searches took five times as long while others wrote. A short one makes writes slower.
OF_WORDS = sql.SQL("USING gin (terms) WITH (gin_pending_list_limit = 256)")  # kB

LAYOUT = 1  # version of a table's layout, in the comment

# A page has 8,160 bytes for a row, of which the other columns need only a few dozen once they are moved out.
_MOST_INLINE_BYTES = 7_800
# The limits of pgvector's HNSW for either type; beyond them the signs of the numbers are indexed.
_MOST_INDEXED = {"halfvec": 4_000, "vector": 2_000}


# Any of many ids, which `ids` turns into one value. For a list the planner assumes that each id may match a
# two-hundredth of a table that has no statistics yet, and reads the whole table, once for a thousand ids of a load.
ANY_OF = sql.SQL("ANY(ARRAY(SELECT jsonb_array_elements_text(%s::jsonb)))")

# The number of rows from which an index pays: comparing fewer takes no longer than finding them in one.
_FEW = 1_000

# The prefix of comments on the objects that the kit creates in addition to a table: an index on a field, a view.
STAMP = "Harrier Kit: "
VIEW_STAMP = f"{STAMP}the chunks for langchain-postgres"

# The prefix of the names of indexes that are built while others write.
BESIDE = "harrier_"

# Held until the end of a transaction, it keeps the table under its name; writers do not block each other.
LOCK = "LOCK TABLE {table} IN ROW EXCLUSIVE MODE"


def stamp(space: EmbeddingSpace) -> str:
    """Return the comment that records a table's embedding space and layout."""
    return json.dumps({**json.loads(space.to_json()), "layout": LAYOUT}, ensure_ascii=False)


def are_few(table: sql.Identifier) -> sql.Composed:
    """Return SQL that tells whether a table has so few rows that it needs no index."""
    return sql.SQL("SELECT count(*) < {few} FROM (SELECT FROM {table} LIMIT {few}) AS seen").format(
        few=literal(_FEW), table=table
    )


def ids(record_ids: Iterable[str]) -> str:
    """Return the value for ANY_OF."""
    return json.dumps(list(record_ids))


class Name(sql.Identifier):
    """An identifier in a query with parameters, in which a percent sign would begin one."""

    def as_bytes(self, context: AdaptContext | None = None) -> bytes:
        """Return the quoted name, with percent signs escaped."""
        return bytes(super().as_bytes(context)).replace(b"%", b"%%")


def literal(value: object) -> sql.SQL:
    """Return a literal for a query with parameters, where a value cannot be bound."""
    return written(sql.Literal(value).as_string())


def written(text: str) -> sql.SQL:
    """Return SQL from the catalog or from a user, for a query with parameters."""
    return sql.SQL(text.replace("%", "%%"))


def create_beside(name: str, table: sql.Identifier) -> sql.Composed:
    """Return the begin of a statement that builds an index while others write; of two at once, the second does nothing.

    name: of that index in no other table, even after tables were renamed.
    """
    create = "CREATE INDEX CONCURRENTLY IF NOT EXISTS {} ON {}"
    return sql.SQL(create).format(Name(f"{BESIDE}{name}"), table)


class Table:
    """One table's SQL, to be run with parameters, even if only with an empty list of them."""

    def __init__(
        self,
        schema: str,
        name: str,
        dimensions: int,
        precision: Precision,
        extension: str = "public",
        oid: int = 0,
        *,
        words: int | None = None,
    ) -> None:
        """Take the table's name and types. extension: its schema. oid: that of the vectors' type, to send arrays of it.

        words: the oid of the type of `lex`, or None for a table without words.
        """
        self.names = schema, name
        self.name = Name(schema, name)
        self.identifier = sql.Identifier(schema, name)  # for use without parameters
        self.precision = precision
        self.dimensions = dimensions
        self._extension = extension
        self._oid = oid
        self.words = words
        self.by_sign = dimensions > _MOST_INDEXED[precision]
        self._inline = dimensions * (2 if precision == "halfvec" else 4) + 8 <= _MOST_INLINE_BYTES

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of its columns."""
        return COLUMNS if self.words is None else COLUMNS + WORDS

    def format(self, text: LiteralString, **more: sql.Composable) -> sql.Composed:
        """Compose SQL with the table's names, and those of the extension."""
        own = {
            "type": sql.SQL("{}({})").format(self.of_extension(self.precision), literal(self.dimensions)),
            "vector": self.of_extension(self.precision),
            "sparse": self.of_extension("sparsevec"),
            "lex": sql.SQL("{}({})").format(self.of_extension("sparsevec"), literal(DIMENSIONS)),
            "unlike": self.operator("<#>"),
            "bits": sql.SQL("bit({})").format(literal(self.dimensions)),
            "signs_of": self.of_extension("binary_quantize"),
            "distance": self.operator("<=>"),
        }
        return sql.SQL(text).format(table=self.name, **own, **more)

    def of_extension(self, name: str) -> Name:
        """Return the qualified name of something in the extension."""
        return Name(self._extension, name)

    def operator(self, name: LiteralString) -> sql.Composed:
        """Return SQL for an operator of the extension."""
        return sql.SQL("OPERATOR({}.{})").format(Name(self._extension), sql.SQL(name))

    def create(self, space: EmbeddingSpace) -> list[sql.Composed]:
        """Return the statements that create it, empty, without the indexes, which would slow down a load."""
        create = self.format(
            """
            CREATE TABLE {table} (
                record_id text COLLATE "C" NOT NULL,
                number integer NOT NULL,
                text text NOT NULL,
                metadata jsonb NOT NULL,
                start_at integer NOT NULL,
                end_at integer NOT NULL,
                hash bytea NOT NULL,
                embedding {type} NOT NULL,
                PRIMARY KEY (record_id, number)
            )"""
        )
        # Postgres moves values out of rows above 2 kB; an exact search that has to fetch them takes five times as long.
        inline = self.format("ALTER TABLE {table} ALTER COLUMN embedding SET STORAGE PLAIN")
        comment = self.format("COMMENT ON COLUMN {table}.embedding IS {space}", space=literal(stamp(space)))
        made = [create, inline, comment] if self._inline else [create, comment]
        if self.words is None:
            return made
        return [*made, self.add_words(), self.require_words(), self.stamp_words()]

    def add_words(self) -> sql.Composed:
        """Return the statement that adds the columns for words, which are empty in existing rows."""
        # Postgres would move them out of a row above 2 kB, as it may not move the vector, and a search reads thousands.
        return self.format(
            "ALTER TABLE {table} ADD COLUMN terms int4[], ADD COLUMN lex {lex}, "
            "ALTER COLUMN terms SET STORAGE MAIN, ALTER COLUMN lex SET STORAGE MAIN, "
            "ALTER COLUMN terms SET STATISTICS 300"
        )

    def require_words(self) -> sql.Composed:
        """Return the statement that refuses rows without words; it is quick if a constraint already does so."""
        return self.format("ALTER TABLE {table} ALTER COLUMN terms SET NOT NULL, ALTER COLUMN lex SET NOT NULL")

    def stamp_words(self) -> sql.Composed:
        """Return the statement that records which version of words all rows have."""
        return self.format("COMMENT ON COLUMN {table}.lex IS {stamp}", stamp=literal(WORDS_STAMP))

    def langchain_view(self, view: sql.Identifier, *, invoker: bool) -> list[sql.Composed]:
        """Return the statements for a view with the names that langchain-postgres's PGVectorStore looks for.

        invoker: readers of the view need rights on the table, and see what its policies let them see. A view over more
        than one relation cannot be written to; the planner drops the relation that has no columns.
        """
        create = """
            CREATE OR REPLACE VIEW {view}{options} AS
            SELECT md5(record_id || '#' || number::text)::uuid AS langchain_id, text AS content, embedding,
                metadata::json AS langchain_metadata, record_id, number
            FROM {table} AS chunks CROSS JOIN (SELECT) AS one"""
        options = sql.SQL(" WITH (security_invoker = true)" if invoker else "")
        comment = self.format("COMMENT ON VIEW {view} IS {stamp}", view=view, stamp=literal(VIEW_STAMP))
        return [self.format(create, view=view, options=options), comment]

    def indexes(
        self, hnsw: Hnsw | None = None, beside: int | None = None
    ) -> dict[tuple[str, str | None], sql.Composed]:
        """Return the statements for the search indexes, by the access method and the column of each.

        beside: the table's oid, to build them while others write.
        """

        def create(name: str) -> sql.Composed:
            return create_beside(f"{name}_{beside}", self.name) if beside else self.format("CREATE INDEX ON {table}")

        if self.by_sign:
            signs = "{create} USING hnsw (({signs_of}(embedding)::{bits}) {operators}){settings}"
            operators = self.of_extension("bit_hamming_ops")
            nearest = self.format(signs, create=create("hnsw"), operators=operators, settings=settings(hnsw))
        else:
            operators = self.of_extension(f"{self.precision}_cosine_ops")
            vectors = "{create} USING hnsw (embedding {operators}){settings}"
            nearest = self.format(vectors, create=create("hnsw"), operators=operators, settings=settings(hnsw))
        metadata = self.format("{create} USING gin (metadata jsonb_path_ops)", create=create("metadata"))
        made: dict[tuple[str, str | None], sql.Composed] = {self.nearest: nearest, ("gin", "metadata"): metadata}
        if self.words is not None:
            made[BY_WORD] = self.format("{create} {of_words}", create=create("terms"), of_words=OF_WORDS)
        return made

    @property
    def nearest(self) -> tuple[str, str | None]:
        """The access method and the column of the index that finds near vectors."""
        return "hnsw", None if self.by_sign else "embedding"

    @property
    def stored(self) -> sql.Composable:
        """SQL for a vector as bytes, whatever a connection knows of its type."""
        return sql.SQL("{}(embedding)").format(self.of_extension(f"{self.precision}_send"))

    def read(
        self,
        record_ids: Sequence[str] | None,
        condition: Compiled,
        after: tuple[str, int],
        numbers: Sequence[int] | None,
    ) -> tuple[sql.Composed, list[object]]:
        """Return the statement for the next chunks of these records and numbers, by their keys, and its parameters."""
        where, values = condition
        own = sql.SQL("true") if record_ids is None else sql.SQL("record_id = {}").format(ANY_OF)
        numbered = sql.SQL("true" if numbers is None else "number = ANY(%s::int[])")
        read = """
            SELECT record_id, number, text, metadata, start_at, end_at, hash, {stored} FROM {table}
            WHERE (record_id, number) > (%s::text, %s::int) AND {own} AND {numbered} AND {where}
            ORDER BY record_id, number LIMIT 500"""
        bound: list[object] = [] if record_ids is None else [ids(record_ids)]
        bound += [] if numbers is None else [list(numbers)]
        query = self.format(read, stored=self.stored, own=own, numbered=numbered, where=where)
        return query, [*after, *bound, *values]

    def put(self, chunks: Sequence[Chunk], vectors: NDArray[np.float32]) -> tuple[sql.Composed, list[object]]:
        """Insert chunks, or replace those with their numbers. The statement is the same for any number of them.

        Each column is bound as one array. A staging table would be faster to write, but each one adds a hundred rows to
        the catalogs, has its own statement in pg_stat_statements, and requires the privilege to create it.
        """
        upsert = """
            INSERT INTO {table} ({columns})
            SELECT {values} FROM unnest(
                %b::text[], %b::int[], %b::text[], %b::jsonb[], %b::int[], %b::int[], %b::bytea[], %b::{vector}[]{words}
            ) AS new ({columns})
            ORDER BY record_id COLLATE "C", number
            ON CONFLICT (record_id, number) DO UPDATE SET {new}"""
        columns = sql.SQL(", ").join(map(sql.Identifier, self.columns))
        replaced = map(sql.Identifier, self.columns[2:])
        new = sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(each) for each in replaced)
        arrays: list[object] = list(array_columns(chunks, vectors, self.precision, self._oid))
        values: sql.Composable = columns
        words: sql.Composable = sql.SQL("")
        if self.words is not None:
            arrays += words_columns(chunks, self.words)
            values = sql.SQL("{}, terms::int[], lex").format(sql.SQL(", ").join(map(sql.Identifier, COLUMNS)))
            words = self.format(", %b::text[], %b::{sparse}[]")
        return self.format(upsert, columns=columns, values=values, words=words, new=new), arrays

    def fill_words(self, chunks: Sequence[Chunk]) -> tuple[sql.Composed, list[object]]:
        """Add the words of existing chunks. The statement is the same for any number of them."""
        assert self.words is not None  # noqa: S101  # callers check
        fill = """
            UPDATE {table} AS old SET terms = new.terms::int[], lex = new.lex
            FROM unnest(%b::text[], %b::int[], %b::text[], %b::{sparse}[]) AS new (record_id, number, terms, lex)
            WHERE old.record_id = new.record_id AND old.number = new.number"""
        return self.format(fill), [*key_columns(chunks), *words_columns(chunks, self.words)]
