"""A model on the hub or in a folder: its shapes, limits, prompts and weights, all read from its own files.

Nothing about a model is written down here but the short names of the three published ones.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from harrier_core.errors import ModelDamaged, ModelNotFound, ModelUnsafe, ModelUnsupported, SettingError
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
# What the hub's client speaks HTTP with, over its releases. It lets their errors through, of a proxy for one.
_HTTP_LIBRARIES = ("requests", "httpx", "httpx2")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")

# Modules of sentence-transformers that this kit does as well: the decoder, its last token, the unit length.
_KNOWN_MODULES = {"Transformer", "Pooling", "Normalize"}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Model:
    """What a model's files say of it, weights apart."""

    name: str
    revision: str | None  # the hub's commit; None for a folder
    folder: Path
    architecture: str
    dimensions: int
    max_tokens: int
    vocabulary: int  # token ids that the weights know
    prompts: Prompts
    pooling: str = "last token"


def open_model(name: str, revision: str | None = None) -> Model:
    """The model of a folder, an alias, or a hub name, fetched as far as its configuration."""
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        if revision is not None:
            raise SettingError(
                f"revision={revision!r} is for a model on the hub, but {name!r} is a folder; leave it out"
            )
        return _read(str(folder), None, folder.resolve())
    name = ALIASES.get(name, name)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ModelNotFound(
            f"{name!r} is not a folder, not a name on the hub (owner/name), and not one of {', '.join(ALIASES)}"
        )
    snapshot = _fetch(name, revision, _TEXT_FILES)
    return _read(name, snapshot.name, snapshot)


def weight_files(model: Model) -> list[Path]:
    """The model's safetensors files, fetched if they are still on the hub."""
    if model.revision is not None:
        _fetch(model.name, model.revision, _WEIGHT_FILES)
    folder = model.folder
    names = ["model.safetensors"]  # which transformers prefers as well, should both be there
    if not (folder / names[0]).is_file() and (folder / _INDEX).is_file():
        names = sorted(set(_get(_read_object(folder, _INDEX), "weight_map", dict, _INDEX, folder).values()))
    missing = [name for name in names if not (folder / name).is_file()]
    if not missing:
        return [folder / name for name in names]
    if any(any(folder.glob(pattern)) for pattern in _PICKLES):
        raise ModelUnsafe(
            f"{model.name} has pickled weights only, and unpickling them may run any code; this kit reads safetensors: "
            "convert the checkpoint with its author's tools, or use another revision"
        )
    raise ModelDamaged(f"{folder} lacks {', '.join(missing)}; fetch the model again")


def _fetch(name: str, revision: str | None, files: list[str]) -> Path:
    """The hub's snapshot folder with these files in it, from the cache where nothing new is to be had."""
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
        raise ModelNotFound(
            f"the hub lets nobody read {name!r} who has not accepted its terms; do so, then log in"
        ) from None
    except RevisionNotFoundError:
        raise ModelNotFound(f"the hub has {name!r}, but no revision {revision!r} of it") from None
    except (RepositoryNotFoundError, HFValidationError):
        raise ModelNotFound(
            f"the hub has no model {name!r} that you may read; short names are {', '.join(ALIASES)}"
        ) from None
    except LocalEntryNotFoundError as error:
        raise _unreachable(name, revision) from error
    except HfHubHTTPError as error:
        raise ModelNotFound(
            f"the hub refuses to give {name!r}: {str(error).splitlines()[0]}; try again later"
        ) from None
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in _HTTP_LIBRARIES:
            raise
        raise _unreachable(name, revision) from error


def _unreachable(name: str, revision: str | None) -> ModelNotFound:
    at = f" at revision {revision!r}" if revision else ""
    return ModelNotFound(
        f"the hub cannot be reached, and {name!r}{at} is not in its cache here; where it can be reached, run "
        f"'hf download {name} --local-dir FOLDER', then give the folder's path as the model"
    )


