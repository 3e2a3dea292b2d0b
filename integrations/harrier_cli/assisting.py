"""`harrier mcp`: an index for editors and assistants, over the Model Context Protocol."""

from __future__ import annotations

import re
from contextlib import ExitStack
from typing import Annotated

import typer

from harrier_cli.defaults import setting
from harrier_cli.encoders import Choice
from harrier_cli.options import (
    ApiKeyFile,
    Device,
    Dtype,
    Instruction,
    ModelName,
    Place,
    Server,
    TaskName,
    WhereJson,
    place_of,
    task_of,
    where_of,
)
from harrier_cli.places import existing
from harrier_cli.progress import waiting
from harrier_core import Chunking, Encoder, Index
from harrier_core.extras import require

_ACCESS = "Access"  # a panel of the help
_CHUNK_TOKENS = 512  # of added records, as in an ingest


def mcp(
    *,
    place: Place = None,
    about: Annotated[
        str | None,
        typer.Option(
            metavar="SENTENCE", help="Description of the texts for the assistant: 'the handbook of our company'."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Prefix of the URLs of records; the index's by default.")
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(metavar="MODE", help="Default mode of searches: dense, keyword or hybrid (HARRIER_MODE)."),
    ] = None,
    where: WhereJson = None,
    allow_writing: Annotated[
        bool,
        typer.Option("--allow-writing", help="Allow the assistant to add and delete records.", rich_help_panel=_ACCESS),
    ] = False,
    model: ModelName = None,
    task: TaskName = None,
    instruction: Instruction = None,
    server: Server = None,
    api_key_file: ApiKeyFile = None,
    device: Device = None,
    dtype: Dtype = None,
) -> None:
    """Let an assistant search an index, read on, and cite what it finds.

    Editors and desktop assistants start this command, and speak the Model Context Protocol with it over standard input
    and output. They get the tools search and fetch, and each record as a resource. They read only what meets --where,
    and write nothing without --allow-writing.

    An index in a folder is searched with the model that made it; with --server, several editors share one. Assistants
    start commands in a working directory that they choose, so give the folder of an index as an absolute path.
    """
    require("harrier mcp", "mcp")
    from harrier_mcp import Settings, create_server, run
    from harrier_mcp.stdio import check, warm

    url = place_of(place, "a PLACE")
    settings = Settings(
        name=name or _name(url),
        about=about,
        where=where_of(where),
        mode=setting("mode", mode) or "dense",  # type: ignore[arg-type]  # Settings checks it
        task=task_of(task, instruction),
        writing=allow_writing,
        local=True,
    )
    choice = Choice(model=model, server=server, api_key_file=api_key_file, device=device, dtype=dtype)
    with ExitStack() as stack:
        with waiting("opening the index"):
            found, encoder = stack.enter_context(existing(url, choice))
        index = Index(found.store, encoder, chunking=Chunking(tokens=_CHUNK_TOKENS)) if allow_writing else found
        assistants = create_server(index, settings)
        check(index, settings.mode)
        warm(index, waiting(f"loading {encoder.name}") if isinstance(encoder, Encoder) else None)
        run(assistants)


def _name(url: str) -> str:
    """Return the name of a table, a collection or a folder, as far as it may appear in an address."""
    path, _, query = url.partition("?")
    named = re.search(r"(?:^|&)(?:table|collection)=([^&]+)", query)
    last = named[1] if named else path.rstrip("/").rpartition("/")[2].rpartition(":")[2]
    return re.sub(r"[^A-Za-z0-9_-]+", "-", last).strip("-_")[:63] or "index"
