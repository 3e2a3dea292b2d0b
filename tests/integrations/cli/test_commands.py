"""Every command as a process: its output, JSON and exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import psycopg
import pytest
from databases import NewRole
from harrier_cli import main
from psycopg import sql

from harrier_core import Encoder

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_from_files_to_answers(call: Run, place: str, docs: Path) -> None:
    """Files are ingested and searched in each kind of place, as text and as JSON."""
    first = call("ingest", "docs", "--to", place, code=1)
    assert "3 chunks written (3 encoded); 0 unchanged" in first.stdout
    rejected = "is not UTF-8 at byte 3; convert it, or name its encoding, such as --encoding cp1252"
    assert f"rejected: docs/broken.txt: {rejected}\n" in first.stderr
    assert "left out: 1 .png, 1 hidden\n" in first.stderr
    (docs / "broken.txt").write_text("café", encoding="utf-8")
    (docs / "bread.txt").unlink()
    again = json.loads(call("ingest", "docs", "--to", place, "--prune", "--json").stdout)
    assert {name: again[name] for name in ("records", "written", "unchanged", "deleted", "rejected", "pruned")} == {
        "records": 3,
        "written": 1,
        "unchanged": 2,
        "deleted": 1,
        "rejected": [],
        "pruned": True,
    }
    where = '{"title": {"$exists": true}}'
    [match] = json.loads(call("search", "immune system", "--in", place, "--where", where, "--json").stdout)
    assert match["record_id"] == "docs/virus.html"
    assert match["text"] == "Vaccines train the immune system\nagainst a virus."
    own = {"harrier_source": "docs", "harrier_root": str(docs)}
    assert match["metadata"] == {"format": "html", "title": "Vaccines & you", **own}
    facts = json.loads(call("info", place, "--json").stdout)
    assert (facts["chunks"], facts["health"], facts["space"]["dimensions"]) == (3, "fine", 256)


def test_info_verify_and_delete(run: Run, call: Run, tmp_path: Path) -> None:
    """The other commands work on an embedded Postgres."""
    place = f"pgvector:{tmp_path}/pg?table=my docs"
    dry = call("ingest", "-", "--to", place, "--dry-run", given="bread rises")
    assert "would be: 1 record; 1 chunk written" in dry.stdout
    assert not (tmp_path / "pg").exists()
    rows = '{"id": "a", "text": "bread\\trises\\u001b[31m"}\n{"id": "b", "text": "sand"}\n'
    told = run("ingest", "-", "--to", place, "--format", "jsonl", "--id", "id", given=rows)
    assert "2 chunks written" in told.stdout
    assert all(line.startswith("ingesting: ") for line in told.stderr.splitlines())  # on a slow machine
    shown = run("search", "bread", "--in", place, "-k", "1", "--instruction", "Find bread").stdout.splitlines()
    assert shown[0].startswith("a  ")
    assert shown[1] == "    bread rises [31m"  # nothing that a terminal would obey
    assert run("verify", place).stdout.startswith("2 chunks checked, 2 of them encoded again")
    assert run("delete", "a", "--in", place).stdout == "1 chunk deleted\n"
    looked = run("info", place).stdout
    assert "records  1\nchunks   1\n" in looked
    assert "indexed  no, a search compares all chunks\n" in looked
    assert "health   fine\n" in looked  # so few need no index


def test_damage_is_reported(call: Run, postgres: str, table: str, new_role: NewRole) -> None:
    """A changed text and a missing index are reported with exit code 1.

    The password in the URL is not shown.
    """
    user = {"user": new_role("cli", "SUPERUSER", password="hunter2"), "password": "hunter2"}
    url = f"{postgres}&{urlencode({'table': table, **user})}"
    lines = "".join(f'{{"id": "{number}", "text": "bread rises"}}\n' for number in range(1_000))
    call("ingest", "-", "--to", url, "--format", "jsonl", "--id", "id", given=lines)
    assert "indexed  yes\n" in call("info", url).stdout
    with psycopg.connect(postgres, autocommit=True) as connection:
        name = sql.Identifier(table)
        connection.execute(sql.SQL("UPDATE {} SET text = 'changed' WHERE record_id = '7'").format(name))
        [[index]] = connection.execute(
            "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam "
            "WHERE i.indrelid = %s::regclass AND m.amname = 'hnsw'",
            [name.as_string(connection)],
        ).fetchall()
        connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(index)))
    told = call("verify", url, "--json", code=1)
    [problem] = json.loads(told.stdout)["problems"]
    assert problem == {"id": "7", "problem": "has a text that differs from the encoded one (chunk 0)"}
    looked = call("info", url, code=1)
    assert "health   searches use no vector index" in looked.stdout
    assert "hunter2" not in looked.stdout + looked.stderr


def test_embed_and_prompt(run: Run, call: Run, environment: dict[str, str], tmp_path: Path) -> None:
    """Documents become JSON lines with an error in place of a bad one, queries an array, and prompts are shown."""
    lines = b"bread rises\n\nrivers \r\nhalf a \xff character\n"
    said = [json.loads(line) for line in run("embed", given=lines, code=1).stdout.splitlines()]
    assert [each["line"] for each in said] == [1, 2, 3, 4]
    assert "empty or blank" in said[1]["error"]
    assert "error" in said[3]
    with Encoder(environment["HARRIER_MODEL"]) as encoder:
        documents = encoder.encode_documents(["bread rises", "rivers "])
        queries = encoder.encode_queries(["bread", "sand"], task="sts_query")
        string = encoder.prompt("bread", task="sts_query")
    assert np.allclose([said[0]["vector"], said[2]["vector"]], documents, atol=1e-5)
    call("embed", "--query", "--task", "sts_query", "--out", "rows.npy", given="bread\nsand\n")
    assert np.allclose(np.load(tmp_path / "rows.npy"), queries, atol=1e-5)
    refused = call("embed", "--out", "bad.npy", given="bread\n \n", code=2)
    assert refused.stderr.startswith("error: line 2 is empty or blank")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.npy"]
    assert run("prompt", "bread", "--task", "sts_query").stdout == f"{string}\n"


def test_models(run: Run) -> None:
    """The three models and the given one are listed without a hub, with device and reason."""
    found = json.loads(run("models", "--json", HF_ENDPOINT="http://127.0.0.1:9").stdout)
    assert [each["name"] for each in found[:3]] == ["harrier-270m", "harrier-0.6b", "harrier-27b"]
    assert [each["dimensions"] for each in found] == [640, 1_024, 5_376, 256]
    assert all(each["device"] and each["dtype"] and each["reason"] for each in found)


LIGHT = """
import sys
from harrier_cli import main
sys.argv = ["harrier", *{arguments}]
try:
    main()
