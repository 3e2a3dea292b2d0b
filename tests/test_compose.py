"""Static checks of docker-compose.yml and the Dockerfile."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from harrier_server import Limits
from harrier_server.serving import TAKING
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DATABASES = ("postgres", "qdrant")
SERVERS = ("serve", "serve-gpu")
KIT = ("harrier", "harrier-gpu", *SERVERS, "demo", "worker")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")

# The keys of the Compose specification that we use; a misspelt key would be an error there.
KEYS = {
    *("build", "command", "depends_on", "deploy", "environment", "healthcheck", "image", "ports", "profiles"),
    *("restart", "secrets", "shm_size", "stop_grace_period", "volumes"),
}
CHECK_KEYS = {"test", "interval", "timeout", "retries", "start_period"}


def mounts() -> Iterator[tuple[str, str, str]]:
    for service, settings in SERVICES.items():
        for mount in settings.get("volumes", []):
            source, target = mount.split(":")
            yield service, source, target


def test_only_known_keys() -> None:
    """Top level, services and health checks have known keys only."""
    assert set(COMPOSE) == {"name", "secrets", "services", "volumes", "x-gpu", "x-harrier", "x-serve"}
    assert set(SERVICES) == {*DATABASES, *KIT}
    assert {key for settings in SERVICES.values() for key in settings} <= KEYS
    checks = [settings["healthcheck"] for settings in SERVICES.values() if "healthcheck" in settings]
    assert {key for check in checks for key in check} <= CHECK_KEYS


@pytest.mark.parametrize(
    ("service", "pattern", "least"),
    [
        ("postgres", r"pgvector/pgvector:(\d+)\.(\d+)\.(\d+)-pg18", (0, 8, 4)),  # before it HNSW can be damaged
        ("qdrant", r"qdrant/qdrant:v(\d+)\.(\d+)\.(\d+)", (1, 16, 0)),  # the first with a collection's metadata
    ],
)
def test_images_are_pinned(service: str, pattern: str, least: tuple[int, ...]) -> None:
    """They are pinned to full releases that the kit supports."""
    found = re.fullmatch(pattern, SERVICES[service]["image"])
    assert found, SERVICES[service]["image"]
    assert tuple(map(int, found.groups())) >= least


@pytest.mark.parametrize("service", [*DATABASES, *SERVERS])
def test_ports_are_of_this_machine_only(service: str) -> None:
    """Ports are bound to localhost, and can be changed."""
    assert SERVICES[service]["ports"]
    for port in SERVICES[service]["ports"]:
        assert re.fullmatch(r"127\.0\.0\.1:\$\{[A-Z_]+_PORT:-(\d+)\}:\1", port), port


def test_databases_are_waited_for() -> None:
    """Health checks use TCP, and services wait only for databases that they use."""
    for name in DATABASES:
        check = SERVICES[name]["healthcheck"]
        assert check["test"][0] == "CMD"
        assert "127.0.0.1" in " ".join(check["test"])
        assert SERVICES["harrier"]["depends_on"][name] == {"condition": "service_healthy"}
    for name in ("demo", "worker"):
        assert SERVICES[name]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
        assert any("@postgres/harrier" in word for word in SERVICES[name]["command"])


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False), (None, False)])
def test_qdrants_health_check(status: int | None, healthy: bool) -> None:
    """Its command is run against ready, unready and missing servers."""
    asked: list[str] = []

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status or 500)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            """Log nothing."""

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


def test_data_is_kept_in_volumes() -> None:
    """All named volumes are declared and used, where the images keep data."""
    assert {source for _, source, _ in mounts()} == set(COMPOSE["volumes"])
    assert ("postgres", "postgres", "/var/lib/postgresql") in mounts()
    assert ("qdrant", "qdrant", "/qdrant/storage") in mounts()


def test_an_index_can_be_built() -> None:
    """Shared memory suffices for the gigabyte with which the kit builds indexes."""
    assert SERVICES["postgres"]["shm_size"] == "2gb"


def test_no_password_is_written_down() -> None:
    """It comes from the environment or .env, and only `up` needs it."""
    found = re.findall(r"^ *\w*(?:PASSWORD|KEY|TOKEN|SECRET)\w*: *(.*)$", TEXT, re.MULTILINE)
    assert found == ["${POSTGRES_PASSWORD-}"] * 2
    assert not re.search(r"\$\{\w+:?\?", TEXT)  # of which every command makes an error
    assert "TRUST" not in TEXT.upper()
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_example_of_settings() -> None:
    """.env.example has every variable with its default, and no password."""
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    settings = dict(re.findall(r"^#?([A-Z_]+)=(.*)$", example, re.MULTILINE))
    assert settings == dict(re.findall(r"\$\{([A-Z_]+):?-([^}]*)\}", TEXT))
    assert settings["POSTGRES_PASSWORD"] == ""


def test_profiles() -> None:
    """The databases and any command on the CPU work without a GPU."""
    assert {name: SERVICES[name].get("profiles") for name in (*DATABASES, *KIT)} == {
        "postgres": None,
        "qdrant": None,
        "harrier": ["cli"],
        "harrier-gpu": ["gpu"],
        "serve": ["serve"],
        "serve-gpu": ["gpu"],
        "demo": ["demo"],
        "worker": ["worker"],
    }
    assert "nvidia-container-toolkit" in TEXT
    built = {name: (SERVICES[name]["build"]["args"]["TORCH"], SERVICES[name]["image"]) for name in KIT}
    for name in ("harrier-gpu", "serve-gpu"):
        [device] = SERVICES[name]["deploy"]["resources"]["reservations"]["devices"]
        assert device["capabilities"] == ["gpu"]
        assert built.pop(name) == ("cuda", "harrier-kit:cuda")
    assert not any("deploy" in SERVICES[name] for name in built)
    assert set(built.values()) == {("cpu", "harrier-kit:cpu")}


@pytest.mark.parametrize("service", [*SERVERS, "demo", "worker"])
def test_commands_are_those_of_the_kit(service: str) -> None:
    """The command line accepts them."""
    words = SERVICES[service]["command"]
    command = [sys.executable, "-m", "harrier_cli", *words, "--help"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for option in (word for word in words if word.startswith("--")):
        assert option in done.stdout


def test_the_worker_may_finish() -> None:
    """It has a health check by metrics, restarts, and gets time to stop."""
    worker = SERVICES["worker"]
    port = worker["command"][worker["command"].index("--metrics") + 1]
    assert f"127.0.0.1:{port}/metrics" in worker["healthcheck"]["test"][-1]
    assert worker["restart"] == "unless-stopped"
    assert worker["stop_grace_period"] == "2m"
    assert all("stop_grace_period" in SERVICES[name] for name in (*KIT, "postgres"))


@pytest.mark.parametrize("service", SERVERS)
def test_the_server_requires_a_key(service: str) -> None:
    """Keys are a compose secret; the server waits for no database, and gets time to stop."""
    settings = SERVICES[service]
    [secret] = settings["secrets"]
    assert COMPOSE["secrets"][secret] == {"file": "${HARRIER_KEYS:-./keys}"}
    words = settings["command"]
    assert words[words.index("--api-key-file") + 1] == f"/run/secrets/{secret}"
    assert settings["depends_on"] == []
    assert settings["restart"] == "unless-stopped"
    assert settings["stop_grace_period"] == "1m"
    assert Limits().drain + 2 * TAKING < 60


@pytest.mark.parametrize("status", [200, 503])
def test_the_servers_health_check(status: int) -> None:
    """It fails until the model is loaded."""
    asked: list[str] = []

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            """Log nothing."""

    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        test = SERVICES["serve"]["healthcheck"]["test"]
        check = [part.replace(":8000/", f":{server.server_port}/") for part in test]
        done = subprocess.run([sys.executable, *check[2:]], check=False, capture_output=True, timeout=20)
    assert (done.returncode == 0) == (status == 200)
    assert asked == ["/health/ready"]


# -- the image


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile, with continued lines and here-documents."""
    found: list[tuple[str, str]] = []
    lines = iter(DOCKERFILE.splitlines())
    for line in lines:
        if not line or line.startswith("#"):
            continue
        text = line
        while text.endswith("\\"):
            text = text[:-1] + next(lines)
        if heredoc := re.search(r"<<(\w+)$", text):
            for each in lines:
                if each == heredoc[1]:
                    break
                text += f"\n{each}"
        verb, _, rest = text.partition(" ")
        found.append((verb, rest))
    return found


