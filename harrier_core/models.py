"""A model on the hub or in a folder: its shapes, limits, prompts and weights, all read from its own files.

Nothing about any model is hard-coded here except the short names of the three published ones.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from harrier_core.errors import ModelDamaged, ModelNotFound, ModelUnsafe, SettingError
from harrier_core.model_files import get, read_object
from harrier_core.purposes import Check, check_embedding
from harrier_core.tasks import Prompts

ALIASES = {f"harrier-{size}": f"microsoft/harrier-oss-v1-{size}" for size in ("270m", "0.6b", "27b")}

_INDEX = "model.safetensors.index.json"
# Two downloads, so that counting tokens or showing a prompt never waits for gigabytes.
_TEXT_FILES = [
    "config.json",
    "config_sentence_transformers.json",
    "modules.json",
    "sentence_bert_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "*_Pooling/config.json",
    _INDEX,
]
_WEIGHT_FILES = ["model*.safetensors"]
# The HTTP libraries that huggingface_hub has used over its releases. It lets their errors through, such as a proxy's.
_HTTP_LIBRARIES = ("requests", "httpx", "httpx2")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


@dataclass(frozen=True, slots=True)
class Model:
    """The contents of a model's files, except the weights."""

    name: str
    revision: str | None  # the hub's commit; None for a folder
    folder: Path
    architecture: str
    dimensions: int
    max_tokens: int
    vocabulary: int  # token ids that have embeddings
    prompts: Prompts
    config: Mapping[str, Any]
    signature: tuple[tuple[str, int, int], ...]  # state of a folder's files; a commit needs none
    pooling: str = "last token"


def open_model(name: str, revision: str | None = None, check: Check = check_embedding) -> Model:
    """Return the model of a folder, an alias, or a hub name, with only its configuration fetched.

    check: refuses a model that was made for another purpose.
    """
    folder = _folder(name)
    if folder is not None:
        if revision is not None:
            raise SettingError(f"revision={revision!r} is for a model on the hub, but {name!r} is a folder; omit it")
        return _read(str(folder.absolute()), None, folder.resolve(), _signature(folder.resolve()), check)
    name = ALIASES.get(name, name)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ModelNotFound(
            f"{name!r} is not a folder, not a name on the hub (owner/name), and not one of {', '.join(ALIASES)}"
        )
    snapshot = _fetch(name, revision, _TEXT_FILES)
    return _read(name, snapshot.name, snapshot, (), check)


def identify(name: str, revision: str | None) -> Hashable:
    """Return what identifies this model at present: its location and, for a folder, the state of its files."""
    folder = _folder(name)
    return (folder.resolve(), _signature(folder.resolve())) if folder else (ALIASES.get(name, name), revision)


def refuse_changed(model: Model) -> None:
    """Raise if a folder's files have changed since the model was opened."""
    if model.revision is None and _signature(model.folder) != model.signature:
        raise ModelDamaged(
            f"the files of {model.folder} have changed since the model was opened; close the Encoders of the old "
            "files and create a new one"
        )


def _folder(name: str) -> Path | None:
    try:
        folder = Path(name).expanduser()
        return folder if name and folder.is_dir() else None
    except (OSError, RuntimeError, ValueError):  # a name that is too long, an unknown user, a NUL
        return None


