"""A cluster to ingest on: an existing one, or this machine alone, as a private cluster."""

from __future__ import annotations

import logging
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray._private import ray_constants
from ray.data import DataContext
from ray.exceptions import RayError

from harrier_core import HarrierError, SettingError

_LOCAL = "local"
_PATIENCE = 10.0  # seconds for the head of a cluster to answer
_RECORDS = 2**29  # bytes of memory for records in transit; Ray would reserve a third of the machine's
_TOKENS = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


@contextmanager
def cluster(address: str | None = None, *, workers: int | None = None) -> Iterator[None]:
    """Connect this process to Ray while the block runs.

    address: HOST:PORT of a cluster's head, or "auto" for the one that this machine belongs to; by default RAY_ADDRESS,
    or else a cluster of this machine alone, which ends with the block. workers: how many that one has room for. Ray's
    own messages about its work are suppressed. A process that is already connected stays connected.
    """
    if ray.is_initialized():
        yield
        return
    before = {name: os.environ.get(name) for name in _TOKENS}
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # it warns of actors that could not be started again
    connect(address, workers=workers)
    DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()
        for name, value in before.items():  # the token of a cluster that has ended would be sent to the next one
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def beside() -> dict[str, str]:
    """Return the label of this process's machine, for actors whose loss would end the ingest as its own loss does."""
    return {"ray.io/node-id": ray.get_runtime_context().get_node_id()}


def machines() -> int:
    """Return how many machines the cluster has."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return len({node["NodeManagerHostname"] for node in nodes if node["Alive"]})


def resources() -> list[dict[str, float]]:
    """Return the resources of each machine of the cluster."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node["Resources"] for node in nodes if node["Alive"]]


def connect(address: str | None = None, *, workers: int | None = None) -> None:
    """Connect this process to a cluster, or start one, until it ends or `ray.shutdown` is called."""
    place = address or os.environ.get("RAY_ADDRESS") or _LOCAL
    if place == _LOCAL:
        _start(workers)
        return
    if "://" in place:
        raise SettingError(
            f"{place} is a Ray Client address, unsuitable for long-running work; use HOST:PORT within the cluster, "
            "or run the command there: ray job submit -- harrier ingest --ray auto ..."
        )
    try:
        _reach(place)
        ray.init(address=place, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError, RayError) as error:
        raise HarrierError(
            f"no Ray cluster can be reached at {place} ({type(error).__name__}); check the address, "
            "RAY_AUTH_TOKEN if the cluster requires one, and that it has the same versions of Ray and Python"
        ) from None


def _reach(place: str) -> None:
    """Raise OSError unless something listens there: Ray would try for many minutes."""
    host, _, port = place.rpartition(":")
    if port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()


def _start(workers: int | None) -> None:
    """Start a cluster of this machine.

    Anyone who reaches a port of Ray and knows its token can run programs. So Ray listens on the loopback address only,
    and the token is made for this cluster; others may be able to read the one in the home directory.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not any(name in os.environ for name in _TOKENS):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # Ray requires one by default
    with _on_loopback():
        ray.init(
            address=_LOCAL,
            num_cpus=max(cores, (workers or 0) + 1),  # only numbers to Ray; one is for reading
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=_RECORDS,
        )


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Have Ray start at 127.0.0.1, as on macOS; on Linux it listens on all addresses, whatever its settings."""
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
