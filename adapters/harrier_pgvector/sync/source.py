"""A table whose rows are to be embedded: its key, its text, and the columns from which these are made."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

from psycopg import Connection, sql

from harrier_core.errors import SettingError
from harrier_pgvector.schema import Name, literal, written
from harrier_pgvector.sync.expression import joined, resolve
from harrier_pgvector.sync.trust import refuse_strangers

# Types of keys whose text form is the same in every session, and those that need help with it.
_PLAIN = {"smallint", "integer", "bigint", "uuid", "text", "character varying", "character", "boolean"}


def _time(value: LiteralString, form: LiteralString) -> LiteralString:
    """Return SQL for ISO 8601; to_char writes both eras alike, so BC is marked."""
    era = f"CASE WHEN extract(year FROM {value}) < 0 THEN ' BC' ELSE '' END"
    return f"CASE WHEN isfinite({{0}}) THEN to_char({value}, '{form}') || {era} ELSE {{0}}::text END"


_WRITTEN: dict[str, LiteralString] = {
    "numeric": "trim_scale({})::text",
    "date": _time("{0}", "YYYY-MM-DD"),
    "timestamp without time zone": _time("{0}", 'YYYY-MM-DD"T"HH24:MI:SS.US'),
    "timestamp with time zone": _time("{0} AT TIME ZONE 'UTC'", 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
}

_PAIRS = 50  # per function call: Postgres allows a hundred arguments

_PATH = "SELECT pg_catalog.current_setting('search_path'), pg_catalog.current_schemas(true)"

_FIND = """
    SELECT c.oid, n.nspname, c.relname, c.relkind, c.relpersistence, ARRAY(
        SELECT r.rolname::text FROM pg_roles AS r WHERE r.oid = c.relowner AND NOT r.rolsuper
        AND r.rolname <> session_user
    )
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE (c.relname = %(name)s AND n.nspname = ANY(%(schemas)s::text[]))
        OR (n.nspname = split_part(%(name)s, '.', 1)
            AND c.relname = substr(%(name)s, length(split_part(%(name)s, '.', 1)) + 2))
    ORDER BY c.relname = %(name)s DESC, array_position(%(schemas)s::text[], n.nspname::text)"""

# A key's column by its position in the primary key, from 0. Types are without modifiers, because those may be changed:
# a queue with shorter keys would make the application's writes fail, or round them. (For char(n) this gives bpchar.)
_COLUMNS = """
    SELECT a.attname, format_type(a.atttypid, -1),
        format_type(coalesce(nullif(t.typbasetype, 0), t.oid), NULL), t.typtype = 'e', a.attgenerated = 'v',
        (SELECT p FROM array_position(i.indkey::int2[], a.attnum) AS p WHERE p < i.indnkeyatts),
        CASE WHEN l.oid IS NOT NULL THEN format('%%I.%%I', ln.nspname, l.collname) END,
        coalesce(l.collisdeterministic, true)
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary
    LEFT JOIN pg_collation l ON l.oid = a.attcollation LEFT JOIN pg_namespace ln ON ln.oid = l.collnamespace
    WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"""


# A table's columns by name: number, type and modifier, which reveal a column that replaced another, and what else its
# values depend on: the expression of a generated column, and the labels of an enum, also in a domain or an array.
COLUMNS_OF: LiteralString = """
    SELECT jsonb_object_agg(a.attname, jsonb_build_array(a.attnum, a.atttypid::bigint, a.atttypmod,
        CASE WHEN a.attgenerated <> '' THEN (
            SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef AS d
            WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum
        ) END,
        (SELECT encode(sha256(convert_to(string_agg(e.enumlabel::text, ',' ORDER BY e.oid), 'UTF8')), 'hex')
            FROM pg_type AS y JOIN pg_enum AS e ON e.enumtypid IN (y.oid, y.typbasetype, y.typelem)
            WHERE y.oid = a.atttypid)
    ))
    FROM pg_attribute a WHERE a.attrelid = {} AND a.attnum > 0 AND NOT a.attisdropped"""
Columns = Mapping[str, Sequence[int | str | None]]
Trust = Collection[str]


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """A column of the primary key, as described in SQL."""

    name: str
    type: str  # as SQL, qualified unless it is one of Postgres's own types, and without a modifier such as a length
    as_text: str  # its value as text, the same in every session, for the expression {0}
    collation: str | None = None  # as SQL


@dataclass(frozen=True, slots=True)
class Key:
    """The primary key, and how its values are passed around. In a queue its columns are k1, k2, ..."""

    columns: tuple[KeyColumn, ...]

    def names(self, alias: str | None = None) -> sql.Composed:
        """Return its columns in a queue."""
        return _listed(Name(*filter(None, (alias, own))) for own in self._own)

    def source_names(self, alias: str) -> sql.Composed:
        """Return its columns in the source."""
        return _listed(Name(alias, column.name) for column in self.columns)

    def definitions(self) -> sql.Composed:
        """Return the definitions of its columns in a queue."""
        return _listed(
            sql.SQL("{} {}{} NOT NULL").format(
                Name(own), written(column.type), written(f" COLLATE {column.collation}" if column.collation else "")
            )
            for own, column in zip(self._own, self.columns, strict=True)
        )

    def equal(self, left: str, right: str, *, source: str = "") -> sql.Composed:
        """Return SQL for two rows having the same key; the alias `source` is that of the source."""
        pairs = (
            sql.SQL("{} = {}").format(self._column(left, place, source), self._column(right, place, source))
            for place in range(len(self.columns))
        )
        return sql.SQL(" AND ").join(pairs)

    def either(self, left: str, right: str) -> sql.Composed:
        """Return the key of a row of the source that may be missing on one side."""
        names = (column.name for column in self.columns)
        return _listed(sql.SQL("coalesce({}, {})").format(Name(left, name), Name(right, name)) for name in names)

    def record_id(self, alias: str, *, source: bool = False) -> sql.Composable:
        """Return the id of a row's record: its key as text, or a JSON list of texts."""
        texts = [
            written(column.as_text).format(self._column(alias, place, alias if source else ""))
            for place, column in enumerate(self.columns)
        ]
        return texts[0] if len(texts) == 1 else sql.SQL("jsonb_build_array({})::text").format(_listed(texts))

    def of_record_id(self, record_id: sql.Composable) -> sql.Composed:
        """Return the key's columns, parsed from a record's id."""
        if len(self.columns) == 1:
            return sql.Composed([_typed(record_id, self.columns[0])])
        return _listed(
            _typed(sql.SQL("({}::jsonb ->> {})").format(record_id, literal(place)), column)
            for place, column in enumerate(self.columns)
        )

    def texts(self, alias: str, *, source: bool = False) -> sql.Composed:
        """Return its values as text, to be passed back to `unnested` or `values` by sessions with any DateStyle."""
        texts = (
            written(column.as_text).format(self._column(alias, place, alias if source else ""))
            for place, column in enumerate(self.columns)
        )
        return sql.SQL("ARRAY[{}]").format(_listed(texts))

    def unnested(self, alias: str, more: str = "") -> sql.Composed:
        """Return a table of keys, each column bound as a list of texts; more: an additional column of numbers."""
        lists = [sql.SQL("%s::text[]::{}[]").format(written(column.type)) for column in self.columns]
        names = [*self._own, more] if more else self._own
        return sql.SQL("unnest({}) AS {} ({})").format(
            _listed([*lists, *([sql.SQL("%s::bigint[]")] if more else [])]),
            Name(alias),
            _listed(map(Name, names)),
        )

    def values(self) -> sql.Composed:
        """Return a key that is bound as one text per column."""
        return _listed(sql.SQL("%s::text::{}").format(written(column.type)) for column in self.columns)

    @property
    def _own(self) -> list[str]:
        return [f"k{number}" for number in range(1, len(self.columns) + 1)]

    def _column(self, alias: str, place: int, source: str) -> sql.Identifier:
        return Name(alias, self.columns[place].name if alias == source else self._own[place])


