"""Short identifiers of a model, computed from its files: equal for a copy, different for a fine-tune.

They tell checkpoints apart. They are no protection against deliberate forgery, since they read samples.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from harrier_core.architecture import read_architecture
from harrier_core.errors import ModelDamaged, ModelUnsupported

# Four samples per tensor: training changes every value, and 54 GB become 3 MB of reading.
_SAMPLES = 4
_SAMPLE_BYTES = 1024
_LENGTH = 32  # hexadecimal digits: 128 bits
_MAX_HEADER = 100_000_000  # safetensors' own limit

# A tokenizer file keeps its last padding and truncation settings, and saving it changes them.
_RUNTIME_KEYS = ("version", "truncation", "padding")
_BOOKKEEPING = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "use_cache")


def weights_digest(files: Iterable[Path], config: Mapping[str, Any]) -> str:
    """Return a digest of all tensors by name, however split into files, and of how config.json computes with them."""
    tensors: dict[str, bytes] = {"config": _config_digest(config)}
    for file in files:
        with file.open("rb") as stream:
            tensors.update(_tensor_digests(file, stream))
    return hashlib.sha256(b"".join(name.encode() + tensors[name] for name in sorted(tensors))).hexdigest()[:_LENGTH]


def tokenizer_digest(file: Path, frame: tuple[list[int], list[int]]) -> str:
    """Return a digest of what turns text into ids, however the file is laid out, and of the ids around every text."""
    content = json.loads(file.read_text(encoding="utf-8"))
    kept = {key: value for key, value in content.items() if key not in _RUNTIME_KEYS}
    # Releases write merges as pairs or as strings, and an absent value as null or "".
    merges = [merge.split(" ", 1) if isinstance(merge, str) else merge for merge in content["model"].get("merges", [])]
    model = {key: value for key, value in content["model"].items() if value not in (None, "")}
    kept["model"] = {**model, "merges": merges, "frame": frame}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:_LENGTH]


def _config_digest(config: Mapping[str, Any]) -> bytes:
    """Return a digest of what the config says about the forward pass: parsed if we know it, or else verbatim."""
    try:
        said = repr(read_architecture(config))
    except ModelUnsupported:
        said = json.dumps({key: value for key, value in config.items() if key not in _BOOKKEEPING}, sort_keys=True)
    return hashlib.sha256(said.encode()).digest()


def _tensor_digests(file: Path, stream: BinaryIO) -> Iterable[tuple[str, bytes]]:
    size = file.stat().st_size
    length = int.from_bytes(stream.read(8), "little")
    if length > _MAX_HEADER:
        raise _not_whole(file, "no header")
    try:
        header = json.loads(stream.read(length))
        header.pop("__metadata__", None)
        promised = 8 + length + max((info["data_offsets"][1] for info in header.values()), default=0)
        if size != promised:
            raise _not_whole(file, f"it has {size} bytes, but its header promises {promised}")
        return [(name, _tensor_digest(stream, 8 + length, info)) for name, info in header.items()]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OSError) as error:
        raise _not_whole(file, f"its header cannot be read, {type(error).__name__}") from None


def _not_whole(file: Path, reason: str) -> ModelDamaged:
    return ModelDamaged(f"{file} is not a complete safetensors file: {reason}; fetch the model again")


def _tensor_digest(stream: BinaryIO, data: int, info: dict[str, Any]) -> bytes:
    begin, end = info["data_offsets"]
    digest = hashlib.sha256(f"{info['dtype']} {info['shape']} ".encode())
    whole = end - begin <= _SAMPLES * _SAMPLE_BYTES
    step = (end - begin - _SAMPLE_BYTES) // (_SAMPLES - 1)
    for sample in range(1 if whole else _SAMPLES):
        stream.seek(data + begin + sample * step)
        digest.update(stream.read(end - begin if whole else _SAMPLE_BYTES))
    return digest.digest()
