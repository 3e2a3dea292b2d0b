"""One small cluster for all Ray tests, because starting it takes long."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ray: Any = pytest.importorskip("ray", reason="ray is not installed: pip install 'harrier-kit[ray]'")


@pytest.fixture(scope="session", autouse=True)
def cluster() -> Iterator[Any]:
    """Start a cluster of four nominal CPUs. A test may add a node, and must end it."""
    from ray.cluster_utils import Cluster

    path = os.pathsep.join(filter(None, [str(Path(__file__).parent), *sys.path]))
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal", "PYTHONPATH": path}
    head = {
        "num_cpus": 4,
        "include_dashboard": False,
        "object_store_memory": 100 * 2**20,
        # A node is declared dead after some seconds without an answer; the default is most of a minute.
        "_system_config": {"health_check_period_ms": 1_000, "health_check_failure_threshold": 5},
    }
    started: Any = Cluster(initialize_head=True, head_node_args=head)
    ray.init(address=started.address, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield started
    ray.shutdown()
    started.shutdown()
