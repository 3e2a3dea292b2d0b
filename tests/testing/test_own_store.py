"""A third-party store needs a protocol, its contract, and an entry point."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import sqlite_store
from sqlite_store import SqliteStore

from harrier_core import SettingError, open_store
from harrier_core.testing import build_model
from harrier_core.testing.contract import StoreContract
from harrier_core.testing.places import NewStore


class TestSqliteStore(StoreContract):
    """Run the whole contract."""

    @pytest.fixture
    def new_store(self, tmp_path: Path) -> NewStore:
        return lambda: SqliteStore(str(tmp_path / "file"))


def test_it_is_small() -> None:
    """The protocol requires only what a store must do."""
    lines = Path(str(sqlite_store.__file__)).read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if line.strip()]) < 100


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an installed distribution that declares the store."""
    site = tmp_path / "site"
    information = site / "sqlite_store-1.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: sqlite-store\nVersion: 1\n", encoding="utf-8")
    declared = "[harrier.stores]\nsqlite = sqlite_store:SqliteStore.of_url\n"
    (information / "entry_points.txt").write_text(declared, encoding="utf-8")
    monkeypatch.syspath_prepend(str(site))
    return site


@pytest.mark.usefixtures("installed")
def test_found_by_its_scheme(tmp_path: Path) -> None:
    """`open_store` finds it through an entry point."""
    store = open_store(f"sqlite:{tmp_path}/file")
    assert isinstance(store, SqliteStore)
    assert store.space() is None


@pytest.mark.slow
def test_found_by_the_command_line(installed: Path, tmp_path: Path) -> None:
    """The command line needs no special support."""
    model = str(build_model(tmp_path / "model", vectors="words"))
    (tmp_path / "notes.txt").write_text("Bread rises because of yeast.", encoding="utf-8")
    paths = [str(installed), str(Path(str(sqlite_store.__file__)).parent), *sys.path]
    run = "import sys; sys.path[:0] = {paths!r}; sys.argv[0] = 'harrier'; from harrier_cli import main; main()"

    def harrier(*arguments: str) -> str:
        command = [sys.executable, "-c", run.format(paths=paths), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path).stdout

    place = f"sqlite:{tmp_path}/file"
    assert "1 chunk written" in harrier("ingest", "notes.txt", "--to", place, "--model", model)
    assert "yeast" in harrier("search", "why does bread rise", "--in", place, "--model", model)
    assert json.loads(harrier("info", place, "--json"))["chunks"] == 1


@pytest.mark.parametrize("url", ["nothing:here", "documents", ""])
def test_an_unknown_scheme(url: str) -> None:
    """The error lists the known schemes, and does not quote the URL."""
    with pytest.raises(SettingError, match="a store's URL must begin with one of pgvector:, postgres:") as caught:
        open_store(url)
    assert not url or url not in str(caught.value)
