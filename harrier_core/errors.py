"""Every error that Harrier Kit raises on purpose. This module must not import anything from the kit.

    HarrierError
    ├── InputError (ValueError)      texts that cannot be encoded; lists every one of them
    │   ├── NotText                  something that is not a str
    │   ├── EmptyText                nothing but white space
    │   ├── InvalidText              a lone surrogate: no UTF-8 for it
    │   └── TextTooLong              more tokens than the limit
    ├── SettingError (ValueError)    an argument or setting that is not valid
    ├── TaskError (ValueError)       a task that this model does not have, or an instruction it cannot take
    ├── SpaceError (ValueError)      stored text that is not an EmbeddingSpace
    ├── FilterError (ValueError)     a `where` that is not a valid filter
    ├── StoreError                   an error of a database
    │   ├── WrongSpace               it holds vectors of another embedding space
    │   ├── StoreUnsuitable          it exists but cannot be used: another shape, no extension, no privileges
    │   │   └── StoreMissing         there is no such table or collection yet
    │   ├── StoreUnavailable         it cannot be reached, or the connection was lost
    │   └── StoreFull                it has no room left
    ├── ModelError
    │   ├── ModelNotFound            no such model, or no way to reach it
    │   ├── ModelDamaged             a file is missing, unreadable, or does not fit the others
    │   ├── ModelUnsafe              weights that only pickle can read
    │   ├── ModelUnsupported         a model whose vectors this kit cannot make
    │   └── BadVectors               the model returned NaN or a zero-length vector
    ├── DeviceError                  a device or dtype that is not available
    │   ├── ForkedModel              a forked process inherited a model that lives on a GPU
    │   ├── DeviceFailed             a forward pass failed, though not for lack of memory
    │   ├── DeviceFull               memory that was enough before no longer is: other programs use it
    │   └── OutOfMemory              a single text that does not fit into memory
    ├── ServerError                  an error of a server that encodes for a RemoteEncoder
    │   ├── ServerUnavailable        it cannot be reached, or is busy, for longer than the client waits
    │   ├── ServerRefused            it refuses the request: a wrong key, another kind of server
    │   └── SpaceChanged             its vectors now belong to another embedding space
    ├── EncoderClosed                used after close()
    │   └── ProcessEnding            used after the end of the main thread
    ├── WorkersDied                  the worker processes of an ingest keep dying, whatever they are given
    └── MissingExtra (ImportError)   a package that is not installed; names the extra that installs it

    ModelWarning (UserWarning)       a model that works, but not as its own files promise
    StoreWarning (UserWarning)       a database that works, but needs attention
    RoleWarning (UserWarning)        a query that is embedded as a document, which only its framework can change
    InputWarning (UserWarning)       a text that was left out, because the caller chose that over an error

No message holds a text, a vector or a secret: positions, lengths and names only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar


class HarrierError(Exception):
    """The root: `except HarrierError` catches the errors that the kit raises on purpose, and no others.

    usage: whether the caller asked for something wrong, so that the same call can never succeed. Otherwise something
    failed that may succeed elsewhere or later.
    """

    usage: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class Problem:
    """Why the text at `position` of the caller's list cannot be encoded."""

    position: int
    kind: type[InputError]
    reason: str


class InputError(HarrierError, ValueError):
    """Texts that cannot be encoded; `problems` holds all of those in the call, in the caller's order."""

    usage = True

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(problems)  # args rebuild the error after pickling
        self.problems = tuple(problems)

    @property
    def position(self) -> int:
        """The position of the first such text in the caller's list."""
        return self.problems[0].position

    def __str__(self) -> str:
        first, *others = self.problems
        more = f" (and {len(others)} more of this call's texts cannot be encoded)" if others else ""
        return f"text {first.position} {first.reason}{more}"


class NotText(InputError):
    """Something that is not a str."""


class EmptyText(InputError):
    """Nothing but white space: its vector would be that of the prompt alone."""


class InvalidText(InputError):
    """A str that UTF-8 cannot encode."""


class TextTooLong(InputError):
    """A text with more tokens than the limit, where truncation was not asked for."""


class SettingError(HarrierError, ValueError):
    """An argument or setting that is not valid."""

    usage = True


class TaskError(HarrierError, ValueError):
    """A task that this model does not have, or an instruction that it cannot take."""

    usage = True


class SpaceError(HarrierError, ValueError):
    """Stored text that is not an EmbeddingSpace."""


class FilterError(HarrierError, ValueError):
    """A `where` that is not a valid filter."""

    usage = True


class StoreError(HarrierError):
    """An error of a database."""


class WrongSpace(StoreError):
    """The store holds vectors of another embedding space than the encoder makes."""


class StoreUnsuitable(StoreError):
    """The store exists but cannot be used: another shape, no extension, no privileges."""


class StoreMissing(StoreUnsuitable):
    """There is no such table or collection yet: nothing was ingested, or the name is wrong."""


