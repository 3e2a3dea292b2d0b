"""The tensors of a safetensors checkpoint, by name, once they are all known to be present and to fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from harrier_core.errors import ModelDamaged, ModelUnsupported

# The head of a language model, which an embedding model does not need.
_SPARE = frozenset({"lm_head.weight"})


class Checkpoint:
    """The files of a checkpoint, mapped into memory; a tensor is read when it is asked for."""

    def __init__(self, files: Sequence[Path], shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._folder = files[0].parent
        self._files = {name: (file, stored) for name, file, stored in _tensors(files)}
        self._check(shapes)

    def tensor(self, name: str) -> Tensor:
        """Return one tensor, in the dtype in which it is stored."""
        file, stored = self._files[name]
        tensor: Tensor = file.get_tensor(stored)
        return tensor

    def _check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        findings = [f"{name} is missing" for name in shapes if name not in self._files]
        for name in shapes.keys() & self._files.keys():
            file, stored = self._files[name]
            found = file.get_slice(stored).get_shape()
            if tuple(found) != shapes[name]:
                findings.append(f"{name} has shape {found} where {list(shapes[name])} is needed")
        refuse_unfit(self._folder, sorted(findings), self._files.keys() - shapes.keys())


def refuse_unfit(folder: Path, findings: Sequence[str], unknown: Iterable[str]) -> None:
    """Raise if tensors are wrong, as listed in `findings`, or if some are not part of the architecture."""
    if findings:
        more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        raise ModelDamaged(
            f"the weights of {folder} do not fit its config.json: {findings[0]}{more}; fetch the model again"
        )
    if unknown := sorted(set(unknown) - _SPARE):
        raise ModelUnsupported(
            f"the weights of {folder} have tensors that its config.json does not describe, {len(unknown)} in all, such "
            f"as {unknown[0]}; they are of another architecture under the same model_type, which this kit does not "
            "compute"
        )


def read_rows(files: Sequence[Path], name: str, rows: Sequence[int]) -> Tensor | None:
    """Return some rows of one tensor in float32, (rows, columns), or None if the checkpoint does not have it."""
    for found, file, stored in _tensors(files):
        if found == name:
            tensor = file.get_slice(stored)
            if max(rows) >= tensor.get_shape()[0]:
                raise ModelDamaged(f"{name} of {files[0].parent} has no row {max(rows)}; fetch the model again")
            return torch.stack([tensor[row].float() for row in rows])
    return None


def _tensors(files: Sequence[Path]) -> Iterator[tuple[str, Any, str]]:
    """Each tensor's name, its file, and the name that it has there."""
    for path in files:
        try:
            file = safe_open(path, framework="pt")
        except (SafetensorError, OSError) as error:
            raise ModelDamaged(f"the weights of {path} cannot be loaded: {error}; fetch the model again") from None
        for stored in file.keys():  # noqa: SIM118
            # The names of a decoder that was saved from a language model begin with "model.".
            yield stored.removeprefix("model."), file, stored
