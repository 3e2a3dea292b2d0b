"""deploy/harrier-serve.service is accepted by systemd, and its command is valid."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from configparser import ConfigParser
from pathlib import Path

import httpx
import pytest
from harrier_server import Limits
from harrier_server.serving import TAKING

UNIT = Path(__file__).parents[1] / "deploy" / "harrier-serve.service"
TEXT = UNIT.read_text(encoding="utf-8")
KEY = "a-key-of-some-length"


@pytest.fixture(scope="module")
def service() -> dict[str, str]:
    """Return the settings of the unit's [Service] section; the last one counts if repeated."""
    parser = ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(TEXT)
    return dict(parser["Service"])


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed here")
def test_systemd_accepts_it(tmp_path: Path) -> None:
    """systemd knows every setting, and rates the exposure as low."""
    unit = tmp_path / UNIT.name
    unit.write_text(TEXT.replace("/opt/harrier/bin/harrier serve", f"{sys.executable} -m harrier_cli serve"))
    verified = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (verified.returncode, [line for line in verified.stderr.splitlines() if UNIT.name in line]) == (0, [])
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(unit)]  # 2.0 of 10
    rated = subprocess.run(command, capture_output=True, text=True, check=False)
    assert rated.returncode == 0, rated.stdout


def test_privileges(service: dict[str, str]) -> None:
    """The service is unprivileged, writes to its own folders, and gets the keys as credentials."""
    assert {name: service[name] for name in ("DynamicUser", "ProtectSystem", "ProtectHome", "NoNewPrivileges")} == {
        "DynamicUser": "yes",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "NoNewPrivileges": "yes",
    }
    assert service["CapabilityBoundingSet"] == ""
    name, _, file = service["LoadCredential"].partition(":")
    assert file.startswith("/etc/")
    assert f"--api-key-file ${{CREDENTIALS_DIRECTORY}}/{name}" in service["ExecStart"]
    assert set(re.findall(r"\$\{(\w+)\}", service["ExecStart"])) == {"CREDENTIALS_DIRECTORY"}


def test_it_may_finish(service: dict[str, str]) -> None:
    """systemd waits until the server has aborted long requests and informed clients."""
    assert service["KillSignal"] == "SIGTERM"
    assert float(service["TimeoutStopSec"]) > Limits().drain + 2 * TAKING
    assert int(service["LimitNOFILE"]) > 4 * 1_024


def test_its_command_serves(service: dict[str, str], built: Callable[..., Path], tmp_path: Path) -> None:
    """The command works with only the program's path, the port and the model changed."""
    (tmp_path / "keys").write_text(KEY)
    words = shlex.split(service["ExecStart"].replace("${CREDENTIALS_DIRECTORY}", str(tmp_path)))
    assert words[0] == "/opt/harrier/bin/harrier"
    assert "HARRIER_MODEL=harrier-270m" in TEXT
    words[words.index("--port") + 1] = "0"
    environment = {**os.environ, "HARRIER_MODEL": str(built("qwen3", vectors="words")), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "harrier_cli", *words[1:]]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"at http://0\.0\.0\.0:(\d+); ", process.stdout.readline())
        assert found
        url = f"http://127.0.0.1:{found[1]}/v1/models"
        assert httpx.get(url).status_code == 401
        assert httpx.get(url, headers={"Authorization": f"Bearer {KEY}"}).status_code in (200, 503)
        process.terminate()
    assert process.returncode == 0
