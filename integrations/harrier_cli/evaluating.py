"""`harrier eval`: how well an index answers questions, whether something else does better, and a gate for releases."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harrier_cli import failures
from harrier_cli.encoders import Choice, check_task
from harrier_cli.options import (
    OUTPUT,
    QUERY,
    ApiKeyFile,
    AsJson,
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
from harrier_cli.output import complain, say, shown, tell
from harrier_cli.places import contents_of, existing
from harrier_cli.progress import Bar
from harrier_cli.searching import mode_of
from harrier_core import Index, SettingError
from harrier_core.plurals import counted

if TYPE_CHECKING:
    from harrier_core.evaluation import Report

_GATE = "Gate"  # a panel of the help
_QUESTIONS = 200  # the default number of generated questions


def evaluate(
    *,
    place: Place = None,
    judgements: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Questions and the records that answer them: a folder in BEIR or TREC format, or a file of JSON "
            'lines {"question": ..., "answers": [...]}.',
        ),
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SYSTEM",
            help="Also measure; may be repeated: no-instruction, tasks, a task's name, dense, keyword, hybrid, "
            "exact, or settings: mode=hybrid,ef=200, instruction=SENTENCE, model=NAME,index=PLACE, run=FILE.",
            show_default=False,
        ),
    ] = None,
    cutoffs: Annotated[str, typer.Option("-k", metavar="N,N", help="Cut-offs of the metrics.")] = "1,10,100",
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The metric that decides: ndcg, mrr, map, recall or success, such as mrr@10. By default ndcg@10.",
        ),
    ] = None,
    slices: Annotated[
        list[str] | None,
        typer.Option("--slice", metavar="FIELD", help="Split the questions by a metadata field.", show_default=False),
    ] = None,
    where: WhereJson = None,
    mode: Annotated[
        str | None,
        typer.Option(metavar="MODE", help="dense, keyword or hybrid (HARRIER_MODE).", rich_help_panel=QUERY),
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Compare all chunks.", rich_help_panel=QUERY)] = False,
    ef: Annotated[
        int | None,
        typer.Option(metavar="N", help="Number of candidates of the HNSW index.", rich_help_panel=QUERY),
    ] = None,
    fail_below: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC=VALUE",
            help="Exit with 1 if a metric is below a value, such as ndcg@10=0.5.",
            rich_help_panel=_GATE,
            show_default=False,
        ),
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The --json output of an earlier run; exit with 1 if a metric is significantly worse.",
            rich_help_panel=_GATE,
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Write an HTML report with plots and texts.", rich_help_panel=OUTPUT),
    ] = None,
    runs: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write the results of each system in TREC format.", rich_help_panel=OUTPUT),
    ] = None,
    aggregate_only: Annotated[
        bool,
        typer.Option(
            "--aggregate-only",
            help="Omit texts and ids of questions and records from --report and --json.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    as_json: AsJson = False,
    make_questions: Annotated[
        bool,
        typer.Option(
            "--make-questions",
            help="Create questions from the records of the index instead, as a start. They are written to "
            "--judgements, a new .jsonl file, or to standard output, for you to read and correct.",
        ),
    ] = False,
    number: Annotated[int, typer.Option("--questions", metavar="N", help="How many to create.")] = _QUESTIONS,
    model: ModelName = None,
    task: TaskName = None,
    instruction: Instruction = None,
    server: Server = None,
    api_key_file: ApiKeyFile = None,
    device: Device = None,
    dtype: Dtype = None,
) -> int:
    """Measure how well an index answers questions, and whether another task, mode, setting, index or model does better.

    All means have 95 % intervals. A system is called better or worse if the difference is significant. Otherwise, the
    report states how large a difference could have been found with that many questions.

    The exit code is 1 if a limit of --fail-below or --baseline is not met.
    """
    from harrier_core.evaluation import SLICES, Baseline, Judgements, System, below, in_words, limits_of, worse
    from harrier_core.evaluation import evaluate as run

    url = place_of(place, "a PLACE")
    if make_questions:
        return _make(url, judgements, number)
    if judgements is None:
        raise SettingError("no questions are given; pass --judgements, or create some with --make-questions")
    limits, ks = limits_of(fail_below or ()), _cutoffs(cutoffs)
    chosen, how = task_of(task, instruction), mode_of(mode, None)["mode"]
    base = System(task=chosen, mode=how, exact=exact, ef=ef, where=where_of(where))
    earlier = None if baseline is None else Baseline.load(baseline)
    questions = Judgements.load(judgements)
    _check_folders(report, runs)
    choice = Choice(model=model, server=server, api_key_file=api_key_file, device=device, dtype=dtype)
    with ExitStack() as stack:
        index, encoder = stack.enter_context(existing(url, choice))
        check_task(encoder, chosen)
        bar = stack.enter_context(Bar("evaluating"))
        made = run(
            index,
            questions,
            k=[*ks, *(int(each.partition("@")[2]) for each in limits)],
            compare=compare or (),
            system=base,
            metric=metric,
            slices=slices or SLICES,
            open_index=partial(_opened, stack, choice),
            on_progress=partial(_follow, bar),
        )
    compared = [] if earlier is None else earlier.compared(made)
    _write(made, report, runs, aggregate_only=aggregate_only)
    if as_json:
        say(made.to_json(aggregate_only=aggregate_only))
    else:
        say(str(made))
        if compared:
            say("\n".join(["", "Compared with the baseline:", *(f"  {each}" for each in in_words(compared))]))
    failed = [*below(made, limits), *worse(compared)]
    for each in failed:
        complain(f"below the limit: {each}")
    return failures.UNSOUND if failed else failures.FINE


def _cutoffs(said: str) -> list[int]:
    try:
        found = [int(each) for each in said.split(",")]
    except ValueError:
        found = [0]
    if min(found) < 1:
        raise SettingError(f"-k must be integers of at least 1, such as 1,10,100, got {said!r}")
    return found


def _check_folders(report: Path | None, runs: Path | None) -> None:
    """Raise SettingError before a long run whose results could not be written."""
    for option, path in (("--report", report), ("--runs", runs)):
        if path is not None and not path.parent.is_dir():
            raise SettingError(f"{option}: there is no folder {path.parent}")


def _opened(stack: ExitStack, choice: Choice, url: str, model: str | None) -> Index:
    """Open another index, to be closed with the first."""
    index, _ = stack.enter_context(existing(url, replace(choice, model=model)))
    return index


def _follow(bar: Bar, what: str, done: int, total: int) -> None:
    bar.advance(done / total if total else None, f"{what} ({done:,} of {total:,})")


def _write(made: Report, report: Path | None, runs: Path | None, *, aggregate_only: bool) -> None:
    if report is not None:
        made.to_html(report, aggregate_only=aggregate_only)
        tell(f"wrote {report}")
    if runs is not None:
        runs.mkdir(exist_ok=True)
        for each in made.results:
            each.run.save(runs / f"{_file_name(each.name)}.trec")
        tell(f"wrote {counted(len(made.results), 'run')} to {runs}")


def _file_name(name: str) -> str:
    return "".join(each if each.isalnum() or each in "-_." else "_" for each in name)


def _make(url: str, path: Path | None, number: int) -> int:
    from harrier_core.evaluation import cautions, make_questions

    if path is not None and (path.exists() or path.suffix != ".jsonl"):
        raise SettingError(f"--make-questions writes a new .jsonl file, got --judgements {path}")
    with contents_of(url) as contents, Bar("making questions") as bar:
        made = make_questions(contents, number, on_progress=partial(_follow, bar))
    if path is None:
        say(made.to_jsonl().removesuffix("\n"))
    else:
        made.save(path)
        tell(f"wrote {counted(len(made), 'question')} to {path}")
    if len(made) < number:
        tell("the other records have no unique title or code, too little text, or nearly the same text as others")
    tell("review the questions, fix or remove what no user would ask, then pass them to --judgements")
    for each in cautions(list(made)):
        tell(shown(each))
    return failures.FINE