@dataclass(frozen=True, slots=True)
class Source:
    """A table as it was declared."""

    oid: int
    schema: str
    table: str
    key: Key
    text: str  # as SQL over a row
    metadata: tuple[str, ...]  # columns
    watched: tuple[str, ...]  # columns that text and metadata are made of
    whole: bool  # they may be made of any column, including later ones

    @property
    def name(self) -> sql.Identifier:
        """Its qualified name, as SQL."""
        return Name(self.schema, self.table)

    def needed(self, columns: Columns) -> Columns:
        """Return those of the columns that it uses, if they exist."""
        if self.whole:
            return columns
        names = {*self.watched, *(column.name for column in self.key.columns)}
        return {name: columns[name] for name in sorted(names & columns.keys())}

    def rows(self, where: sql.Composable) -> sql.Composed:
        """Return the rows with their records' ids, texts and metadata, for a query with parameters."""
        described = [sql.SQL("{}, s.{}").format(literal(column), Name(column)) for column in self.metadata]
        parts = [described[begin : begin + _PAIRS] for begin in range(0, len(described), _PAIRS)] or [[]]
        return sql.SQL("SELECT {}, {}, {} FROM {} AS s {}").format(
            self.key.record_id("s", source=True),
            written(self.text),
            sql.SQL(" || ").join(sql.SQL("jsonb_build_object({})").format(_listed(part)) for part in parts),
            self.name,
            where,
        )

    def rows_of_keys(self) -> sql.Composed:
        """Return the rows with bound keys. As a separate query, so that names in the text can only be columns."""
        rows = self.rows(sql.SQL("WHERE {}").format(self.key.equal("s", "k", source="s")))
        return sql.SQL("SELECT r.* FROM {} CROSS JOIN LATERAL ({}) AS r").format(self.key.unnested("k"), rows)

    def __str__(self) -> str:
        return f"{self.schema}.{self.table}"