def test_the_container_does_not_run_as_root() -> None:
    """Its user owns the mounted volumes, and an init process forwards signals."""
    steps = instructions()
    verbs = [verb for verb, _ in steps]
    assert [rest for verb, rest in steps if verb == "USER"] == ["harrier"]
    assert "RUN" not in verbs[verbs.index("USER") :]
    [owned] = [rest for _, rest in steps if "--owner=harrier" in rest]
    for service in KIT:
        for _, _, target in (mount for mount in mounts() if mount[0] == service):
            assert target in owned.split()
    assert dict(steps)["ENTRYPOINT"] == '["tini", "--", "harrier"]'
    assert re.fullmatch(r"python:3\.1[1234]-slim-\w+", dict(steps)["FROM"])


def test_sources_change_no_layer_of_dependencies() -> None:
    """Sources are copied after the dependencies, which are the tested versions."""
    steps = instructions()
    [sources] = [place for place, step in enumerate(steps) if step == ("COPY", ". .")]
    fetching = [rest for verb, rest in steps[:sources] if verb == "RUN" and "pip install" in rest]
    assert len(fetching) == 2
    assert any("PIP_CACHE_DIR=/var/cache/pip" in rest for verb, rest in steps[:sources] if verb == "ENV")
    for rest in fetching:
        assert rest.startswith("--mount=type=cache,target=/var/cache/pip")
        assert len(re.findall("pip install", rest)) == len(re.findall("pip install --constraint constraints.txt", rest))
    [last] = [rest for verb, rest in steps[sources:] if verb == "RUN" and "pip" in rest]
    assert "--no-deps --no-build-isolation" in last


