"""Printed output: results on standard output, as text or as JSON, and messages about them."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import typer

from harrier_cli.volume import is_quiet
from harrier_core import SettingError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Color = Literal["auto", "always", "never"]

_LISTED = 100  # lines of rejected items; --json has them all


def say(text: str) -> None:
    """Print a line of a result."""
    typer.echo(text)


def say_json(value: object) -> None:
    """Print a result as a line of JSON, in ASCII, which every terminal accepts, even with lone surrogates."""
    typer.echo(json.dumps(value))


def report(text: str) -> None:
    """Print a line that says what was done, unless only results and errors are wanted."""
    if not is_quiet():
        typer.echo(text)


def tell(text: str) -> None:
    """Print a line that is not a result, unless only results and errors are wanted."""
    if not is_quiet():
        typer.echo(text, err=True)


def complain(text: str) -> None:
    """Print a line about something that went wrong."""
    typer.echo(text, err=True)


def tell_each(what: str, pairs: list[tuple[str, str]], *, wrong: bool = True) -> None:
    """Print a line for each item, with the reason. wrong: whether it should be fixed."""
    print_line = complain if wrong else tell
    for name, reason in pairs[:_LISTED]:
        print_line(f"{what}: {shown(name)}: {shown(reason)}")
    if len(pairs) > _LISTED:
        print_line(f"{what}: {len(pairs) - _LISTED:,} more; --json lists all of them")


def shown(text: str) -> str:
    """Return a text in one line, without control characters that a terminal would obey."""
    return "".join(each if each.isprintable() else " " for each in text)


def confirmed(question: str, *, yes: bool) -> bool:
    """Return whether the user agrees. Raise SettingError if there is no one to ask. yes: they agreed beforehand."""
    if yes:
        return True
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise SettingError(f"this needs confirmation, and there is no terminal: {question} Add --yes")
    typer.echo(f"{question} [y/N] ", nl=False, err=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


@dataclass(frozen=True, slots=True)
class Screen:
    """The destination of coloured results: standard output. Lines are wrapped and cut only for a terminal."""

    console: Console
    wraps: bool

    @classmethod
    def of(cls, color: Color) -> Screen:
        """Use colours always, never, or if standard output is a terminal and NO_COLOR is not set."""
        from rich.console import Console

        wraps = sys.stdout.isatty()
        plain: dict[str, Any] = {"file": sys.stdout, "highlight": False, "markup": False, "emoji": False}
        if color == "always":
            return cls(Console(**plain, force_terminal=True, color_system="standard", no_color=False), wraps)
        if color == "never" or not wraps:
            return cls(Console(**plain, color_system=None), wraps)
        return cls(Console(**plain), wraps)

    @property
    def width(self) -> int:
        """The number of cells in a line."""
        return self.console.width

    def line(self, text: Text | str = "", indent: int = 0) -> None:
        """Print a line, wrapped only on a terminal."""
        from rich.padding import Padding
        from rich.text import Text

        if self.wraps and indent:
            self.console.print(Padding(text, (0, 0, 0, indent), expand=False))
        else:
            self.console.print(Text(" " * indent).append(text), soft_wrap=not self.wraps)
