"""Objects that are costly to make and the same for equal settings: made once, counted, closed by the last user."""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class ProcessLock:
    """A lock of this process: a forked child has a fresh one, no matter who held the parent's."""

    def __init__(self) -> None:
        self._reset()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class _Entry(Generic[T]):
    """One shared object: how many use it, and the object itself once it is made."""

    def __init__(self) -> None:
        self.users = 0
        self.made: Future[T] = Future()


class Shared(Generic[T]):
    """The process's objects of one kind, by their settings.

    A slow `make` holds up only callers that want the same object. Releasing never waits for the lock, because it may
    run in the garbage collector, on a thread that holds the lock at that very moment.
    """

    def __init__(self, close: Callable[[T], None] = lambda _: None) -> None:
        self._close = close
        self._reset()
        if hasattr(os, "register_at_fork"):  # POSIX: a child must not inherit a lock that another thread held
            os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[Hashable, _Entry[T]] = {}
        self._let_go: deque[tuple[Hashable, _Entry[T]]] = deque()

    def use(self, key: Hashable, make: Callable[[], T]) -> Lease[T]:
        """Return a lease on the object for this key, which `make` builds if no one has it yet."""
        while True:
            fresh: _Entry[T] = _Entry()
            with self._lock:
                entry = self._entries.setdefault(key, fresh)
                entry.users += 1
            if entry is fresh:
                self._make(key, entry, make)
            self._close_unused()
            try:
                failure = entry.made.exception()
            except BaseException:  # interrupted while another thread makes it
                self.let_go(key, entry)
                raise
            if failure is None:
                return Lease(self, key, entry)
            if entry is fresh or isinstance(failure, Exception):
                raise failure
            # Another thread was interrupted while it made the object: the interrupt was meant for that thread, not for
            # ours.

    def _make(self, key: Hashable, entry: _Entry[T], make: Callable[[], T]) -> None:
        try:
            entry.made.set_result(make())
        except BaseException as error:  # including interrupts: any waiter must wake
            with self._lock:
                if self._entries.get(key) is entry:
                    del self._entries[key]
            entry.made.set_exception(error)

    def let_go(self, key: Hashable, entry: _Entry[T]) -> None:
        """Remove one user; the last one closes the object."""
        self._let_go.append((key, entry))
        self._close_unused()

    def _close_unused(self) -> None:
        # If the lock is taken, its holder does the rest: it looks again after releasing it.
        while self._let_go and self._lock.acquire(blocking=False):
            unused = []
            try:
                while self._let_go:
                    key, entry = self._let_go.popleft()
                    entry.users -= 1
                    if entry.users == 0 and self._entries.get(key) is entry:
                        del self._entries[key]
                        unused.append(entry)
            finally:
                self._lock.release()
            for entry in unused:
                # Interrupted waiters may be the last to release what is still being made.
                entry.made.add_done_callback(self._close_made)

    def _close_made(self, made: Future[T]) -> None:
        if made.exception() is None:
            self._close(made.result())


class Lease(Generic[T]):
    """One user's hold on a shared object."""

    def __init__(self, shared: Shared[T], key: Hashable, entry: _Entry[T]) -> None:
        self._shared, self._key, self._entry = shared, key, entry
        self._process = os.getpid()
        self._once = deque([None])  # popping is atomic: of two threads that release, one succeeds
        self.value = entry.made.result()

    @property
    def inherited(self) -> bool:
        """Whether it was taken before a fork, in the parent process."""
        return self._process != os.getpid()

    def release(self) -> None:
        """Release it, once; further calls do nothing, nor does a forked child whose parent took the lease."""
        with suppress(IndexError):  # the deque is empty
            self._once.pop()
            self._shared.let_go(self._key, self._entry)


class Held:
    """The leases of one owner, one object of each kind; they are released together, when it is closed or collected."""

    def __init__(self) -> None:
        self._leases: dict[str, Lease[Any]] = {}  # the one in use of each kind
        # All that were taken, even before a fork. Two threads may release them at once.
        self._releases: deque[weakref.finalize[Any, Held]] = deque()

    def lease(self, kind: str) -> Lease[Any] | None:
        """Return the lease that was taken, if one was."""
        return self._leases.get(kind)

    def take(self, kind: str, use: Callable[[], Lease[T]]) -> T:
        """Return the shared object of a kind, taken at first use, and again in a forked child."""
        lease = self._leases.get(kind)
        if lease is None or lease.inherited:
            lease = use()
            self._leases[kind] = lease
            release = weakref.finalize(self, lease.release)
            release.atexit = False
            self._releases.append(release)
        value: T = lease.value
        return value

    def release(self) -> None:
        """Release all of them."""
        self._leases = {}
        with suppress(IndexError):  # the deque is empty: another thread may be closing it too
            while True:
                self._releases.pop()()