def _read(name: str, revision: str | None, folder: Path) -> Model:
    config = _read_object(folder, "config.json")
    tokenizer = _read_object(folder, "tokenizer_config.json")
    dimensions = _get(config, "hidden_size", int, "config.json", folder)
    _check_modules(folder, dimensions)
    return Model(
        name=name,
        revision=revision,
        folder=folder,
        architecture=_get(config, "model_type", str, "config.json", folder),
        dimensions=dimensions,
        max_tokens=_max_tokens(folder, config, tokenizer),
        vocabulary=_get(config, "vocab_size", int, "config.json", folder),
        prompts=_prompts(folder),
    )


def _max_tokens(folder: Path, config: Mapping[str, Any], tokenizer: Mapping[str, Any]) -> int:
    """The lowest of the limits that the files name, as sentence-transformers takes it."""
    limits = [
        _get(config, "max_position_embeddings", int, "config.json", folder),
        tokenizer.get("model_max_length"),
        _read_object(folder, "sentence_bert_config.json", required=False).get("max_seq_length"),
    ]
    return min(int(limit) for limit in limits if limit)


def _prompts(folder: Path) -> Prompts:
    file = "config_sentence_transformers.json"
    named: object = _read_object(folder, file, required=False).get("prompts") or {}
    if not isinstance(named, dict) or not all(isinstance(text, str) for text in named.values()):
        raise ModelDamaged(f"'prompts' in {folder / file} is not a mapping from names to strings")
    return Prompts.of(named)


def _check_modules(folder: Path, dimensions: int) -> None:
    """Refuse what this kit would compute otherwise than the model's author."""
    modules: list[dict[str, Any]] = _of_kind(_read_json(folder, "modules.json") or [], list, folder / "modules.json")
    pooling = "1_Pooling"
    for module in modules:
        kind = str(module.get("type")).rsplit(".", 1)[-1]
        if kind not in _KNOWN_MODULES:
            raise ModelUnsupported(f"{folder} puts a {kind} module behind its decoder, which this kit does not compute")
        if kind == "Pooling":
            pooling = str(module.get("path"))
    config = _read_object(folder, f"{pooling}/config.json", required=False)
    modes = _pooling_modes(config)
    if modes and modes != ["lasttoken"]:
        raise ModelUnsupported(f"{folder} pools by {' and '.join(modes)}, but this kit pools by the last token")
    pooled = config.get("embedding_dimension", config.get("word_embedding_dimension", dimensions))
    if pooled != dimensions:
        raise ModelDamaged(f"{folder} pools {pooled} dimensions, but its config.json makes {dimensions}")


def _pooling_modes(config: Mapping[str, Any]) -> list[str]:
    """The pooling modes in either of the two forms that sentence-transformers has written."""
    named = config.get("pooling_mode")
    if named:
        return [named] if isinstance(named, str) else list(named)
    switches = {key: value for key, value in config.items() if key.startswith("pooling_mode_")}
    return [key.removeprefix("pooling_mode_").removesuffix("_token") for key, on in switches.items() if on]


def _read_object(folder: Path, file: str, *, required: bool = True) -> dict[str, Any]:
    content = _read_json(folder, file)
    if content is None and required:
        raise ModelDamaged(f"{folder} lacks {file}; fetch the model again")
    return _of_kind({} if content is None else content, dict, folder / file)


def _read_json(folder: Path, file: str) -> object:
    """What a file holds, or None if it is not there."""
    path = folder / file
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ModelDamaged(f"{path} cannot be read: {error}; fetch the model again") from None


def _of_kind(content: object, kind: type[T], path: Path) -> T:
    if not isinstance(content, kind):
        raise ModelDamaged(f"{path} holds a {type(content).__name__}, not a {kind.__name__}; fetch the model again")
    return content


def _get(content: Mapping[str, Any], key: str, kind: type[T], file: str, folder: Path) -> T:
    value = content.get(key)
    if not isinstance(value, kind):
        raise ModelDamaged(f"{folder / file} says {key} is {value!r}; this kit needs a model that names it")
    return value
