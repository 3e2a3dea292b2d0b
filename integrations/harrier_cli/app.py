"""The commands, and what they share. Each translates its arguments into calls of the core."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from harrier_cli import (
    assisting,
    copying,
    describing,
    evaluating,
    failures,
    ingesting,
    reembedding,
    removing,
    searching,
    serving,
    syncing,
    volume,
    wording,
)
from harrier_cli.command import Command, Guarded, examples
from harrier_cli.encoders import Choice, check_task
from harrier_cli.ending import terminable
from harrier_cli.options import (
    ApiKeyFile,
    AsJson,
    Device,
    Dtype,
    Instruction,
    ModelName,
    NoServer,
    Server,
    TaskName,
    refuse_server,
    task_of,
)
from harrier_cli.output import say, say_json
from harrier_cli.places import FORMS
from harrier_core import SettingError

_HELP = f"""Search texts by meaning, with Microsoft's Harrier embedding models.

A PLACE is {FORMS}. A password belongs in PGPASSWORD or ~/.pgpass, Qdrant's key in QDRANT_API_KEY.

Defaults are HARRIER_INDEX, HARRIER_MODEL, HARRIER_TASK, HARRIER_DEVICE, HARRIER_DTYPE, HARRIER_MODE and HARRIER_URL, or
the keys index, model, task, device, dtype, mode and url in harrier.toml, in the current folder or the nearest one above
it. With --server, HARRIER_URL or url, the model is one that 'harrier serve' has loaded; its key is in HARRIER_API_KEY.

Exit codes: 0 success; 1 nothing found, or something was rejected, is unsound or is not good enough; 2 usage error; 3
failure; 130 interrupted; 141 broken pipe; 143 terminated. HARRIER_DEBUG=1 shows tracebacks.
"""

app = typer.Typer(
    cls=Guarded,
    help=_HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line, and exit with its code."""
    failures.warn_in_a_line()
    volume.reset()
    with terminable():
        try:
            code = app(prog_name="harrier", standalone_mode=False)
            sys.stdout.flush()
        except SystemExit as end:  # Rich, which prints the help, exits with 1 if its reader is gone
            code = end.code and failures.READER_GONE
        except (Exception, KeyboardInterrupt) as error:
            code = failures.explain(error)
    sys.exit(code or failures.FINE)


def _print_version(value: bool) -> None:
    if value:
        from harrier_core import __version__

        say(f"harrier-kit {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", "-V", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Take the options that stand before a command."""


def embed(
    *,
    query: Annotated[bool, typer.Option("--query", help="Encode the lines as queries, not as documents.")] = False,
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="FILE.npy", help="Write a NumPy array instead, with one row per line."),
    ] = None,
    model: ModelName = None,
    task: TaskName = None,
    instruction: Instruction = None,
    server: Server = None,
    api_key_file: ApiKeyFile = None,
    device: Device = None,
    dtype: Dtype = None,
) -> int:
    """Encode the lines of standard input, as JSON lines {"line": 1, "vector": ...} or to a numpy array.

    A line that cannot be encoded becomes {"line": 1, "error": "..."}; for an array, whose rows are the lines, it is an
    error.
    """
    from harrier_cli.embedding import embed as run

    if (task or instruction) and not query:
        raise SettingError("--task and --instruction apply to queries, and documents carry none; add --query")
    chosen = task_of(task, instruction) if query else None
    choice = Choice(model=model, server=server, api_key_file=api_key_file, device=device, dtype=dtype)
    with choice.encoder() as encoder:
        check_task(encoder, chosen)
        rejected = run(encoder, out, queries=query, task=chosen)
    return failures.UNSOUND if rejected else failures.FINE


def prompt(
    *,
    question: Annotated[str, typer.Argument(metavar="QUERY", help="A query.")],
    model: ModelName = None,
    task: TaskName = None,
    instruction: Instruction = None,
    server: Server = None,
    api_key_file: ApiKeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Show the exact string that the model reads for a query."""
    chosen = task_of(task, instruction)
    with Choice(model=model, server=server, api_key_file=api_key_file).encoder() as encoder:
        check_task(encoder, chosen)
        string = encoder.prompt(question, task=chosen)
    if as_json:
        say_json({"prompt": string})
    else:
        say(string)


def demo(
    model: ModelName = None,
    postgres: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="A Postgres server, postgresql://..., instead of an embedded one. The demo drops harrier_demo_notes "
            "and harrier_demo_rows there, before it begins and when it ends.",
        ),
    ] = None,
    server: NoServer = None,
) -> None:
    """Show what the kit does, by running its commands on sample texts. It takes about a minute."""
    from harrier_cli.demo import main as show

    refuse_server(server, "it loads its own models, to show a refusal; --postgres names a server")
    show(model, postgres)


