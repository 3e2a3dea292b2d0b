"""The search indexes of a table of chunks: built once nothing is left to write into them."""

from __future__ import annotations

from collections.abc import Callable

from harrier_pgvector.opened import OpenTable


class Indexing:
    """Tracks whether a table's indexes need a check, and builds them. Any number of lanes may use it."""

    def __init__(self) -> None:
        self.is_due = True  # something may have been embedded since the last check
        self._is_built = False

    def note_embedded(self) -> None:
        """Have the indexes checked again, unless they are built."""
        self.is_due = not self._is_built

    def build(self, store: OpenTable, is_left: Callable[[], bool]) -> None:
        """Build the indexes of a store that has enough rows for them and nothing left in its queue."""
        self.is_due = False  # for now: whichever lane embeds more will check again
        if not self._is_built and not is_left() and not store.is_small():
            self._is_built = store.try_to_build()
            self.is_due = not self._is_built  # another session was writing, for example
