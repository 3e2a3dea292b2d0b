"""Ids of files, and the records that an ingest may replace or remove."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from harrier_files.columns import Columns
from harrier_files.folders import LINK_TO_FOLDER
from harrier_files.sources import ROOT, SOURCE, Source
from harrier_files.tables import PostgresSource

from harrier_core import Contents, SettingError, Skipped

Run = Callable[..., subprocess.CompletedProcess[str]]


def write(path: Path, text: str | None = None) -> Path:
    """Write a file, and create its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text or f"the text of {path.name}", encoding="utf-8")
    return path


@pytest.fixture
def to(tmp_path: Path) -> list[str]:
    """Return the place to ingest into."""
    return ["--to", f"qdrant:{tmp_path}/qdrant"]


@pytest.fixture
def stored(tmp_path: Path) -> Callable[[], dict[str, str]]:
    """Return the stored ids and texts."""

    def look() -> dict[str, str]:
        with Contents(f"qdrant:{tmp_path}/qdrant") as contents:
            return {stored.chunk.record_id: stored.chunk.text for stored in contents.read()}

    return look


Stored = Callable[[], dict[str, str]]


def test_one_file_is_one_record_however_it_is_spelled(
    call: Run, to: list[str], stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative, absolute and linked paths of a file give one id."""
    write(tmp_path / "home" / "notes" / "n1.md")
    (tmp_path / "link").symlink_to(tmp_path / "home")
    spelled = ["home/notes/n1.md", f"{tmp_path}/home/notes/n1.md", "home/notes", "./home/../home/notes/", "link/notes"]
    for path in spelled:
        told = call("ingest", path, *to)
        assert ("1 chunk written" in told.stdout) == (path == spelled[0])
    assert "1 unchanged" in call("ingest", *spelled, *to).stdout
    monkeypatch.chdir(tmp_path / "home" / "notes")
    assert [record.id for record in Source(["."])] == ["notes/n1.md"]
    assert [record.id for record in Source(["n1.md"])] == ["notes/n1.md"]
    assert list(stored()) == ["notes/n1.md"]


def test_folders_within_folders(tmp_path: Path) -> None:
    """The outermost named folder is the source, also of named hidden files."""
    for name in ("a.md", "sub/b.md", "sub/.hidden/c.md", "other.bin"):
        write(tmp_path / "notes" / name)
    top = tmp_path / "notes"
    assert {record.id for record in Source([str(top / "sub"), str(top)])} == {"notes/a.md", "notes/sub/b.md"}
    paths = [str(top), str(top / "other.bin"), str(top / "sub" / ".hidden"), str(top / "a.md")]
    found = [record.id for record in Source(paths)]
    assert found == ["notes/a.md", "notes/sub/b.md", "notes/other.bin", "notes/sub/.hidden/c.md"]
    assert [record.id for record in Source([str(top / "a.md"), str(top / "sub" / "b.md")])] == [
        "notes/a.md",
        "sub/b.md",
    ]


def test_two_folders_with_a_file_of_one_name(call: Run, to: list[str], stored: Stored, tmp_path: Path) -> None:
    """Both files are stored."""
    write(tmp_path / "a" / "README.md", "apples")
    write(tmp_path / "b" / "README.md", "bananas")
    assert "would be: 1 record;" in call("ingest", "a", *to, "--dry-run").stdout
    call("ingest", "a", *to)
    call("ingest", "b", *to)
    assert stored() == {"a/README.md": "apples", "b/README.md": "bananas"}
    assert "2 unchanged" in call("ingest", "a", "b", *to).stdout


def test_two_folders_of_one_name(call: Run, to: list[str], stored: Stored, tmp_path: Path) -> None:
    """The second one is refused until it gets its own name."""
    write(tmp_path / "a" / "docs" / "README.md", "apples")
    write(tmp_path / "b" / "docs" / "README.md", "bananas")
    told = call("ingest", "a/docs", "b/docs", *to, code=2)
    assert "would both be the source 'docs'; ingest one of them separately, with --source NAME" in told.stderr
    call("ingest", "a/docs", *to)
    for more in ([], ["--prune"], ["--dry-run"]):
        told = call("ingest", "b/docs", *to, *more, code=2)
        assert f"holds a source 'docs' from {tmp_path}/a/docs, and this one is {tmp_path}/b/docs" in told.stderr
    assert stored() == {"docs/README.md": "apples"}
    call("ingest", "b/docs", *to, "--source", "more", "--prune")
    assert stored() == {"docs/README.md": "apples", "more/README.md": "bananas"}
    told = call("ingest", "a/docs", "b", *to, "--source", "x", code=2)
    assert "--source names one folder" in told.stderr
    assert "must be a name without slashes" in call("ingest", "b", *to, "--source", "x/y", code=2).stderr


def test_a_folder_that_moved(call: Run, to: list[str], stored: Stored, tmp_path: Path) -> None:
    """--moved keeps the ids, and nothing is encoded again."""
    write(tmp_path / "old" / "docs" / "a.md")
    write(tmp_path / "old" / "docs" / "b.md")
    call("ingest", "old/docs", *to)
    (tmp_path / "old").rename(tmp_path / "new")
    (tmp_path / "new" / "docs" / "b.md").unlink()
    assert "if it was moved, add --moved" in call("ingest", "new/docs", *to, code=2).stderr
    assert "(0 encoded)" in call("ingest", "new/docs", *to, "--moved").stdout
    assert "1 unchanged, 0 deleted" in call("ingest", "new/docs", *to).stdout  # though b.md still exists
    assert "1 unchanged, 1 deleted" in call("ingest", "new/docs", *to, "--prune").stdout
    assert list(stored()) == ["docs/a.md"]


def test_a_named_source_may_move(call: Run, to: list[str], tmp_path: Path) -> None:
    """A checkout in a new folder each time keeps its name."""
    for number in range(2):
        write(tmp_path / f"run{number}" / "docs" / "a.md")
        told = call("ingest", f"run{number}/docs", *to, "--source", "handbook")
        assert ("1 unchanged" in told.stdout) == (number == 1)
    write(tmp_path / "handbook" / "a.md")
    told = call("ingest", "handbook", *to, code=2)
    assert "was named by --source handbook" in told.stderr
    assert "if this is it, add --source handbook" in told.stderr


@pytest.mark.parametrize("more", [[], ["--moved"], ["--prune"]])
def test_a_folder_named_explicitly(call: Run, to: list[str], stored: Stored, tmp_path: Path, more: list[str]) -> None:
    """--source with its own name changes nothing, before and after a move."""
    write(tmp_path / "old" / "docs" / "a.md")
    call("ingest", "old/docs", *to)
    (tmp_path / "old").rename(tmp_path / "new")
    call("ingest", "new/docs", *to, "--moved")
    write(tmp_path / "new" / "docs" / "b.md")
    assert "0 rejected" in call("ingest", "new/docs", *to, "--source", "docs", *more).stdout
    assert set(stored()) == {"docs/a.md", "docs/b.md"}
    assert "2 unchanged" in call("ingest", "new/docs", *to, "--source", "docs", *more).stdout


def test_a_database_named_explicitly(call: Run, to: list[str], database: str) -> None:
    """It works as for folders; another table is another source."""
    with psycopg.connect(database, autocommit=True) as connection:
        for table in ("products", "others"):
            connection.execute(f"CREATE TABLE {table} AS SELECT 1 AS id, 'a text' AS text")
    call("ingest", "--from", database, "--table", "products", *to)
    refused = call("ingest", "--from", database, "--table", "others", "--source", "products", *to, code=2)
    assert "the index holds a source 'products' from" in refused.stderr
    assert "0 rejected" in call("ingest", "--from", database, "--table", "products", "--source", "products", *to).stdout


def test_prune_keeps_other_sources(call: Run, to: list[str], stored: Stored, tmp_path: Path) -> None:
    """Records of other folders, of rows, and of files that were not named are kept."""
    for name in ("a/1.md", "a/2.md", "b/1.md"):
        write(tmp_path / name)
    write(tmp_path / "b" / "rows.jsonl", '{"id": "x", "text": "text x"}\n{"id": "y", "text": "text y"}\n')
    write(tmp_path / "b" / "more.jsonl", '{"id": "z", "text": "text z"}\n')
    call("ingest", "b", *to, "--id", "id")
    call("ingest", "a", *to)
    everything = {"a/1.md", "a/2.md", "b/1.md", "x", "y", "z"}
    assert set(stored()) == everything
    (tmp_path / "a" / "2.md").unlink()
    assert "1 deleted" in call("ingest", "a", *to, "--prune").stdout
    assert set(stored()) == everything - {"a/2.md"}
    write(tmp_path / "b" / "rows.jsonl", '{"id": "x", "text": "text x"}\n')
    assert "1 deleted" in call("ingest", "b/rows.jsonl", *to, "--id", "id", "--prune").stdout
    assert set(stored()) == everything - {"a/2.md", "y"}
    (tmp_path / "b" / "more.jsonl").unlink()
    assert "1 deleted" in call("ingest", "b", *to, "--id", "id", "--prune").stdout
    assert set(stored()) == everything - {"a/2.md", "y", "z"}
    assert "0 deleted" in call("ingest", "a/1.md", *to, "--prune").stdout


def test_links_to_files(call: Run, to: list[str], stored: Stored, tmp_path: Path) -> None:
    """Links out of the folder or to hidden files are skipped, and their stored records are pruned."""
    write(tmp_path / "secret" / "shadow", "root:hunter2")
    docs = tmp_path / "docs"
    write(docs / ".git" / "config", "hunter2")
    write(docs / "b.txt")
    (docs / "inside.txt").symlink_to("b.txt")
    write(docs / "a.txt")
    call("ingest", "docs", *to)
    (docs / "a.txt").unlink()
    (docs / "a.txt").symlink_to("../secret/shadow")
    (docs / "c.txt").symlink_to(docs / ".git" / "config")
    told = call("ingest", "docs", *to, "--prune")
    for name in ("a", "c"):
        assert (
            f"left out: docs/{name}.txt: is a link to a file elsewhere; pass that file as a separate PATH"
            in told.stderr
        )
    assert "2 unchanged, 1 deleted" in told.stdout
    assert set(stored()) == {"docs/b.txt", "docs/inside.txt"}
    told = call("ingest", "docs", "secret/shadow", *to)
    assert "docs/a.txt" not in told.stderr
    assert "hunter2" in stored()["secret/shadow"]


def test_links_to_folders(call: Run, to: list[str], stored: Stored, tmp_path: Path) -> None:
    """They are not followed, and stored records behind them are pruned."""
    docs = tmp_path / "docs"
    for name in ("a.txt", "b.txt", "sub/c.txt"):
        write(docs / name)
    call("ingest", "docs", *to)
    (docs / "sub").rename(tmp_path / "moved")
    (docs / "sub").symlink_to(tmp_path / "moved")
    (docs / "circle").symlink_to(docs)
    (docs / "b.txt").unlink()
    said = json.loads(call("ingest", "docs", *to, "--prune", "--dry-run", "--json").stdout)
    assert (said["left_out"], said["deleted"], said["pruned"]) == ({"links": 1}, 2, True)
    told = call("ingest", "docs", *to, "--prune")
    assert told.stderr.splitlines() == [
        f"left out: docs/sub: {LINK_TO_FOLDER}",
        "left out: 1 links",
    ]
    assert "1 unchanged, 2 deleted; 0 rejected" in told.stdout
    assert set(stored()) == {"docs/a.txt"}
    told = call("ingest", "docs", "moved", *to, "--prune")
    assert told.stderr == ""
    assert set(stored()) == {"docs/a.txt", "moved/c.txt"}


def test_following_links(call: Run, to: list[str], stored: Stored, tmp_path: Path) -> None:
    """Linked files belong to the source; each folder is read once, and cycles end."""
    docs, other = tmp_path / "docs", tmp_path / "other"
    for path in (docs / "a.txt", other / "b.txt", other / "in" / "c.txt", tmp_path / "one.txt"):
        write(path)
    (docs / "link").symlink_to(other)
    (docs / "same").symlink_to(other / "in")
    (other / "circle").symlink_to(other)
    (other / "back").symlink_to(docs)
    (docs / "one.txt").symlink_to(tmp_path / "one.txt")
    assert call("ingest", "docs", *to, "--links", "follow", "--prune").stderr == ""
    everything = {"docs/a.txt", "docs/one.txt", "docs/link/b.txt", "docs/link/in/c.txt"}
    assert set(stored()) in (everything, everything - {"docs/link/in/c.txt"} | {"docs/same/c.txt"})
    (other / "b.txt").unlink()
    assert "1 deleted" in call("ingest", "docs", *to, "--links", "follow", "--prune").stdout
    left = set(stored())
    other.rename(tmp_path / "unmounted")
    told = call("ingest", "docs", *to, "--links", "follow", "--prune", code=1)
    assert "rejected: docs/link: cannot be read: No such file or directory" in told.stderr
    assert "not pruned: docs/link/: could not be read, and was kept" in told.stderr
    assert set(stored()) == left
    assert "deleted" in call("ingest", "docs", *to, "--prune").stdout  # without the links
    assert set(stored()) == {"docs/a.txt"}


def test_links_and_rows_with_ids_of_their_own(call: Run, to: list[str], stored: Stored, tmp_path: Path) -> None:
    """Rows behind followed links belong to the source; a dangling link prevents pruning."""
    write(tmp_path / "docs" / "rows.jsonl", '{"id": "x", "text": "text x"}\n')
    write(tmp_path / "elsewhere" / "more.jsonl", '{"id": "y", "text": "text y"}\n')
    (tmp_path / "docs" / "sub").symlink_to(tmp_path / "elsewhere")
    rows = ["ingest", "docs", *to, "--id", "id", "--prune"]
    call(*rows, "--links", "follow")
    assert set(stored()) == {"x", "y"}
    (tmp_path / "elsewhere").rename(tmp_path / "unmounted")
    told = call(*rows, "--links", "follow", code=1)
    assert "not pruned: the unreadable records cannot be identified" in told.stderr
    assert json.loads(call(*rows, "--links", "follow", "--json", code=1).stdout)["pruned"] is False
    assert set(stored()) == {"x", "y"}
    assert "1 deleted" in call(*rows).stdout


def test_a_database_is_a_source() -> None:
    """A table or query of one database is a source, and no password is shown."""
    url = "postgresql://me:hunter2@host:5433/shop?password=hunter2"
    table = PostgresSource([], Columns("id"), url=url, table="products")
    [origin] = table.origins
    assert (origin.name, origin.root) == ("products", "postgresql://host:5433/shop table products")
    queries = [PostgresSource([], Columns("id"), url=url, query=f"SELECT {n}").origins[0] for n in range(2)]
    assert queries[0].name == queries[1].name == "query"
    assert queries[0].root != queries[1].root
    [named] = PostgresSource([], Columns("id"), name="shop", url=url, query="SELECT 1").origins
    assert (named.name, named.root, named.named) == ("shop", queries[1].root, True)


def test_reserved_metadata(call: Run, to: list[str], tmp_path: Path) -> None:
    """Ordinary columns may have any other name."""
    write(tmp_path / "rows.jsonl", json.dumps({"id": "x", "text": "t", "source": "the user's", SOURCE: "other"}))
    told = call("ingest", "rows.jsonl", *to, "--id", "id", "--metadata", SOURCE, code=2)
    assert f"--metadata cannot be {SOURCE}" in told.stderr
    call("ingest", "rows.jsonl", *to, "--id", "id", "--metadata", "source")
    place = to[1]
    [match] = json.loads(call("search", "t", "--in", place, "--json").stdout)
    assert match["metadata"]["source"] == "the user's"
    assert match["metadata"][ROOT] == str(tmp_path)


def test_standard_input(call: Run, to: list[str], stored: Stored) -> None:
    """It is a separate source, under any name."""
    call("ingest", "-", *to, given="one text")
    call("ingest", "-", *to, "--source", "page", given="another text")
    assert stored() == {"stdin/-": "one text", "page/-": "another text"}


def test_names_of_standard_input(call: Run, to: list[str], stored: Stored) -> None:
    """Two names are two records that do not prune each other; for rows, --id is the column."""
    for name in ("one", "two"):
        assert "0 deleted" in call("ingest", "-", *to, "--id", name, "--prune", given=f"text {name}").stdout
    row = '{"id": "x", "text": "text x"}'
    call("ingest", "-", *to, "--id", "id", "--format", "jsonl", "--prune", given=row)
    assert stored() == {"stdin/one": "text one", "stdin/two": "text two", "x": "text x"}
    row = '{"id": "y", "text": "text y"}'
    assert "1 deleted" in call("ingest", "-", *to, "--id", "id", "--format", "jsonl", "--prune", given=row).stdout
    call("ingest", "-", *to, "--id", "one", given="another")
    assert stored() == {"stdin/one": "another", "stdin/two": "text two", "y": "text y"}
    assert "must not be empty or blank" in call("ingest", "-", *to, "--id", " ", given="a", code=2).stderr


@pytest.mark.parametrize("path", ["/", "nothing"])
def test_no_name(path: str) -> None:
    """The root folder has no name, so it needs --source."""
    if path == "/":
        with pytest.raises(SettingError, match="has no name for a source; give it one with --source NAME"):
            Source([path])
    else:
        [missing] = Source([path])
        assert missing == Skipped(f"{Path.cwd().name}/nothing", "cannot be read: No such file or directory")


def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its records are kept, because its contents are unknown."""
    write(tmp_path / "docs" / "a.md")
    write(tmp_path / "docs" / "in" / "b.md")
    scandir, denied = os.scandir, ""

    def refusing(folder: Any) -> Any:
        if Path(folder).name == denied:
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr("os.scandir", refusing)
    for name, gone in (("docs", []), ("in", ["docs/c.md"])):
        denied = name
        source = Source([str(tmp_path / "docs")])
        list(source)
        assert [id_ for id_ in ("docs/c.md", "docs/in/b.md") if source.gone(id_, {SOURCE: "docs"})] == gone


def test_a_file_that_became_blank(call: Run, to: list[str], stored: Stored, tmp_path: Path) -> None:
    """It is reported without an error, and its stored record is kept until it is pruned."""
    write(tmp_path / "docs" / "a.md")
    write(tmp_path / "docs" / "b.md", "a secret")
    call("ingest", "docs", *to)
    write(tmp_path / "docs" / "b.md", " ")
    assert call("ingest", "docs", *to).stderr == "blank: docs/b.md\n"
    assert set(stored()) == {"docs/a.md", "docs/b.md"}
    call("ingest", "docs", *to, "--prune")
    assert list(stored()) == ["docs/a.md"]


def test_the_last_text_of_a_source(call: Run, to: list[str], stored: Stored, tmp_path: Path) -> None:
    """It is pruned like any other, and other sources are kept."""
    write(tmp_path / "docs" / "a.md", "a secret")
    write(tmp_path / "other" / "b.md")
    call("ingest", "docs", "other", *to)
    write(tmp_path / "docs" / "a.md", " ")
    for more, gone in ((["--dry-run"], False), ([], True)):
        told = call("ingest", "docs", *to, "--prune", *more)
        assert told.stderr == "blank: docs/a.md\n"
        assert "1 deleted; 0 rejected" in told.stdout
        assert ("docs/a.md" not in stored()) == gone
    (tmp_path / "other" / "b.md").unlink()
    assert "1 deleted; 0 rejected" in call("ingest", "other", *to, "--prune").stdout
    assert stored() == {}


def test_an_unreadable_source(call: Run, to: list[str], stored: Stored, tmp_path: Path) -> None:
    """Nothing is pruned, for files and for rows with ids."""
    write(tmp_path / "docs" / "a.md")
    rows = write(tmp_path / "rows" / "rows.jsonl", '{"id": "x", "text": "text x"}\n')
    call("ingest", "docs", *to)
    call("ingest", "rows", *to, "--id", "id")
    (tmp_path / "docs" / "a.md").write_bytes(b"caf\xe9")
    write(rows, "no JSON\n")
    assert "0 deleted; 1 rejected" in call("ingest", "docs", *to, "--prune", code=1).stdout
    told = call("ingest", "rows", *to, "--id", "id", "--prune", code=1)
    assert "not pruned: the unreadable records cannot be identified" in told.stderr
    assert "0 deleted; 1 rejected" in told.stdout
    assert set(stored()) == {"docs/a.md", "x"}


def test_a_row_that_became_blank(call: Run, to: list[str], stored: Stored, tmp_path: Path) -> None:
    """It is treated like a file."""
    rows = write(tmp_path / "rows.csv", "id,text\na,one\nb,a secret\n")
    call("ingest", "rows.csv", *to, "--id", "id")
    write(rows, 'id,text\na,one\nb," "\n')
    assert json.loads(call("ingest", "rows.csv", *to, "--id", "id", "--json").stdout)["blank"] == ["b"]
    assert set(stored()) == {"a", "b"}
    assert "1 deleted; 0 rejected" in call("ingest", "rows.csv", *to, "--id", "id", "--prune").stdout
    assert set(stored()) == {"a"}


def test_a_link_to_itself(tmp_path: Path) -> None:
    """It is skipped, and stops nothing."""
    write(tmp_path / "docs" / "a.md")
    (tmp_path / "docs" / "loop.md").symlink_to("loop.md")
    (tmp_path / "docs" / "loops").symlink_to("loops")
    found, *loops = Source([str(tmp_path / "docs")])
    assert found.id == "docs/a.md"
    assert [each.id for each in loops if isinstance(each, Skipped)] == ["docs/loop.md", "docs/loops"]


def test_a_name_that_is_taken(call: Run, to: list[str], stored: Stored, tmp_path: Path) -> None:
    """`--source` does not take over a folder's records without confirmation."""
    write(tmp_path / "a" / "docs" / "one.md")
    write(tmp_path / "b" / "docs" / "two.md")
    call("ingest", "a/docs", *to)
    refused = call("ingest", "b/docs", "--source", "docs", "--prune", *to, code=2)
    assert "the index holds a source 'docs' from" in refused.stderr
    assert list(stored()) == ["docs/one.md"]
    told = call("ingest", "b/docs", "--source", "docs", "--prune", "--moved", *to, code=2)
    assert "was not moved: " in told.stderr
    assert "still exists" in told.stderr
    (tmp_path / "a" / "docs").rename(tmp_path / "a" / "elsewhere")
    call("ingest", "b/docs", "--source", "docs", "--prune", "--moved", *to)
    assert list(stored()) == ["docs/two.md"]