except SystemExit as end:
    assert end.code == 0, end.code
heavy = ("torch", "transformers", "tokenizers", "numpy", "psycopg", "qdrant_client", "harrier_pgvector",
    "harrier_qdrant", "pypdfium2", "lxml", "pyarrow", "huggingface_hub")
print([name for name in heavy if name in sys.modules])
"""


@pytest.mark.parametrize("arguments", [["--help"], ["prompt", "--help"], ["ingest", "--help"]])
def test_help_is_light(arguments: list[str]) -> None:
    """Help loads neither torch nor a database client, and lists the exit codes."""
    done = subprocess.run(
        [sys.executable, "-c", LIGHT.format(arguments=arguments)], check=True, capture_output=True, text=True
    )
    assert done.stdout.endswith("[]\n")
    if arguments == ["--help"]:
        assert "Exit codes: 0 success" in done.stdout


def test_completion(run: Run) -> None:
    """Typer's completion works under the command's name."""
    shown = run("--show-completion", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1", code=2)
    assert shown.stderr.startswith("error: option '--show-completion' requires an argument")
    assert (
        "_HARRIER_COMPLETE=complete_bash"
        in run("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1").stdout
    )


WRONG = [
    (["search", "x"], 2, "no index is given; pass --in, set HARRIER_INDEX, or name it in harrier.toml"),
    (["search", "x", "--in", "qdrant:d", "-k", "0"], 2, "-k must be at least 1, got 0"),
    (["search", "x", "--in", "qdrant:d", "--color", "red"], 2, "--color must be one of auto, always, never"),
    (["info"], 2, "no index is given; pass a PLACE"),
    (["delete", "--in", "qdrant:d"], 2, "name the records to delete"),
    (["delete", "a", "--all", "--in", "qdrant:d"], 2, "name the records to delete"),
    (["delete", "a", "--in", "qdrant:d"], 3, "d/documents; ingest something into it first"),
    (["ls", "qdrant:no/q"], 3, "there is no collection in"),
    (["ls", "pgvector:no/pg"], 3, "no/pg; ingest something into it first"),
    (["drop", "qdrant:no/q"], 3, "no/q/documents; ingest something into it first"),
    (
        ["search", "x", "--in", "docs"],
        2,
        "a store's URL must begin with one of pgvector:, postgres:, postgresql:, qdrant:",
    ),
    (["search", "x", "--in", "postgres//me:hunter2@host/db"], 2, "a store's URL must begin with one of"),
    (["search", "x", "--in", "pgvector:d?tables=x"], 2, "and nothing else"),
    (["search", "x", "--in", "qdrant://key@host/docs"], 2, "the key in QDRANT_API_KEY"),
    (["search", "x", "--in", "qdrant:d", "--where", "{lang}"], 2, "--where is not JSON"),
    (["search", "x", "--in", "qdrant:d", "--task", "a", "--instruction", "b"], 2, "give only one of them"),
    (["search", "x", "--in", "qdrant:d", "--model", ""], 2, "no model is given"),
    (["prompt", "x", "--model", "nope"], 3, "'nope' is not a folder, not a name on the hub"),
    (["ingest", "x", "--to", "qdrant:d"], 2, "there is no x; a PATH is a file, a folder, a URL, or -"),
    (["ingest", "--to", "qdrant:d"], 2, "pass exactly one of them"),
    (["ingest", "-", "--to", "qdrant:d", "--query", "SELECT 1"], 2, "--query and --table need --from"),
    (["ingest", "-", "--to", "qdrant:d", "--format", "tiff"], 2, "unknown format 'tiff'"),
    (["ingest", "-", "--to", "qdrant:d", "--chunk-tokens", "3"], 2, "chunks must have at least 8 tokens"),
    (["ingest", "-", "--to", "qdrant:d", "--chunk-tokens", "0", "--overlap", "7"], 2, "--overlap requires chunking"),
    (["embed", "--task", "sts_query"], 2, "documents carry none; add --query"),
    (["search", "x", "--in", "pgvector:no/pg"], 3, "no/pg; ingest something into it first"),
    (["info", "qdrant:no/q"], 3, "no/q/documents; ingest something into it first"),
    (["verify", "qdrant:d", "--sample", "many"], 2, "invalid value for '--sample'"),
]


@pytest.mark.parametrize(("arguments", "code", "said"), WRONG)
def test_wrong_usage(
    arguments: list[str],
    code: int,
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is one line with the remedy, before anything is loaded or created."""
    monkeypatch.setenv("HARRIER_MODEL", "a-model")
    monkeypatch.chdir(tmp_path)
    found = _called(arguments, monkeypatch)
    told = capsys.readouterr()
    assert (found, told.out) == (code, "")
    assert said in told.err
    assert told.err.startswith("error: ")
    assert told.err.count("\n") == 1
    assert "hunter2" not in told.err
    assert list(tmp_path.iterdir()) == []


