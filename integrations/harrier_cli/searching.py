"""`harrier search`: one question, or several in sequence with the model loaded once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, get_args

import typer
from harrier_files.waiting import waited_for

from harrier_cli import failures
from harrier_cli.defaults import setting
from harrier_cli.encoders import Choice, check_task
from harrier_cli.locating import heading_of, part_of, path_of
from harrier_cli.options import (
    OUTPUT,
    ApiKeyFile,
    AsJson,
    Device,
    Dtype,
    InPlace,
    Instruction,
    ModelName,
    Server,
    TaskName,
    WhereJson,
    place_of,
    task_of,
    where_of,
)
from harrier_cli.output import Color, Screen, complain, say_json, tell
from harrier_cli.places import contents_of, existing
from harrier_cli.progress import waiting
from harrier_core import Encoder, HarrierError, InputError, Match, Mode, SettingError

_PROMPT = "> "
_CHUNKS = 5  # per record, to look for so that as many records are found as are wanted
_COLORS = ("auto", "always", "never")
_MODES: tuple[str, ...] = get_args(Mode)  # the first is the default

Find = Callable[..., list[Match]]


def search(
    *,
    question: Annotated[
        str | None, typer.Argument(metavar="QUESTION", help="What to look for.", show_default=False)
    ] = None,
    place: InPlace = None,
    k: Annotated[int, typer.Option("-k", metavar="N", help="Number of records; with --json, of chunks.")] = 5,
    offset: Annotated[int, typer.Option(metavar="N", help="Skip this many matches.")] = 0,
    min_score: Annotated[
        float | None,
        typer.Option(
            metavar="X", help="Omit matches with a lower score. A cosine is at most 1; a keyword score has no maximum."
        ),
    ] = None,
    where: WhereJson = None,
    mode: Annotated[
        str | None,
        typer.Option(
            metavar="MODE",
            help="dense: by meaning; keyword: by word, without the model; hybrid: by both (HARRIER_MODE).",
        ),
    ] = None,
    keyword_weight: Annotated[
        float | None,
        typer.Option(
            metavar="X", help="Weight of words in hybrid, relative to meaning. Default: chosen for each question."
        ),
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Compare all chunks, even where there is an index.")] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Show all of a chunk, not only its best sentences.", rich_help_panel=OUTPUT)
    ] = False,
    context: Annotated[
        int,
        typer.Option(
            "-C",
            "--context",
            metavar="N",
            help="Show all of a chunk, and this many on either side.",
            rich_help_panel=OUTPUT,
        ),
    ] = 0,
    color: Annotated[
        str, typer.Option(metavar="WHEN", help=f"Colours and bold: {', '.join(_COLORS)}.", rich_help_panel=OUTPUT)
    ] = "auto",
    as_json: AsJson = False,
    model: ModelName = None,
    task: TaskName = None,
    instruction: Instruction = None,
    server: Server = None,
    api_key_file: ApiKeyFile = None,
    device: Device = None,
    dtype: Dtype = None,
) -> int:
    """Find the texts nearest to a question.

    The modes keyword and hybrid need an index with the words of its texts: 'harrier ingest --keywords' makes one, and
    'harrier keywords' adds them to an old one.

    Without a question, read questions from the terminal, or one a line from a pipe, with the model loaded once. An
    index in a folder is searched with the model that made it, unless another one is named.

    The exit code is 1 if nothing is found.
    """
    options = _options(k, offset, min_score, where_of(where), context)
    how = mode_of(mode, keyword_weight)
    chosen, url, painted = task_of(task, instruction), place_of(place, "--in"), _color(color)
    with ExitStack() as stack:
        if how["mode"] == "keyword":
            find: Find = stack.enter_context(contents_of(url)).search_words
        else:
            choice = Choice(model=model, server=server, api_key_file=api_key_file, device=device, dtype=dtype)
            with waiting("opening the index", silent=as_json):
                index, encoder = stack.enter_context(existing(url, choice))
            check_task(encoder, chosen)
            find = partial(index.search, task=chosen, exact=exact, **how)
            if isinstance(encoder, Encoder):
                find = _loading(find, encoder.name, silent=as_json)
        search = _Search(find, options, as_json=as_json, whole=full or context > 0, color=painted)
        if question is not None:
            return failures.FINE if search.answer(question) else failures.UNSOUND
        return search.answer_all(_typed() if sys.stdin.isatty() else _piped())


def _loading(find: Find, model: str, *, silent: bool) -> Find:
    """Return the same search, which says on a terminal that its first question waits for the model."""
    waits = [waiting(f"loading {model}", silent=silent)]

    def find_told(question: str, **options: Any) -> list[Match]:
        with waits.pop() if waits else nullcontext():
            return find(question, **options)

    return find_told


def _options(
    k: int, offset: int, min_score: float | None, where: Mapping[str, Any] | None, context: int
) -> dict[str, Any]:
    for name, value, least in (("-k", k, 1), ("--offset", offset, 0), ("--context", context, 0)):
        if value < least:
            raise SettingError(f"{name} must be at least {least}, got {value}")
    return {"k": k, "offset": offset, "min_score": min_score, "where": where, "expand": context}


def mode_of(given: str | None, keyword_weight: float | None) -> dict[str, Any]:
    """Return how to search, or raise SettingError before anything is opened."""
    mode = setting("mode", given) or _MODES[0]
    if mode not in _MODES:
        raise SettingError(f"--mode must be one of {', '.join(_MODES)}, got {mode!r}")
    if keyword_weight is not None and mode != "hybrid":
        raise SettingError(f"--keyword-weight needs --mode hybrid, got --mode {mode}")
    return {"mode": mode, "keyword_weight": keyword_weight}


def _color(said: str) -> Color:
    for each in _COLORS:
        if each == said:
            return each  # type: ignore[return-value]  # one of the three
    raise SettingError(f"--color must be one of {', '.join(_COLORS)}, got {said!r}")


@dataclass(frozen=True, slots=True)
class _Search:
    """Answers questions, and prints the answers."""

    find: Find  # searches for a question with these options
    options: dict[str, Any]
    as_json: bool
    whole: bool
    color: Color

    def answer(self, question: str) -> bool:
        """Print the answer to a question; return whether there is one."""
        if self.as_json:
            matches = self.find(question, **self.options)
            say_json([_as_json(match) for match in matches])
            return bool(matches) or self._nothing()
        return self._show(Screen.of(self.color), question)

    def _show(self, screen: Screen, question: str) -> bool:
        from harrier_cli.showing import entries_of, show

        first, wanted = self.options["offset"], self.options["k"]
        options = {**self.options, "offset": 0, "k": (first + wanted) * _CHUNKS}
        entries = entries_of(self.find(question, **options))[first : first + wanted]
        show(screen, question, entries, whole=self.whole)
        return bool(entries) or self._nothing()

    def _nothing(self) -> bool:
        least = self.options["min_score"]
        tell("nothing found" if least is None else f"nothing found with a score of at least {least:g}")
        return False

    def answer_all(self, questions: Iterator[str]) -> int:
        """Answer questions as they come, and return a common exit code."""
        asked, answered = 0, 0
        for question in questions:
            asked += 1
            with suppress(_Unanswered):
                answered += self._answer_next(question)
        if not asked:
            raise SettingError("no question is given; pass one, or one per line on standard input")
        return failures.FINE if answered == asked else failures.UNSOUND

    def _answer_next(self, question: str) -> bool:
        try:
            if self.as_json:
                matches = self.find(question, **self.options)
                say_json({"question": question, "matches": [_as_json(match) for match in matches]})
                return bool(matches)
            screen = Screen.of(self.color)
            if not sys.stdin.isatty():
                screen.line(f"{_PROMPT}{question}")
            answered = self._show(screen, question)
            screen.line()
            sys.stdout.flush()
        except HarrierError as error:
            if not (isinstance(error, InputError) or sys.stdin.isatty()):
                raise  # a pipe's other questions would fail as well
            if self.as_json:
                say_json({"question": question, "error": str(error)})
            else:
                complain(f"error: {error}")
            raise _Unanswered from None
        return answered


class _Unanswered(Exception):
    """A question cannot be answered, which was already reported. The next one may be answered."""


def _typed() -> Iterator[str]:
    """Yield questions as they are typed, until Ctrl-D."""
    with suppress(ImportError):  # not available on Windows
        import readline  # noqa: F401  # input() edits lines with it, and remembers them
    while True:
        try:
            question = input(_PROMPT) if sys.stdout.isatty() else _asked_aside()
        except EOFError:
            tell("")
            return
        if question.strip():
            yield question


def _asked_aside() -> str:
    """Return a line typed while the answers go to a file, which must not contain the prompt."""
    tell(_PROMPT)
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\n")


def _piped() -> Iterator[str]:
    for line in waited_for(sys.stdin.buffer):
        question = line.decode("utf-8", "surrogateescape").strip()
        if question:
            yield question


def _as_json(match: Match) -> dict[str, Any]:
    names = ("id", "record_id", "number", "score", "text", "metadata", "start", "end", "cosine")
    more = {
        "path": path_of(match.record_id, match.metadata),
        "part": part_of(match).removeprefix(":"),
        "heading": heading_of(match.metadata),
    }
    passage = {"passage": match.passage} if match.around else {}
    return {name: getattr(match, name) for name in names} | more | passage
