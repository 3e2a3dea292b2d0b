"""Real commands in a folder: each is printed as one would type it, followed by its output."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.text import Text

from harrier_core import HarrierError

_PYTHON = [sys.executable, "-X", "utf8", "-m"]
_GOES_ON = " \\"


class CommandFailed(HarrierError):
    """A command of the demo did not end as expected."""


class Shell:
    """Runs commands in `folder` with a model, named relative to it, and prints them."""

    def __init__(self, console: Console, folder: Path, model: str) -> None:
        self._console = console
        self._folder = folder
        own = {"HARRIER_MODEL": model, "HARRIER_URL": "", "COLUMNS": str(console.width), "NO_COLOR": "1"}
        self._environment = {**os.environ, **own}
        self._environment.pop("FORCE_COLOR", None)  # the demo colours only its own lines

    def say(self, comment: str) -> None:
        """Print a comment in shell syntax."""
        self._console.print()
        self._print(f"# {comment}", "cyan")

    def harrier(self, *arguments: str, code: int = 0) -> str:
        """Run `harrier` and return what it printed. Raise CommandFailed if it ends with another exit code."""
        self.type("harrier", *arguments)
        return self._run(["harrier_cli", *arguments], code)

    def python(self, module: str, *arguments: str) -> str:
        """Run one of the kit's modules."""
        self.type("python", "-m", module, *arguments)
        return self._run([module, *arguments], 0)

    def type(self, *words: str, end: str = "") -> None:
        """Print a command. A long one continues on the next line, between two of its words."""
        quoted = [word if word == "$!" else shlex.quote(word) for word in words]
        quoted[-1] += end
        line = "$"
        for place, word in enumerate(quoted, 1):
            room = self._console.width - (len(_GOES_ON) if place < len(quoted) else 0)
            if len(line) + 1 + len(word) > room:
                self._print(line + _GOES_ON, "bold")
                line = "   "
            line += f" {word}"
        self._print(line, "bold")

    def _run(self, arguments: list[str], code: int) -> str:
        printed = []
        with self._started(arguments) as child:
            for line in child.stdout or ():
                printed.append(line)
                self._print(line.rstrip("\n"))
        if child.returncode != code:
            raise CommandFailed(f"the command above ended with exit code {child.returncode}, not {code}")
        return "".join(printed)

    def seen_from_here(self, place: str) -> str:
        """Return a place used by the commands as seen from this process, which runs in another folder."""
        scheme, _, rest = place.partition(":")
        return place if rest.startswith("//") else f"{scheme}:{self._folder}/{rest}"

    @contextmanager
    def background(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Start `harrier`, whose output is hidden, and kill it at the end."""
        self.type("harrier", *arguments, end=" &")
        with self._started(["harrier_cli", *arguments], output=subprocess.DEVNULL) as child:
            yield child

    @contextmanager
    def _started(self, arguments: list[str], output: int = subprocess.PIPE) -> Iterator[subprocess.Popen[str]]:
        """Run a child until it ends; if we are interrupted, it ends with us."""
        child = subprocess.Popen(  # noqa: S603  # our own commands
            [*_PYTHON, *arguments],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT if output == subprocess.PIPE else output,
            cwd=self._folder, env=self._environment, encoding="utf-8",
        )  # fmt: skip
        with child:
            try:
                yield child
            except BaseException:
                child.kill()
                raise

    def _print(self, line: str, style: str = "") -> None:
        """Print a line. At the edge of the terminal, it is broken between words."""
        for each in Text(line).wrap(self._console, self._console.width):
            self._console.print(Text(each.plain.rstrip(), style=style), soft_wrap=True)