def _called(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr(sys, "argv", ["harrier", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code


def test_an_unexpected_error(environment: dict[str, str], tmp_path: Path) -> None:
    """It shows the type and how to see more, and no possible secret."""
    script = tmp_path / "broken.py"
    script.write_text(
        "import sys, harrier_core\n"
        "def broken(self, *args, **options): raise RuntimeError('hunter2')\n"
        "harrier_core.Encoder.prompt = broken\n"
        "from harrier_cli import main\n"
        "sys.argv = ['harrier', 'prompt', 'x']\n"
        "main()\n",
        encoding="utf-8",
    )
    for debug, shown in (("", False), ("1", True)):
        done = subprocess.run(
            [sys.executable, str(script)],
            check=False,
            capture_output=True,
            text=True,
            env={**environment, "HARRIER_DEBUG": debug},
        )
        assert done.returncode == 3
        assert ("Traceback" in done.stderr, "hunter2" in done.stderr) == (shown, shown)
        assert "error: unexpected RuntimeError; run it again with HARRIER_DEBUG=1 to see where\n" in done.stderr


_POSTGRES = "postgresql://me:{}@127.0.0.1:1/db"


@pytest.mark.parametrize("password", ["hun%zzter2", "hun/ter2", "hun#ter2", "hun?ter2", "hun[ter2", "hun ter2"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["info", _POSTGRES],
        ["search", "x", "--in", _POSTGRES],
        ["sync", "status", _POSTGRES],
        ["ingest", "--from", _POSTGRES, "--table", "t", "--to", "qdrant:d"],
    ],
)
def test_a_password_that_is_not_escaped(call: Run, arguments: list[str], password: str) -> None:
    """No part of it is shown, whatever libpq makes of it."""
    for_libpq = arguments[0] == "ingest" and password in ("hun#ter2", "hun?ter2", "hun[ter2")  # there is no server
    told = call(*(each.format(password) for each in arguments), code=3 if for_libpq else 2)
    assert "hun" not in told.stdout + told.stderr
    assert "ter2" not in told.stdout + told.stderr
    assert "unexpected" not in told.stderr


@pytest.mark.slow
def test_an_unreachable_server(call: Run) -> None:
    told = call("info", "qdrant://127.0.0.1:1/docs", code=3)
    assert told.stderr.startswith("error: Qdrant at http://127.0.0.1:1 cannot be reached")
