"""The health of a declared table: whether it may be worked on, and how the outcome of each step changes that.

Nothing here has a clock or draws a random number: callers pass the time and the jitter, so every transition can be
tested. Lanes work on a table at the same time. Each remembers how many setbacks there were when its step began, and a
success that began before the last setback says nothing about it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

_FIRST_PAUSE = 0.1  # seconds without a step after an error; doubled after each further one
_LOOK_AGAIN = 30.0  # the longest pause, and the time between two looks at a blocked table
_LASTING = 10.0  # seconds of only store errors, after which a drain does not wait for a table


@dataclass(frozen=True, slots=True)
class TableHealth:
    """The state that results from the steps on a declared table. Times are those of a monotonic clock."""

    trouble: str | None = None  # why nothing is done, if nothing is
    is_blocked: bool = False  # nothing can be done, whatever is in the queue
    wait_until: float = 0.0
    setbacks: int = 0  # how often it was deferred in total
    pause: float = 0.0  # the last one, before jitter
    failing_since: float | None = None  # nothing was done since then, because of errors that no row causes

    def may_run(self, now: float) -> bool:
        """Return whether a step may begin."""
        return now >= self.wait_until

    @property
    def is_failing(self) -> bool:
        """Whether a step that finds nothing to do proves nothing, unless the queue is empty."""
        return self.is_blocked or self.failing_since is not None

    @property
    def lasting_error(self) -> str | None:
        """The error that no row causes, if there has been nothing else for a while."""
        return self.trouble if self.is_blocked and self.failing_since is not None else None

    # -- how a step ends

    def did_something(self, began: int) -> Self:
        """Return the state after a step that did something; began: the setbacks when the step began."""
        if began != self.setbacks:
            return self
        return replace(self, trouble=None, is_blocked=False, pause=0.0, failing_since=None)

    def found_nothing(self, began: int, *, left: bool) -> Self:
        """Return the state after a step that found nothing; left: the queue has rows, which others may hold."""
        return self if left and self.is_failing else self.did_something(began)

    def rows_failed(self, reason: str, now: float, jitter: float) -> Self:
        """Return the state after an error that counts as an attempt of some rows; jitter: a factor up to 1."""
        pause = min(max(_FIRST_PAUSE, 2 * self.pause), _LOOK_AGAIN)
        return replace(self._put_off(reason, now + pause * jitter), pause=pause)

    def store_failed(self, reason: str, now: float, jitter: float) -> Self:
        """Return the state after an error that no row causes; jitter: a factor up to 1."""
        since = now if self.failing_since is None else self.failing_since
        blocked = self.is_blocked or now - since >= _LASTING
        return replace(self.rows_failed(reason, now, jitter), failing_since=since, is_blocked=blocked)

    def cannot_go_on(self, reason: str, now: float) -> Self:
        """Return the state after a broken source, another space, or an owner who is not trusted."""
        return replace(self._put_off(reason, now + _LOOK_AGAIN), is_blocked=True)

    def _put_off(self, reason: str, until: float) -> Self:
        return replace(self, trouble=reason, wait_until=max(self.wait_until, until), setbacks=self.setbacks + 1)
