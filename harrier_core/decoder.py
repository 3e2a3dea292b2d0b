"""The forward pass: token ids to the last token's hidden state, through plain `transformers`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel

from harrier_core.device import Placement
from harrier_core.errors import DeviceError, ModelDamaged, ModelUnsupported

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
        hidden: torch.Tensor = self._module(input_ids=ids, use_cache=False).last_hidden_state
        return hidden[:, -1].float().cpu()  # (rows, tokens, dimensions) -> (rows, dimensions)


def _load(folder: Path, dtype: torch.dtype) -> torch.nn.Module:
    """The model of a folder, or an error; left to itself, transformers fills gaps with random weights and a warning."""
    trusted = {"trust_remote_code": False, "local_files_only": True}
    try:
        config = AutoConfig.from_pretrained(folder, **trusted)
    except (ValueError, KeyError, TypeError) as error:
        raise ModelUnsupported(
            f"transformers {transformers.__version__} cannot read config.json of {folder}: {_first_line(error)}"
        ) from error
    try:
        module, report = AutoModel.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            attn_implementation="sdpa",
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # they are in the report, which says more than the error would
            output_loading_info=True,
            **trusted,
        )
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError) as error:
        raise ModelDamaged(
            f"the weights of {folder} cannot be loaded: {_first_line(error)}; fetch the model again"
        ) from error
    _check(folder, report)
    module.eval()
    return module  # type: ignore[no-any-return]


def _check(folder: Path, report: Mapping[str, Iterable[Any]]) -> None:
    # transformers 5 reports a mismatch with both shapes, transformers 4 as a name.
    mismatched = [each if isinstance(each, str) else each[0] for each in report["mismatched_keys"]]
    findings = [
        *(f"{key} has another shape" for key in sorted(mismatched)),
        *(f"{key} is missing" for key in sorted(report["missing_keys"])),
        *(f"nothing needs {key}" for key in sorted(report["unexpected_keys"]) if key not in _SPARE),
    ]
    if findings:
        more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        raise ModelDamaged(
            f"the weights of {folder} do not fit its config.json: {findings[0]}{more}; fetch the model again"
        )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
