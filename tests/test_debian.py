"""Debian's PostgreSQL servers for tests."""

from __future__ import annotations

import re
from pathlib import Path

import debian
import pytest

ROOT = Path(__file__).parents[1]


def test_every_version_that_is_tested_has_a_release() -> None:
    """None is newer than Debian stable."""
    [versions] = re.findall(r"^POSTGRES \?= (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert versions.split()
    assert set(versions.split()) <= set(debian.RELEASES)


def test_a_machine_without_apt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message says what is missing, and the exit code tells CI."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert debian.main("--reachable") == 1
    assert capsys.readouterr().err == "Debian's PostgreSQL: there is no apt-get on this machine\n"