_DAILY, _ADMIN, _MORE = "Every day", "Indexes", "Models"
_EXAMPLES = {
    "ingest": (
        "harrier ingest notes/ --to 'pgvector:index?table=notes'",
        "harrier ingest docs/ --to qdrant:index --keywords",
        "harrier ingest docs/ --prune --dry-run",
        "harrier ingest --from postgresql://me@host/shop --table products --id sku",
        "harrier ingest --ray auto s3://bucket/docs --include '*.parquet' --to postgresql://me@host/db?table=docs",
    ),
    "search": (
        "harrier search \"how do vaccines work\" --in 'pgvector:index?table=notes'",
        "harrier search ERR_CONN_1042 --mode hybrid",
        'harrier search yeast -k 3 -C 1 --where \'{"format": "pdf"}\'',
        "harrier search --json < questions.txt > answers.jsonl",
        "harrier search yeast --server http://gpu-host:8000",
    ),
    "info": ("harrier info 'pgvector:index?table=notes'",),
    "ls": ("harrier ls pgvector:index", "harrier ls postgresql://me@host/db"),
    "verify": ("harrier verify 'pgvector:index?table=notes' --sample 500",),
    "eval": (
        "harrier eval 'pgvector:index?table=notes' --make-questions --judgements questions.jsonl",
        "harrier eval 'pgvector:index?table=notes' --judgements questions.jsonl --compare no-instruction",
        "harrier eval --judgements beir/scifact --compare exact --report report.html",
        "harrier eval --judgements questions.jsonl --json --baseline last.json --fail-below ndcg@10=0.5 > now.json",
    ),
    "keywords": (
        "harrier keywords 'pgvector:index?table=notes'",
        "harrier keywords postgresql://me@host/db?table=docs",
    ),
    "copy": (
        "harrier copy 'pgvector:index?table=docs' postgresql://me@host/db?table=docs",
        "harrier copy qdrant:index 'pgvector:index?table=docs&precision=float16' --plan",
        "harrier copy qdrant:index docs.parquet; harrier copy docs.parquet qdrant://host:6334/docs",
    ),
    "reembed": (
        "harrier reembed 'pgvector:index?table=docs' --model harrier-0.6b --plan",
        "harrier reembed postgresql://me@host/db?table=docs --model harrier-0.6b --rate 50",
        "harrier reembed postgresql://me@host/db?table=docs --model harrier-0.6b --check --judgements questions.jsonl",
        "harrier reembed postgresql://me@host/db?table=docs --model harrier-0.6b --switch",
        "harrier reembed postgresql://me@host/db?table=docs --back",
    ),
    "delete": (
        "harrier delete notes/old.md SKU-7",
        'harrier delete --where \'{"harrier_source": "notes"}\'',
        "harrier delete --all --in qdrant:index",
    ),
    "drop": ("harrier drop 'pgvector:index?table=notes'",),
    "models": ("harrier models", "harrier models --model ./my-fine-tune"),
    "serve": (
        "harrier serve --model harrier-270m",
        "harrier serve --model harrier-270m --index 'notes=pgvector:index?table=notes'",
        "harrier serve --model harrier-270m --host 0.0.0.0 --api-key-file keys",
    ),
    "mcp": (
        "harrier mcp 'pgvector:/home/me/index?table=notes' --about 'my notes'",
        "harrier mcp postgresql://me@host/db?table=docs --where '{\"public\": true}'",
        "claude mcp add notes -- harrier mcp 'pgvector:/home/me/index?table=notes'",
    ),
    "embed": ("harrier embed --query < questions.txt > vectors.jsonl", "harrier embed --out rows.npy < texts.txt"),
    "prompt": ('harrier prompt "how do vaccines work" --task sts_query',),
    "demo": ("harrier demo",),
}

_NAMES = {"evaluate": "eval"}  # of commands whose names differ from their functions'


def _add() -> None:
    panels = {
        _DAILY: (ingesting.ingest, searching.search),
        _ADMIN: (
            describing.info,
            describing.ls,
            describing.verify,
            evaluating.evaluate,
            wording.keywords,
            copying.copy,
            reembedding.reembed,
            removing.delete,
            removing.drop,
        ),
        _MORE: (serving.serve, assisting.mcp, describing.models, prompt, embed, demo),
    }
    for panel, commands in panels.items():
        for command in commands:
            name = _NAMES.get(command.__name__, command.__name__)
            app.command(name, cls=Command, epilog=examples(*_EXAMPLES[name]), rich_help_panel=panel)(command)
    app.add_typer(syncing.app, name="sync", rich_help_panel=_ADMIN)


_add()
