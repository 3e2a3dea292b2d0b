"""How many workers a cluster has room for. Ray waits without a word for what it can never have: that is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harrier_core import Embedder, SettingError

_READING = 1.0  # CPUs that the tasks want which read the source


@dataclass(frozen=True, slots=True)
class Plan:
    """Workers, and what each takes of the cluster."""

    least: int
    most: int
    cpus: float
    gpus: float

    @classmethod
    def of(cls, workers: int | tuple[int, int] | None, encoder: Embedder, cluster: dict[str, Any]) -> Plan:
        """Return the plan for a number of workers, from one number to another, or one for each GPU."""
        gpus, cpus = float(cluster.get("GPU", 0)), float(cluster.get("CPU", 0))
        each = _gpus_of(encoder) if gpus else 0
        if workers is None:
            if not each:
                raise SettingError("workers must be a number where no worker has a GPU; each loads the model")
            workers = max(1, int(gpus // each))
        least, most = workers if isinstance(workers, tuple) else (workers, workers)
        if not (type(least) is type(most) is int and 1 <= least <= most):
            raise SettingError(f"workers must be a number from 1 on, or two of them, the lesser first, got {workers!r}")
        plan = cls(least, most, cpus=0.0 if each else 1.0, gpus=float(each))
        if least * each > gpus:
            raise SettingError(
                f"workers={least} need {least * each} GPUs, and the cluster has {gpus:.0f}; lower workers"
            )
        if plan.most * plan.cpus > cpus - _READING:
            raise SettingError(
                f"workers={most} leave less than one of the {cpus:.0f} CPUs of the cluster to read with, and Ray would "
                f"wait forever; use at most {max(0, int(cpus - _READING))}"
            )
        return plan


def _gpus_of(encoder: Embedder) -> int:
    """Return over how many GPUs its model is spread, or 0 if it needs none where there are some."""
    if encoder.settings is None:
        return 0
    devices = str(encoder.settings.get("device") or "cuda")
    return len(devices.split(",")) if devices.startswith("cuda") else 0