class StoreUnavailable(StoreError):
    """The store cannot be reached, or the connection was lost."""


class StoreFull(StoreError):
    """The store has no room left; what is stored remains."""


class ModelError(HarrierError):
    """An error of the model itself."""


class ModelNotFound(ModelError):
    """There is no such model, or it cannot be reached from here."""


class ModelDamaged(ModelError):
    """A file of the model is missing, unreadable, or does not fit the others."""


class ModelUnsafe(ModelError):
    """Weights that only pickle can read: reading them may run arbitrary code."""


class ModelUnsupported(ModelError):
    """A sound model whose vectors this kit cannot make."""


class BadVectors(ModelError):
    """The model returned NaN, infinity or a zero-length vector for the texts at `positions`."""

    def __init__(self, message: str, positions: Sequence[int]) -> None:
        super().__init__(message, positions)  # args rebuild the error after pickling
        self.positions = tuple(positions)

    def __str__(self) -> str:
        return str(self.args[0])


class DeviceError(HarrierError):
    """A device or dtype that is not available here."""


class ForkedModel(DeviceError):
    """A forked process inherited a model that lives on a GPU; GPU memory does not survive a fork."""


class DeviceFailed(DeviceError):
    """A forward pass failed, though not for lack of memory; the cause is what the device or torch raised."""


class DeviceFull(DeviceError):
    """Memory that was enough before no longer is, because other programs use it. The same call may succeed later."""


class OutOfMemory(DeviceError):
    """The text at `position` does not fit into memory, even alone."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message, position)  # args rebuild the error after pickling
        self.position = position

    def __str__(self) -> str:
        return str(self.args[0])


class ServerError(HarrierError):
    """An error of a server that encodes for a RemoteEncoder."""


class ServerUnavailable(ServerError):
    """The server cannot be reached, or is busy, for longer than the client waits."""


class ServerRefused(ServerError):
    """The server refuses the request, or sends an answer that cannot be read.

    The same request can never succeed if its status is a 4xx.
    """

    def __init__(
        self, message: str, status: int = 0, code: str | None = None, problems: Sequence[Mapping[str, object]] = ()
    ) -> None:
        super().__init__(message, status, code, problems)  # args rebuild the error after pickling
        self.status = status
        self.code = code
        self.problems = problems  # of texts, as listed by the server
        self.usage = 400 <= status < 500  # type: ignore[misc]  # the class's says what is so without a status

    def __str__(self) -> str:
        return str(self.args[0])


class SpaceChanged(ServerError):
    """The server's vectors now belong to another embedding space than when it was first asked."""


class EncoderClosed(HarrierError):
    """The encoder was closed before it was used, or while it was in use."""


class ProcessEnding(EncoderClosed):
    """The main thread has ended, so other threads can no longer encode."""


class WorkersDied(HarrierError):
    """The worker processes of an ingest keep dying before they have done anything, whatever they are given."""


class MissingExtra(HarrierError, ImportError):
    """`package` is not installed. `extra` is the extra of harrier-kit that installs it, or None if none does."""

    def __init__(self, needed_by: str, package: str, extra: str | None) -> None:
        super().__init__(needed_by, package, extra)  # args rebuild the error after pickling
        self.needed_by = needed_by
        self.package = package
        self.extra = extra

    def __str__(self) -> str:
        requirement = self.package if self.extra is None else f"harrier-kit[{self.extra}]"
        return f"{self.needed_by} needs {self.package}, which is not installed; run pip install '{requirement}'"


class ModelWarning(UserWarning):
    """A model that works, but not as its own files promise."""


class StoreWarning(UserWarning):
    """A database that works, but needs attention."""


class RoleWarning(UserWarning):
    """A framework embeds its queries as documents, and so without the task's instruction."""


class InputWarning(UserWarning):
    """A text was left out, because the caller chose a warning over an error."""


def raise_problems(problems: Sequence[Problem]) -> None:
    """Raise the error of the first problem, carrying all of them; do nothing if there are no problems."""
    if problems:
        ordered = sorted(problems, key=lambda problem: problem.position)
        raise ordered[0].kind(ordered)


@contextmanager
def positions_of_all(place: Callable[[int], int]) -> Iterator[None]:
    """Make an error about some of a caller's texts refer to all of them: `place` maps its positions to the caller's."""
    try:
        yield
    except InputError as error:
        raise type(error)([replace(each, position=place(each.position)) for each in error.problems]) from None
    except BadVectors as error:
        raise BadVectors(str(error), [place(each) for each in error.positions]) from None
    except OutOfMemory as error:
        raise OutOfMemory(str(error), place(error.position)) from None


def too_long(position: int, tokens: int, limit: int) -> Problem:
    """Return the problem of a text with more tokens than a model or a caller allows."""
    reason = (
        f"has {tokens:,} tokens with its prompt, but the limit is {limit:,}; split it, or pass on_overflow='truncate'"
    )
    return Problem(position, TextTooLong, reason)
