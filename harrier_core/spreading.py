"""The division of a model's layers among several devices of one process.

Each device has consecutive layers, so a pass crosses from each device to the next only once. No sum is split, so the
vectors are the same as on one device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import accumulate
from math import prod

from harrier_core.architecture import Architecture, read_architecture
from harrier_core.device import Placement, choose
from harrier_core.errors import DeviceError, ModelUnsupported
from harrier_core.models import Model

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def place(model: Model, device: str | None, dtype: str | None) -> Placement:
    """Return the placement of this model here, or the one asked for, with its layers divided among the devices."""
    placement = choose(model.architecture, device, dtype)
    devices = placement.devices
    if len(devices) == 1:
        return placement
    try:
        architecture = read_architecture(model.config)
    except ModelUnsupported as reason:
        raise DeviceError(
            f"device must be one device for {model.name}, got {device!r}: only the kit's own forward pass runs on "
            f"several, and it does not support this model, because {reason}"
        ) from None
    if len(devices) > len(architecture.layers):
        raise DeviceError(
            f"device must name at most {len(architecture.layers)} devices, one for each layer of {model.name}, "
            f"got {len(devices)}"
        )
    stored = str(model.config.get("dtype") or model.config.get("torch_dtype"))
    layers = divide(weights(architecture, placement.dtype, stored), len(devices))
    ends = list(accumulate(layers))
    lie = [f"{_span(end - number, end - 1)} on {name}" for name, number, end in zip(devices, layers, ends, strict=True)]
    return replace(placement, layers=layers, reason=f"{', '.join(lie)}; {placement.reason}")


def weights(architecture: Architecture, dtype: str, stored: str) -> list[int]:
    """Return how many bytes each layer has on a device; the first counts the embeddings, the last the final norm.

    Embeddings stay in the dtype in which they are stored, if that is smaller.
    """
    sizes = [0] * len(architecture.layers)
    for name, shape in architecture.weight_shapes().items():
        number = name.split(".")[1] if name.startswith("layers.") else -1
        of_table = name.startswith("embed_tokens.")
        each = min(_BYTES[dtype], _BYTES.get(stored, 4)) if of_table else _BYTES[dtype]
        sizes[0 if of_table else int(number)] += each * prod(shape)
    return sizes


def divide(sizes: Sequence[int], parts: int) -> tuple[int, ...]:
    """Return how many consecutive sizes each part has, such that the sums are as equal as they can be.

    They are most equal where the sum of their squares is least.
    """
    until = list(accumulate(sizes, initial=0))

    @cache
    def best(begin: int, parts: int) -> tuple[int, tuple[int, ...]]:
        if parts == 1:
            return (until[-1] - until[begin]) ** 2, (len(sizes) - begin,)
        found = []
        for end in range(begin + 1, len(sizes) - parts + 2):
            squares, rest = best(end, parts - 1)
            found.append(((until[end] - until[begin]) ** 2 + squares, (end - begin, *rest)))
        return min(found)

    return best(0, parts)[1]


def _span(first: int, last: int) -> str:
    return f"layers {first}-{last}" if first < last else f"layer {first}"
