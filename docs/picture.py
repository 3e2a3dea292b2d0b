"""Create the picture of the demo in the documentation: `.venv/bin/python docs/picture.py`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

WIDTH = 80  # columns that a page shows without shrinking


_INDENTED = r'x="([\d.]+)"( y="[\d.]+") textLength="([\d.]+)"([^>]*)>((?:&#160;)+)'
_COLUMN = 12.2  # units: the width of a character in Rich's drawings


def _moved(found: re.Match[str]) -> str:
    """Move a text to the right instead of beginning it with blanks, which librsvg leaves out."""
    blanks = _COLUMN * found[5].count(";")
    x, length = float(found[1]) + blanks, float(found[3]) - blanks
    return f'x="{x:g}"{found[2]} textLength="{length:g}"{found[4]}>'


def main() -> None:
    """Run the demo in a terminal, and draw its output."""
    environment = os.environ | {"COLUMNS": str(WIDTH), "FORCE_COLOR": "1"}
    command = [sys.executable, "-m", "harrier_cli", "demo"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout  # noqa: S603
    console = Console(record=True, width=WIDTH, file=StringIO())
    console.print(Text.from_ansi(shown.rstrip()))
    drawn = console.export_svg(title="harrier demo", unique_id="demo")
    # Without web fonts: the reader's own fonts suffice.
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)
    drawn = drawn.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, monospace")
    drawn = re.sub(r"<text [^>]*>\n</text>", "", drawn)  # ends of lines
    lines = (line.rstrip() for line in re.sub(_INDENTED, _moved, drawn).splitlines())
    Path(__file__).with_name("demo.svg").write_text("\n".join(line for line in lines if line) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
