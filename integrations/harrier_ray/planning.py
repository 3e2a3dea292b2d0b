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
        on_gpus = gpus > 0 and _wants_gpu(encoder)
        if workers is None:
            if not on_gpus:
                raise SettingError("workers must be a number where no worker has a GPU; each loads the model")
            workers = int(gpus)
        least, most = workers if isinstance(workers, tuple) else (workers, workers)
        if not (type(least) is type(most) is int and 1 <= least <= most):
            raise SettingError(f"workers must be a number from 1 on, or two of them, the lesser first, got {workers!r}")
        plan = cls(least, most, cpus=0.0 if on_gpus else 1.0, gpus=1.0 if on_gpus else 0.0)
        if on_gpus and least > gpus:
            raise SettingError(f"workers={least} need as many GPUs, and the cluster has {gpus:.0f}; lower workers")
        if plan.most * plan.cpus > cpus - _READING:
            raise SettingError(
                f"workers={most} leave less than one of the {cpus:.0f} CPUs of the cluster to read with, and Ray would "
                f"wait forever; use at most {max(0, int(cpus - _READING))}"
            )
        return plan


def _wants_gpu(encoder: Embedder) -> bool:
    """Whether it is a model that is loaded on a GPU if there is one."""
    return encoder.settings is not None and str(encoder.settings.get("device") or "cuda").startswith("cuda")
