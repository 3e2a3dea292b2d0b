"""Ingest the rows of a Ray dataset into an Index: each block of rows is a part, whichever worker has it."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import ray
from ray.data import ActorPoolStrategy, DataContext

from harrier_core import HarrierError, Index, IngestReport, Pruning, SettingError
from harrier_core.checks import check_integer
from harrier_core.progress import Progress
from harrier_core.scaling import IngestPart, PartReport, Tries, finish, secret_of
from harrier_ray.planning import Plan
from harrier_ray.rows import Columns, MakeRecord
from harrier_ray.starting import beside, connect, machines, resources
from harrier_ray.working import worker_of

if TYPE_CHECKING:
    from ray.data import Dataset

_AT_ONCE = 2  # blocks of a worker: while one of them is planned and written, the other one is encoded


def ingest(
    dataset: Dataset,
    index: Index,
    *,
    id: str = "id",  # noqa: A002  # as a user would say it
    text: str = "text",
    metadata: Sequence[str] = (),
    record: MakeRecord | None = None,
    workers: int | tuple[int, int] | None = None,
    block: int = 2_000,
    connections: int = 2,
    prune: bool | Pruning = False,
    build_indexes: bool = True,
    on_progress: Progress | None = None,
) -> IngestReport:
    """Make the index hold these rows as they are now, as `Index.ingest` does, by the workers of a cluster.

    id, text, metadata: columns; or record: a function of a row that returns a Record. workers: their number, or a
    minimum and a maximum; by default, one for each GPU. Each loads the model, and opens the store with at most
    `connections` connections.
    block: rows that are ingested together. on_progress: called with the report so far, each time a block is done. A row
    that ends the process that ingests it is rejected, after two tries. An id that occurred in several blocks with
    different texts is in the report's `differing`.
    """
    check_integer("block", block, 1)
    begun = perf_counter()
    part = IngestPart(index, connections=connections)
    settings = _settings(part)
    if not ray.is_initialized():
        connect(workers=workers if isinstance(workers, int) else None)
    if prune and DataContext.get_current().max_errored_blocks != 0:
        raise SettingError("prune=True needs all blocks, and max_errored_blocks lets Ray drop some; set it to 0")
    in_folder = getattr(index.store, "folder", None) is not None
    if in_folder and (number := machines()) > 1:
        raise SettingError(
            f"{index.store} is in a folder of this machine, and the cluster has {number} machines; use a server"
        )
    placed: dict[str, Any] = {"label_selector": beside()} if in_folder else {}  # a machine may join the cluster later
    plan = Plan.of(workers, index.encoder, resources())
    make = record or _columns(dataset, Columns(id, text, tuple(metadata)))
    tries: Any = ray.remote(Tries).options(num_cpus=0, max_concurrency=1, label_selector=beside()).remote()
    reports = dataset.repartition(target_num_rows_per_block=block).map_batches(
        worker_of(settings, part.space, make, tries),
        batch_size=block,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(
            min_size=plan.least,
            max_size=plan.most,
            max_tasks_in_flight_per_actor=2 * _AT_ONCE,
            max_concurrent_calls_per_actor=_AT_ONCE,
            enable_true_multi_threading=True,
        ),
        num_cpus=plan.cpus,
        num_gpus=plan.gpus,
        **placed,
    )
    report = finish(index, _told(reports, begun, on_progress), prune=prune, build_indexes=build_indexes)
    report = replace(report, seconds=perf_counter() - begun)
    if on_progress:
        on_progress(report)
    return report


def check_index(index: Index) -> None:
    """Raise SettingError unless workers on other machines could open the index."""
    _settings(IngestPart(index))


def _settings(part: IngestPart) -> bytes:
    """Return the part, pickled, without a secret: the cluster's head node keeps all that is sent to workers."""
    try:
        settings = pickle.dumps(part)
    except (SettingError, pickle.PicklingError, TypeError, AttributeError) as error:
        raise SettingError(f"workers must be able to open the index, but {error}; or ingest without Ray") from None
    if secret := secret_of(settings):
        raise SettingError(
            f"the index holds a secret, {secret}, and Ray keeps what is sent to workers; omit the password of a "
            "Postgres, and set PGPASSWORD or PGPASSFILE in the environment of all workers; stores with "
            "other keys are not supported"
        )
    return settings


def _columns(dataset: Dataset, columns: Columns) -> Columns:
    schema = dataset.schema()
    if schema is not None:
        columns.check(schema.names)
    return columns


def _told(reports: Dataset, begun: float, on_progress: Progress | None) -> Iterator[PartReport]:
    """Yield the reports of the blocks as they arrive."""
    report = IngestReport()
    for row in reports.iter_rows():
        part: PartReport | HarrierError = pickle.loads(row["report"])  # noqa: S301  # one of our workers made it
        if isinstance(part, HarrierError):
            raise part
        report = report + part.report
        if on_progress:
            on_progress(replace(report, seconds=perf_counter() - begun))
        yield part