def _signature(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Return names, sizes and times of the files that a model is read from."""
    files = sorted(path for pattern in ("*.json", "*.safetensors", "*/config.json") for path in folder.glob(pattern))
    return tuple((str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns) for path in files)


def weight_files(model: Model) -> list[Path]:
    """Return the model's safetensors files, fetched if they are still on the hub."""
    if model.revision is not None:
        _fetch(model.name, model.revision, _WEIGHT_FILES)
    folder = model.folder
    names = ["model.safetensors"]  # transformers prefers it too, if both are there
    if not (folder / names[0]).is_file() and (folder / _INDEX).is_file():
        names = sorted(set(map(str, get(read_object(folder, _INDEX), "weight_map", dict, _INDEX, folder).values())))
    missing = [name for name in names if not (folder / name).is_file()]
    if not missing:
        return [folder / name for name in names]
    if _is_pickled(model):
        raise ModelUnsafe(
            f"{model.name} has only pickled weights, which can run arbitrary code; this kit reads safetensors: "
            "convert the checkpoint with its author's tools, or use another revision"
        )
    raise ModelDamaged(f"{folder} lacks {', '.join(missing)}; fetch the model again")


def _is_pickled(model: Model) -> bool:
    """Return whether there are weights that only pickle reads, here or on the hub; those are never fetched."""
    if model.revision is None:
        return any(any(model.folder.glob(pattern)) for pattern in _PICKLES)
    from huggingface_hub import list_repo_files

    try:
        files = list_repo_files(model.name, revision=model.revision)
    except Exception:  # unreachable: all we know is that a file is missing
        return False
    return any(fnmatch(file, pattern) for file in files for pattern in _PICKLES)


def _fetch(name: str, revision: str | None, files: list[str]) -> Path:
    """Return the hub's snapshot folder with these files, from the cache if nothing new is available."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=files))
    except GatedRepoError:
        raise ModelNotFound(f"{name!r} is gated; accept its terms on the hub, then run hf auth login") from None
    except RevisionNotFoundError:
        raise ModelNotFound(f"the hub has {name!r}, but not its revision {revision!r}") from None
    except (RepositoryNotFoundError, HFValidationError):
        raise ModelNotFound(
            f"the hub has no model {name!r} that you may read; the short names are {', '.join(ALIASES)}"
        ) from None
    except LocalEntryNotFoundError as error:
        raise _unreachable(name, revision) from error
    except HfHubHTTPError as error:
        raise ModelNotFound(
            f"the hub refused to serve {name!r}: {str(error).splitlines()[0]}; try again later"
        ) from None
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in _HTTP_LIBRARIES:
            raise
        raise _unreachable(name, revision) from error


def _unreachable(name: str, revision: str | None) -> ModelNotFound:
    at = f" at revision {revision!r}" if revision else ""
    return ModelNotFound(
        f"the hub cannot be reached, and {name!r}{at} is not in the local cache; on a machine that can reach it, "
        f"run 'hf download {name} --local-dir FOLDER', then pass the folder's path as the model"
    )


def _read(
    name: str, revision: str | None, folder: Path, signature: tuple[tuple[str, int, int], ...], check: Check
) -> Model:
    config = read_object(folder, "config.json")
    tokenizer = read_object(folder, "tokenizer_config.json")
    dimensions = get(config, "hidden_size", int, "config.json", folder)
    check(folder, config)
    return Model(
        name=name,
        revision=revision,
        folder=folder,
        architecture=get(config, "model_type", str, "config.json", folder),
        dimensions=dimensions,
        max_tokens=_max_tokens(folder, config, tokenizer),
        vocabulary=get(config, "vocab_size", int, "config.json", folder),
        prompts=_prompts(folder),
        config=config,
        signature=signature,
    )


def _max_tokens(folder: Path, config: Mapping[str, Any], tokenizer: Mapping[str, Any]) -> int:
    """Return the lowest of the limits that the files name, as sentence-transformers does."""
    limits = {
        "max_position_embeddings": get(config, "max_position_embeddings", int, "config.json", folder),
        "model_max_length": tokenizer.get("model_max_length"),
        "max_seq_length": read_object(folder, "sentence_bert_config.json", required=False).get("max_seq_length"),
    }
    for key, limit in limits.items():
        if limit is not None and not (isinstance(limit, int | float) and limit > 0):
            raise ModelDamaged(f"the files of {folder} say {key} is {limit!r}, not a number of tokens")
    return int(min(limit for limit in limits.values() if limit is not None))


def _prompts(folder: Path) -> Prompts:
    file = "config_sentence_transformers.json"
    named: object = read_object(folder, file, required=False).get("prompts") or {}
    if not isinstance(named, dict) or not all(isinstance(text, str) for text in named.values()):
        raise ModelDamaged(f"'prompts' in {folder / file} is not a mapping from names to strings")
    return Prompts.of(named)
