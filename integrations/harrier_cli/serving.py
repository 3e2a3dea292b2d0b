"""`harrier serve`: a model, and indexes over it, for programs in any language."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from harrier_cli.encoders import Choice
from harrier_cli.ending import leave_within
from harrier_cli.failures import CANNOT, FINE
from harrier_cli.keys import keys_of
from harrier_cli.options import Device, Dtype, ModelName, NoServer, refuse_server, where_of
from harrier_cli.output import report, tell
from harrier_core import Index, SettingError
from harrier_core.extras import require

_ACCESS = "Access"  # a panel of the help
# Seconds for stores to be closed, for those in folders, whose engines write what is in memory, and for threads to end.
_CLOSING, _WRITING, _LEAVING = 10.0, 60.0, 2.0


def serve(
    *,
    model: ModelName = None,
    device: Device = None,
    dtype: Dtype = None,
    server: NoServer = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the model for clients; its own name by default.")
    ] = None,
    index: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=PLACE", help="An index to search. May be repeated.", show_default=False),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=JSON",
            help="""Restrict an index: 'notes={"public": true}'. No request can override it.""",
            show_default=False,
        ),
    ] = None,
    about: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=SENTENCE", help="Description of an index's texts for assistants (/mcp).", show_default=False
        ),
    ] = None,
    no_page: Annotated[bool, typer.Option("--no-page", help="Do not serve the web page at /.")] = False,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address to bind.", rich_help_panel=_ACCESS)
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="NUMBER", help="0 takes a free one.", rich_help_panel=_ACCESS)] = 8000,
    api_key_file: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="File of keys that clients must send, one per line. Required unless it listens on 127.0.0.1 only.",
            rich_help_panel=_ACCESS,
            show_default=False,
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Accept this Host header.", rich_help_panel=_ACCESS, show_default=False),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN",
            help="Allow pages of this origin, such as https://app.example.",
            rich_help_panel=_ACCESS,
            show_default=False,
        ),
    ] = None,
    allow_instructions: Annotated[
        bool,
        typer.Option("--allow-instructions", help="Accept custom instructions in requests.", rich_help_panel=_ACCESS),
    ] = False,
    allow_ingest: Annotated[
        bool, typer.Option("--allow-ingest", help="Allow requests to write to indexes.", rich_help_panel=_ACCESS)
    ] = False,
) -> None:
    """Serve a model over HTTP, to any number of programs, in any language.

    Clients of OpenAI's API set the role of their texts with the model's name: NAME-query, NAME-document or
    NAME-query-TASK. Clients of Text Embeddings Inference set it with prompt_name. In Python, RemoteEncoder(URL)
    replaces an Encoder.
    """
    refuse_server(server, "it loads the model itself")
    require("harrier serve", "starlette", "uvicorn", "msgspec", "prometheus_client", "pybase64")
    from harrier_server import Settings, create_app
    from harrier_server.app import name_of
    from harrier_server.serving import serve as run
    from harrier_server.serving import share_arenas

    share_arenas()
    keys = [key for file in api_key_file or [] for key in keys_of(file)]
    with ExitStack() as closing:
        encoder = closing.enter_context(Choice(model=model, device=device, dtype=dtype).loaded_here())
        encoder.tasks  # noqa: B018  # looks for the model's files, before clients can connect
        settings = Settings(
            name or name_of(encoder),
            host=host,
            port=port,
            keys=keys,
            hosts=allow_host or (),
            origins=allow_origin or (),
            instructions=allow_instructions,
            ingest=allow_ingest,
            where={called: where_of(said) or {} for called, said in map(_named, where or [])},
            about=dict(map(_named, about or [])),
            page=not no_page,
        )
        indexes = {}
        for each in index or []:
            called, place = _index(each)
            if called in indexes:
                raise SettingError(f"two indexes are named {called!r}")
            indexes[called] = closing.enter_context(Index(place, encoder))
        app = create_app(encoder, settings, indexes=indexes)
        well = run(app, lambda address: report(f"serving {settings.name} at {address}; press Ctrl-C to stop"))
        code = FINE if well else CANNOT
        in_folder = any(getattr(each.store, "folder", None) for each in indexes.values())
        leave_within(_WRITING if in_folder else _CLOSING, CANNOT)
    leave_within(_LEAVING, code)
    if not well:
        raise typer.Exit(CANNOT)
    tell("ended")


def _index(said: str) -> tuple[str, str]:
    """Return the name of an index and its URL."""
    name, equals, place = said.partition("=")
    if not (name.isidentifier() or name.replace("-", "_").isidentifier()) or not equals or not place:
        raise SettingError("--index must be NAME=PLACE, where a name has letters, digits, - and _")
    return name, place


def _named(said: str) -> tuple[str, str]:
    """Return the name of an index, and its value."""
    name, equals, rest = said.partition("=")
    if not equals or not rest.strip():
        raise SettingError(f"--where and --about must begin with NAME=, the name of an --index, got {name[:100]!r}")
    return name, rest
