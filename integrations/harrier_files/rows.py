"""Rows of JSONL, CSV, Parquet and of a Postgres query, one after another, as mappings from columns to values."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import IO, Any

from harrier_core import SettingError, StoreError, StoreUnavailable
from harrier_core.extras import missing_extra
from harrier_core.values import NoForm
from harrier_core.values import plain as json_form
from harrier_files.formats.decoding import REMEDY, as_utf8
from harrier_files.limits import Unreadable, read_at_most, shown_size, too_large

Row = Mapping[str, Any]
# The number of a row's first line, and the row, or the reason why it cannot be read.
Numbered = tuple[int, Row | Unreadable]

_FETCHED = 1_000  # rows fetched at once from a server's cursor
_SKIPPED = 1 << 20  # bytes of a line that is too long, skipped at once
_UNHELD = "that Python cannot hold"  # replaces the value in a message


def jsonl_rows(
    file: IO[bytes],
    wanted: Collection[str],  # noqa: ARG001
    most: int,
    encoding: str | None = None,
) -> Iterator[Numbered]:
    """Yield an object for each line; blank lines are skipped."""
    stream, _ = as_utf8(file, encoding)
    for number, line in _lines(stream, most):
        if line is None:
            yield number, Unreadable(too_large("a line", most))
        elif line.strip():
            yield number, _object(line)


def _lines(file: IO[bytes], most: int) -> Iterator[tuple[int, bytes | None]]:
    """Yield lines and their numbers; one that is too long is not kept, and becomes None."""
    number = 1
    while line := file.readline(most + 1):
        long = len(line) > most and not line.endswith(b"\n")
        if long:
            while (rest := file.readline(_SKIPPED)) and not rest.endswith(b"\n"):
                pass
        yield number, None if long else line
        number += 1


def _object(line: bytes) -> Row | Unreadable:
    try:
        row = json.loads(line.decode().rstrip())
    except UnicodeDecodeError:
        return Unreadable(f"is not UTF-8; {REMEDY}")
    except (ValueError, RecursionError) as error:
        place = f" (column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        return Unreadable(f"is not JSON{place}")
    return row if isinstance(row, dict) else Unreadable(f"is a JSON {type(row).__name__}, not an object")


def csv_rows(file: IO[bytes], wanted: Collection[str], most: int, encoding: str | None = None) -> Iterator[Numbered]:
    """Yield the rows of a CSV, whose first line names the columns; all values are strings.

    The delimiter is a semicolon, tab or bar if the first line has the wanted columns only then. Parsing is strict: an
    unbalanced quote would otherwise swallow the following lines, and hide their records.
    """
    csv.field_size_limit(sys.maxsize)
    stream, _ = as_utf8(file, encoding)
    text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
    lines = _RowLines(text, most)
    number = 1
    try:
        reader = csv.reader(lines, strict=True, delimiter=_delimiter(lines.first(), wanted))
        names = next(reader, [])
        _check_names(names, wanted)
        while (number := reader.line_num + 1) and (values := next(lines.row(reader), None)) is not None:
            if lines.long:
                yield number, Unreadable(too_large("a line", most))
            elif values:
                yield number, _of_columns(names, values)
    except UnicodeDecodeError:
        raise Unreadable(f"is not UTF-8 at or shortly after line {number}; {REMEDY}") from None
    except csv.Error as error:
        raise Unreadable(f"is not valid CSV from line {number} on: {error}") from None
    except _RowTooLong:
        raise Unreadable(f"has a row of more than {shown_size(most)} from line {number} on") from None
    finally:
        with suppress(ValueError):  # it is closed
            text.detach()


def _delimiter(header: str, wanted: Collection[str]) -> str:
    """Return the delimiter: a comma, unless only another character yields the wanted columns."""
    for each in (",", ";", "\t", "|"):
        with suppress(csv.Error, StopIteration):
            if set(wanted) <= set(next(csv.reader([header], strict=True, delimiter=each))):
                return each
    return ","


class _RowTooLong(Exception):
    """A row whose end is unknown, and so is the beginning of the next one."""


class _RowLines:
    """Lines for a CSV reader. One that is too long, and is a whole row, becomes an empty one."""

    def __init__(self, text: io.TextIOWrapper, most: int) -> None:
        self.long = False  # whether the last row was too long
        self._text = text
        self._most = most
        self._size = 0  # size of the current row so far
        self._first: str | None = None  # a line that was peeked at

    def first(self) -> str:
        """Return the first line, which the reader gets as well."""
        self._first = self._text.readline(self._most + 1)
        return self._first

    def row(self, reader: Iterator[list[str]]) -> Iterator[list[str]]:
        """Return the reader, whose next line begins a row."""
        self.long, self._size = False, 0
        return reader

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._text.readline(self._most + 1) if self._first is None else self._first
        self._first = None
        if not line:
            raise StopIteration
        begins, self._size = not self._size, self._size + len(line)
        if self._size <= self._most:
            return line
        quotes = line.count('"')
        while line and not line.endswith(("\n", "\r")):
            line = self._text.readline(_SKIPPED)
            quotes += line.count('"')
        if not begins or quotes % 2:
            raise _RowTooLong
        self.long = True
        return "\n"


def _check_names(names: Sequence[str], wanted: Collection[str]) -> None:
    """Refuse two wanted columns with the same name, because it is unclear which is meant; others may share one."""
    if twice := [name for name in names if name in wanted and names.count(name) > 1]:
        raise Unreadable(f"has {names.count(twice[0])} columns {twice[0]!r}; give each a unique name")


def _of_columns(names: list[str], values: list[str]) -> Row | Unreadable:
    if len(values) != len(names):
        return Unreadable(f"has {len(values)} fields, not {len(names)} like the first line")
    return dict(zip(names, values, strict=True))


def parquet_rows(
    file: IO[bytes],
    wanted: Collection[str],
    most: int,
    encoding: str | None = None,  # noqa: ARG001
) -> Iterator[Numbered]:
    """Yield the rows of a table that pyarrow reads, a batch at a time."""
    try:
        from pyarrow import ArrowException  # type: ignore[import-untyped]
        from pyarrow.parquet import ParquetFile  # type: ignore[import-untyped]
    except ImportError:  # the other files may still be read
        raise Unreadable(f"is not read: {missing_extra('Parquet', 'pyarrow')}") from None
    try:
        table = ParquetFile(file if file.seekable() else io.BytesIO(read_at_most(file, most)))
        names = table.schema_arrow.names
        _check_names(names, wanted)
        if missing := [name for name in wanted if name not in names]:
            raise Unreadable(f"has no column {missing[0]!r}; it has {', '.join(names) or 'none'}")
        batches = table.iter_batches(batch_size=_FETCHED, columns=list(dict.fromkeys(wanted)))
        yield from enumerate((row for batch in batches for row in _of_batch(batch)), 1)
    except (ArrowException, OSError, ValueError, OverflowError) as error:
        raise Unreadable(f"cannot be read as Parquet ({type(error).__name__})") from None


def _of_batch(batch: Any) -> Iterator[Row]:  # pyarrow's
    """Yield all rows at once or, if Python cannot represent a value, each value on its own."""
    try:
        yield from batch.to_pylist()
    except (ValueError, OverflowError):
        for row in range(batch.num_rows):
            yield {name: _value(batch.column(name)[row]) for name in batch.schema.names}


def _value(scalar: Any) -> Any:  # pyarrow's
    try:
        return scalar.as_py()
    except (ValueError, OverflowError):
        return Unreadable(_UNHELD)


def postgres_rows(url: str, query: str | None, table: str | None, wanted: Collection[str]) -> Iterator[Numbered]:
    """Yield the rows of a query or table, by a server-side cursor in a read-only transaction."""
    import harrier_pgvector  # noqa: F401  # first, for it says what to install where psycopg is missing
    import psycopg
    from harrier_pgvector.connections import checked_conninfo
    from harrier_pgvector.failures import message
    from psycopg import sql
    from psycopg.rows import dict_row

    if (query is None) == (table is None):
        raise SettingError("a Postgres source needs either --query or --table")
    checked_conninfo(url)
    name = sql.Identifier(*(table or "").split(".", 1))
    names = sql.SQL(", ").join(map(sql.Identifier, dict.fromkeys(wanted)))
    said = query.rstrip().rstrip(";").encode() if query else sql.SQL("SELECT {} FROM {}").format(names, name)
    try:
        with psycopg.connect(url) as connection:
            connection.read_only = True
            _hold_what_can_be_held(connection)
            with connection.cursor("harrier", row_factory=dict_row) as cursor:
                cursor.itersize = _FETCHED
                cursor.execute(said)
                _check_names([column.name for column in cursor.description or ()], wanted)
                yield from enumerate(cursor, 1)
    except Unreadable as error:
        raise SettingError(f"the result from Postgres {error}") from None
    except psycopg.OperationalError as error:
        raise StoreUnavailable(f"the source Postgres cannot be reached: {message(error)}") from None
    except psycopg.Error as error:
        raise StoreError(f"the source Postgres refused: {message(error)}") from None


def _hold_what_can_be_held(connection: Any) -> None:  # psycopg's
    """Replace infinite times, and those beyond the year 9999, by a marker; psycopg's error would quote them."""
    from psycopg import Error
    from psycopg.adapt import Loader
    from psycopg.pq import Format

    def careful(usual: type[Any]) -> type[Loader]:
        class Careful(Loader):
            def __init__(self, oid: int, context: Any = None) -> None:
                super().__init__(oid, context)
                self._usual = usual(oid, context)

            def load(self, data: Any) -> Any:
                try:
                    return self._usual.load(data)
                except (Error, ValueError, OverflowError):
                    return Unreadable(_UNHELD)

        return Careful

    adapters = connection.adapters
    for name in ("date", "time", "timetz", "timestamp", "timestamptz", "interval"):
        if usual := adapters.get_loader(adapters.types[name].oid, Format.TEXT):
            adapters.register_loader(name, careful(usual))


def database_of(url: str) -> str:
    """Return the server and database of a connection string, without a user or a password."""
    from harrier_pgvector.connections import checked_conninfo  # first, as above
    from psycopg.conninfo import conninfo_to_dict

    parts = conninfo_to_dict(checked_conninfo(url))
    where = parts.get("host") or parts.get("hostaddr") or parts.get("service") or "local"
    return f"postgresql://{where}:{parts.get('port') or 5432}/{parts.get('dbname') or ''}"


def plain(value: object) -> object:
    """Return a database value as JSON metadata; one without such a form stays, and the ingest reports it."""
    if isinstance(value, Unreadable):
        raise value
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    try:
        return json_form(value)
    except NoForm:
        return value


# Each takes the wanted columns (others may be left out), the maximum bytes of a row, and the encoding of a text that is
# not UTF-8.
ROWS: Mapping[str, Callable[[IO[bytes], Collection[str], int, str | None], Iterator[Numbered]]] = {
    "jsonl": jsonl_rows,
    "csv": csv_rows,
    "parquet": parquet_rows,
}
