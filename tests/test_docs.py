"""The README and the documentation are right: examples run, and named files and commands exist."""

from __future__ import annotations

import ast
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from harrier_pgvector import PgVectorStore
from loopback_hub import Hub

from harrier_core import Encoder, Index, Record, StoreUnsuitable, StoreWarning

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = ROOT / "docs"
TUTORIALS = sorted((DOCS / "tutorials").glob("*.md"))
GUIDES = [*sorted((DOCS / "guides").glob("*.md")), *TUTORIALS]

# Runs each program in a separate namespace, in one process: all of them share one loaded model.
_RUN = """
import sys
for path in sys.argv[1:]:
    with open(path, encoding="utf-8") as file:
        print("==", path)
        exec(compile(file.read(), path, "exec"), {"__name__": "__main__"})
"""


def programs(text: str, *, joined: bool) -> list[str]:
    """Return the programs of a page: one per fence, or all fences joined."""
    fences = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return ["\n".join(fences)] if joined and fences else fences


@pytest.mark.timeout(500)
def test_every_example_runs(hub: Hub, built: Callable[..., Path], tmp_path: Path) -> None:
    """Run every README example, guide and tutorial with stand-in models; tutorials show their real output."""
    hub.push("microsoft/harrier-oss-v1-270m", built("gemma3", vectors="words"))
    hub.push("microsoft/harrier-oss-v1-0.6b", built("qwen3", vectors="words"))
    found = {f"readme{number}": each for number, each in enumerate(programs(README, joined=False))}
    for guide in GUIDES:
        [found[f"{guide.parent.name}-{guide.stem}"]] = programs(guide.read_text(encoding="utf-8"), joined=True) or [""]
    assert len(found) > 10
    for name, program in found.items():
        (tmp_path / f"{name}.py").write_text(program, encoding="utf-8")
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_XET": "1"}
    environment |= {"TMPDIR": str(tmp_path), "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-X", "utf8", "-c", _RUN, *(str(tmp_path / f"{name}.py") for name in found)]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=500
    )
    assert done.returncode == 0, done.stdout[-500:] + done.stderr
    page = (DOCS / "guides" / "encoder.md").read_text(encoding="utf-8")
    [shown] = re.findall(r"\n((?:    Instruct: .*\n    Query: .*\n))", page)
    assert re.sub(r"^    ", "", shown, flags=re.MULTILINE) in done.stdout
    for tutorial in TUTORIALS:
        outputs = re.findall(r"```text\n(.*?)```", tutorial.read_text(encoding="utf-8"), re.DOTALL)
        assert len(outputs) >= 5
        for output in outputs:
            assert output in done.stdout, f"{tutorial.name} shows {output}"


def test_a_table_in_partitions_is_filled_and_searched(postgres: str, encoder: Encoder) -> None:
    """The guide's SQL works on a table that an empty ingest created."""
    guide = (DOCS / "guides" / "postgres.md").read_text(encoding="utf-8")
    [statements] = [sql for sql in re.findall(r"```sql\n(.*?)```", guide, re.DOTALL) if "PARTITION" in sql]
    records = [Record(str(number), f"text {number}") for number in range(1_050)]
    with Index(PgVectorStore(postgres), encoder) as index, psycopg.connect(postgres, autocommit=True) as connection:
        index.ingest([])
        connection.execute(statements)
        assert index.ingest(records).written == 1_050
        assert index.ingest([Record("0", "another text"), *records[1:]]).unchanged == 1_049
        assert index.ingest(records[:1_040], prune=True).deleted == 10
        assert len(index.search("text", k=30)) == 30
        indexed = "SELECT tablename FROM pg_indexes WHERE tablename ~ '^documents(_.)?$' AND indexdef ~ 'hnsw'"
        assert connection.execute(indexed).rowcount == 3  # the parent table's, which is empty, and one per partition
        connection.execute("DROP TABLE documents")


