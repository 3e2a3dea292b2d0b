"""The engine of Qdrant Edge, which dies at a step of an exchange, alone or with its parent."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

STEP = "HARRIER_DYING_ENGINE"  # the variable that names the step
ONCE = "HARRIER_DIED_ENGINE"  # the variable that names a file, which exists once it has died

ENGINE_STEPS = [
    f"{who} {when} {step}"
    for step in ("_write", "_swap", "_finish_exchange")
    for when in ("before", "after")
    for who in ("both", "engine")
]


def dying(work: Callable[..., Any], when: str, who: str) -> Callable[..., Any]:
    """Return the function with a kill before or after it, of both processes or of the engine; it kills only once."""

    def die() -> None:
        with suppress(FileExistsError):
            Path(os.environ[ONCE]).touch(exist_ok=False)
            if who == "both":
                os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)

    def carry_out(*arguments: Any) -> Any:
        if when == "before":
            die()
        done = work(*arguments)
        if when == "after":
            die()
        return done

    return carry_out


def main() -> None:
    from harrier_qdrant import edge_child

    who, when, name = os.environ[STEP].split()
    exchange = edge_child.Shard.exchange

    def prepared(self: edge_child.Shard, *arguments: str) -> None:
        setattr(edge_child, name, dying(getattr(edge_child, name), when, who))  # others call it at other times
        exchange(self, *arguments)

    edge_child.Shard.exchange = prepared  # type: ignore[assignment,method-assign]
    edge_child.main()


if __name__ == "__main__":
    main()
