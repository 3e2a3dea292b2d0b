"""The JSON files of a model's folder, read and checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from harrier_core.errors import ModelDamaged

T = TypeVar("T")


def read_object(folder: Path, file: str, *, required: bool = True) -> dict[str, Any]:
    """Return the object in a file, or an empty one if the file is absent and not required."""
    content = read_json(folder, file)
    if content is None and required:
        raise ModelDamaged(f"{folder} lacks {file}; fetch the model again")
    return of_kind({} if content is None else content, dict, folder / file)


def read_json(folder: Path, file: str) -> object:
    """Return the content of a file, or None if it is absent."""
    path = folder / file
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ModelDamaged(f"{path} cannot be read: {error}; fetch the model again") from None


def of_kind(content: object, kind: type[T], path: Path) -> T:
    """Return the content of a file, which must be of this kind."""
    if not isinstance(content, kind):
        raise ModelDamaged(f"{path} holds a {type(content).__name__}, not a {kind.__name__}; fetch the model again")
    return content


def get(content: Mapping[str, Any], key: str, kind: type[T], file: str, folder: Path) -> T:
    """Return an object's value for a key, which must be of this kind."""
    value = content.get(key)
    if not isinstance(value, kind):
        raise ModelDamaged(f"{key} in {folder / file} is {value!r}, which this kit cannot use; fetch the model again")
    return value
