"""The engine of Qdrant Edge, which dies with its parent at a step of an exchange: run as `edge_child.py` is."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

STEP = "HARRIER_DYING_ENGINE"  # the variable that names the step

ENGINE_STEPS = [
    f"{when} {step}" for step in ("_write", "_swap", "_finish_exchange") for when in ("engine before", "engine after")
]


def dying(work: Callable[..., Any], when: str) -> Callable[..., Any]:
    """The same, and the end of both processes."""

    def die() -> None:
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

    _, when, name = os.environ[STEP].split()
    exchange = edge_child.Shard.exchange

    def prepared(self: edge_child.Shard, *arguments: str) -> None:
        setattr(edge_child, name, dying(getattr(edge_child, name), when))  # others call it at other times
        exchange(self, *arguments)

    edge_child.Shard.exchange = prepared  # type: ignore[method-assign]
    edge_child.main()


if __name__ == "__main__":
    main()
