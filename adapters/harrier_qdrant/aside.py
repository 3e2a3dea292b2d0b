"""Work that is done on another thread, or when its result is requested."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Work(Protocol[T_co]):
    """Work with a result."""

    def result(self) -> T_co:
        """Return the result, or raise what the work raised."""

    def stop(self) -> None:
        """Give the work up, because its result will not be needed; finished work stays finished."""


class Later(Generic[T]):
    """Work that is done when its result is requested."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work

    def result(self) -> T:
        """Do the work."""
        return self._work()

    def stop(self) -> None:
        """Do nothing: the work has not begun."""


class Begun(Generic[T]):
    """Work on another thread."""

    def __init__(self, future: Future[T], stop: Callable[[], None]) -> None:
        self._future = future
        self._stop = stop

    def result(self) -> T:
        """Wait for the result."""
        return self._future.result()

    def stop(self) -> None:
        """Give the work up, if it is not finished."""
        if not self._future.done():
            self._stop()
            self._future.cancel()
