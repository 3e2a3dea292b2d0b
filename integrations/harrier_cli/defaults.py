"""Defaults of options: an environment variable, or a line of the nearest `harrier.toml`.

index = "pgvector:index?table=docs"    # HARRIER_INDEX; a relative folder is relative to the file
model = "harrier-0.6b"                 # HARRIER_MODEL
task = "web_search_query"              # HARRIER_TASK
device = "cuda:1"                      # HARRIER_DEVICE
dtype = "float32"                      # HARRIER_DTYPE
url = "http://gpu-host:8000"           # HARRIER_URL; a server, whose model is used instead of a local one
mode = "hybrid"                        # HARRIER_MODE
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path
from typing import Any, Literal

from harrier_cli.output import tell
from harrier_core import SettingError

Name = Literal["index", "model", "task", "device", "dtype", "mode", "url"]

FILE = "harrier.toml"
NAMES: tuple[Name, ...] = ("index", "model", "task", "device", "dtype", "mode", "url")


class Rank(IntEnum):
    """The place where a setting was found; the first one wins."""

    OPTION = 0
    ENVIRONMENT = 1
    FILE = 2


def variable(name: Name) -> str:
    """Return the name of the environment variable."""
    return f"HARRIER_{name.upper()}"


def setting(name: Name, given: str | None = None) -> str | None:
    """Return the value of the option, or else the environment's, or else the file's; None if none is set.

    An empty option or variable is not a default: it turns the file's off.
    """
    return found(name, given)[0]


def found(name: Name, given: str | None = None) -> tuple[str | None, Rank]:
    """Return the value of `setting`, and where it was found or turned off."""
    if given is not None:
        return given or None, Rank.OPTION
    if (said := os.environ.get(variable(name))) is not None:
        return said or None, Rank.ENVIRONMENT
    file = _nearest(Path.cwd())
    return None if file is None else _read(file).get(name), Rank.FILE


def _nearest(folder: Path) -> Path | None:
    """Return the file in a folder or the nearest one above it, unless another user could have put it there."""
    for each in (folder, *folder.parents):
        file = each / FILE
        if file.is_file():
            if _is_own(file):
                return file
            tell(f"warning: {file} belongs to another user, and is not read")
    return None


def _is_own(file: Path) -> bool:
    return not hasattr(os, "geteuid") or file.stat().st_uid in (0, os.geteuid())


def _read(file: Path) -> dict[str, str]:
    """Return the settings of a file, with absolute folders. Raise SettingError for other settings, or invalid TOML."""
    try:
        settings = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"{file} is not valid TOML: {error}") from None
    except OSError as error:
        raise SettingError(f"{file} cannot be read: {(error.strerror or '').lower()}") from None
    _check(file, settings)
    if "index" in settings:
        settings["index"] = _index_from(file.parent, settings["index"])
    if "model" in settings and (file.parent / settings["model"]).is_dir():
        settings["model"] = str(file.parent / settings["model"])
    return settings


def _check(file: Path, settings: Mapping[str, Any]) -> None:
    for name, value in settings.items():
        if name not in NAMES:
            raise SettingError(f"unknown key {name!r} in {file}; the keys are {', '.join(NAMES)}")
        if not isinstance(value, str) or not value:
            raise SettingError(f"{name} in {file} must be a non-empty string, got {value!r}")


def _index_from(folder: Path, url: str) -> str:
    """Return the URL of an index, with the absolute path if it is in a folder."""
    scheme, colon, rest = url.partition(":")
    if not colon or rest.startswith("//"):
        return url
    path, mark, query = rest.partition("?")
    return f"{scheme}:{folder / Path(path).expanduser()}{mark}{query}"
