"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from harrier_core import Encoder, SettingError

ModelName = Annotated[
    str | None,
    typer.Option(
        "--model", envvar="HARRIER_MODEL", help="harrier-270m, harrier-0.6b, harrier-27b, a hub name, or a folder."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of text.")]


def encoder_of(model: str | None) -> Encoder:
    """The one that is named; there is none by default."""
    if not model:
        raise SettingError("no model is named; give --model, such as harrier-0.6b, or set HARRIER_MODEL")
    return Encoder(model)