def test_three_roles_of_least_privilege(postgres: str, encoder: Encoder) -> None:
    """The guide's SQL grants exactly what an owner, a writer and a reader need."""
    guide = (DOCS / "guides" / "postgres.md").read_text(encoding="utf-8")
    prepare, grant = (sql for sql in re.findall(r"```sql\n(.*?)```", guide, re.DOTALL) if "harrier_writer" in sql)
    records = [Record(str(number), f"text {number}") for number in range(1_000)]

    def role(name: str) -> Index:
        url = psycopg.conninfo.make_conninfo(postgres, user=f"harrier_{name}")
        return Index(PgVectorStore(url, schema="rag", table="docs"), encoder)

    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(prepare)
        try:
            with role("owner") as owner, role("writer") as writer, role("reader") as reader:
                owner.ingest([])
                connection.execute(grant)
                with pytest.warns(StoreWarning, match="must be owner"):
                    assert writer.ingest(records).written == 1_000
                owner.build_indexes()
                assert owner.store.describe().indexed
                assert writer.ingest(records[1:], prune=True).deleted == 1
                assert reader.search("text 7", k=1)
                with pytest.raises(StoreUnsuitable, match="permission denied"):
                    reader.delete(["7"])
        finally:
            connection.execute("DROP SCHEMA rag CASCADE")
            connection.execute("DROP ROLE harrier_owner, harrier_writer, harrier_reader")


def test_links_resolve() -> None:
    """README links are absolute, because PyPI shows it too."""
    defined = dict(re.findall(r"^\[(.*)\]: (.*)$", README, re.MULTILINE))
    assert set(re.findall(r"\]\[([^]]+\.md)\]", README)) == set(defined)
    for link in [*re.findall(r"\]\(([^)]*)\)", README), *defined.values()]:
        path = re.sub(r"^https://(github\.com/(.*)/blob|raw\.githubusercontent\.com/(.*))/main/", r"\2\3:", link)
        assert path.startswith("harrier-kit/harrier-kit:"), link
        assert (ROOT / path.partition(":")[2]).is_file(), link


def test_named_files_and_targets_exist() -> None:
    """Every make target for tests is documented."""
    targets = re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for page in [ROOT / "README.md", *DOCS.rglob("*.md")]:
        text = page.read_text(encoding="utf-8")
        for path in re.findall(r"`((?:tests|harrier_core|notebooks|deploy)/[\w/.-]*|docker-compose.yml)`", text):
            assert (ROOT / path).exists(), path
        named = re.findall(r"(?:`|    )make ([a-z][\w-]*\w)`|`(bench-[\w-]+)`", text)
        assert {one or other for one, other in named} <= {*targets}, page
    development = (DOCS / "project" / "development.md").read_text(encoding="utf-8")
    assert all(
        f"make {target}" in development for target in targets if re.fullmatch(r"test[\w-]*|check|demo|docs", target)
    )


def test_every_page_is_in_the_navigation() -> None:
    """The navigation has no missing pages either."""
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    pages = re.findall(r"[\w/-]+\.md", navigation)
    assert sorted(pages) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


def test_the_reference_of_the_commands_is_current() -> None:
    """It is generated: `python docs/commands.py` updates it."""
    script = runpy.run_path(str(DOCS / "commands.py"))
    assert script["PAGE"].read_text(encoding="utf-8") == script["reference"]()


def test_figures_match_the_benchmarks() -> None:
    """Every figure with a command is also in the benchmark notes."""
    notes = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    page = (DOCS / "explanation" / "measured.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| .* \| ([\d. to]+) \|.*\| `bench-[\w-]+` \|$", page, re.MULTILINE)
    assert len(rows) > 10
    for figure in " ".join(rows).replace("to", "").split():
        assert re.search(rf"(?<![\d.]){re.escape(figure)}(?![\d.]*\d)", notes), figure


def test_documented_messages_exist() -> None:
    """Users who search for an error find the words of the message."""
    page = (DOCS / "reference" / "errors.md").read_text(encoding="utf-8")
    messages = re.findall(r"^\| `(.*?)` \|", page, re.MULTILINE)
    assert len(messages) >= 10
    said = list(_said())
    for message in messages:
        pattern = ".*".join(re.escape(part.strip()) for part in message.split("…"))
        assert any(re.search(pattern, each) for each in said), message


def _said() -> Iterator[str]:
    """Yield all strings of the sources, with … for placeholders."""
    for folder in ("harrier_core", "adapters", "integrations"):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value
