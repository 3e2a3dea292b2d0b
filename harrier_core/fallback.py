"""The forward pass through plain `transformers`: for architectures that `decoder` does not know, and its oracle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModel

from harrier_core.checkpoint import refuse_unfit
from harrier_core.device import Placement
from harrier_core.errors import DeviceError, ModelDamaged, ModelUnsupported
from harrier_core.shared import ProcessLock
from harrier_core.token_rows import Row, by_length


class Fallback:
    """A model loaded by transformers. It must not be used by two threads at once."""

    def __init__(self, folder: Path, placement: Placement) -> None:
        self._device = torch.device(placement.device)
        with _loading:
            self._module = _load(folder, getattr(torch, placement.dtype))
        try:
            self._module.to(self._device)
        except torch.OutOfMemoryError:
            raise DeviceError(f"the model of {folder} does not fit in the memory of {self._device}") from None

    @torch.inference_mode()
    def launch(self, rows: Sequence[Row], *, precise: bool = False) -> Callable[[], torch.Tensor]:
        """Return the final hidden state of each row's last token, (rows, dimensions), float32, on the host.

        Texts of one length run together, so without padding and without a mask. That keeps a vector independent of its
        neighbours, and avoids attention kernels that are wrong with masks at lengths 33, 65, 97 (pytorch issue 191937).
        A precise pass computes in float32, with a copy of the model that exists only during the pass.
        """
        module = deepcopy(self._module).float() if precise else self._module
        hidden = torch.empty(0)
        for numbers in by_length(rows):
            ids = torch.tensor([rows[number].ids for number in numbers]).to(self._device)  # (same, tokens)
            states: torch.Tensor = module(input_ids=ids, use_cache=False).last_hidden_state
            if not len(hidden):
                hidden = torch.empty(len(rows), states.shape[-1])
            hidden[numbers] = states[:, -1].float().cpu()  # (same, tokens, dimensions) -> (same, dimensions)
        return lambda: hidden


# One load at a time: while loading, transformers changes the default dtype of the whole process.
_loading = ProcessLock()


def _load(folder: Path, dtype: torch.dtype) -> torch.nn.Module:
    """Return the model of a folder, or raise; by default, transformers fills gaps with random weights and a warning."""
    trusted = {"trust_remote_code": False, "local_files_only": True}
    try:
        config = AutoConfig.from_pretrained(folder, **trusted)
    except Exception as error:  # its validators raise their own kinds of errors
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
            ignore_mismatched_sizes=True,  # they are in the report, which is more precise than the error would be
            output_loading_info=True,
            **trusted,
        )
    except MemoryError:
        raise
    except Exception as error:  # so does each of its layers
        raise ModelDamaged(
            f"the weights of {folder} cannot be loaded: {_first_line(error)}; fetch the model again"
        ) from error
    _check(folder, report)
    module.eval()
    return module  # type: ignore[no-any-return]


def _check(folder: Path, report: Mapping[str, Iterable[Any]]) -> None:
    # transformers 5 reports a mismatch with both shapes, transformers 4 by name only.
    mismatched = [each if isinstance(each, str) else each[0] for each in report["mismatched_keys"]]
    findings = [
        *(f"{key} has another shape" for key in sorted(mismatched)),
        *(f"{key} is missing" for key in sorted(report["missing_keys"])),
    ]
    refuse_unfit(folder, findings, report["unexpected_keys"])


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
