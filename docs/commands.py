"""Write the reference of the command line from its own help: `.venv/bin/python docs/commands.py`."""

from __future__ import annotations

import html
import re
import subprocess
import sys
import tempfile
from pathlib import Path

PAGE = Path(__file__).parent / "reference" / "command-line.md"
_EXAMPLES = '<span style="font-weight: bold">Examples</span>\n'
_BOLD = re.compile(r'<span style="font-weight: bold">(.*?)</span>')
_EXAMPLE = re.compile(r'<span style="color: #008080; text-decoration-color: #008080">  (.*)</span>')


def reference() -> str:
    """Return the page that Typer writes, without its HTML."""
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder, "page.md")
        options = ["utils", "docs", "--name", "harrier", "--title", "Commands", "--output", str(written)]
        subprocess.run([sys.executable, "-m", "typer", "harrier_cli.app", *options], check=True, capture_output=True)  # noqa: S603  # its own interpreter
        page = written.read_text(encoding="utf-8")
    page = _EXAMPLE.sub(r"    \1", page.replace(_EXAMPLES, "**Examples**:\n\n"))
    page = _BOLD.sub(r"**\1**", page)
    return re.sub(r"\n{3,}", "\n\n", html.unescape(page)).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
