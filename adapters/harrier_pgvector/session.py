"""The use of a connection by this package: its rows, its search path, its transactions.

Every statement runs with the search path `pg_catalog, pg_temp`. With any other path, a function or an operator that
someone created in a schema of that path can match a call more closely than Postgres's own, and would run with our
rights. Objects of the extension are qualified in each statement.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, LiteralString
from weakref import WeakKeyDictionary

import psycopg
from psycopg import Connection, Cursor, capabilities, sql
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.rows import tuple_row

from harrier_core.errors import SettingError

PATH = "pg_catalog, pg_temp"

# As statements without parameters these travel together, in one round trip, and no name in them is looked up.
_OURS = "SET LOCAL search_path = pg_catalog, pg_temp"
_BEGIN_CURRENT: LiteralString = "BEGIN ISOLATION LEVEL READ COMMITTED"
_BEGIN = f"{_BEGIN_CURRENT}; {_OURS}"
_BEGUN = f"SET TRANSACTION ISOLATION LEVEL READ COMMITTED; {_OURS}"
_PIN = "pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true)"

Statement = tuple[LiteralString | sql.SQL | sql.Composed, Sequence[Any], bool]  # and whether the result is binary
Request = tuple[list[Statement], dict[str, str]]  # statements, and settings for them

_READ_COMMITTED = "read committed"
_CURRENT = (_READ_COMMITTED, "read uncommitted")  # levels at which each statement sees all that was committed before

# Connections in a transaction that runs with our search path, and the isolation of that transaction.
_pinned: WeakKeyDictionary[Connection[Any], str] = WeakKeyDictionary()


@contextmanager
def as_ours(connection: Connection[Any]) -> Iterator[None]:
    """Set up a connection for this package's statements, and restore it afterwards."""
    if capabilities.has_pipeline() and connection.info.pipeline_status != PipelineStatus.OFF:
        raise SettingError(
            "the connection is in pipeline mode, in which COPY is not possible; use it outside the pipeline"
        )
    if connection.info.encoding != "utf-8":  # copied rows are UTF-8, and Postgres would misread them
        raise SettingError(
            f"the connection's client_encoding is {connection.info.encoding}, not utf-8; connect with "
            "client_encoding='utf8'"
        )
    theirs = connection.row_factory, connection.cursor_factory, connection.prepare_threshold
    connection.row_factory, connection.cursor_factory, connection.prepare_threshold = tuple_row, Cursor, None
    try:
        yield
    finally:
        connection.row_factory, connection.cursor_factory, connection.prepare_threshold = theirs


@contextmanager
def autocommitting(connection: Connection[Any]) -> Iterator[None]:
    """Use a pool's connection without implicit transactions, which cost round trips; restore it afterwards."""
    if connection.autocommit or connection.info.transaction_status != TransactionStatus.IDLE:
        yield
        return
    connection.autocommit = True
    try:
        yield
    finally:
        if not connection.closed:
            connection.rollback()
            connection.autocommit = False


@contextmanager
def transaction(connection: Connection[Any], *, current: bool = False) -> Iterator[None]:
    """Begin a transaction with our search path, or a savepoint if the connection is already in one.

    A transaction of our own is READ COMMITTED, whatever the database's default is. current: the statements need to see
    what other writers have committed in the meantime, which they could in no caller's transaction of another isolation.
    """
    if connection in _pinned:
        _check_isolation(_pinned[connection], current=current)
        with connection.transaction():
            yield
    elif connection.info.transaction_status != TransactionStatus.IDLE:
        with connection.transaction(), _borrowed(connection) as isolation:
            _check_isolation(isolation, current=current)
            yield
    elif not connection.autocommit:
        with connection.transaction(), _marked(connection, _READ_COMMITTED):
            connection.execute(_BEGUN)
            yield
    else:
        with _begun(connection), _marked(connection, _READ_COMMITTED):
            yield


def ask(
    connection: Connection[Any],
    query: LiteralString | sql.SQL | sql.Composed,
    bound: Sequence[Any],
    *,
    settings: Mapping[str, str] | None = None,
    binary: bool = False,
) -> Cursor[Any]:
    """Run one statement with our search path, and with settings that end with it; in one round trip if possible."""
    pin, values = _setting(settings or {})
    if connection in _pinned:
        if settings:
            connection.execute(pin, values)
        return connection.execute(query, bound, binary=binary)
    if connection.info.transaction_status != TransactionStatus.IDLE:
        with _borrowed(connection):
            return ask(connection, query, bound, settings=settings, binary=binary)
    if not connection.autocommit or not capabilities.has_pipeline():
        with transaction(connection):
            return ask(connection, query, bound, settings=settings, binary=binary)
    cursors, error = _together(connection, [(pin, values, False), (query, bound, binary)])
    if error:
        raise error
    return cursors[1]


