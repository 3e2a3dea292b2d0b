"""The forward pass: token ids to the last token's hidden state, through plain `transformers`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoModel

from harrier_core.device import Placement
from harrier_core.errors import DeviceError, ModelDamaged

# What a checkpoint may hold beyond the decoder: the language-model head, which embeddings do not need.
_SPARE = ("lm_head.weight",)


class Decoder:
    """A loaded model. It is not for two threads at once."""

    def __init__(self, folder: Path, placement: Placement) -> None:
        self._device = torch.device(placement.device)
        self._module = _load(folder, getattr(torch, placement.dtype))
        try:
            self._module.to(self._device)
        except torch.OutOfMemoryError:
            raise DeviceError(f"the model of {folder} does not fit into the memory of {self._device}") from None

    @torch.inference_mode()
    def last_hidden(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        """The final hidden state of each row's last token, float32, on the host; the rows are equally long.

        Equal lengths need no padding and so no mask. That keeps a vector independent of its neighbours, and out of
        reach of an attention kernel that is wrong with masks at lengths 33, 65, 97 (pytorch issue 191937).
        """
        ids = torch.tensor(rows, dtype=torch.long).to(self._device)  # (rows, tokens)
        hidden = self._module(input_ids=ids, use_cache=False).last_hidden_state  # (rows, tokens, dimensions)
        return hidden[:, -1].float().cpu()  # (rows, dimensions)


def _load(folder: Path, dtype: torch.dtype) -> torch.nn.Module:
    """The model of a folder, or ModelDamaged; transformers alone would fill gaps with random weights."""
    try:
        module, report = AutoModel.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation="sdpa",
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError) as error:
        raise ModelDamaged(f"the weights of {folder} cannot be loaded: {_first_line(error)}") from error
    lacking = sorted(report["missing_keys"])
    if lacking:
        raise ModelDamaged(f"the weights of {folder} lack {len(lacking)} that config.json asks for, as {lacking[0]}")
    unknown = sorted(key for key in report["unexpected_keys"] if key not in _SPARE)
    if unknown:
        raise ModelDamaged(f"the weights of {folder} hold {len(unknown)} that config.json has no use for, as {unknown[0]}")
    module.eval()
    return module


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
