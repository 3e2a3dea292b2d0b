"""The `harrier` command: ingest files, rows and standard input into an index, and search it.

Importing it loads neither torch nor a database client; each command loads what it needs.
"""

from harrier_core.extras import require

require("the harrier command", "typer", "rich")

from harrier_cli.app import app, main

__all__ = ["app", "main"]
