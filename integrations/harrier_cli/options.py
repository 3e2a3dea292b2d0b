"""Options that several commands share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from harrier_cli.defaults import FILE, setting, variable
from harrier_core import SettingError, Task

MODEL, QUERY, OUTPUT = "Model", "Query", "Output"  # panels of the help

InPlace = Annotated[
    str | None, typer.Option("--in", metavar="PLACE", help="The index (HARRIER_INDEX).", show_default=False)
]
Place = Annotated[str | None, typer.Argument(metavar="PLACE", help="The index (HARRIER_INDEX).", show_default=False)]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help="harrier-270m, harrier-0.6b, harrier-27b, a hub name, or a folder (HARRIER_MODEL).",
        rich_help_panel=MODEL,
    ),
]
Server = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="URL",
        help="Use the model of a 'harrier serve', and load none; --model is its name there (HARRIER_URL).",
        rich_help_panel=MODEL,
    ),
]
ApiKeyFile = Annotated[
    Path | None,
    typer.Option(
        "--api-key-file",
        metavar="FILE",
        help="A file whose first line is the server's key; default: HARRIER_API_KEY.",
        rich_help_panel=MODEL,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="cpu, cuda, cuda:1, mps ...; cuda:0,cuda:1 spreads one model over both (HARRIER_DEVICE).",
        rich_help_panel=MODEL,
    ),
]
Dtype = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="float32, bfloat16 or float16 (HARRIER_DTYPE).", rich_help_panel=MODEL),
]
TaskName = Annotated[
    str | None,
    typer.Option(
        "--task",
        metavar="NAME",
        help="One of the model's tasks, web_search_query by default (HARRIER_TASK).",
        rich_help_panel=MODEL,
    ),
]
Instruction = Annotated[
    str | None,
    typer.Option(
        "--instruction",
        metavar="SENTENCE",
        help="Your own task, in one sentence: what a query looks for.",
        rich_help_panel=MODEL,
    ),
]
NoServer = Annotated[str | None, typer.Option("--server", metavar="URL", hidden=True)]
WhereJson = Annotated[
    str | None,
    typer.Option("--where", metavar="JSON", help="""Conditions on metadata: '{"year": {"$gte": 2020}}'."""),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="N", help="Number of processes that encode and write: one per GPU, or any number on CPUs."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.", rich_help_panel=OUTPUT)]

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]


def place_of(given: str | None, option: str) -> str:
    """Return the URL of the chosen index. option: the command's name for it."""
    place = setting("index", given)
    if place is None:
        raise SettingError(f"no index is given; pass {option}, set {variable('index')}, or name it in {FILE}")
    return place


def task_of(name: str | None, instruction: str | None) -> str | Task | None:
    """Return the chosen task: an option, or the default; None stands for the model's own."""
    if name is not None and instruction is not None:
        raise SettingError("--task and --instruction exclude each other; give only one of them")
    return setting("task", name) if instruction is None else Task(instruction)


def refuse_server(given: str | None, why: str) -> None:
    """Raise SettingError if a command that cannot use a server was given one."""
    if given is not None:
        raise SettingError(f"--server cannot be used with this command: {why}")


def where_of(said: str | None) -> dict[str, Any] | None:
    """Return the conditions that were given as JSON."""
    try:
        where: dict[str, Any] | None = None if said is None else json.loads(said)
    except (ValueError, RecursionError):
        raise SettingError("""--where is not JSON; quote it for the shell, '{"lang": "fr"}'""") from None
    return where
