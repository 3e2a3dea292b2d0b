"""One collection gets the name of another: how an index changes its model while it is in use."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from harrier_core.errors import StoreMissing, StoreUnsuitable
from harrier_core.store import BEFORE

if TYPE_CHECKING:
    from harrier_core.store import OpenStore
    from harrier_qdrant.backend import Backend
    from harrier_qdrant.edge_backend import EdgeBackend


class FolderExchange:
    """The exchange of a collection in a folder, whose readers and writers are all in this process."""

    def __init__(self, live: EdgeBackend, new: Path, kept: Path) -> None:
        """Take a collection, and the folders of two others next to it."""
        self._live = live
        self._new = new
        self._kept = kept

    def problem(self) -> str | None:
        """Return why the exchange cannot be done and what to do, or None if it can be done."""
        if not hasattr(ctypes.CDLL(None), "renamex_np" if sys.platform == "darwin" else "renameat2"):
            return (
                "this system cannot exchange two folders in one step, as Linux and macOS can; ingest into a new place"
            )
        if self._kept.exists():
            how = "drop it first (--drop-old)" if self._kept.name.endswith(BEFORE) else "drop it first (harrier drop)"
            return f"collection {self._kept} is left over from an earlier switch or re-embedding; {how}"
        return None

    def share(self) -> None:
        """Do nothing: the files of both collections are private."""

    def noting(self) -> AbstractContextManager[None]:
        """Return a context in which nothing is noted."""
        return nullcontext()

    def differing(self) -> None:
        """Return None: the hashes of both collections are compared."""

    def run(self, old: OpenStore, new: OpenStore, last: Callable[[OpenStore, OpenStore], None]) -> None:
        """Keep writers out, call `last`, and exchange the folders."""
        with self._live.writing():
            if (problem := self.problem()) is not None:
                raise StoreUnsuitable(problem)
            if not self._new.exists():
                raise StoreMissing(f"there is no collection {self._new}")
            last(old, new)
            self._live.give_folder(self._new, self._kept)


class NoExchange:
    """A stand-in for an exchange, which explains why collections on a server cannot be exchanged."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def problem(self) -> str:
        """Return why the exchange cannot be done and what to do."""
        return (
            f"a Qdrant server cannot keep writers out of collection {self._backend} while another takes its name, and "
            "their writes at that moment would be lost; ingest the source into a new collection with the new model "
            "while your writers write to both, and then have your readers use that one"
        )

    def share(self) -> None:
        """Do nothing."""

    def noting(self) -> AbstractContextManager[None]:
        """Return a context in which nothing is noted."""
        return nullcontext()

    def differing(self) -> None:
        """Return None: the hashes of both collections are compared."""

    def run(self, old: OpenStore, new: OpenStore, last: Callable[[OpenStore, OpenStore], None]) -> None:  # noqa: ARG002
        """Raise StoreUnsuitable."""
        raise StoreUnsuitable(self.problem())
