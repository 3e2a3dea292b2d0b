"""A real PostgreSQL with pgvector per session, embedded or by `--postgres DSN`, and unique names."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, LiteralString
from urllib.parse import quote, urlencode

import psycopg
import pytest
from harrier_pgvector.embedded import start
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

_numbers = itertools.count()
_session = secrets.token_hex(4)  # databases and roles belong to the server, so other sessions on it need other names

_SAID = pytest.StashKey[str]()
NewDatabase = Callable[..., str]
NewRole = Callable[..., str]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--postgres",
        metavar="DSN",
        help="run the Postgres tests on this server, as a superuser with a password; default: an embedded one",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Check the server once: a warning about Debian's pgvector must not be an error."""
    dsn = config.getoption("--postgres")
    if not dsn:
        return
    with psycopg.connect(dsn) as connection:
        [(said, vector)] = connection.execute(
            "SELECT version(), (SELECT default_version FROM pg_available_extensions WHERE name = 'vector')"
        ).fetchall()
        config.stash[_SAID] = f"{connection.info.host} port {connection.info.port}, {said}, pgvector {vector}"
    if not vector:
        raise pytest.UsageError(f"the server of --postgres has no pgvector: {config.stash[_SAID]}")
    if tuple(map(int, vector.split(".")[:3])) < (0, 8, 4):
        config.addinivalue_line("filterwarnings", "ignore:.*indexes can be damaged:harrier_core.errors.StoreWarning")


def pytest_report_header(config: pytest.Config) -> str:
    if _SAID not in config.stash:
        return "Postgres: embedded; give --postgres DSN to test on a server"
    return f"Postgres: {config.stash[_SAID]}; embedded where a test kills its server, fills its disk, or says embedded"


def url_of(conninfo: str, **changes: str | int) -> str:
    """Return the URL of the same place, always with a query, to which a test may append `&table=`."""
    settings = {**conninfo_to_dict(conninfo), **changes}
    login, password, name = (quote(str(settings.pop(each, "")), safe="") for each in ("user", "password", "dbname"))
    return f"postgresql://{login}{password and ':'}{password}@/{name}?{urlencode(settings, quote_via=quote)}"


def _execute(conninfo: str, statement: LiteralString, *names: str, **values: Any) -> list[Any]:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        literals = {name: sql.Literal(value) for name, value in values.items()}
        cursor = connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names), **literals))
        return cursor.fetchall() if cursor.description else []


@pytest.fixture(scope="session")
def postgres(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of a database that the session's tests share, as a superuser."""
    dsn = pytestconfig.getoption("--postgres")
    if not dsn:
        conninfo, stop = start(tmp_path_factory.mktemp("postgres"))
        yield conninfo
        stop()
        return
    with psycopg.connect(dsn) as connection:
        user, host, port = connection.info.user, connection.info.host, connection.info.port
    name = f"harrier_tests_{_session}"  # the user's own databases are left alone
    _execute(dsn, "CREATE DATABASE {}", name)
    yield url_of(dsn, user=user, host=host, port=port, dbname=name)
    _execute(dsn, "DROP DATABASE {} WITH (FORCE)", name)


@pytest.fixture
def major(postgres: str) -> int:
    """Return the server's major version."""
    [(number,)] = _execute(postgres, "SELECT current_setting('server_version_num')::int")
    return int(number) // 10_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Start a separate embedded server that the test may kill, and return its folder too."""
    conninfo, stop = start(tmp_path / "data")
    yield conninfo, tmp_path / "data"
    stop()


@pytest.fixture
def new_database(postgres: str) -> Iterator[NewDatabase]:
    """Create an empty database with options of CREATE DATABASE, and return its URL."""
    made: list[str] = []

    def new(options: LiteralString = "") -> str:
        name = f"harrier_tests_{_session}_{next(_numbers)}"
        _execute(postgres, "CREATE DATABASE {} " + options, name)  # which a server may refuse
        made.append(name)
        return url_of(postgres, dbname=name)

    yield new
    for name in made:
        _execute(postgres, "DROP DATABASE {} WITH (FORCE)", name)


@pytest.fixture
def database(new_database: NewDatabase) -> str:
    """Return an empty database on that server."""
    return new_database()


@pytest.fixture
def new_role(postgres: str, new_database: object) -> Iterator[NewRole]:  # noqa: ARG001 - roles go before databases
    """Create a role that may log in, with options of CREATE ROLE, and return its name, which needs no quotes.

    It has the password of `postgres` unless another is given: `make_conninfo(postgres, user=new_role("reader"))` logs
    in, however the server asks for passwords. The role, and what it owns, are dropped after the test.
    """
    made: list[str] = []

    def new(name: str, options: LiteralString = "", password: str | None = None) -> str:
        made.append(f"{name}_{_session}_{next(_numbers)}")
        secret = password or conninfo_to_dict(postgres).get("password")
        _execute(postgres, "CREATE ROLE {} LOGIN PASSWORD {secret} " + options, made[-1], secret=secret)
        return made[-1]

    yield new
    owning = (
        "SELECT DISTINCT datname FROM pg_shdepend JOIN pg_database d ON dbid = d.oid WHERE refobjid = {name}::regrole"
    )
    for name in made:
        for (dbname,) in _execute(postgres, owning, name=name):
            _execute(url_of(postgres, dbname=dbname), "DROP OWNED BY {} CASCADE", name)
        _execute(postgres, "DROP OWNED BY {}", name)  # rights to databases
        _execute(postgres, "DROP ROLE {}", name)


@pytest.fixture
def table() -> str:
    """Return an unused name that needs quotes."""
    return f'documents "{next(_numbers)}"; 100%s --'
