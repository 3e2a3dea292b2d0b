"""Source in programs."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from pathlib import Path

import harrier_files
import pytest
from harrier_files import Source
from harrier_files.sources import SOURCE

from harrier_core import SettingError


def test_the_example(
    built: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The example of the package's docstring runs with a tiny model."""
    for name in ("handbook/a.md", "handbook/drafts/b.md", "handbook/empty.md", "notes.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("" if "empty" in name else f"text of {name}", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    example = re.search(r"(?m)(^ {4}.*\n|^\n)+", str(harrier_files.__doc__).partition("\n")[2])
    assert example is not None
    code = textwrap.dedent(example[0])
    assert "microsoft/harrier-oss-v1-270m" in code
    code = code.replace("microsoft/harrier-oss-v1-270m", str(built("qwen3", vectors="words")))
    exec(compile(code, "example", "exec"), {})
    assert capsys.readouterr().out == "[] ['handbook/empty.md'] {'excluded': 1}\n"


def test_valid_paths(tmp_path: Path) -> None:
    """One path or several are accepted as str or Path, and can be read again."""
    (tmp_path / "a.md").write_text("text", encoding="utf-8")
    for given in (tmp_path, str(tmp_path), [tmp_path], (str(tmp_path),)):
        source = Source(given)
        assert [each.id for each in source] == [f"{tmp_path.name}/a.md"] == [each.id for each in source]
        assert (source.size(), source.bytes_read) == (4, 4)


@pytest.mark.parametrize("wrong", [{"links": "both"}, {"piped": " "}, {"include": "*.md"}, {"exclude": "*.md"}])
def test_invalid_arguments(wrong: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"must (not )?be"):
        Source(tmp_path, **wrong)  # type: ignore[arg-type]


def test_excluded_files_are_pruned(tmp_path: Path) -> None:
    """Files excluded by a pattern or rule no longer belong to the source."""
    for name in ("a.md", "b.md", "c.md"):
        (tmp_path / name).write_text("text", encoding="utf-8")
    (tmp_path / ".gitignore").write_text("b.md", encoding="utf-8")
    source = Source(tmp_path, exclude=["c.md"])
    assert [each.id for each in source] == [f"{tmp_path.name}/a.md"]
    assert all(source.gone(f"{tmp_path.name}/{name}", {SOURCE: tmp_path.name}) for name in ("b.md", "c.md"))
