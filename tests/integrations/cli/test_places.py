"""Sources of the command: folders with rules, links, web pages, sitemaps, and URLs of fsspec."""

from __future__ import annotations

import json
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from websites import Answer, Site

Run = Callable[..., subprocess.CompletedProcess[str]]
Stored = Callable[[], set[str]]


@pytest.fixture
def site() -> Iterator[Site]:
    """Yield an empty web server."""
    with Site() as site:
        yield site


@pytest.fixture
def to(tmp_path: Path) -> list[str]:
    """Return the place to ingest into."""
    return ["--to", f"qdrant:{tmp_path}/qdrant"]


@pytest.fixture
def stored(call: Run, tmp_path: Path) -> Stored:
    """Return the stored ids."""

    def look() -> set[str]:
        told = call("search", "text", "--in", f"qdrant:{tmp_path}/qdrant", "-k", "50", "--json")
        return {match["record_id"] for match in json.loads(told.stdout)}

    return look


def put(path: Path, text: str = "some text") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_skipped_files(call: Run, to: list[str], stored: Stored, tmp_path: Path) -> None:
    """They are counted by kind, the most frequent first; more rules prune more."""
    docs = tmp_path / "docs"
    for name in (
        "a.md",
        "b.img",
        "c.img",
        "d.bin",
        "e.bin",
        "f.bin",
        ".hidden",
        "node_modules/x/readme.md",
        "drafts/g.md",
    ):
        put(docs / name)
    told = call("ingest", "docs", *to)
    assert told.stderr == "left out: 3 .bin, 2 .img, 1 hidden\n"
    assert stored() == {"docs/a.md", "docs/node_modules/x/readme.md", "docs/drafts/g.md"}
    put(docs / ".harrierignore", "node_modules/")
    told = call("ingest", "docs", *to, "--prune", "--exclude", "drafts", "--json")
    said = json.loads(told.stdout)
    assert said["left_out"] == {".bin": 3, ".img": 2, "hidden": 2, "ignored": 1, "excluded": 1}
    assert (said["deleted"], said["pruned"]) == (2, True)
    call("ingest", "docs", *to, "--no-ignore", "--include", "*.img", "--include", "readme.md", "--prune")
    assert stored() == {"docs/b.img", "docs/c.img", "docs/node_modules/x/readme.md"}


def test_many_kinds(call: Run, to: list[str], tmp_path: Path) -> None:
    """The most frequent kinds are named and the others counted; names cannot control a terminal."""
    for number in range(15):
        put(tmp_path / "docs" / f"a.kind{number:02}")
    put(tmp_path / "docs" / "b.kind14")
    put(tmp_path / "docs" / "b.\x1b[31m")
    line = call("ingest", "docs", *to).stderr
    assert line.startswith("left out: 2 .kind14, 1 .")
    assert line.endswith(", 4 of 4 other kinds\n")
    assert "\x1b" not in line


def test_a_link_and_its_target(call: Run, to: list[str], stored: Stored, tmp_path: Path) -> None:
    """A skipped link does not prevent pruning, even if its target is a PATH too."""
    for name in ("lk/a.md", "lk/b.md", "outside/c.md", "outside/d.md"):
        put(tmp_path / name)
    (tmp_path / "lk" / "elsewhere").symlink_to(tmp_path / "outside")
    call("ingest", "lk", *to, "--prune")
    (tmp_path / "lk" / "b.md").unlink()
    assert "1 deleted" in call("ingest", "lk", *to, "--prune").stdout
    assert call("ingest", "lk", "outside", *to, "--prune").stderr == ""
    (tmp_path / "outside" / "d.md").unlink()
    assert "1 deleted" in call("ingest", "lk", "outside", *to, "--prune").stdout
    assert stored() == {"lk/a.md", "outside/c.md"}


@pytest.mark.slow
def test_a_website(call: Run, to: list[str], stored: Stored, site: Site) -> None:
    """Pages removed from a sitemap are pruned; pages that fail, and pages named directly, are kept."""
    for name in "abcd":
        site.put(f"/{name}", f"<p>text {name}")
    site.put_sitemap("/sitemap.xml", ["/a", "/b", "/c"])
    sitemap = f"{site.url}/sitemap.xml"
    call("ingest", f"{site.url}/d", *to)
    call("ingest", sitemap, *to, "--prune")
    assert "3 unchanged" in call("ingest", sitemap, *to).stdout
    site.pages["/a"] = Answer(status=403)
    site.pages["/b"] = Answer(status=404)
    site.put_sitemap("/sitemap.xml", ["/a", "/b"])
    told = call("ingest", sitemap, *to, "--prune", code=1)
    assert f"rejected: {site.url}/a: cannot be fetched: the server answers 403 Forbidden" in told.stderr
    assert "left out: 1 pages that are gone" in told.stderr
    assert stored() == {f"{site.url}/a", f"{site.url}/d"}
    site.pages["/sitemap.xml"] = Answer(status=404)
    assert "0 deleted; 1 rejected" in call("ingest", sitemap, *to, "--prune", code=1).stdout
    site.pages["/d"] = Answer(status=410)
    assert "1 deleted; 1 rejected" in call("ingest", f"{site.url}/d", *to, "--prune", code=1).stdout
    assert stored() == {f"{site.url}/a"}


def test_an_archive(call: Run, to: list[str], stored: Stored, tmp_path: Path) -> None:
    """An archive is treated like a folder."""
    archive = tmp_path / "notes.zip"
    for names in (["a.md", "b.md"], ["a.md"]):
        with zipfile.ZipFile(archive, "w") as made:
            for name in names:
                made.writestr(name, f"text of {name}")
        call("ingest", "zip://::notes.zip", *to, "--prune")
        assert stored() == {f"notes.zip/{name}" for name in names}


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (
            "s3://bucket/docs",
            "s3:// needs a package that is not installed (Install s3fs to access S3); run pip install s3fs",
        ),
        (
            "https://me:hunter2@host/",
            "a user or password in a URL would become part of ids; put those of host in ~/.netrc",
        ),
        ("nothing", "there is no nothing; a PATH is a file, a folder, a URL, or - for standard input"),
        ("postgresql://host/db", "a Postgres is not a PATH; read it with --from and --table or --query"),
    ],
)
def test_invalid_sources(call: Run, to: list[str], path: str, said: str) -> None:
    assert call("ingest", path, *to, code=2).stderr == f"error: {said}\n"
