"""The published models: their requirements, and where they would run here. Nothing is fetched."""

from __future__ import annotations

from typing import Any

from harrier_core import Encoder
from harrier_core.extras import require_encoding
from harrier_core.models import ALIASES

# Of the published weights, according to the model cards: dimensions, and billions of parameters. Computations use the
# model's own files.
_CARDS = {"harrier-270m": (640, 0.27), "harrier-0.6b": (1_024, 0.6), "harrier-27b": (5_376, 27.0)}
_BYTES = {"float32": 4, "bfloat16": 2}


def listed(model: str | None) -> list[dict[str, Any]]:
    """Return the three published models, and the named model if it is another one."""
    require_encoding()
    from harrier_core.device import choose, memory_of

    here = choose("")  # what any model would run on
    memory = memory_of(here.device)
    has = None if memory is None else round(memory / 1e9, 1)
    found = [
        {"name": alias, "model": ALIASES[alias], "dimensions": dimensions}
        | {"gigabytes": round(billions * _BYTES[here.dtype], 1), "memory": has}
        | {"fits": has is None or billions * _BYTES[here.dtype] < has}
        | {"device": here.device, "dtype": here.dtype, "reason": here.reason}
        for alias, (dimensions, billions) in _CARDS.items()
    ]
    return found if model is None or model in {*ALIASES, *ALIASES.values()} else [*found, _named(model)]


def _named(model: str) -> dict[str, Any]:
    with Encoder(model) as encoder:
        here = encoder.placement
        return {
            "name": model,
            "model": encoder.space.model,
            "dimensions": encoder.dimensions,
            "gigabytes": None,  # its files are there to be looked at
            "memory": None,
            "fits": True,
            "device": here.device,
            "dtype": here.dtype,
            "reason": here.reason,
        }
