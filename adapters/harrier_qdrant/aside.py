"""Work that is done on another thread, or when its result is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Work(Protocol[T_co]):
    """Work with a result."""

    def result(self) -> T_co:
        """Return the result, or raise what the work raised."""


class Later(Generic[T]):
    """Work that is done when its result is asked for."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work

    def result(self) -> T:
        """Do the work."""
        return self._work()
