"""The model of the demo: Harrier, or a stand-in if Harrier cannot be fetched."""

from __future__ import annotations

import os
from pathlib import Path

from harrier_core import Encoder, ModelNotFound
from harrier_core.testing import build_model

MODEL = "harrier-270m"
STAND_IN = "stand-in"


def named(model: str | None = None) -> str:
    """Return `model`, else HARRIER_MODEL, else harrier-270m; a folder as an absolute path."""
    name = model or os.environ.get("HARRIER_MODEL") or MODEL
    return str(Path(name).resolve()) if Path(name).is_dir() else name


def open_encoder(folder: str | Path, model: str | None = None) -> tuple[Encoder, str | None]:
    """Return an Encoder of `model`, else of HARRIER_MODEL, else of harrier-270m; or a stand-in, with the reason.

    The stand-in is written into the folder and has to stay there.
    """
    encoder = Encoder(model or os.environ.get("HARRIER_MODEL") or MODEL)
    try:
        _ = encoder.space  # also fetches the weights, which a cache may lack
    except ModelNotFound as error:
        encoder.close()
        return Encoder(build_model(Path(folder) / STAND_IN, "qwen3", vectors="words")), str(error)
    return encoder, None
