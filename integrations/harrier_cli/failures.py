"""Reporting of errors: one line with the remedy on standard error, and an exit code that a script can trust."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from contextlib import suppress
from typing import Any, Protocol, runtime_checkable

import typer

from harrier_cli.ending import code_of_interrupt
from harrier_cli.volume import is_quiet
from harrier_core import HarrierError

FINE, UNSOUND, WRONG_USAGE, CANNOT, INTERRUPTED, READER_GONE = 0, 1, 2, 3, 130, 141


@runtime_checkable
class _BadUsage(Protocol):
    """An error about the command line itself: click's or, in later releases, that of Typer's copy of click."""

    ctx: Any  # that of the command, if one was found
    message: str

    def format_message(self) -> str:
        """Return a sentence for the user."""


def explain(error: BaseException) -> int:
    """Explain in one line what went wrong, and return the exit code for it."""
    if isinstance(error, BrokenPipeError):
        _leave_reader()
        return READER_GONE
    if os.environ.get("HARRIER_DEBUG"):
        traceback.print_exception(error)
    line, code = _line(error)
    _say(f"error: {line}")
    return code


def _leave_reader() -> None:
    """Discard the rest of the buffer, which the interpreter would otherwise flush at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _line(error: BaseException) -> tuple[str, int]:
    if isinstance(error, KeyboardInterrupt):
        return str(error) or "interrupted", code_of_interrupt(INTERRUPTED)
    if isinstance(error, _BadUsage):
        return f"{_bad_usage(error)}; see '{error.ctx.command_path if error.ctx else 'harrier'} --help'", WRONG_USAGE
    if isinstance(error, HarrierError):
        return str(error), WRONG_USAGE if error.usage else CANNOT
    if isinstance(error, OSError) and error.strerror:
        name = f"{error.filename}: " if error.filename else ""
        return f"{name}{error.strerror.lower()}", CANNOT
    # Its message may contain a text or a password.
    return f"unexpected {type(error).__name__}; run it again with HARRIER_DEBUG=1 to see where", CANNOT


def _bad_usage(error: _BadUsage) -> str:
    said = (error.format_message() if error.ctx else error.message).strip().rstrip(".") or "no command"
    return f"{said[0].lower()}{said[1:]}"


def warn_in_a_line() -> None:
    """Show warnings of the kit, and of its dependencies, without a location in the code."""

    def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:  # noqa: ARG001
        if not is_quiet():
            _say(f"warning: {message}")

    warnings.showwarning = show


def _say(line: str) -> None:
    """Print a line on standard error, if that is open."""
    with suppress(OSError):
        typer.echo(" ".join(line.split()), err=True)
