"""Locks between processes, on the files of a folder. The kernel releases them, however their holder ends."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from harrier_core.errors import StoreUnavailable

_PAUSE = 0.01


class _Descriptors:
    """The descriptors of this process's locks.

    A forked child closes its copies, which would otherwise hold its parent's locks for as long as the child lives. No
    descriptor is opened while another thread forks, so that the child knows all that it inherited.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._open: set[int] = set()
        os.register_at_fork(
            before=self._before,
            after_in_parent=self._after,
            after_in_child=self._forked,
        )

    def _before(self) -> None:
        self._guard.acquire()

    def _after(self) -> None:
        self._guard.release()

    def open(self, name: str, folder: int) -> int:
        with self._guard:
            flags, descriptor = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, -1
            while descriptor < 0:
                with suppress(FileNotFoundError):
                    descriptor = os.open(name, flags, dir_fd=folder)
                    break
                with suppress(FileExistsError):  # only a file created here is given away, not one that a link leads to
                    descriptor = os.open(name, flags | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder)
                    if os.geteuid() == 0:  # in another user's folder, whose owner must be able to lock it
                        os.fchown(descriptor, os.fstat(folder).st_uid, -1)
            self._open.add(descriptor)
        return descriptor

    def close(self, descriptor: int) -> None:
        with self._guard:
            self._open.remove(descriptor)
            os.close(descriptor)

    def _forked(self) -> None:
        for descriptor in self._open:
            with suppress(OSError):
                os.close(descriptor)
        self._open = set()
        self._guard = threading.Lock()


_descriptors = _Descriptors()


class Lock:
    """A file to be locked, opened by this process."""

    def __init__(self, name: str, folder: int) -> None:
        """Open it in an open folder, and create it for the folder's owner if it does not exist."""
        self.descriptor = _descriptors.open(name, folder)
        self._process: int | None = os.getpid()

    def shared(self) -> bool:
        """Lock it unless another process has an exclusive lock; return whether it was locked."""
        return self._lock(fcntl.LOCK_SH)

    def exclusive(self) -> bool:
        """Lock it unless another process has locked it; return whether it was locked."""
        return self._lock(fcntl.LOCK_EX)

    def _lock(self, kind: int) -> bool:
        try:
            fcntl.flock(self.descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
                raise StoreUnavailable(
                    f"the file system does not support locks ({error.strerror}); use a folder on a local disk"
                ) from None
            raise
        return True

    def release(self) -> None:
        """Unlock it, and keep it open."""
        fcntl.flock(self.descriptor, fcntl.LOCK_UN)

    def is_file(self, name: str, folder: int) -> bool:
        """Return whether the file of that name is still this one."""
        try:
            return os.path.samestat(os.fstat(self.descriptor), os.stat(name, dir_fd=folder, follow_symlinks=False))
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Release it, unless a process that inherited the descriptor still holds it."""
        if self._process == os.getpid():  # a forked child's copy is closed, and its number may belong to another file
            self._process = None
            _descriptors.close(self.descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def wait_for(condition: Callable[[], bool], seconds: float, otherwise: str) -> None:
    """Return once the condition holds. Raise StoreUnavailable with that message if it does not in time."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= until:
            raise StoreUnavailable(otherwise)
        time.sleep(_PAUSE)
