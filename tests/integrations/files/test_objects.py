"""URLs of fsspec: memory, archives, missing packages and missing objects."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from harrier_files import Columns, Source
from harrier_files.globs import expanded
from harrier_files.sources import FILE, ROOT, SOURCE

from harrier_core import Record, SettingError, Skipped

Put = Callable[..., None]


@pytest.fixture
def put() -> Iterator[Put]:
    """Write files into fsspec's memory, which is empty before and after."""
    memory = fsspec.filesystem("memory")
    memory.store.clear()

    def put(**files: str | bytes) -> None:
        for name, content in files.items():
            memory.pipe_file(name, content.encode() if isinstance(content, str) else content)

    yield put
    memory.store.clear()


def stamps(source: Source) -> dict[str, bytes | None]:
    return {file.name: file.stamp for file in source.walk}


def test_a_prefix_is_a_source(put: Put) -> None:
    """It works like a folder: name, hidden files, other kinds, patterns, and origin of records."""
    put(**{"/b/docs/a.md": "one", "/b/docs/in/b.txt": "two", "/b/docs/.hidden/c.md": "x", "/b/docs/d.bin": b"\0"})
    put(**{"/b/docs2/e.md": "another"})
    source = Source("memory://b/docs/")
    first, second = source
    assert isinstance(first, Record)
    assert (first.id, first.text, second.id) == ("docs/a.md", "one", "docs/in/b.txt")
    assert first.metadata == {"format": "markdown", SOURCE: "docs", ROOT: "memory://b/docs"}
    assert dict(source.walk.left_out) == {"hidden": 1, ".bin": 1}
    assert source.bytes_read == 6
    assert source.gone("docs/gone.md", {SOURCE: "docs"})
    assert not source.gone("docs2/e.md", {SOURCE: "docs2"})
    assert [each.id for each in Source("memory://b/docs", exclude=["in"], name="x")] == ["x/a.md"]
    assert [each.id for each in Source("memory://b/docs", include=["*.md", ".hidden"])] == [
        "docs/.hidden/c.md",
        "docs/a.md",
    ]


def test_a_file_of_a_prefix(put: Put) -> None:
    """A named file has the same id; overlapping ones are read once, and only named ones are owned."""
    put(**{"/b/docs/a.md": "one", "/b/docs/in/b.md": "two"})
    assert [each.id for each in Source("memory://b/docs/a.md")] == ["docs/a.md"]
    source = Source(["memory://b/docs/in/b.md", "memory://b/docs", "memory://b/docs/in"])
    assert [each.id for each in source] == ["docs/in/b.md", "docs/a.md"]
    alone = Source("memory://b/docs/a.md")
    assert [alone.gone(f"docs/{name}.md", {SOURCE: "docs"}) for name in "ab"] == [True, False]


def test_stamps_of_stored_files(put: Put) -> None:
    """They come from the listing, and change with content of equal size."""
    put(**{"/b/docs/a.md": "one", "/b/docs/b.md": "two"})
    before = stamps(Source("memory://b/docs"))
    assert None not in before.values()
    assert stamps(Source("memory://b/docs")) == before
    put(**{"/b/docs/a.md": "six"})
    after = stamps(Source("memory://b/docs"))
    assert {name for name in before if after[name] != before[name]} == {"docs/a.md"}


class Forgetful(MemoryFileSystem):  # type: ignore[misc]  # fsspec's
    """A file system whose listings have only names and sizes, or fail."""

    protocol = "forgetful"
    cachable = False
    failing = False

    @classmethod
    def _strip_protocol(cls, path: str) -> Any:
        return super()._strip_protocol(path.replace("forgetful://", "memory://"))

    def find(self, path: str, **more: Any) -> Any:
        if self.failing:
            raise RuntimeError("key=hunter2")
        found = super().find(path, **more)
        return {name: {"name": name, "size": each["size"], "type": "file"} for name, each in found.items()}

    def _open(self, path: str, *arguments: Any, **more: Any) -> Any:
        if path.endswith("shut.md"):
            raise RuntimeError("key=hunter2")
        return super()._open(path, *arguments, **more)


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> type[Forgetful]:
    """Register the Forgetful file system as forgetful://."""
    fsspec.register_implementation("forgetful", Forgetful, clobber=True)
    monkeypatch.setattr(Forgetful, "failing", False)
    return Forgetful


def test_listings_without_details(put: Put, forgetful: type[Forgetful]) -> None:
    """Without times or checksums there are no stamps; errors are reported without quoting."""
    put(**{"/docs/a.md": "one", "/docs/shut.md": "two"})
    source = Source("forgetful:///docs")
    assert set(stamps(source).values()) == {None}
    assert list(source)[1] == Skipped("docs/shut.md", "cannot be read: RuntimeError")
    forgetful.failing = True
    [told] = source
    assert told == Skipped("forgetful:///docs", "cannot be listed: RuntimeError")
    assert not source.gone("docs/a.md", {SOURCE: "docs"})


