"""The search indexes of a table of chunks: built once nothing is left to be written into them."""

from __future__ import annotations

from collections.abc import Callable

from harrier_pgvector.opened import OpenTable


class Indexing:
    """Whether a table's indexes still have to be looked at, and how they are built. Any number of lanes may use it."""

    def __init__(self) -> None:
        self.is_due = True  # something may have been embedded since it was last asked whether an index is needed
        self._is_built = False

    def note_embedded(self) -> None:
        """Have the indexes looked at again, unless they are built."""
        self.is_due = not self._is_built

    def build(self, store: OpenTable, is_left: Callable[[], bool]) -> None:
        """Build the indexes of a store that has enough rows for them and nothing left in its queue."""
        self.is_due = False  # for now: whoever embeds more looks again
        if not self._is_built and not is_left() and not store.is_small():
            self._is_built = store.try_to_build()
            self.is_due = not self._is_built  # somebody else was writing, for example
