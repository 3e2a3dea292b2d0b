"""The base class of objects whose model is loaded once and shared: settings, and leases on what is loaded.

Making one loads nothing, and pickling or copying one carries only the settings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

from harrier_core.closing import Closing
from harrier_core.embedder import closed
from harrier_core.shared import Held, Lease

T = TypeVar("T")


class Light(Closing):
    """Settings and leases. Any number of threads may use one at once."""

    _called: ClassVar[str]  # its name in errors

    def __init__(self, settings: dict[str, Any]) -> None:
        """Take the arguments that make an equal one."""
        self._settings = settings
        self._held = Held()
        self._closed = False

    @property
    def settings(self) -> Mapping[str, Any]:
        """The arguments that this was made with; the same arguments make an equal one."""
        return MappingProxyType(dict(self._settings))

    def close(self) -> None:
        """Release the model, which leaves memory with its last user; calls under way end in EncoderClosed.

        It waits for nothing: if a forward pass is running, the model is released once that is over.
        """
        self._closed = True
        self._held.release()

    def __getstate__(self) -> dict[str, Any]:
        return dict(self._settings)

    def __setstate__(self, settings: dict[str, Any]) -> None:
        self.__init__(**settings)  # type: ignore[misc]

    def _shared(self, kind: str, use: Callable[[], Lease[T]]) -> T:
        self._refuse_if_closed()
        value = self._held.take(kind, use)
        self._refuse_if_closed()  # it may have been closed in the meantime, and must not keep what it took
        return value

    def _refuse_if_closed(self) -> None:
        if self._closed:
            self.close()
            raise closed(self._called)