def find(
    connection: Connection[Any], name: str, text: Sequence[str], metadata: Sequence[str], path: Path, trust: Trust
) -> Source:
    """Look up a table, in a pinned transaction of the caller's; the texts are columns or SQL expressions over them."""
    found = connection.execute(_FIND, {"name": name, "schemas": path.schemas}).fetchone()
    if found is None:
        raise SettingError(f"there is no table {name!r} in this database, as TABLE or SCHEMA.TABLE")
    oid, schema, table, kind, persistence, strangers = found
    if kind not in ("r", "p"):
        raise SettingError(f"{schema}.{table} is not an ordinary table; changes in it cannot be detected")
    refuse_unlogged(f"{schema}.{table}", persistence)
    refuse_strangers(f"table {schema}.{table}", strangers, trust)
    columns = connection.execute(_COLUMNS, [oid]).fetchall()
    names = [column[0] for column in columns]
    if unknown := [column for column in metadata if column not in names]:
        raise SettingError(f"{schema}.{table} has no column {unknown[0]!r}; it has {', '.join(names)}")
    expression, made_of, whole = resolve(connection, Name(schema, table), joined(names, text), path.setting, trust)
    watched = {*made_of, *metadata}
    virtual = {column[0] for column in columns if column[4]}
    if watched & virtual:  # computed when read, so all columns that it may use are watched
        watched, whole = set(names) - virtual, True
    key = _key(f"{schema}.{table}", columns)
    return Source(
        oid, schema, table, key, expression, tuple(metadata), tuple(name for name in names if name in watched), whole
    )


def refuse_unlogged(table: str, persistence: str) -> None:
    """Raise an error unless a table survives a crash, given its pg_class.relpersistence."""
    if persistence != "p":
        raise SettingError(
            f"{table} is UNLOGGED or temporary: a crash of the server empties it unnoticed, and its chunks would stay; "
            f"run ALTER TABLE {table} SET LOGGED, or use another table"
        )


@dataclass(frozen=True, slots=True)
class Path:
    """The search path for a user's own names."""

    setting: str
    schemas: list[str]

    @classmethod
    def of(cls, connection: Connection[Any]) -> Path:
        """Return the search path of a connection, before a transaction pins it."""
        setting, schemas = connection.execute(_PATH).fetchone() or ("", [])
        return cls(setting, schemas)


def _key(table: str, columns: Iterable[tuple[Any, ...]]) -> Key:
    own = sorted((column for column in columns if column[5] is not None), key=lambda column: column[5])
    if not own:
        raise SettingError(f"{table} has no primary key, which identifies rows; add one")
    found = []
    for name, type_, base, is_enum, _, _, collation, deterministic in own:
        as_text = "{0}::text" if is_enum or base in _PLAIN else _WRITTEN.get(base)
        if as_text is None or not deterministic:
            raise SettingError(
                f"{table} has the key column {name!r} of type {type_}, whose values have more than one textual form; "
                "a key must consist of integers, uuid, text, dates, timestamps, numeric, boolean or an enum"
            )
        found.append(KeyColumn(name, type_, as_text, collation))
    return Key(tuple(found))


def _typed(text: sql.Composable, column: KeyColumn) -> sql.Composed:
    """Return a text converted back to its column's type."""
    collation = f" COLLATE {column.collation}" if column.collation else ""
    return sql.SQL("{}::{}{}").format(text, written(column.type), written(collation))


def _listed(parts: Iterable[sql.Composable]) -> sql.Composed:
    return sql.SQL(", ").join(parts)
