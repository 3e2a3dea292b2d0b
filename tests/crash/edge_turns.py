"""A re-embedding of a Qdrant Edge folder, to be killed with its readers and writers, which are its threads.

python edge_turns.py PLACE ACTION NOTES STEP     a step of STEPS or of ENGINE_STEPS, or "none"

ACTION is "turn", which switches to the other model with its existing collection if there is one, or "fresh", which
always makes a new one.
"""

from __future__ import annotations

import os
import sys
from contextlib import closing, suppress
from pathlib import Path

from dying_engine import ENGINE_STEPS, ONCE, STEP
from harrier_qdrant import edge_process
from harrier_qdrant.edge_backend import EdgeBackend
from harrier_qdrant.exchanging import FolderExchange
from ingesting import die_at
from reembeds import models
from traffic import Traffic

from harrier_core import ingest, open_store
from harrier_core.migration import back, drop_old, filling, reembed, spaces, switch
from harrier_core.migration.changing import NEXT, Changing
from harrier_core.migration.encoding import Encoding
from harrier_core.migration.filling import Filling

# Steps that only a migration takes, so that no writer dies instead; each with its class and occurrence.
STEPS = {
    "before opened_next": (Changing, 1),
    "after opened_next": (Changing, 1),
    "before vectors": (Encoding, 1),
    "after vectors": (Encoding, 3),
    "before _mend": (Filling, 2),
    "after _mend": (Filling, 3),
    "before run": (Filling, 2),  # when writers are kept out
    "after run": (Filling, 2),
    "before problem": (FolderExchange, 3),
    "before give_folder": (EdgeBackend, 1),
    "after give_folder": (EdgeBackend, 1),
}


def turn(place: str) -> None:
    """Switch to the other model, with its existing collection if there is one."""
    found = spaces(place)
    other = next(each for each in models() if each.space != found.now)
    if found.before is not None:
        back(place, other)
    elif found.next is not None:
        switch(place, other)
    else:
        fresh(place)


def fresh(place: str) -> None:
    """Switch to the other model with a new collection."""
    found = spaces(place)
    other = next(each for each in models() if each.space != found.now)
    if found.before is not None:
        drop_old(place)
    with closing(open_store(f"{place}{NEXT}")) as new:
        new.drop()
    reembed(place, other)
    switch(place, other)


def main() -> None:
    place, action, notes, step = sys.argv[1:]
    filling._RECORDS, ingest.WINDOW_RECORDS = 10, 20  # so that there are many instants between windows
    if step in ENGINE_STEPS:
        edge_process._CHILD = Path(__file__).with_name("dying_engine.py")
        os.environ[STEP], os.environ[ONCE] = step, str(Path(notes, "died"))
    elif step != "none":
        die_at(STEPS[step][0], step, STEPS[step][1])
    traffic = Traffic(place, Path(notes), deadly=True)
    with closing(open_store(place)):  # so that the engine does not end in between
        traffic.recover()
        with traffic.going():
            traffic.wait(3)
            sys.stdout.write("begin\n")
            sys.stdout.flush()
            {"turn": turn, "fresh": fresh}[action](place)
            traffic.wait(3)
    with suppress(BrokenPipeError):
        os.write(1, b"end\n")


if __name__ == "__main__":
    main()