def ask_then_look(
    connection: Connection[Any], statements: Sequence[Statement], look: Statement, settings: Mapping[str, str]
) -> tuple[list[Cursor[Any]], list[Any], psycopg.Error | None]:
    """Read something, and then check what it depends on; in one round trip if possible.

    Return the cursors, the result of the check, and the error of a statement. The check comes last, because names are
    looked up when a statement gets its locks, which it may wait for. It keeps them until the check is done, so that no
    one can put another table under the name in between.
    """
    pin, values = _setting(settings)
    in_transaction = connection.info.transaction_status != TransactionStatus.IDLE or not connection.autocommit
    if connection in _pinned or in_transaction or not capabilities.has_pipeline():
        with transaction(connection):
            cursors = [
                ask(connection, query, bound, settings=settings, binary=binary) for query, bound, binary in statements
            ]
            return cursors, ask(connection, look[0], look[1]).fetchall(), None
    cursors, error = _together(connection, [(pin, values, False), *statements, look])
    if error is None:
        return cursors[1:-1], cursors[-1].fetchall(), None
    if connection.closed:
        raise error
    return [], ask(connection, look[0], look[1]).fetchall(), error


def ask_each(connection: Connection[Any], statements: Sequence[Statement]) -> list[Cursor[Any]]:
    """Run statements in a transaction of our own, in one round trip if possible."""
    if not capabilities.has_pipeline():
        return [connection.execute(query, bound, binary=binary) for query, bound, binary in statements]
    cursors, error = _run_together(connection, statements)
    if error:
        raise error
    return cursors


def _together(
    connection: Connection[Any], statements: Sequence[Statement]
) -> tuple[list[Cursor[Any]], psycopg.Error | None]:
    """Run statements in a READ COMMITTED transaction of our own, in one round trip; return what `_run_together` does.

    With another default, all would use the snapshot of the first one. A statement that waits for a lock, while a switch
    gives the table's name to another table, would then read the other table as it was before the switch.
    """
    try:
        cursors, error = _run_together(connection, [(_BEGIN_CURRENT, [], False), *statements, ("COMMIT", [], False)])
    except BaseException:  # Ctrl-C as well
        _roll_back(connection)
        raise
    if error:
        _roll_back(connection)
    return cursors[1 : 1 + len(statements)], error


def _run_together(
    connection: Connection[Any], statements: Sequence[Statement]
) -> tuple[list[Cursor[Any]], psycopg.Error | None]:
    """Run statements in one round trip; return the cursors of those that succeeded, and the error of the next one."""
    cursors: list[Cursor[Any]] = []
    failed: psycopg.Error | None = None
    try:
        with connection.pipeline():
            try:
                for query, bound, binary in statements:
                    cursors.append(connection.execute(query, bound, binary=binary))
            except psycopg.Error as error:  # raised in here, psycopg would log that a lost pipeline cannot be ended
                failed = error
    except psycopg.Error as error:
        failed = failed or error
    done = [cursor for cursor in cursors if cursor.pgresult is not None]
    return done, failed or (None if len(done) == len(statements) else psycopg.InternalError("nothing was run"))


def _setting(settings: Mapping[str, str]) -> tuple[sql.Composed, list[str]]:
    each = [sql.SQL("pg_catalog.set_config({}, %s, true)").format(sql.Literal(name)) for name in settings]
    return sql.SQL("SELECT {}").format(sql.SQL(", ").join([sql.SQL(_PIN), *each])), list(settings.values())


@contextmanager
def _begun(connection: Connection[Any]) -> Iterator[None]:
    connection.execute(_BEGIN)
    try:
        yield
    except BaseException:
        _roll_back(connection)
        raise
    connection.commit()


def _roll_back(connection: Connection[Any]) -> None:
    """Roll back. A connection that cannot do so is lost, and is closed; what failed before says more."""
    if connection.closed:
        return
    try:
        connection.rollback()
    except psycopg.Error:
        connection.close()


@contextmanager
def _marked(connection: Connection[Any], isolation: str) -> Iterator[None]:
    _pinned[connection] = isolation
    try:
        yield
    finally:
        del _pinned[connection]


@contextmanager
def _borrowed(connection: Connection[Any]) -> Iterator[str]:
    """Set our search path in a transaction of the caller's, and restore it afterwards.

    After an error, the caller's rollback, to a savepoint or of everything, restores it.
    """
    settings = "pg_catalog.current_setting('search_path'), pg_catalog.current_setting('transaction_isolation')"
    [(path, isolation, _)] = connection.execute(f"SELECT {settings}, {_PIN}").fetchall()
    with _marked(connection, isolation):
        yield isolation
    connection.execute("SELECT pg_catalog.set_config('search_path', %s, true)", [path])


def _check_isolation(isolation: str, *, current: bool) -> None:
    if current and isolation not in _CURRENT:
        raise SettingError(
            f"the transaction is {isolation.upper()}, which hides chunks added by other writers, so a "
            "record could become a mix of two; use READ COMMITTED"
        )
