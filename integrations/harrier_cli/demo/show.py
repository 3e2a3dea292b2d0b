"""The steps of the demo."""

from __future__ import annotations

import subprocess
import tempfile
import time
from contextlib import closing
from pathlib import Path

from rich.console import Console
from rich.text import Text

from harrier_cli import failures
from harrier_cli.demo.model import MODEL, STAND_IN, named, open_encoder
from harrier_cli.demo.sample import write_notes, write_rows
from harrier_cli.demo.shell import CommandFailed, Shell
from harrier_core import StoreMissing, open_store
from harrier_core.testing import build_model

QUESTION = "Why do leaves turn yellow?"
CHANGED = "leaves-en.md"
ROWS = 5_000  # more than the windows that an ingest processes at once, so that a kill interrupts its work
_EMBEDDED = "pgvector:index"
_OTHER = "other"
_LOOK = 0.02  # seconds between two looks at what is stored


def main(model: str | None = None, postgres: str | None = None) -> None:
    """Run the demo with a model, or with the one from `open_encoder`; in a folder, or on a Postgres server by URL."""
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory(prefix="harrier-demo-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        console.print(Text(_about(named(model)), style="cyan"), soft_wrap=True)
        encoder, missing = open_encoder(folder, model)
        encoder.close()
        if missing:
            console.print("# It cannot be fetched here: a tiny stand-in answers, by spelling.", style="dim")
        build_model(folder / _OTHER, "gemma3", vectors="words")
        write_notes(folder / "notes")
        write_rows(folder / "rows.jsonl", ROWS)
        notes, rows = _places(postgres)
        shell = Shell(console, folder, STAND_IN if missing else named(model))
        try:
            _ingest_and_search(shell, folder, notes)
            if not missing:
                shell.say("The same questions without the instruction, as the usual stacks ask them:")
                shell.python("harrier_cli.demo.comparison", notes)
            _kill_and_go_on(shell, rows)
        finally:
            if postgres:
                _drop(notes, rows)


def _about(model: str) -> str:
    if Path(model).is_dir():
        return f"# The model is in {model}."
    size = " of 0.5 GB" if model == MODEL else ""
    return f"# The model is {model}, a download{size} if it is not here yet."


def _places(postgres: str | None) -> tuple[str, str]:
    """Return the places of the notes and of the rows. On a server, the tables of an earlier demo are dropped."""
    if postgres is None:
        return _EMBEDDED, f"{_EMBEDDED}?table=rows"
    join = "&" if "?" in postgres else "?"
    notes, rows = (f"{postgres}{join}table=harrier_demo_{name}" for name in ("notes", "rows"))
    _drop(notes, rows)
    return notes, rows


def _drop(*places: str) -> None:
    for place in places:
        with closing(open_store(place)) as store:
            store.drop()


def _ingest_and_search(shell: Shell, folder: Path, place: str) -> None:
    shell.say("80 notes in twenty languages go into Postgres, which needs no server here:")
    shell.harrier("ingest", "notes", "--to", place)
    shell.say("A question, and the notes that are nearest to it:")
    shell.harrier("search", QUESTION, "-k", "2", "--in", place)
    shell.say("The model read the question with its instruction, and each note unchanged:")
    shell.harrier("prompt", QUESTION, "--json")
    shell.say("A second run has nothing to encode:")
    shell.harrier("ingest", "notes", "--to", place)
    shell.say("One note is edited, and only that one is encoded:")
    shell.type("echo", "And in spring they are green again.", end=f" >> notes/{CHANGED}")
    with (folder / "notes" / CHANGED).open("a", encoding="utf-8") as note:
        note.write("And in spring they are green again.\n")
    shell.harrier("ingest", "notes", "--to", place)
    shell.say("The index rejects the vectors of another model:")
    shell.harrier("search", QUESTION, "--in", place, "--model", _OTHER, code=failures.CANNOT)


def _kill_and_go_on(shell: Shell, place: str) -> None:
    ingest = ("ingest", "rows.jsonl", "--id", "id", "--to", place)
    shell.say(f"A larger ingest, of {ROWS:,} rows, is killed as soon as some are stored:")
    with shell.background(*ingest) as child:
        _wait_until_some_are_stored(shell.seen_from_here(place), child)
        child.kill()
    shell.type("kill", "-9", "$!")
    shell.say("The same command continues from there:")
    shell.harrier(*ingest)
    shell.say("Nothing is lost or duplicated, and every vector is sound:")
    shell.harrier("verify", place)


def _wait_until_some_are_stored(place: str, child: subprocess.Popen[str]) -> None:
    """Look at the index until it holds rows. Raise CommandFailed if the ingest ends first."""
    with closing(open_store(place)) as store:
        while child.poll() is None:
            try:
                if store.describe().chunks:
                    return
            except StoreMissing:
                pass  # the ingest has not created it yet
            time.sleep(_LOOK)
    raise CommandFailed(f"the ingest ended on its own, with exit code {child.returncode}")