def test_packages_in_the_image(tmp_path: Path) -> None:
    """The Dockerfile's script installs all extras except `mcp` and `ray`, and build tools."""
    [script] = [rest for verb, rest in instructions() if verb == "RUN" and "<<EOF" in rest]
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "pip").write_text("#!/bin/sh\ncat requirements.txt\n")
    (tmp_path / "pip").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = ["sh", "-c", script.partition("<<EOF\n")[2]]
    done = subprocess.run(command, check=True, cwd=tmp_path, capture_output=True, text=True, env=environment)
    asked = {canonicalize_name(Requirement(line).name) for line in done.stdout.splitlines()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [asked_by for name, asked_by in project["optional-dependencies"].items() if name not in ("mcp", "ray")]
    every = {
        canonicalize_name(Requirement(each).name)
        for asked_by in [project["dependencies"], *extras]
        for each in asked_by
    }
    assert asked == (every - {"harrier-kit"}) | {"hatchling"}
    pins = (line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines())
    assert asked <= {canonicalize_name(name) for name in pins}


@pytest.mark.parametrize(
    ("torch", "asked"),
    [
        ("cpu", "--constraint constraints.txt --no-deps --index-url https://download.pytorch.org/whl/cpu torch"),
        ("cuda", "--constraint constraints.txt torch"),
        ("", None),
        ("rocm", None),
    ],
)
def test_which_torch_the_image_has(tmp_path: Path, torch: str, asked: str | None) -> None:
    """The shell selects one of two builds, and refuses other values."""
    [choice] = [rest for verb, rest in instructions() if verb == "RUN" and 'case "$TORCH"' in rest]
    (tmp_path / "pip").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "pip").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TORCH": torch}
    command = ["sh", "-c", re.sub(r"^--mount=\S+ +", "", choice)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert (done.returncode == 0) == (asked is not None)
    assert done.stdout == (f"install {asked}\n" if asked else "")
    assert asked or "TORCH must be cpu or cuda" in done.stderr


def test_the_build_context_is_minimal() -> None:
    """No virtual environment, history or secret is sent to the builder."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    kept = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert lines[0] == "*"
    assert kept == {
        "harrier_core",
        "adapters",
        "integrations",
        "pyproject.toml",
        "constraints.txt",
        "README.md",
        "LICENSE",
    }
    assert all((ROOT / name).exists() for name in kept)
