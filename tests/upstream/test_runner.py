"""The runner of upstream's suites overlooks nothing. These tests need no package index."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from upstream.__main__ import main, report
from upstream.fetching import Unavailable, source_of, unpack
from upstream.suites import Outcome, Suite, run

pytest.importorskip("pytest_mock", reason="upstream's suites run in .venv only, which has the group 'upstream'")

TESTS = """
import warnings, pytest
from langchain_core.vectorstores import InMemoryVectorStore
from harrier_core import RoleWarning

@pytest.fixture
def vector_store():
    raise AssertionError("upstream's own")

def test_ours(vector_store):
    assert type(vector_store) is InMemoryVectorStore
    assert vector_store.add_texts(["bread"]) == list(vector_store.store)

async def test_async():
    pass

def test_fails():
    assert False

def test_warns():
    warnings.warn("no instruction", RoleWarning)

@pytest.mark.skip(reason="not here")
def test_skipped():
    pass

@pytest.mark.xfail(reason="not yet")
def test_expected():
    assert False
"""


def suite(tests: int = 2, ours: int = 1, file: str = "tests/test_some.py") -> Suite:
    return Suite("some", "langchain-core", file, "upstream.indexing", tests, ours)


@pytest.fixture
def upstream(tmp_path: Path) -> Path:
    """Write a folder such as `source_of` returns."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "__init__.py").touch()
    (tmp_path / "tests" / "test_some.py").write_text(TESTS)
    (tmp_path / "tests" / "test_others.py").write_text("def test_something_else(): pass")
    return tmp_path


@pytest.mark.slow
def test_counts(upstream: Path) -> None:
    """A test that is skipped or expected to fail did not pass, and a RoleWarning is a failure."""
    found = run(suite(), upstream)
    assert (found.passed, found.ours) == (2, 1)
    assert found.failed == ["tests.test_some::test_fails", "tests.test_some::test_warns"]
    assert found.skipped == ["tests.test_some::test_skipped: not here", "tests.test_some::test_expected: not yet"]
    only = run(suite(), upstream, ["--ours-only"])
    assert only[:4] == (1, 1, [], [])
    assert list(only.complaints(suite(), ours_only=True)) == []


@pytest.mark.slow
def test_a_module_that_would_not_test_ours(upstream: Path) -> None:
    """Its tests pass with upstream's own objects, so the suite must fail; so must one whose file has moved."""
    found = run(suite(file="tests/test_others.py"), upstream)
    assert found.failed == ["::tests.test_others"]
    assert "uses none of InMemoryVectorStore" in found.output
    missing = run(suite(file="tests/test_moved.py"), upstream)
    assert missing.failed == ["pytest itself, exit code 4"]


@pytest.mark.parametrize(
    ("found", "complaint"),
    [
        (Outcome(9, 1, [], [], 1.0, ""), "some: 9 tests passed, expected at least 10"),
        (Outcome(10, 0, [], [], 1.0, ""), "some: 0 tests used ours, expected at least 1"),
        (Outcome(10, 1, ["a::b"], [], 1.0, "the output"), "the output\nsome: failed: a::b"),
        (Outcome(10, 1, [], ["a::b: why"], 1.0, ""), "some: skipped: a::b: why"),
        (Outcome(11, 2, [], [], 1.0, "the output"), None),
    ],
)
def test_the_report(found: Outcome, complaint: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    """Any complaint makes the exit code 1; the table comes last."""
    assert report({suite(tests=10): found}, ours_only=False) == (1 if complaint else 0)
    printed = capsys.readouterr().out
    assert printed.startswith(f"{complaint}\nsuite " if complaint else "suite ")
    assert printed.splitlines()[-1].startswith("some ")


def test_no_suite_of_that_name(capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt name must not look like a run in which everything passed."""
    with pytest.raises(SystemExit):
        main(["PostgreStore"])
    assert "no suite has any of ['PostgreStore'] in its name; there are ['index() on" in capsys.readouterr().err


def packed(folder: Path, version: str) -> Path:
    archive = folder / "some-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, text in (
            ("PKG-INFO", f"Metadata-Version: 2.4\nName: some\nVersion: {version}\n\nVersion: 1.0\n"),
            ("some/__init__.py", "would be imported"),
            ("tests/unit/test_some.py", "def test(): pass"),
        ):
            member = tarfile.TarInfo(f"some-1.0/{name}")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return archive


def test_the_tests_alone_are_unpacked(tmp_path: Path) -> None:
    """Upstream's code next to them would be imported instead of the installed one."""
    folder = unpack(packed(tmp_path, "1.0"), "1.0", tmp_path / "unpacked")
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["test_some.py"]
    assert (folder / "tests" / "unit" / "test_some.py").is_file()


def test_another_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"^some-1.0.tar.gz is version 1.0.1, but 1.0 is installed$"):
        unpack(packed(tmp_path, "1.0.1"), "1.0", tmp_path / "unpacked")


def test_no_package_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error gives pip's reason, and nothing is left that a later run would take for the tests."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(Unavailable, match=r"langgraph-checkpoint [\d.]+ cannot be fetched\n(.*\n)*.*No matching dist"):
        source_of("langgraph-checkpoint", tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
