"""Commands and groups of them, with what they share: --quiet and --verbose, and a help that fits a terminal."""

from __future__ import annotations

import inspect
import re
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from harrier_cli import volume
from harrier_cli.failures import explain

_OUTPUT = "Output"  # the panel of the help
RAY = "--ray"
_ADDRESS = re.compile(r"auto|local|[\w.-]+:\d+|\[[\da-fA-F:]+\]:\d+|ray://.*")


class Command(TyperCommand):
    """Typer's command, with the options that all commands have; its epilog is examples, one per line."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        settings["help"] = _help(settings.get("help"), settings.pop("epilog", None))
        super().__init__(*arguments, **settings)
        self.params.extend(_volume_options())
        _show_no_types_of_flags(self.params)

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Parse words, among them --ray, which may stand without its value."""
        if any(RAY in param.opts for param in self.params):
            args = _with_address(args)
        return super().parse_args(ctx, args)

    def get_help_option(self, ctx: Any) -> Any:
        """Return --help, without a type."""
        option = super().get_help_option(ctx)
        _show_no_types_of_flags([option])
        return option


class Group(TyperGroup):
    """Typer's group of commands."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        settings["help"] = _help(settings.get("help"), settings.pop("epilog", None))
        super().__init__(*arguments, **settings)
        _show_no_types_of_flags(self.params)

    def get_params(self, ctx: Any) -> Any:
        """Return the options, including --help and those of completion, without the types of flags."""
        params = super().get_params(ctx)
        _show_no_types_of_flags(params)
        return params


class Guarded(Group):
    """A group of commands whose errors are explained before Typer turns them into its own exit codes."""

    def invoke(self, ctx: Any) -> Any:
        """Return the exit code of a command."""
        try:
            code = super().invoke(ctx)
            sys.stdout.flush()  # here rather than at exit, where no one could catch that the reader is gone
        except typer.Exit:
            raise
        except (Exception, KeyboardInterrupt) as error:
            return explain(error)
        return code


def examples(*lines: str) -> str:
    """Return lines of a shell for the help of a command."""
    return "\n".join(lines).replace("[", "\\[")  # otherwise it would be Rich's markup


def _help(text: str | None, epilog: str | None) -> str | None:
    """Return a text with each paragraph on one line, because a terminal wraps them itself, and its examples below."""
    if text is None:
        return None
    paragraphs = [" ".join(each.split()) for each in inspect.cleandoc(text).split("\n\n")]
    if epilog is not None:
        # A line that begins with markup keeps its indentation.
        lines = [f"[cyan]  {line}[/cyan]" for line in epilog.splitlines()]
        paragraphs.append("\n".join(["[bold]Examples[/bold]", *lines]))
    return "\n\n".join(paragraphs)


def _with_address(words: list[str]) -> list[str]:
    """Give --ray its value: the next word if that is an address, and otherwise nothing; what follows may be a PATH."""
    given = [*words]
    for at, word in enumerate(words):
        if word == "--":
            break
        if word == RAY and not (words[at + 1 :] and _ADDRESS.fullmatch(words[at + 1])):
            given[at] = f"{RAY}="
    return given


def _show_no_types_of_flags(params: list[Any]) -> None:
    for param in params:
        if getattr(param, "is_flag", False):
            param.metavar = ""


def _quieten(value: bool) -> None:
    if value:
        volume.be_quiet()


def _speak(value: bool) -> None:
    if value:
        volume.be_verbose()


def _with_volume(
    quiet: Annotated[
        bool,
        typer.Option(
            "-q", "--quiet", help="Print only results and errors.", callback=_quieten, expose_value=False,
            rich_help_panel=_OUTPUT,
        ),
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "-v", "--verbose", help="Print the kit's log on standard error.", callback=_speak, expose_value=False,
            rich_help_panel=_OUTPUT,
        ),
    ] = False,
) -> None:  # fmt: skip
    """Hold the options that every other command gets."""


def _volume_options() -> list[Any]:
    app = typer.Typer(add_completion=False)
    app.command()(_with_volume)
    return [each for each in typer.main.get_command(app).params if each.name in ("quiet", "verbose")]
