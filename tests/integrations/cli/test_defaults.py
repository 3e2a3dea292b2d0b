"""An option overrides the environment, which overrides the nearest `harrier.toml`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from harrier_cli.defaults import NAMES, setting, variable
from harrier_cli.encoders import Choice

from harrier_core import DeviceError, SettingError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change into a folder, and unset all variables."""
    for name in NAMES:
        monkeypatch.delenv(variable(name), raising=False)
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    return tmp_path


def write(folder: Path, text: str) -> None:
    (folder / "harrier.toml").write_text(text, encoding="utf-8")


def test_precedence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert setting("model") is None
    write(folder, 'model = "of the file"\ntask = "t"\n')
    assert (setting("model"), setting("task"), setting("device")) == ("of the file", "t", None)
    monkeypatch.setenv("HARRIER_MODEL", "of the environment")
    assert setting("model") == "of the environment"
    assert setting("model", "of the option") == "of the option"
    assert setting("model", "") is None
    monkeypatch.setenv("HARRIER_MODEL", "")
    assert setting("model") is None


def test_only_the_nearest_file_counts(folder: Path) -> None:
    write(folder, 'model = "far"\ndtype = "float32"\n')
    write(folder / "a", 'model = "near"\n')
    assert (setting("model"), setting("dtype")) == ("near", None)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("pgvector:index?table=docs", "pgvector:{}/index?table=docs"),
        ("qdrant:.", "qdrant:{}"),
        ("qdrant:/srv/index", "qdrant:/srv/index"),
        ("postgresql://me@host/db?table=docs", "postgresql://me@host/db?table=docs"),
        ("qdrant://host/docs", "qdrant://host/docs"),
        ("nonsense", "nonsense"),
    ],
)
def test_folders_are_relative_to_the_file(folder: Path, given: str, meant: str) -> None:
    write(folder, f'index = "{given}"\n')
    assert setting("index") == meant.format(folder)


def test_a_model_in_a_relative_folder(folder: Path) -> None:
    (folder / "tiny").mkdir()
    write(folder, 'model = "tiny"\n')
    assert setting("model") == str(folder / "tiny")


def test_several_devices(folder: Path, built: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """An option, the environment and the file accept them, as Python does."""
    model = str(built())
    write(folder, 'device = "cpu:0, cpu:1"\n')
    with Choice(model=model).loaded_here() as encoder:
        assert encoder.placement.devices == ("cpu:0", "cpu:1")
    monkeypatch.setenv("HARRIER_DEVICE", "cpu:1,cpu:2")
    with Choice(model=model).loaded_here() as encoder:
        assert encoder.placement.devices == ("cpu:1", "cpu:2")
    with Choice(model=model, device="cpu:2,cpu:0").loaded_here() as encoder:
        assert encoder.placement.devices == ("cpu:2", "cpu:0")
    with (
        Choice(model=model, device="cpu:0,cuda:0").loaded_here() as encoder,
        pytest.raises(DeviceError, match="device must name devices of one kind"),
    ):
        encoder.encode_documents(["a"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('modle = "x"', "unknown key 'modle' in .*harrier.toml; the keys are index, model, task, device, dtype"),
        ("model = 3", "model in .* must be a non-empty string, got 3"),
        ('model = ""', "must be a non-empty string"),
        ("model", "is not valid TOML"),
        ("[search]\nk = 3\n", "unknown key 'search'"),
    ],
)
def test_an_invalid_file(folder: Path, text: str, said: str) -> None:
    write(folder, text)
    with pytest.raises(SettingError, match=said):
        setting("model")


def test_a_file_of_another_user(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is not read, because it could send queries elsewhere, and this is reported."""
    write(folder, 'model = "theirs"\n')
    if os.geteuid() == 0:
        os.chown(folder / "harrier.toml", 2, -1)
    else:  # only root can change the owner of a file, so pretend to be another user
        monkeypatch.setattr("os.geteuid", lambda: 2**31 - 1)
    assert setting("model") is None
    assert "belongs to another user" in capsys.readouterr().err
