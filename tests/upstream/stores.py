"""A pytest plugin: run LangGraph's tests of its stores with HarrierEmbeddings, on stores made by `with_roles`."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Iterator

import psycopg
import pytest
from databases import url_of
from langchain_harrier import HarrierEmbeddings
from langchain_harrier.langgraph import with_roles
from upstream.replacing import FIXTURES, NAMES, note_ours

from harrier_core.tasks import DEFAULT_TASK
from harrier_core.testing import build_model


class Embeddings(HarrierEmbeddings):
    """HarrierEmbeddings with the attribute of CharacterEmbeddings that the tests read."""

    @property
    def dims(self) -> int:
        return self.encoder.dimensions


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the folder of a model that compares texts by their words."""
    return str(build_model(tmp_path_factory.mktemp("model"), vectors="words"))


@pytest.fixture(scope="session")
def model_of_one_role(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the folder of a model that puts the same prompt before a document and a query: a text has one vector."""
    folder = build_model(tmp_path_factory.mktemp("model"), vectors="words")
    companion = folder / "config_sentence_transformers.json"
    settings = json.loads(companion.read_text(encoding="utf-8"))
    settings["prompts"]["document"] = settings["prompts"][DEFAULT_TASK]
    companion.write_text(json.dumps(settings), encoding="utf-8")
    return str(folder)


@pytest.fixture
def fake_embeddings(request: pytest.FixtureRequest) -> Iterator[Embeddings]:
    """Yield embeddings that put the instruction before queries only, except in test_scores.

    That test computes the score that it expects from `embed_query` of the *document*.
    """
    note_ours(request)
    kind = "model_of_one_role" if request.node.originalname == "test_scores" else "model"
    embeddings = Embeddings(model=request.getfixturevalue(kind))
    yield embeddings
    embeddings.encoder.close()


@pytest.fixture(scope="session", autouse=True)
def _on_a_server_of_ours(request: pytest.FixtureRequest) -> None:
    """Put the address of our server into the modules that have one: those for Postgres."""
    modules = [module for name, module in sys.modules.items() if name.startswith("tests.")]
    addressed = [module for module in modules if hasattr(module, "DEFAULT_URI")]
    if addressed:
        postgres = request.getfixturevalue("postgres")
        if not request.config.getoption("--postgres"):  # each test makes a database
            with psycopg.connect(postgres, autocommit=True) as connection:
                connection.execute("ALTER SYSTEM SET fsync = off")
                connection.execute("SELECT pg_reload_conf()")
        for module in addressed:
            module.DEFAULT_URI = url_of(postgres)  # type: ignore[attr-defined]


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(sqlite3.Connection, "enable_load_extension"):  # SqliteStore needs them
        import pysqlite3

        sys.modules["sqlite3"] = pysqlite3
    from langgraph.store.memory import InMemoryStore
    from langgraph.store.postgres import AsyncPostgresStore, PostgresStore
    from langgraph.store.sqlite import AsyncSqliteStore, SqliteStore

    kinds = (InMemoryStore, PostgresStore, AsyncPostgresStore, SqliteStore, AsyncSqliteStore)
    config.stash[FIXTURES] = {"fake_embeddings": fake_embeddings}
    config.stash[NAMES] = {kind.__name__: with_roles(kind) for kind in kinds}
