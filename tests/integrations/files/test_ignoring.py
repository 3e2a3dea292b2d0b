"""Selection of files: .gitignore as in git, patterns, and hidden files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from harrier_files import Source
from hypothesis import example, given
from hypothesis import strategies as st

from harrier_core import Record, SettingError, Skipped

ISOLATED = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "HOME": os.devnull}


def git(folder: Path, *arguments: str) -> bytes:
    """Return the output of git with isolated settings."""
    command = ["git", *arguments]
    return subprocess.run(command, cwd=folder, env=ISOLATED, check=True, capture_output=True).stdout


def write(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        put(folder / name, text)


def put(path: Path, text: str = "text") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def inside(source: Source) -> set[str]:
    """Return the paths that are read, relative to the source."""
    found = list(source)
    assert not [each for each in found if isinstance(each, Skipped)]
    return {each.id.partition("/")[2] for each in found}


NAMES = ("a", "b", "ab", "c.md", "d e")
PATHS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=4).map("/".join)
PIECES = st.sampled_from(["a", "b", "ab", "c.md", "*", "?", "**", "a*", "*.md", "[ab]", "[!a]", "d e", "d\\ e", "x"])
PATTERNS = st.builds(
    lambda negated, anchored, pieces, folder: f"{negated}{anchored}{'/'.join(pieces)}{folder}",
    st.sampled_from(["", "", "!"]),
    st.sampled_from(["", "", "/"]),
    st.lists(PIECES, min_size=1, max_size=3),
    st.sampled_from(["", "", "/"]),
)
LINES = st.lists(
    PATTERNS | st.sampled_from(["", "# a", "\\#a", "\\!a", "/", "//", "a ", "a\r", "[b-", "a/[b-"]), max_size=5
)


@given(st.sets(PATHS, min_size=1, max_size=8), LINES, st.sampled_from(["", "a/", "a/b/"]), LINES)
@example({"a/b", "a/c.md/d e"}, ["a", "!a/**/"], "", [])
@example({"a/b", "a/c.md/d e"}, ["a/**/"], "", [])
def test_equal_to_git(paths: set[str], lines: list[str], deeper: str, more: list[str]) -> None:
    """The files that git would add are read, for any .gitignore files."""
    with TemporaryDirectory() as name:
        top = Path(name) / "top"
        put(top / ".gitignore", "\n".join(lines))
        put(top / deeper / ".gitignore", "\n".join(more if deeper else lines))
        for path in paths:
            whole = top / path
            if not any(each.is_file() for each in whole.parents if each.is_relative_to(top)) and not whole.is_dir():
                put(whole)
        git(top, "init", "-q")
        listed = git(top, "ls-files", "-z", "--cached", "--others", "--exclude-standard").decode().split("\0")
        expected = {each for each in listed if each and not each.endswith(".gitignore")}
        assert inside(Source(str(top), format="text")) == expected


def test_cases_of_the_git_manual(tmp_path: Path) -> None:
    """Files in an ignored folder cannot be included again, but its neighbours can."""
    for name in ("foo/bar/x.md", "foo/y.md", "abc/x.md", "build/x.md", "keep/build/x.md", "keep/only.md"):
        put(tmp_path / "docs" / name)
    put(tmp_path / "docs" / ".gitignore", "/*\n!/foo\n/foo/*\n!/foo/bar\n!/keep/\nbuild/\n")
    put(tmp_path / "docs" / "keep" / ".gitignore", "!build/\n")
    source = Source(str(tmp_path / "docs"))
    assert inside(source) == {"foo/bar/x.md", "keep/build/x.md", "keep/only.md"}
    assert dict(source.walk.left_out) == {"ignored": 3, "hidden": 2}


def test_rules_of_the_repository(tmp_path: Path) -> None:
    """Rules of parent folders and .git/info/exclude apply, up to the repository's root."""
    repository = tmp_path / "repository"
    put(tmp_path / ".gitignore", "*")
    put(repository / ".gitignore", "drafts/\n*.log.md\n")
    put(repository / ".git" / "info" / "exclude", "secret.md")
    for name in ("a.md", "b.log.md", "secret.md", "drafts/c.md", "in/drafts/d.md"):
        put(repository / "docs" / name)
    assert inside(Source(str(repository / "docs"))) == {"a.md"}
    named = Source([str(repository / "docs" / "drafts"), str(repository / "docs" / "secret.md")])
    assert {each.id for each in named} == {"drafts/c.md", "docs/secret.md"}  # paths that are given explicitly are read


def test_harrierignore(tmp_path: Path) -> None:
    """It has the syntax of .gitignore and overrides it; --no-ignore reads neither."""
    for name in ("a.md", "b.md", "in/c.md", "in/d.md"):
        put(tmp_path / "docs" / name)
    put(tmp_path / "docs" / ".gitignore", "b.md\nin/")
    put(tmp_path / "docs" / ".harrierignore", "a.md\n!in/\n")
    put(tmp_path / "docs" / "in" / ".gitignore", "c.md")
    assert inside(Source(str(tmp_path / "docs"))) == {"in/d.md"}
    assert inside(Source(str(tmp_path / "docs"), ignore=False)) == {"a.md", "b.md", "in/c.md", "in/d.md"}


