"""Error messages for callers: remedies for their own errors, and nothing about the machine for others."""

from __future__ import annotations

import logging

from harrier_core import HarrierError, StoreMissing, StoreUnavailable, WrongSpace

log = logging.getLogger(__name__)


class Refused(Exception):
    """A call that cannot be answered; the message says why, and what to do."""


def told(error: Exception, *, local: bool) -> str:
    """Return the message for a caller. local: whether it may know where the index is."""
    if isinstance(error, Refused):
        return str(error)
    if isinstance(error, HarrierError) and (local or error.usage):
        return str(error)
    for kind, message in _ELSEWHERE:
        if isinstance(error, kind):
            log.warning("a call failed: %s", error)
            return message
    log.error("a call failed", exc_info=error)
    return "the call failed; see the server's log"


_ELSEWHERE: tuple[tuple[type[HarrierError], str], ...] = (
    (StoreMissing, "the index is empty"),
    (
        WrongSpace,
        "the index was created with a different model than the server's; the operator must start it with that model",
    ),
    (StoreUnavailable, "the index cannot be reached now; try again later"),
    (HarrierError, "the index cannot answer; see the server's log"),
)
