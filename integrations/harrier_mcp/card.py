"""The contents of an index, as far as a description may reveal them: counts, fields and their commonest values."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import TYPE_CHECKING, Any

from harrier_core import HarrierError
from harrier_core.fields import Field, fields_of
from harrier_core.threads import in_thread

if TYPE_CHECKING:
    from harrier_core.view import View

log = logging.getLogger(__name__)

_SAMPLE = 256  # chunks from which fields are read
_PATIENCE = 10.0  # seconds that the first caller waits


@dataclass(frozen=True, slots=True)
class Card:
    """An index at a point in time; unknown values are None or empty."""

    records: int | None = None
    chunks: int | None = None
    keywords: bool | None = None
    ingested: datetime | None = None
    fields: Sequence[Field] = ()
    tasks: Sequence[str] = ()


class Cards:
    """Reads an index's card now and then, and never makes a caller wait for a new one."""

    def __init__(self, view: View, fresh: float) -> None:
        """Take the view, and for how many seconds a card is reused."""
        self._view = view
        self._fresh = fresh
        self._card: Card | None = None
        self._read_at = 0.0
        self._reading: asyncio.Future[Card] | None = None

    async def latest(self) -> Card:
        """Return the current card, and have a new one read if it is old. Only the first caller waits, for a while."""
        if self._card is not None and monotonic() - self._read_at < self._fresh:
            return self._card
        if self._reading is None or self._reading.done():
            self._reading = asyncio.ensure_future(self._renew())
        if self._card is None:
            await asyncio.wait({self._reading}, timeout=_PATIENCE)
        return self._card or Card()

    def forget(self) -> None:
        """Have the next caller get a new one, because something was written."""
        self._read_at = 0.0

    async def _renew(self) -> Card:
        try:
            card = await in_thread(read, self._view)
        except HarrierError as error:  # no thread is free
            log.warning("an index cannot be described now: %s", error)
            return Card()
        self._card, self._read_at = card, monotonic()
        return card


def read(view: View) -> Card:
    """Return the card of the part that callers may see. Counts are included only if they may see everything."""
    known: dict[str, Any] = {}
    try:
        known["tasks"] = sorted(getattr(view.index.encoder, "tasks", None) or ())  # a third-party Embedder has none
        facts = view.index.describe()
        known["keywords"] = facts.keywords
        if view.fixed is None:
            known |= {"records": facts.records, "chunks": facts.chunks, "ingested": facts.ingested}
        known["fields"] = fields_of([match.metadata for match in view.sample(_SAMPLE)])
    except HarrierError as error:  # a search reports more about it
        log.warning("the index cannot be described: %s", error)
    return Card(**known)