def test_patterns(tmp_path: Path) -> None:
    """Included files may have any suffix, and be hidden if the pattern says so; excluded ones are not read."""
    docs = tmp_path / "docs"
    for name in ("a.md", "b.bin", "core.img", "in/c.md", "in/d.bin", ".hidden.md", ".notes/e.md", ".git/f.md", "ig.md"):
        put(docs / name)
    put(docs / ".gitignore", "ig.md")
    put(docs / "picture.PNG")
    for include, exclude, expected in (
        ([], [], {"a.md", "in/c.md"}),
        (["*.md"], [], {"a.md", "in/c.md"}),
        (["*.bin", "core.img"], [], {"b.bin", "in/d.bin", "core.img"}),
        (["in/"], ["*.bin"], {"in/c.md"}),
        ([".notes/"], [], {".notes/e.md"}),
        (["*.md", ".hidden.md"], ["in"], {"a.md", ".hidden.md"}),
        (["*.md", "!in/**"], [], {"a.md"}),
        ([], ["/in/", "*.bin"], {"a.md"}),
    ):
        assert inside(Source(str(docs), include=include, exclude=exclude)) == expected, (include, exclude)
    source = Source(str(docs), exclude=["in"])
    assert inside(source) == {"a.md"}
    assert dict(source.walk.left_out) == {
        ".bin": 1,
        ".png": 1,
        ".img": 1,
        "hidden": 4,
        "excluded": 1,
        "ignored": 1,
    }
    with pytest.raises(SettingError, match="must be lists of patterns, got a single str"):
        Source(str(docs), include="*.md")
    with pytest.raises(SettingError, match="--exclude must be a pattern as in .gitignore"):
        Source(str(docs), exclude=["!"])


READ = """
import json, sys
from harrier_files import Source
source = Source(sys.argv[1])
print(json.dumps([[each.id, getattr(each, "reason", None)] for each in source]))
print(json.dumps([source.walk.unknown, source.gone("docs/shut/gone.md", {"harrier_source": "docs"})]))
"""


@pytest.mark.parametrize("name", [".gitignore", ".harrierignore"])
def test_unreadable_rules(name: str, tmp_path: Path) -> None:
    """Their folder is not read, and this is reported."""
    nobody = shutil.which("setpriv")
    if nobody is None or os.geteuid() != 0:
        pytest.skip("only root can run a process as another user, with setpriv")
    with TemporaryDirectory(dir="/tmp") as folder:  # where everybody may look, unlike in the tests' own folders
        docs = Path(folder) / "docs"
        put(docs / "a.md")
        put(docs / "shut" / "b.md")
        put(docs / "shut" / name, "b.md").chmod(0)
        for each in (docs.parent, docs, docs / "shut"):
            each.chmod(0o755)
        command = ["setpriv", "--reuid=nobody", "--clear-groups", sys.executable, "-c", READ, str(docs)]
        told = subprocess.run(command, check=False, capture_output=True, text=True, cwd="/", env=shared())
        assert told.returncode == 0, told.stderr
        assert f'["docs/a.md", null], ["{docs}/shut/{name}", "cannot be read: Permission denied"]' in told.stdout
        assert '[["docs/shut/"], false]' in told.stdout
    assert [each.id for each in Source(str(put(tmp_path / "docs" / "a.md").parent)) if isinstance(each, Record)]


def shared() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONDONTWRITEBYTECODE": "1"}


def test_unusual_rule_files(tmp_path: Path) -> None:
    """Links and folders are ignored, as in git, and invalid patterns have no effect."""
    docs = tmp_path / "docs"
    for name in ("a.md", "b.md", "in/c.md", "é.md"):
        put(docs / name)
    put(tmp_path / "rules", "a.md")
    (docs / ".gitignore").symlink_to(tmp_path / "rules")
    (docs / "in" / ".gitignore").mkdir()
    assert inside(Source(str(docs))) == {"a.md", "b.md", "in/c.md", "é.md"}
    (docs / ".gitignore").unlink()
    (docs / ".gitignore").write_bytes(b"\xef\xbb\xbfa.md\r\n!\n//\n\xff\n[z-a]\n\xc3\xa9.md\n")
    assert inside(Source(str(docs))) == {"b.md", "in/c.md"}


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """Create some hundreds of nested folders."""
    folder = tmp_path / "deep"
    folder.mkdir()
    here = Path.cwd()
    os.chdir(folder)
    for _ in range(400):
        Path("d").mkdir()
        os.chdir("d")
    Path("a.md").write_text("deep")
    os.chdir(here)
    yield folder
    shutil.rmtree(folder)


def test_deep_folders(deep: Path) -> None:
    assert [each.text for each in Source(str(deep)) if isinstance(each, Record)] == ["deep"]
