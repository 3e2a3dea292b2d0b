"""The tensors of a safetensors checkpoint, by name, once all of them are known to be there and to fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from harrier_core.errors import ModelDamaged

# The head that a language model has and an embedding does without.
_SPARE = ("lm_head.weight",)


class Checkpoint:
    """The files of a checkpoint, mapped into memory; a tensor is read when it is asked for."""

    def __init__(self, files: Sequence[Path], shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._folder = files[0].parent
        self._files = {}
        for path in files:
            try:
                file = safe_open(path, framework="pt")
            except (SafetensorError, OSError) as error:
                raise ModelDamaged(f"the weights of {path} cannot be loaded: {error}; fetch the model again") from None
            # Saved from a language model, a decoder's names begin with "model.".
            self._files.update({name.removeprefix("model."): (file, name) for name in file.keys()})  # noqa: SIM118
        self._check(shapes)

    def tensor(self, name: str) -> Tensor:
        """One tensor, in the format it is stored in."""
        file, stored = self._files[name]
        tensor: Tensor = file.get_tensor(stored)
        return tensor

    def _check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        findings = [f"{name} is missing" for name in shapes if name not in self._files]
        findings += [f"nothing needs {name}" for name in self._files if name not in shapes and name not in _SPARE]
        for name in shapes.keys() & self._files.keys():
            file, stored = self._files[name]
            found = file.get_slice(stored).get_shape()
            if tuple(found) != shapes[name]:
                findings.append(f"{name} has shape {found} where {list(shapes[name])} is needed")
        if findings:
            more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
            raise ModelDamaged(
                f"the weights of {self._folder} do not fit its config.json: {min(findings)}{more}; "
                "fetch the model again"
            )
