"""The workers that a cluster has room for. Ray waits silently for resources that it can never have; we refuse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harrier_core import Embedder, SettingError

_READING = 1.0  # CPUs for the tasks that read the source


@dataclass(frozen=True, slots=True)
class Plan:
    """The number of workers, and the resources of the cluster that each takes."""

    least: int
    most: int
    cpus: float
    gpus: float

    @classmethod
    def of(
        cls, workers: int | tuple[int, int] | None, encoder: Embedder, machines: Sequence[Mapping[str, float]]
    ) -> Plan:
        """Return the plan for a number of workers, a minimum and a maximum, or one worker for each GPU.

        machines: the resources of each. A worker has all of its GPUs on one of them.
        """
        cpus = sum(each.get("CPU", 0.0) for each in machines)
        gpus = [int(each.get("GPU", 0.0)) for each in machines]
        each = _gpus_of(encoder) if any(gpus) else 0
        room = sum(own // each for own in gpus) if each else 0
        if each and not room:
            raise SettingError(
                f"the model is spread over {each} GPUs, and no machine of the cluster has that many; name fewer devices"
            )
        if workers is None:
            if not each:
                raise SettingError("workers must be given if no worker has a GPU, because each loads the model")
            workers = room
        least, most = workers if isinstance(workers, tuple) else (workers, workers)
        if not (type(least) is type(most) is int and 1 <= least <= most):
            raise SettingError(f"workers must be a positive integer, or two of them, the lesser first, got {workers!r}")
        plan = cls(least, most, cpus=0.0 if each else 1.0, gpus=float(each))
        if each and least > room:
            raise SettingError(f"workers={least} is more than the {room} that the GPUs of the cluster have room for")
        if plan.most * plan.cpus > cpus - _READING:
            raise SettingError(
                f"workers={most} leave less than one of the {cpus:.0f} CPUs of the cluster to read with, and Ray would "
                f"wait forever; use at most {max(0, int(cpus - _READING))}"
            )
        return plan


def _gpus_of(encoder: Embedder) -> int:
    """Return the number of GPUs that the model is spread over, or 0 if it needs none even where they exist."""
    if encoder.settings is None:
        return 0
    devices = str(encoder.settings.get("device") or "cuda")
    return len(devices.split(",")) if devices.startswith("cuda") else 0
