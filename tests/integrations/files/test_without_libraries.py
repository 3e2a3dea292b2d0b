"""Missing packages are named where they are needed, and nowhere else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from harrier_files import Source

from harrier_core import MissingExtra


@pytest.mark.parametrize(
    ("missing", "path", "more"),
    [
        ("httpx", "https://host/", {}),
        ("fsspec", "memory://docs", {}),
        ("pathspec", "docs", {"include": ["*.md"]}),
        ("pathspec", "ruled", {}),
    ],
)
def test_without_pathspec(
    missing: str, path: str, more: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If ignore files cannot be evaluated, their folder is not read."""
    for folder in ("docs", "ruled"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.md").write_text("text", encoding="utf-8")
    (tmp_path / "ruled" / ".gitignore").write_text("a.md", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingExtra, match=r"harrier-kit\[files\]"):
        list(Source(path, **more))  # type: ignore[arg-type]
    assert [each.id for each in Source("docs")] == ["docs/a.md"]


def test_light_to_import(tmp_path: Path) -> None:
    """Local files import nothing for remote sources."""
    (tmp_path / "a.md").write_text("text", encoding="utf-8")
    code = (
        "import sys; from harrier_files import Source; assert len(list(Source(sys.argv[1]))) == 1; "
        "print([each for each in ('fsspec', 'httpx', 'pathspec', 'lxml') if each in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "[]\n"
