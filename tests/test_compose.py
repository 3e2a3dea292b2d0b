"""docker-compose.yml and the Dockerfile, read: what must not be wrong in them can be seen without a container."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DATABASES = ("postgres", "qdrant")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")

# Of the Compose specification, what we use; a misspelt key would be an error there.
KEYS = {
    *("build", "depends_on", "deploy", "environment", "healthcheck", "image", "ports", "profiles", "restart"),
    *("shm_size", "volumes"),
}
CHECK_KEYS = {"test", "interval", "timeout", "retries", "start_period"}


def mounts() -> Iterator[tuple[str, str, str]]:
    for service, settings in SERVICES.items():
        for mount in settings.get("volumes", []):
            source, target = mount.split(":")
            yield service, source, target


def test_only_known_keys() -> None:
    """At the top, in each service and in each health check."""
    assert set(COMPOSE) == {"name", "services", "volumes"}
    assert {key for settings in SERVICES.values() for key in settings} <= KEYS
    assert {key for name in DATABASES for key in SERVICES[name]["healthcheck"]} <= CHECK_KEYS


@pytest.mark.parametrize(
    ("service", "pattern", "least"),
    [
        ("postgres", r"pgvector/pgvector:(\d+)\.(\d+)\.(\d+)-pg18", (0, 8, 4)),  # before it HNSW can be damaged
        ("qdrant", r"qdrant/qdrant:v(\d+)\.(\d+)\.(\d+)", (1, 16, 0)),  # the first with a collection's metadata
    ],
)
def test_images_are_pinned(service: str, pattern: str, least: tuple[int, ...]) -> None:
    """To a whole release, of those that the kit works with."""
    found = re.fullmatch(pattern, SERVICES[service]["image"])
    assert found, SERVICES[service]["image"]
    assert tuple(map(int, found.groups())) >= least


@pytest.mark.parametrize("service", DATABASES)
def test_ports_are_of_this_machine_only(service: str) -> None:
    """No database is open to the network, and the ports can be others."""
    assert SERVICES[service]["ports"]
    for port in SERVICES[service]["ports"]:
        assert re.fullmatch(r"127\.0\.0\.1:\$\{[A-Z_]+_PORT:-(\d+)\}:\1", port), port


def test_databases_are_waited_for() -> None:
    """Each says when it is ready, by TCP, and the kit starts no earlier."""
    for name in DATABASES:
        check = SERVICES[name]["healthcheck"]
        assert check["test"][0] == "CMD"
        assert "127.0.0.1" in " ".join(check["test"])
        assert SERVICES["harrier"]["depends_on"][name] == {"condition": "service_healthy"}


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False), (None, False)])
def test_qdrants_health_check(status: int | None, healthy: bool) -> None:
    """Its own command, run against something that is ready, not ready yet, or not there."""
    asked: list[str] = []

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status or 500)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        check = [part.replace("/6333", f"/{server.server_port}") for part in SERVICES["qdrant"]["healthcheck"]["test"]]
        assert str(server.server_port) in check[-1]
        if status is None:
            server.server_close()
        else:
            threading.Thread(target=server.handle_request, daemon=True).start()
        done = subprocess.run(check[1:], check=False, capture_output=True, timeout=20)
    assert (done.returncode == 0) == healthy
    assert asked == ([] if status is None else ["/readyz"])


def test_what_is_stored_is_kept() -> None:
    """In named volumes, all declared and all used, where the images keep their data."""
    assert {source for _, source, _ in mounts()} == set(COMPOSE["volumes"])
    assert ("postgres", "postgres", "/var/lib/postgresql") in mounts()
    assert ("qdrant", "qdrant", "/qdrant/storage") in mounts()


def test_an_index_can_be_built() -> None:
    """Its graph is shared memory, up to the gigabyte that the kit builds with."""
    assert SERVICES["postgres"]["shm_size"] == "2gb"


def test_no_password_is_written_down() -> None:
    """It comes from the environment, and without one nothing starts."""
    found = re.findall(r"^ *\w*(?:PASSWORD|KEY|TOKEN|SECRET)\w*: *(.*)$", TEXT, re.MULTILINE)
    assert len(found) == 2
    assert all(re.fullmatch(r"\$\{POSTGRES_PASSWORD:\?.+\}", value) for value in found)
    assert "TRUST" not in TEXT.upper()


def test_the_gpu_is_asked_for_by_profile() -> None:
    """Who has none starts the databases all the same."""
    assert SERVICES["harrier"]["profiles"] == ["gpu"]
    [device] = SERVICES["harrier"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    assert not any("profiles" in SERVICES[name] for name in DATABASES)


def test_the_container_does_not_run_as_root() -> None:
    """It ends as another user, who owns what the volume is mounted on."""
    steps = [line.split(maxsplit=1) for line in DOCKERFILE.splitlines() if line and not line.startswith("#")]
    users = [rest for verb, rest in steps if verb == "USER"]
    assert users == ["harrier"]
    [(_, _, home)] = [mount for mount in mounts() if mount[0] == "harrier"]
    after = steps[steps.index(["USER", "harrier"]) :]
    assert ["RUN", f"mkdir -p {Path(home).relative_to('/home/harrier')}"] in after
    assert re.fullmatch(r"python:3\.1[123]-slim-\w+", dict(steps)["FROM"])


def test_the_image_is_built_of_what_the_wheel_is() -> None:
    """Nothing else is sent to the builder: no virtual environment, no history, no file of secrets."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    kept = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert lines[0] == "*"
    assert kept == {"harrier_core", "adapters", "integrations", "pyproject.toml", "README.md", "LICENSE"}
    assert all((ROOT / name).exists() for name in kept)
