"""The notebooks run from top to bottom with a stand-in model, and are committed without outputs."""

from __future__ import annotations

import base64
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell
from packaging.requirements import Requirement

from harrier_core.extras import PACKAGES

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PICTURES = {"03_instructions": 3}
EXTRAS: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
WITHOUT = """
import ctypes.util, sys
sys.modules.update(dict.fromkeys({modules}))
if "psycopg_binary" in sys.modules:
    ctypes.util.find_library = lambda name: None
"""
PNG = b"\x89PNG\r\n"


def read(path: Path) -> NotebookNode:
    """Return a notebook, and check its format."""
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    return notebook  # type: ignore[no-any-return]


def code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook: NotebookNode) -> list[NotebookNode]:
    return [output for cell in code(notebook) for output in cell.outputs]


def asked_by(extras: set[str]) -> list[Requirement]:
    """Return what extras install, including nested extras."""
    asked = [Requirement(each) for extra in extras for each in EXTRAS[extra]]
    included = {extra for each in asked if each.name == "harrier-kit" for extra in each.extras}
    return [*asked, *asked_by(included)] if included else asked


def missing(notebook: NotebookNode) -> list[str]:
    """Return optional modules that the notebook's first cell does not say to install."""
    [(named, others)] = re.findall(r"`pip install 'harrier-kit\[([\w,-]+)\]'([\w ]*)`", notebook.cells[0].source)
    asked = asked_by(set(named.split(",")))
    extras = {*named.split(","), *(extra for each in asked if each.name == "harrier-kit" for extra in each.extras)}
    left = [module for module, (extra, _) in PACKAGES.items() if extra not in extras]
    left = [module for module in left if module != "filelock"]  # huggingface-hub brings it
    if "matplotlib" not in others.split():
        left.append("matplotlib")
    if not any(each.name == "psycopg" and "binary" in each.extras for each in asked):
        left += ["psycopg_binary", "psycopg_c"]
    return left


def run(path: Path, folder: Path) -> NotebookNode:
    """Run the notebook with only the named packages, and return it with outputs."""
    notebook = read(path)
    first = new_code_cell(WITHOUT.format(modules=missing(notebook)))  # type: ignore[no-untyped-call]
    notebook.cells.insert(0, first)
    client = NotebookClient(notebook, timeout=90, kernel_name="python3", resources={"metadata": {"path": folder}})
    client.execute()
    return notebook


@pytest.fixture(autouse=True)
def _on_a_stand_in(built: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use no hub, and show pictures as notebooks do, whatever the environment says."""
    monkeypatch.setenv("HARRIER_MODEL", str(built("qwen3", vectors="words")))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.delenv("MPLBACKEND", raising=False)


def test_there_are_three() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["01_langchain", "02_llama_index_pgvector", "03_instructions"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_committed_clean(path: Path) -> None:
    """It is short, has no local details, and begins with its purpose."""
    notebook = read(path)
    assert len(notebook.cells) < 25
    assert not outputs(notebook)
    assert all(cell.execution_count is None for cell in code(notebook))
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.cells[0].source.startswith("# ")
    assert "HARRIER_MODEL" in notebook.cells[1].source


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path: Path, tmp_path: Path) -> None:
    """All cells run in order in a separate kernel, and show pictures where expected.

    Only the optional packages that the notebook says to install are available.
    """
    done = run(path, tmp_path)
    pictures = [output.data["image/png"] for output in outputs(done) if "image/png" in output.get("data", {})]
    assert len(pictures) == PICTURES.get(path.stem, 0)
    assert all(base64.b64decode(picture).startswith(PNG) for picture in pictures)
    assert [cell.execution_count for cell in code(done)] == list(range(1, len(code(done)) + 1))
    assert list(tmp_path.iterdir()) == []  # nothing is left where it ran


def test_it_says_when_a_stand_in_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is shown by the end of the first code cell."""
    monkeypatch.delenv("HARRIER_MODEL")
    notebook = read(NOTEBOOKS[0])
    first = code(notebook)[0]
    notebook.cells = [first]
    NotebookClient(notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    [output] = [each for each in first.outputs if each.output_type == "execute_result"]
    assert output.data["text/plain"].startswith('"a stand-in, because the hub cannot be reached')
