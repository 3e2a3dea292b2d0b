"""Shares of a source, each of which is read by a task, as a dataset of records."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import ray
from ray.data import TaskPoolStrategy

from harrier_core import HarrierError
from harrier_core.records import Ingestible
from harrier_ray.starting import beside

if TYPE_CHECKING:
    from ray.data import Dataset

_TASKS = 1_000  # at most, for any number of shares
_HERE = 2  # tasks at once on the machine of the driver, which may have no CPU for them


class Share(Protocol):
    """A part of a source. It can be pickled, and yields the same records whenever it is read."""

    def read(self, note: Callable[[Any], None]) -> Iterator[Ingestible]:
        """Yield its records. note: called at the end with the other findings, which can be pickled."""


class Reading:
    """The records of shares, as a dataset; and the other findings, once the dataset was consumed."""

    def __init__(self, shares: Sequence[Share], *, here: bool) -> None:
        """Take shares. here: read them on this machine, because only it has the files."""
        self._notes: Any = ray.remote(_Notes).options(num_cpus=0, label_selector=beside()).remote()
        rows = [{"share": pickle.dumps(share), "number": number} for number, share in enumerate(shares)]
        options: dict[str, Any] = {}
        if here:
            options = {
                "num_cpus": 0,
                "compute": TaskPoolStrategy(size=_HERE),
                "label_selector": beside(),
            }
        shared = ray.data.from_items(rows, override_num_blocks=min(len(rows), _TASKS))
        self.dataset: Dataset = shared.flat_map(_read(self._notes), **options)

    def found(self) -> list[Any]:
        """Return the findings noted for each share."""
        found: list[Any] = ray.get(self._notes.all.remote())
        return found


def record_of(row: Mapping[str, Any]) -> Ingestible:
    """Return the record of a row of a Reading's dataset."""
    record: Ingestible | HarrierError = pickle.loads(row["record"])  # noqa: S301  # one of our tasks made it
    if isinstance(record, HarrierError):
        raise record
    return record


def _read(notes: Any) -> Callable[[Mapping[str, Any]], Iterator[dict[str, bytes]]]:
    def read(row: Mapping[str, Any]) -> Iterator[dict[str, bytes]]:
        share: Share = pickle.loads(row["share"])  # noqa: S301  # the driver made it

        def note(found: Any) -> None:
            ray.get(notes.note.remote(row["number"], found))

        try:
            for record in share.read(note):
                yield {"record": pickle.dumps(record)}
        except HarrierError as error:  # raised by `record_of`; Ray would wrap it
            yield {"record": pickle.dumps(error)}

    return read


class _Notes:
    """The findings in shares, by their numbers: a share that is read again is noted once."""

    def __init__(self) -> None:
        self._found: dict[int, Any] = {}

    def note(self, number: int, found: Any) -> None:
        self._found[number] = found

    def all(self) -> list[Any]:
        return [self._found[number] for number in sorted(self._found)]
