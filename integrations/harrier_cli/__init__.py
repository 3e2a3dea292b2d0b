"""The `harrier` command: files, rows and standard input into an index, and questions to it.

Importing it loads neither torch nor a database client; each command loads what it needs.
"""

from importlib.util import find_spec

if find_spec("typer") is None or find_spec("rich") is None:
    raise ImportError("harrier_cli needs typer and rich, which are not there; pip install 'harrier-kit[cli]'")

from harrier_cli.app import app, main

__all__ = ["app", "main"]
