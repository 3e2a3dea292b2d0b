"""deploy/harrier-rayjob.yaml has the fields that KubeRay requires, and a valid `harrier` command."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml  # type: ignore[import-untyped]
from harrier_cli.app import app
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
FILE = ROOT / "deploy" / "harrier-rayjob.yaml"
JOB: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
CLUSTER: dict[str, Any] = JOB["spec"]["rayClusterSpec"]


def pods() -> list[dict[str, Any]]:
    return [CLUSTER["headGroupSpec"], *CLUSTER["workerGroupSpecs"]]


def test_fields_that_kuberay_requires() -> None:
    """The fields match KubeRay's v1 definitions of RayJob and RayCluster."""
    assert (JOB["apiVersion"], JOB["kind"]) == ("ray.io/v1", "RayJob")
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,45}[a-z0-9])?", JOB["metadata"]["name"])  # a part of others' names
    assert set(JOB["spec"]) <= {
        *("entrypoint", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "backoffLimit", "rayClusterSpec"),
    }
    assert JOB["spec"]["ttlSecondsAfterFinished"] == 0 or JOB["spec"]["shutdownAfterJobFinishes"]
    for group in CLUSTER["workerGroupSpecs"]:
        assert group["groupName"]
        assert 0 < group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for pod in pods():
        assert all(isinstance(each, str) for each in pod["rayStartParams"].values())
        [container] = pod["template"]["spec"]["containers"]
        assert container["name"]
        assert container["image"]


def test_release_token_and_secrets() -> None:
    """The cluster uses one Ray release that the kit allows, a token, no statistics, and a password from a secret."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    [needed] = map(Requirement, extras["ray"])
    assert CLUSTER["rayVersion"] in needed.specifier
    assert f"rayproject/ray:{CLUSTER['rayVersion']}-" in FILE.read_text(encoding="utf-8")
    assert CLUSTER["authOptions"] == {"mode": "token"}
    assert len({pod["template"]["spec"]["containers"][0]["image"] for pod in pods()}) == 1
    for pod in pods():
        environment = {each["name"]: each for each in pod["template"]["spec"]["containers"][0]["env"]}
        assert environment["RAY_USAGE_STATS_ENABLED"]["value"] == "0"
        assert "secretKeyRef" in environment["PGPASSWORD"]["valueFrom"]
    assert CLUSTER["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"]


def test_its_command() -> None:
    """The parser accepts its cluster, bucket, columns and PLACE, which has no password."""
    words = shlex.split(JOB["spec"]["entrypoint"])
    assert words[:2] == ["harrier", "ingest"]
    command: Any = typer.main.get_command(app)
    given = command.commands["ingest"].make_context("ingest", words[2:]).params
    assert (given["ray"], given["paths"], given["include"]) == ("auto", ["s3://bucket/products"], ["*.parquet"])
    assert given["workers"] is None  # one for each GPU
    assert given["to"].startswith("postgresql://harrier@postgres/")


@pytest.mark.parametrize(
    ("words", "address", "paths"),
    [
        (["--ray", "docs"], "", ["docs"]),
        (["--ray", "head:6379", "docs"], "head:6379", ["docs"]),
        (["--ray=head:6379", "docs"], "head:6379", ["docs"]),
        (["docs", "--ray"], "", ["docs"]),
        (["--ray", "--prune", "docs"], "", ["docs"]),
        (["--", "--ray"], None, ["--ray"]),
    ],
)
def test_ray_with_or_without_an_address(words: list[str], address: str | None, paths: list[str]) -> None:
    """The word after --ray is the address only if it looks like one."""
    command: Any = typer.main.get_command(app)
    given = command.commands["ingest"].make_context("ingest", words).params
    assert (given["ray"], given["paths"]) == (address, paths)
