"""Reading files and rows: each format, and each way in which it can be damaged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from databases import NewRole
from harrier_files.columns import Columns
from harrier_files.files import Origin
from harrier_files.sources import FILE, ROOT, SOURCE, Source
from harrier_files.tables import PostgresSource
from pdfs import pdf
from psycopg import sql

from harrier_core import Record, SettingError, Skipped

Run = Callable[..., subprocess.CompletedProcess[str]]


def read(
    *paths: Path | str, columns: Columns | None = None, format_: str | None = None
) -> tuple[Any, list[tuple[str, str]], Source]:
    """Return the records of paths by id without the source's name, the rejected ones with reasons, and the source.

    Metadata about the source is left out.
    """
    source = Source([str(path) for path in paths], columns or Columns(), format_)
    found: dict[str, Any] = {}
    rejected = []
    for record in source:
        if isinstance(record, Skipped):
            rejected.append((record.id, record.reason))
            continue
        metadata = dict(record.metadata)
        origin = Origin(metadata.pop(SOURCE), metadata.pop(ROOT))
        assert origin in source.origins
        inside = record.id.removeprefix(f"{origin.name}/")
        assert inside != record.id or metadata.pop(FILE).startswith(f"{origin.name}/")
        found[inside] = (record.text, metadata)
    return found, rejected, source


def test_a_thousand_files(call: Run, tmp_path: Path) -> None:
    """Of all kinds of files, 16 damaged and 4 empty ones are listed, and all others are read."""
    folder = tmp_path / "many"
    for number in range(1_000):
        path = folder / f"{number % 10}" / f"{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = f"File {number % 100} of many."
        kinds: list[tuple[str, bytes]] = [
            (".txt", text.encode()),
            (".md", f"# {text}".encode()),
            (".html", f"<p>{text}</p>".encode()),
            (".jsonl", json.dumps({"text": text}).encode()),
            (".csv", f"text\n{text}\n".encode()),
        ]
        suffix, content = kinds[number % 5] if number % 50 else (".pdf", pdf(text))
        path.with_name(path.name + suffix).write_bytes(content)
    broken: list[tuple[str, bytes]] = [
        *((".txt", each) for each in (b"\xff", b"caf\xe9", b"a NUL \0")),
        *((".pdf", each) for each in (b"%PDF-1.7", pdf("a")[:200], pdf(" "), b"text")),
        *((".html", each) for each in (b"<p></p>", b"<script>1</script>")),
        *((".jsonl", each) for each in (b"{", b"[1]", b'{"body": "a"}', b'{"text": 1}')),
        *((".csv", each) for each in (b"title\na\n", b"text\na,b\n", b"text\n\xff\n")),
    ]
    for number, (suffix, content) in enumerate(broken):
        (folder / f"broken {number:02}{suffix}").write_bytes(content)
    for name, content in (("a.txt", b""), ("b.txt", b" \n"), ("c.pdf", b""), ("d.html", b"")):
        (folder / f"blank {name}").write_bytes(content)
    told = call("ingest", "many", "--to", f"qdrant:{tmp_path}/qdrant", code=1)
    assert "1,000 chunks written" in told.stdout
    *lines, blank = told.stderr.splitlines()
    assert blank == "blank: many/blank a.txt and 3 more"
    assert sorted(line.split(":")[1].strip() for line in lines) == sorted(
        f"many/broken {number:02}{suffix}" for number, (suffix, _) in enumerate(broken)
    )
    assert all(line.startswith("rejected: ") and line.count(": ") >= 2 for line in lines)


def test_kinds(tmp_path: Path) -> None:
    """Text is read without a byte order mark, HTML as shown, PDF by page, and tables by row."""
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf one\r\n\ttwo ")
    (tmp_path / "b.HTM").write_bytes(
        b"<title> A &amp; B </title><meta charset=latin1><h1>Head</h1><p>\xe9 <i>in</i>line<br>break</p>"
        b"<ul><li>x<li>y</ul>"
    )
    (tmp_path / "c.pdf").write_bytes(pdf("first page", "second page"))
    found, _, source = read(tmp_path)
    assert found["a.txt"] == (" one\r\n\ttwo ", {"format": "text"})
    assert found["b.HTM"] == ("Head\né inline\nbreak\nx\ny", {"format": "html", "title": "A & B"})
    assert found["c.pdf"] == ("first page\n\nsecond page", {"format": "pdf", "pages": 2})
    assert source.size() == source.bytes_read == sum(path.stat().st_size for path in tmp_path.iterdir())


def test_html_that_no_browser_shows(tmp_path: Path) -> None:
    """Comments, declarations and the like are not text."""
    (tmp_path / "a.html").write_text(
        "<?xml version='1.0'?><!DOCTYPE html><p>Bread <!-- TODO: password hunter2 -->rises.<![CDATA[hunter2]]></p>"
        "<?php echo 'hunter2' ?><!-- <p>hunter2</p> --><p>It cools.</p>",
        encoding="utf-8",
    )
    assert read(tmp_path)[0]["a.html"][0] == "Bread rises.\nIt cools."


def test_rows(tmp_path: Path) -> None:
    """Columns are found by name; without --id the line is the id; quoted line breaks are text."""
    columns = Columns(text="body", metadata=("lang", "n"))
    csv, lines, table = (tmp_path / f"rows{suffix}" for suffix in (".csv", ".jsonl", ".parquet"))
    csv.write_bytes('\ufeffbody,lang,n\r\n"two\nlines",fr,1\r\n\r\nlast,de,2\r\n'.encode())
    assert read(csv, columns=columns)[0] == {
        f"{csv.name}:2": ("two\nlines", {"lang": "fr", "n": "1"}),
        f"{csv.name}:5": ("last", {"lang": "de", "n": "2"}),
    }
    lines.write_text('{"body": "a", "lang": null, "n": {"x": [1.5]}}\n\n{"body": "b"}\n7\n{\n', encoding="utf-8")
    found, rejected, source = read(lines, columns=columns)
    assert found == {f"{lines.name}:1": ("a", {"lang": None, "n": {"x": [1.5]}})}
    assert [reason for _, reason in rejected] == [
        "has no column 'lang'; it has body",
        "is a JSON int, not an object",
        "is not JSON (column 2)",
    ]
    assert source.complete  # they are known by their lines
    day = [date(2020, 1, 1), date(2021, 1, 1)]
    made = {"id": [7, 8], "text": ["a", "b"], "day": day, "price": [Decimal("1.50"), Decimal("2.00")]}
    pq.write_table(pa.table(made), table)
    found, rejected, source = read(table, columns=Columns("id", metadata=("day", "price")))
    assert found == {"7": ("a", {"day": "2020-01-01", "price": 1.5}), "8": ("b", {"day": "2021-01-01", "price": 2})}
    lines.write_text('{"id": true, "text": "a"}\n', encoding="utf-8")
    found, rejected, source = read(lines, columns=Columns("id"))
    assert (found, source.complete) == ({}, False)
    assert rejected == [(f"{tmp_path.name}/{lines.name}:1", "has an id that is bool, neither text nor an integer")]


def test_csv_with_an_unbalanced_quote(call: Run, tmp_path: Path) -> None:
    """Readable rows are stored, and nothing is pruned."""
    place, rows = f"qdrant:{tmp_path}/qdrant", tmp_path / "rows.csv"
    whole = "id,text\n1,one\n2,two\n3,three\n"
    rows.write_text(whole, encoding="utf-8")
    call("ingest", "rows.csv", "--to", place, "--id", "id")
    for broken in (whole.replace("two", '"two'), whole.replace("two", '"two" and'), whole.replace("two", '"t"wo"')):
        rows.write_text(broken, encoding="utf-8")
        told = call("ingest", "rows.csv", "--to", place, "--id", "id", "--prune", code=1)
        assert f"rejected: {tmp_path.name}/rows.csv: is not valid CSV from line 3 on: " in told.stderr
        assert "not pruned: " in told.stderr
        assert "1 unchanged, 0 deleted; 1 rejected" in told.stdout


@pytest.mark.parametrize("text", ['a 6" nail', "it's", 'said ""so""', ' "a', "a\\"])
def test_csv_as_programs_write_it(text: str, tmp_path: Path) -> None:
    """Quotes within fields, and unused columns with duplicate names, are accepted."""
    rows = tmp_path / "rows.csv"
    quoted = text.replace('"', '""')
    rows.write_text(f'id,text,n,n\n1,"{quoted}",1,2\n2,{text},1,2\n', encoding="utf-8")
    found, rejected, _ = read(rows, columns=Columns("id"))
    assert found == {"1": (text, {}), "2": (text, {})}
    assert rejected == []


def test_duplicate_columns(tmp_path: Path) -> None:
    """They are ambiguous, and refused."""
    rows, table = tmp_path / "rows.csv", tmp_path / "rows.parquet"
    rows.write_text("text,n,n\na,1,2\n", encoding="utf-8")
    pq.write_table(pa.table([["a"], [1], [2]], names=["text", "n", "n"]), table)
    for path in (rows, table):
        assert list(read(path)[0].values()) == [("a", {})]
        found, rejected, source = read(path, columns=Columns(metadata=["n"]))
        assert (found, source.walk.unknown) == ({}, [f"{tmp_path.name}/{path.name}:"])
        assert rejected == [(f"{tmp_path.name}/{path.name}", "has 2 columns 'n'; give each a unique name")]


LATE = 300_000_000_000_000_000  # in microseconds: the year 11476
ODD = {
    "ns": pa.array([0, 1], pa.timestamp("ns")),
    "time": pa.array([0, 1], pa.time64("ns")),
    "duration": pa.array([0, 1], pa.duration("ns")),
    "late": pa.array([0, LATE], pa.timestamp("us")),
    "day": pa.array([0, 2_000_000_000], pa.date32()),
    "nested": pa.array([[0], [LATE]], pa.list_(pa.timestamp("us"))),
}


@pytest.mark.parametrize("name", ODD)
def test_unsupported_values_in_parquet(name: str, tmp_path: Path) -> None:
    """Such a value only rejects its row, if its column is used."""
    table = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"id": ["a", "b"], "text": ["one", "two"], name: ODD[name]}), table)
    (tmp_path / "z.txt").write_text("the last", encoding="utf-8")
    assert list(read(tmp_path, columns=Columns("id"))[0]) == ["a", "b", "z.txt"]
    found, rejected, source = read(tmp_path, columns=Columns("id", metadata=[name]))
    if name in ("ns", "time", "duration") and find_spec("pandas"):  # it has types for these
        assert (list(found), rejected) == (["a", "b", "z.txt"], [])
        return
    assert list(found) == ["a", "z.txt"]
    assert rejected == [(f"{tmp_path.name}/rows.parquet:2", f"has a value in column {name!r} that Python cannot hold")]
    assert not source.complete
    found, rejected, source = read(tmp_path, columns=Columns("key", metadata=[name]))
    assert rejected == [(f"{tmp_path.name}/rows.parquet", f"has no column 'key'; it has id, text, {name}")]


def test_parquet_through_a_pipe(call: Run, tmp_path: Path) -> None:
    """The file is read from its end, so it is kept in memory."""
    written = BytesIO()
    pq.write_table(pa.table({"id": ["a"], "text": ["one"]}), written)
    place = f"qdrant:{tmp_path}/qdrant"
    told = call("ingest", "-", "--format", "parquet", "--id", "id", "--to", place, given=written.getvalue())
    assert "1 chunk written" in told.stdout


@pytest.mark.parametrize("content", ["<p>a</p><![n b", "<p>a</p><!%"])
def test_html_that_ends_in_a_declaration(content: str, tmp_path: Path) -> None:
    """Some parsers refuse such files."""
    (tmp_path / "a.html").write_text(content, encoding="utf-8")
    (tmp_path / "b.txt").write_text("text", encoding="utf-8")
    found, *_ = read(tmp_path)
    assert found["b.txt"] == ("text", {"format": "text"})
    assert found["a.html"][0] == "a"


def test_deep_html(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("<div>" * 100_000 + "deep", encoding="utf-8")
    assert read(tmp_path)[0]["a.html"][0] == "deep"


@pytest.mark.timeout(20)
def test_pipes(tmp_path: Path) -> None:
    """A pipe in a folder is skipped, and one that is named is read."""
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "b.txt").write_text("text", encoding="utf-8")
    os.mkfifo(folder / "a.txt")
    found, _, source = read(folder)
    assert (list(found), dict(source.walk.left_out), source.complete) == (["b.txt"], {"special": 1}, True)
    pipe = folder / "a.txt"
    writer = threading.Thread(target=pipe.write_text, args=["from a pipe"])
    writer.start()
    assert [text for text, _ in read(pipe)[0].values()] == ["from a pipe"]
    writer.join()


def test_missing_paths(tmp_path: Path) -> None:
    """Missing files, unreadable folders and cyclic links are reported."""
    (tmp_path / "circle").symlink_to(tmp_path)
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nothing")
    shut = tmp_path / "shut"
    shut.mkdir()
    shut.chmod(0)
    try:
        found, rejected, source = read(tmp_path, tmp_path / "no.txt", tmp_path / "rows.csv")
    finally:
        shut.chmod(0o700)
    reasons = dict(rejected)
    assert found == {}
    for name in ("gone.txt", "no.txt"):
        assert reasons[f"{tmp_path.name}/{name}"] == "cannot be read: No such file or directory"
    assert f"{tmp_path.name}/rows.csv:" in source.walk.unknown
    assert (str(shut) in reasons) == (os.geteuid() != 0)


def test_pruning_is_careful(call: Run, tmp_path: Path) -> None:
    """An unreadable file keeps its record, and an unreadable table prevents pruning."""
    place = f"qdrant:{tmp_path}/qdrant"
    docs = tmp_path / "docs"
    docs.mkdir()
    for name in ("a.txt", "b.txt", "c.txt"):
        (docs / name).write_text(f"the text of {name}", encoding="utf-8")
    call("ingest", "docs", "--to", place)
    (docs / "a.txt").write_bytes(b"\xff")
    (docs / "b.txt").unlink()
    rows = docs / "rows.jsonl"
    rows.write_text('{"id": "x", "text": "a row"}\n{\n', encoding="utf-8")
    told = call("ingest", "docs", "--to", place, "--prune", "--id", "id", code=1)
    assert "not pruned: " in told.stderr
    assert "1 chunk written (1 encoded); 1 unchanged, 0 deleted; 2 rejected" in told.stdout
    rows.write_text('{"id": "x", "text": "a row"}\n{"id": "x", "text": "again"}\n', encoding="utf-8")
    told = call("ingest", "docs", "--to", place, "--prune", "--id", "id", code=1)
    assert "repeated: x: occurred more than once; the last one counts" in told.stderr
    assert "1 chunk written (1 encoded); 1 unchanged, 1 deleted; 1 rejected" in told.stdout
    assert "3" in call("info", place).stdout.splitlines()[1]
    (tmp_path / "empty").mkdir()
    assert "0 deleted" in call("ingest", "empty", "--to", place, "--prune").stdout  # the records are another source's
    assert "3" in call("info", place).stdout.splitlines()[1]


def test_a_lone_surrogate(call: Run, tmp_path: Path) -> None:
    """JSON may contain one, and the output is still valid JSON."""
    rows = '{"id": "\\ud800", "text": "one"}\n{"id": "é", "text": "two"}\n{"id": "é", "text": "two"}\n'
    place = f"qdrant:{tmp_path}/qdrant"
    told = call("ingest", "-", "--format", "jsonl", "--id", "id", "--to", place, "--json", given=rows, code=1)
    said = json.loads(told.stdout)
    assert (said["rejected"][0]["id"], said["repeated"], said["written"]) == ("\ud800", ["é"], 1)


def test_from_postgres(call: Run, postgres: str, table: str, tmp_path: Path, new_role: NewRole) -> None:
    """A table or query is streamed by a cursor in a read-only transaction."""
    source = sql.Identifier(table)
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(
            sql.SQL(
                "CREATE TABLE {} AS SELECT gen_random_uuid() AS id, 'row ' || n % 10 AS body, n, n * 0.5 AS half, "
                "date '2020-01-01' AS day FROM generate_series(1, 2500) n"
            ).format(source)
        )
    place = f"qdrant:{tmp_path}/qdrant"
    reader = f"user={new_role('cli', 'SUPERUSER', password='hunter2')}&password=hunter2"
    read_all = ["ingest", "--from", f"{postgres}&{reader}", "--to", place, "--id", "id", "--text", "body"]
    read_all += ["--source", "rows"]
    told = call(*read_all, "--table", table, "--metadata", "n", "--metadata", "half", "--metadata", "day", "--json")
    assert json.loads(told.stdout)["written"] == 2_500
    where = '{"n": 7, "half": 3.5, "day": "2020-01-01"}'
    [match] = json.loads(call("search", "row", "--in", place, "--where", where, "--json").stdout)
    assert match["text"] == "row 7"
    query = f"SELECT id, body FROM {source.as_string(None)} WHERE n % 2 = 0;"
    told = call(*read_all, "--query", query, "--prune", "--json")
    assert json.loads(told.stdout)["deleted"] == 1_250
    drop = f"DELETE FROM {source.as_string(None)} RETURNING id, body"
    for wrong, said in ((drop, "refused"), ("SELECT nothing", 'column "nothing" does not exist')):
        told = call(*read_all, "--query", wrong, code=3)
        assert said in told.stderr
        assert told.stderr.count("\n") == 1
        assert "hunter2" not in told.stderr


def test_unsupported_values_in_postgres(database: str) -> None:
    """Such a value only rejects its row, if its column is used, and is not quoted."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE docs AS SELECT n AS id, 'text ' || n AS text, "
            "CASE n WHEN 2 THEN timestamptz 'infinity' ELSE '2020-01-01Z' END AS until, "
            "CASE n WHEN 2 THEN ARRAY[date '20200-01-01'] END AS days, "
            "CASE n WHEN 2 THEN interval '9000000 years' END AS span FROM generate_series(1, 3) n"
        )
    for table, query in (("docs", None), (None, "SELECT * FROM docs")):
        source = PostgresSource([], Columns("id"), url=database, table=table, query=query)
        assert [each.id for each in source] == ["1", "2", "3"]
        for name in ("until", "days", "span"):
            source = PostgresSource([], Columns("id", metadata=[name]), url=database, table=table, query=query)
            reason = f"has a value in column {name!r} that Python cannot hold"
            assert list(source)[1] == Skipped(f"{table or 'query'}:2", reason)
            assert [each.id for each in source if isinstance(each, Record)] == ["1", "3"]
            assert not source.complete
    source = PostgresSource([], Columns("id"), url=database, query="SELECT id, text, 1 AS text FROM docs")
    with pytest.raises(SettingError, match="has 2 columns 'text'"):
        list(source)


@pytest.mark.parametrize("missing", ["pypdfium2", "lxml", "pyarrow"])
def test_without_a_library(missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that needs it says what to install, and the others are read."""
    suffix = {"pypdfium2": ".pdf", "lxml": ".html", "pyarrow": ".parquet"}[missing]
    (tmp_path / f"a{suffix}").write_bytes(b"content")
    (tmp_path / "b.txt").write_text("text", encoding="utf-8")
    monkeypatch.setitem(sys.modules, missing, None)
    found, rejected, _ = read(tmp_path)
    assert list(found) == ["b.txt"]
    [(name, reason)] = rejected
    assert name == f"{tmp_path.name}/a{suffix}"
    assert "run pip install 'harrier-kit[" in reason
