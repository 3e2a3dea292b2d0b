"""The pages in docs/coming-from: the program of each page runs, and so does every row of its tables."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from harrier_pgvector import PgVectorStore
from harrier_qdrant import QdrantStore
from langchain_core.documents import Document
from llama_index.core.embeddings import resolve_embed_model
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import MetadataFilter, MetadataFilters
from qdrant_client import AsyncQdrantClient, QdrantClient, models

from harrier_core import Contents, HarrierError, Hnsw, Index, Task

ROOT = Path(__file__).parents[1] / "docs" / "coming-from"
PAGES = sorted(page.name for page in ROOT.glob("*-*.md"))
TEXTS = {"bread": "Bread rises because of yeast.", "river": "Rivers carry sand to the sea."}
METADATA: dict[str, dict[str, Any]] = {
    "bread": {"year": 2021, "lang": "en"},
    "river": {"year": 2019, "lang": "fr", "geo": {"lat": 59.9}},
}

# A row has an option as users may type it, whether it is accepted, and the replacement, which may begin with code.
ROW = re.compile(
    r"^\| `(?P<typed>.*?)` \| (?P<fate>taken|refused|none) \| ?(?:`(?P<code>.*?)`)?(?P<words>.*?) ?\|$", re.MULTILINE
)


def rows_of(page: str) -> list[re.Match[str]]:
    text = (ROOT / page).read_text(encoding="utf-8")
    rows = list(ROW.finditer(text))
    assert len(rows) == sum(line.startswith("| `") for line in text.splitlines()), "a row has another form"
    return rows


@pytest.fixture(scope="module")
def folder(built: Callable[..., Path]) -> str:
    return str(built("gemma3", vectors="words"))


@pytest.fixture
def run(postgres: str, folder: str, tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    """Return a function that runs code with the names that the pages use, and stand-ins for servers."""
    client = QdrantClient(":memory:")
    names: dict[str, Any] = {
        "AsyncQdrantClient": AsyncQdrantClient,
        "FOLDER": tmp_path / "edge",
        "Hnsw": Hnsw,
        "Index": Index,
        "PgVectorStore": PgVectorStore,
        "QdrantStore": QdrantStore,
        "Task": Task,
        "client": client,
        "documents": [Document(id=id_, page_content=text, metadata=METADATA[id_]) for id_, text in TEXTS.items()],
        "filters": MetadataFilters(filters=[MetadataFilter(key="year", value=2021)]),
        "models": models,
        "resolve_embed_model": resolve_embed_model,
        "nodes": [TextNode(id_=id_, text=text, metadata=METADATA[id_]) for id_, text in TEXTS.items()],
    }
    yield partial(_run, names=names, folder=folder, postgres=postgres)
    client.close()


def _run(code: str, *, names: dict[str, Any], folder: str, postgres: str) -> Any:
    code = code.replace('"harrier-0.6b"', repr(folder)).replace('"local:microsoft/harrier-oss-v1-0.6b"', '"local:x"')
    code = code.replace("postgresql+psycopg://user@host/db", postgres.replace("postgresql://", "postgresql+psycopg://"))
    code = code.replace("postgresql://user@host/db?", f"{postgres}{'&' if '?' in postgres else '?'}")
    code = code.replace("postgresql://user@host/db", postgres)
    code = code.replace('QdrantStore("http://localhost:6333"', "QdrantStore(client")
    *statements, last = ast.parse(code).body
    exec(compile(ast.Module(statements, []), "page", "exec"), names)
    if isinstance(last, ast.Expr):
        return eval(compile(ast.Expression(last.value), "page", "eval"), names)
    return exec(compile(ast.Module([last], []), "page", "exec"), names)


def program_of(page: str) -> str:
    [program] = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    return str(program)


@pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning")
@pytest.mark.parametrize("page", PAGES)
def test_a_page(run: Callable[[str], Any], page: str) -> None:
    """Accepted calls run and find something, refused ones raise a one-line error, replacements run."""
    run(program_of(page))
    wrong: list[str] = []
    for row in rows_of(page):
        typed, fate, code, words = row.group("typed", "fate", "code", "words")
        wrong += _problems(run, typed, fate, code, words)
    assert not wrong, "\n".join(wrong)


def test_texts_move(run: Callable[[str], Any], postgres: str) -> None:
    """The program reads the tables of both classes of langchain-postgres, as these create them."""
    [program] = re.findall(r"```py\n(.*?)```", (ROOT / "langchain-postgres.md").read_text(encoding="utf-8"), re.DOTALL)
    [legacy] = re.findall(
        r"`(SELECT e\.id.*?)`", (ROOT / "langchain-postgres.md").read_text(encoding="utf-8"), re.DOTALL
    )
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE old_docs (langchain_id uuid PRIMARY KEY, content text, langchain_metadata json)"
        )
        connection.execute(
            "INSERT INTO old_docs VALUES (gen_random_uuid(), 'Bread rises because of yeast.', '{\"year\": 2021}')"
        )
        connection.execute("CREATE TABLE langchain_pg_collection (uuid uuid PRIMARY KEY, name text)")
        connection.execute(
            "CREATE TABLE langchain_pg_embedding "
            "(id text PRIMARY KEY, collection_id uuid, document text, cmetadata jsonb)"
        )
        connection.execute(
            "WITH made AS (INSERT INTO langchain_pg_collection VALUES (gen_random_uuid(), 'docs') RETURNING uuid) "
            "INSERT INTO langchain_pg_embedding SELECT 'sand', uuid, 'Rivers carry sand.', '{\"year\": 2019}' FROM made"
        )
    modern = "SELECT langchain_id::text, content, langchain_metadata FROM old_docs"
    assert modern in program
    for rows, text, year in (modern, "Bread rises because of yeast.", 2021), (legacy, "Rivers carry sand.", 2019):
        run(program.replace(modern, " ".join(rows.split())))
        with Contents(PgVectorStore(postgres, table="new_docs")) as there:
            assert [(each.chunk.text, each.chunk.metadata) for each in there.read()] == [(text, {"year": year})]


def _problems(run: Callable[[str], Any], typed: str, fate: str, code: str | None, words: str) -> Iterator[str]:
    became = _became(run, typed)
    if not became.startswith(fate):
        yield f"{typed}: {became}"
    if fate != "taken" and not (code or words.strip()):
        yield f"{typed}: the page says nothing to write"
    if code is None or "(" not in code:  # such as a variable of the environment
        return
    try:
        run(code)
    except Exception as error:
        yield f"{code}: {type(error).__name__}: {error}"


def _became(run: Callable[[str], Any], typed: str) -> str:
    """Return the outcome as a status of the tables, or as another description."""
    try:
        value = run(typed)
    except HarrierError as error:
        return f"an error of several lines: {error}" if "\n" in str(error) else f"refused: {error}"
    except Exception as error:
        return f"none: {type(error).__name__}: {error}"
    return "found nothing" if value == [] else "taken"


def test_the_list_of_pages() -> None:
    assert set(re.findall(r"\]\(([\w-]+\.md)\)", (ROOT / "README.md").read_text(encoding="utf-8"))) == set(PAGES)
