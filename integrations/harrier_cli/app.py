"""The commands. Each translates its arguments to one call of the core, and the answer to text or JSON."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from typing import Annotated, Any

import typer

from harrier_cli import failures, ingesting, syncing
from harrier_cli.ending import terminable
from harrier_cli.options import AsJson, ModelName, encoder_of
from harrier_cli.output import Bar, say, say_json, shortened, shown, tell_each
from harrier_cli.places import FORMS, existing
from harrier_core import Match, SettingError, Task, open_store

_HELP = f"""Search texts by what they mean, with Microsoft's Harrier embedding models.

A PLACE is {FORMS}. A password belongs into PGPASSWORD or ~/.pgpass, Qdrant's key into QDRANT_API_KEY.

Exit codes: 0 fine; 1 done, but something was rejected or is unsound; 2 wrong usage; 3 cannot be done; 130 interrupted;
141 the reader of the output is gone; 143 terminated. HARRIER_DEBUG=1 shows tracebacks.
"""

app = typer.Typer(
    cls=failures.Guarded,
    help=_HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(syncing.app, name="sync")

InPlace = Annotated[str, typer.Option("--in", metavar="PLACE", help="The index.")]
TaskName = Annotated[str | None, typer.Option("--task", help="One of the model's tasks; web_search_query by default.")]
Instruction = Annotated[
    str | None, typer.Option("--instruction", help="A task of your own: what a query looks for, in one sentence.")
]


def main() -> None:
    """Run the command line, and exit with its code."""
    failures.warn_in_a_line()
    with terminable():
        try:
            code = app(prog_name="harrier", standalone_mode=False)
        except (Exception, KeyboardInterrupt) as error:
            code = failures.explain(error)
    sys.exit(code or failures.FINE)


app.command()(ingesting.ingest)


@app.command()
def search(
    *,
    question: Annotated[str, typer.Argument(help="What to look for.")],
    place: InPlace,
    model: ModelName = None,
    k: Annotated[int, typer.Option("-k", help="How many matches.")] = 5,
    task: TaskName = None,
    instruction: Instruction = None,
    where: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="""Conditions on metadata: '{"lang": "fr", "year": {"$gte": 2020}}'."""),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find the texts nearest to a question."""
    chosen, conditions = _task(task, instruction), _where(where)
    with encoder_of(model) as encoder, existing(place, encoder) as index:
        matches = index.search(question, k, conditions, task=chosen)
    if as_json:
        say_json([_as_json(match) for match in matches])
    else:
        for match in matches:
            chunk = f", chunk {match.number}" if match.number else ""
            say(f"{match.score:.3f}  {shown(match.record_id)}{chunk}")
            say(f"       {shortened(match.text, indent=7)}")


def _as_json(match: Match) -> dict[str, Any]:
    names = ("id", "record_id", "number", "score", "text", "metadata", "start", "end")
    return {name: getattr(match, name) for name in names}


@app.command()
def info(*, place: Annotated[str, typer.Argument(metavar="PLACE")], as_json: AsJson = False) -> int:
    """Say what an index holds, and whether it is well; it needs no model."""
    with closing(open_store(place)) as store:
        facts, named = store.describe(), str(store)
    space = facts.space
    if as_json:
        said = {"place": named, "chunks": facts.chunks, "space": json.loads(space.to_json()) if space else None}
        say_json({**said, "indexed": facts.indexed, "bytes": facts.bytes, "health": facts.health})
    else:
        told = {None: "not told", True: "yes", False: "no"}
        size = "not told" if facts.bytes is None else f"{facts.bytes / 1e6:,.1f} MB"
        chunks = "not known" if facts.chunks is None else f"{facts.chunks:,}"
        say(f"place    {named}\nchunks   {chunks}")
        say(f"space    {f'{space}, {space.dimensions} dimensions' if space else 'not known'}")
        say(f"indexed  {told[facts.indexed]}\nsize     {size}\nhealth   {facts.health}")
    return failures.FINE if facts.health == "fine" else failures.UNSOUND