def test_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole archive, a folder in it and a file in it are read, from any current folder."""
    archive = tmp_path / "notes.zip"
    with zipfile.ZipFile(archive, "w") as made:
        for name in ("a.md", "docs/b.md", "docs/in/c.md"):
            made.writestr(name, f"text of {name}")
    for url, expected in (
        (f"zip://::{archive}", ["notes.zip/a.md", "notes.zip/docs/b.md", "notes.zip/docs/in/c.md"]),
        (f"zip://docs::file://{archive}", ["docs/b.md", "docs/in/c.md"]),
        (f"zip://docs/b.md::{archive}", ["docs/b.md"]),
        (f"zip://a.md::{archive}", ["notes.zip/a.md"]),
    ):
        source = Source(url)
        assert [each.id for each in source] == expected
        assert None not in stamps(source).values()
    monkeypatch.chdir(tmp_path)
    assert Source("zip://docs::notes.zip").origins == Source(f"zip://docs::{archive}").origins


def test_rows_of_stored_files(put: Put) -> None:
    """Parquet, which is read from its end, works too."""
    table = BytesIO()
    pq.write_table(pa.table({"id": ["x"], "text": ["one"]}), table)
    put(**{"/b/rows/r.parquet": table.getvalue(), "/b/rows/r.csv": "id,text\ny,two\n"})
    found = list(Source("memory://b/rows", Columns("id")))
    assert [each.id for each in found] == ["y", "x"]
    assert [each.metadata[FILE] for each in found if isinstance(each, Record)] == ["rows/r.csv", "rows/r.parquet"]


def test_missing_objects(put: Put) -> None:
    """Nothing of a missing prefix is pruned."""
    put(**{"/b/docs/a.md": "one"})
    source = Source("memory://b/nothing")
    assert list(source) == [Skipped("memory://b/nothing", "cannot be listed: no such file or prefix")]
    assert not source.gone("nothing/a.md", {SOURCE: "nothing"})


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (
            "s3://bucket/docs",
            r"s3:// needs a package that is not installed .Install s3fs to access S3.; run pip install s3fs",
        ),
        ("gs://bucket/docs", "run pip install gcsfs"),
        ("unheard://of", "fsspec does not support unheard://; a PATH is a file, a folder, a URL"),
        ("zip://docs::/nothing.zip", "zip:// cannot be opened: No such file"),
        ("memory://", "has no name for a source; give it one with --source NAME"),
    ],
)
def test_unsupported_urls(url: str, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        Source(url)


def test_a_file_url_is_a_path(tmp_path: Path) -> None:
    """It has the id of the file."""
    (tmp_path / "a b.md").write_text("text", encoding="utf-8")
    assert [each.id for each in Source((tmp_path / "a b.md").as_uri())] == [f"{tmp_path.name}/a b.md"]


def test_keys_stay_out_of_metadata() -> None:
    """A user, password or options in a URL are not stored."""
    from harrier_files.objects import _rooted

    url = "sftp://me:hunter2@host/docs/a.md?key=hunter2"
    assert _rooted(url, "/docs/a.md", "/docs") == "sftp://host/docs"
    assert _rooted("zip://docs::sftp://me:hunter2@host/x.zip", "docs", "docs") == "zip://docs::sftp://host/x.zip"


class Hosted(MemoryFileSystem):  # type: ignore[misc]  # fsspec's
    """A file system on a host, whose paths leave out the host, as sftp's do."""

    protocol = "hosted"
    cachable = False

    @classmethod
    def _strip_protocol(cls, path: str) -> Any:
        return super()._strip_protocol(f"/{path.partition('://')[2].partition('/')[2]}" if "://" in path else path)

    def glob(self, path: str, **more: Any) -> Any:
        if "shut" in path:
            raise RuntimeError("key=hunter2")
        return super().glob(path, **more)


def test_patterns_in_urls(put: Put) -> None:
    """Found files keep the user and host of the URL, and errors quote neither."""
    fsspec.register_implementation("hosted", Hosted, clobber=True)
    put(**{"/docs/a.csv": "one", "/docs/b.csv": "two", "/docs/c.md": "three"})
    assert expanded(["hosted://me@host/docs/*.csv"]) == ["hosted://me@host/docs/a.csv", "hosted://me@host/docs/b.csv"]
    assert expanded(["memory://docs/*.csv"]) == ["memory://docs/a.csv", "memory://docs/b.csv"]
    assert expanded(["hosted://me@host/none/*.csv"]) == ["hosted://me@host/none/*.csv"]
    with pytest.raises(SettingError, match="^a pattern of a URL cannot be listed: RuntimeError$"):
        expanded(["hosted://me@host/shut/*.csv"])