@app.command()
def verify(
    *,
    place: Annotated[str, typer.Argument(metavar="PLACE")],
    model: ModelName = None,
    sample: Annotated[int, typer.Option(help="How many chunks to encode again.")] = 100,
    as_json: AsJson = False,
) -> int:
    """Look at every stored vector, and encode a sample of the texts again; an ingest mends what is wrong."""
    with (
        encoder_of(model) as encoder,
        existing(place, encoder) as index,
        Bar("verifying", index.count()) as bar,
    ):
        report = index.verify(sample, lambda report: bar.advance(report.checked, report.checked, "chunks"))
    if as_json:
        problems = [{"id": name, "problem": problem} for name, problem in report.problems]
        numbers = {"checked": report.checked, "encoded": report.encoded, "least_cosine": report.least_cosine}
        say_json({"sound": report.sound, **numbers, "problems": problems})
    else:
        tell_each("unsound", report.problems)
        say(shown(str(report)))
    return failures.FINE if report.sound else failures.UNSOUND


@app.command()
def delete(
    *,
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Of records.")],
    place: InPlace,
    model: ModelName = None,
    as_json: AsJson = False,
) -> None:
    """Remove records from an index."""
    with encoder_of(model) as encoder, existing(place, encoder) as index:
        deleted = index.delete(ids)
    if as_json:
        say_json({"deleted": deleted})
    else:
        say(f"{deleted:,} chunks deleted")


@app.command()
def models(model: ModelName = None, as_json: AsJson = False) -> None:
    """List the published models, what they need, and what this machine would run them on, and why."""
    from harrier_cli.listing import listed

    found = listed(model)
    if as_json:
        say_json(found)
        return
    for each in found:
        say(f"{each['name']}  ({each['model']})" if each["model"] != each["name"] else each["name"])
        weights = f", {each['gigabytes']:,.1f} GB of weights in {each['dtype']}" if each["gigabytes"] else ""
        say(f"    {each['dimensions']:,} dimensions{weights}")
        say(f"    would run on {each['device']}, {each['dtype']}: {each['reason']}")


@app.command()
def embed(
    *,
    model: ModelName = None,
    query: Annotated[bool, typer.Option("--query", help="The lines are queries, not documents.")] = False,
    task: TaskName = None,
    instruction: Instruction = None,
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="FILE.npy", help="A numpy array, a row for each line, instead."),
    ] = None,
) -> int:
    """Encode the lines of standard input, as JSON lines {"line": 1, "vector": [...]} or to a numpy array.

    A line that cannot be encoded becomes {"line": 1, "error": "..."}; for an array, whose rows are the lines, it is an
    error.
    """
    from harrier_cli.embedding import embed as run

    chosen = _task(task, instruction)
    if chosen is not None and not query:
        raise SettingError("--task and --instruction are of queries, and documents carry none; add --query")
    with encoder_of(model) as encoder:
        rejected = run(encoder, out, queries=query, task=chosen)
    return failures.UNSOUND if rejected else failures.FINE


@app.command()
def prompt(
    *,
    question: Annotated[str, typer.Argument(help="A query.")],
    model: ModelName = None,
    task: TaskName = None,
    instruction: Instruction = None,
    as_json: AsJson = False,
) -> None:
    """Show the exact string that the model reads for a query."""
    with encoder_of(model) as encoder:
        string = encoder.prompt(question, task=_task(task, instruction))
    if as_json:
        say_json({"prompt": string})
    else:
        say(string)


@app.command()
def demo(
    model: ModelName = None,
    server: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="A Postgres, postgresql://..., instead of an embedded one. The demo drops harrier_demo_notes and "
            "harrier_demo_rows there, before it begins and when it ends.",
        ),
    ] = None,
) -> None:
    """Show what the kit does, by running its commands on sample texts. It takes about a minute."""
    from harrier_cli.demo import main as show

    show(model, server)


def _task(name: str | None, instruction: str | None) -> str | Task | None:
    if name is not None and instruction is not None:
        raise SettingError("--task names an instruction, and --instruction is one; give only one of them")
    return name if instruction is None else Task(instruction)


def _where(said: str | None) -> dict[str, Any] | None:
    try:
        where: dict[str, Any] | None = None if said is None else json.loads(said)
    except (ValueError, RecursionError):
        raise SettingError("""--where is no JSON; quote it for the shell, '{"lang": "fr"}'""") from None
    return where
