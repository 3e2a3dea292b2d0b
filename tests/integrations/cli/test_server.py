"""`--server`: commands use a server's model without torch, with the same results as a local model."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import psycopg
import pytest
from harrier_cli.defaults import NAMES, variable
from harrier_cli.encoders import Choice
from serving import Serving

from harrier_core import RemoteEncoder, SettingError
from harrier_core.extras import PACKAGES

Run = Callable[..., subprocess.CompletedProcess[str]]

KEY = "a-key-that-nobody-knows"
TORCH = sorted(name for name, (extra, _) in PACKAGES.items() if extra == "torch" and name != "tokenizers")
WITHOUT_TORCH = f"""
import json, sys
sys.modules.update(dict.fromkeys({TORCH}))
from harrier_cli import main
codes = []
for sys.argv[1:] in json.load(sys.stdin):
    try:
        main()
    except SystemExit as end:
        codes.append(end.code)
print(codes)
"""


@pytest.fixture(scope="module")
def serving(built: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """Yield a server of the tests' model that requires a key."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(f"# of the tests\n{KEY}\nanother-key-of-some-length\n", encoding="utf-8")
    serving = Serving("--api-key-file", str(keys), model=built("qwen3", vectors="words"))
    serving.wait()
    yield serving
    serving.kill()


@pytest.fixture
def server(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the server's address; the key is in the environment."""
    monkeypatch.setenv("HARRIER_API_KEY", KEY)
    return serving.url


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "bread.txt").write_text("Bread rises because yeast turns sugar into gas.", encoding="utf-8")
    (folder / "river.txt").write_text("Rivers carry sand to the sea.\n" * 40, encoding="utf-8")
    return folder


@pytest.mark.usefixtures("notes")
def test_an_index_through_the_server(call: Run, server: str, postgres: str, table: str) -> None:
    """Results are bit-identical to a local model's, and either can continue the other's work."""
    far, here = (f"{postgres}&table={quote(table)}{name}" for name in ("far", "here"))
    by = ["--server", server]
    assert "would be: 2 records" in call("ingest", "notes", "--to", far, "--dry-run", *by).stdout
    said = call("ingest", "notes", "--to", far, "--chunk-tokens", "40", *by).stdout
    assert said.startswith("2 records in ")
    call("ingest", "notes", "--to", here, "--chunk-tokens", "40")
    found = call("search", "yeast", "--in", far, "--json", *by).stdout
    assert json.loads(found)[0]["record_id"] == "notes/bread.txt"
    assert [found] * 2 == [call("search", "yeast", "--in", place, "--json").stdout for place in (far, here)]
    assert call("verify", far, *by).stdout.endswith("all sound\n")
    again = json.loads(call("ingest", "notes", "--to", far, "--chunk-tokens", "40", "--json").stdout)
    assert (again["written"], again["encoded"]) == (0, 0)


def test_lines_and_prompts(call: Run, server: str) -> None:
    """Vectors and prompts are bit-identical to those of a local model."""
    lines = "bread\n\nrivers carry sand\n"
    for options in ((), ("--query",), ("--query", "--task", "sts_query")):
        own, far = (call("embed", *options, *by, given=lines, code=1).stdout for by in ((), ("--server", server)))
        assert own == far
        assert [*json.loads(own.splitlines()[0])] == ["line", "vector"]
    assert call("embed", "--out", "far.npy", "--server", server, given="bread\n").stdout == ""
    expected = json.loads(call("embed", given="bread\n").stdout)["vector"]
    assert np.array_equal(np.load("far.npy")[0], np.array(expected, np.float32))
    prompt = call("prompt", "yeast", "--task", "sts_query", "--server", server).stdout
    assert prompt == call("prompt", "yeast", "--task", "sts_query").stdout
    refused = call("prompt", "yeast", "--task", "no", "--server", server, code=2)
    assert "unknown task 'no'; this model knows" in refused.stderr


@pytest.mark.usefixtures("notes")
def test_without_torch(server: str, environment: dict[str, str], postgres: str, table: str, tmp_path: Path) -> None:
    """Commands with a server work without torch, and others say that it is missing."""
    place = f"{postgres}&table={quote(table)}"
    commands = [
        ["ingest", "notes", "--server", server],
        ["search", "yeast", "-k", "1", "--server", server],
        ["search", "yeast"],
    ]
    done = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", WITHOUT_TORCH],
        input=json.dumps(commands),
        env={**environment, "HARRIER_API_KEY": KEY, "HARRIER_INDEX": place},
        check=True, capture_output=True, text=True, cwd=tmp_path, timeout=60,
    )  # fmt: skip
    ingested, found, *_, codes = done.stdout.splitlines()
    assert ingested.startswith("2 records in ")
    assert found.startswith("notes/bread.txt:1  0.")
    assert codes == "[0, 0, 3]"
    assert done.stderr == (
        "error: an Encoder needs huggingface-hub, which is not installed; run pip install 'harrier-kit[torch]'\n"
    )


def test_live_sync_through_the_server(call: Run, server: str, postgres: str, table: str) -> None:
    """A table is declared and embedded through a server."""
    name = f"s{abs(hash(table))}"
    place = f"{postgres}&table={name}_chunks"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE TABLE {name} (id bigint PRIMARY KEY, body text)")
        connection.execute(f"INSERT INTO {name} VALUES (1, 'Bread rises because of yeast.')")
        by = ["--server", server]
        call("sync", "create", "--source", name, "--to", place, "--text", "body", *by)
        call("sync", "run", place, "--once", *by)
        assert json.loads(call("search", "yeast", "--in", place, "--json", *by).stdout)[0]["metadata"] == {}
        call("sync", "drop", place, "--chunks")
        connection.execute(f"DROP TABLE {name}")


# -- which model


_HEAP = 64 * 2**20  # glibc's heaps begin at multiples of it


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's arenas, which only Linux has")
def test_its_threads_share_memory(serving: Serving) -> None:
    """Without a limit, glibc would give each thread an arena that keeps freed memory."""
    with RemoteEncoder(serving.url, api_key=KEY) as encoder, ThreadPoolExecutor(4) as pool:
        for _ in pool.map(lambda each: encoder.encode_documents([f"text {each}"]), range(20)):
            pass
    assert len(list(Path(f"/proc/{serving.process.pid}/task").iterdir())) > 3
    assert len(list(_arenas(serving.process.pid))) < 3


def _arenas(process: int) -> Iterator[int]:
    """Yield the addresses of glibc's arenas, apart from the main one: the first heap of each points into itself."""
    with Path(f"/proc/{process}/mem").open("rb") as memory:
        for line in Path(f"/proc/{process}/maps").read_text().splitlines():
            begin, end = (int(each, 16) for each in line.split()[0].split("-"))
            for heap in range(-(-begin // _HEAP) * _HEAP, end, _HEAP) if " rw-p " in line else ():
                memory.seek(heap)
                arena = int.from_bytes(memory.read(8), sys.byteorder)
                if heap < arena < heap + 256:  # heap_info, of which this is the first field, is shorter
                    yield arena


@pytest.fixture
def settle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Isolate the settings in a separate folder."""
    for name in NAMES:
        monkeypatch.delenv(variable(name), raising=False)
    monkeypatch.delenv("HARRIER_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def encoder(**options: Any) -> str:
    with Choice(**{"model": None, **options}).encoder() as encoder:
        return repr(encoder)


def test_precedence(settle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty value turns the others off."""
    (settle / "harrier.toml").write_text('url = "http://file"\nmodel = "filed"\n', encoding="utf-8")
    assert encoder() == "RemoteEncoder('http://file', 'filed')"
    monkeypatch.setenv("HARRIER_URL", "http://variable")
    assert encoder() == "RemoteEncoder('http://variable')"
    assert encoder(server="http://option") == "RemoteEncoder('http://option')"
    assert encoder(server="") == "Encoder('filed')"
    monkeypatch.setenv("HARRIER_URL", "")
    assert encoder() == "Encoder('filed')"


def test_the_model_name_on_the_server(settle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model set with lower precedence than the server applies to local use."""
    monkeypatch.setenv("HARRIER_MODEL", "variable")
    assert encoder(server="http://option") == "RemoteEncoder('http://option')"
    assert encoder(server="http://option", model="tiny") == "RemoteEncoder('http://option', 'tiny')"
    monkeypatch.setenv("HARRIER_URL", "http://variable")
    assert encoder() == "RemoteEncoder('http://variable', 'variable')"
    assert encoder(model="tiny") == "RemoteEncoder('http://variable', 'tiny')"
    assert settle.is_dir()


@pytest.mark.usefixtures("settle")
def test_device_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """As options they are refused with a server; as defaults they apply to local use."""
    monkeypatch.setenv("HARRIER_DEVICE", "cpu")
    assert encoder(server="http://option") == "RemoteEncoder('http://option')"
    with pytest.raises(SettingError, match="--dtype is for a locally loaded model, but --server names a server"):
        encoder(server="http://option", dtype="float32")
    monkeypatch.setenv("HARRIER_URL", "http://variable")
    with pytest.raises(SettingError, match="--device is for .* but HARRIER_URL names a server"):
        encoder(device="cpu")
    assert encoder(device="cpu", server="", model="tiny") == "Encoder('tiny', device='cpu')"


def test_keys(call: Run, serving: Serving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first key of a file overrides the environment."""
    by = ["--server", serving.url]
    monkeypatch.delenv("HARRIER_API_KEY", raising=False)
    refused = call("prompt", "a", *by, code=2).stderr
    assert refused.startswith(f"error: the server at {serving.url} refused: the key is missing or wrong; send it as ")
    assert refused.count("\n") == 1
    (tmp_path / "keys").write_text(f"# the first counts\n{KEY}\nno-key-of-the-server\n", encoding="utf-8")
    monkeypatch.setenv("HARRIER_API_KEY", "not-the-key-of-it")
    assert call("prompt", "a", *by, "--api-key-file", "keys").stdout.startswith("Instruct: ")
    (tmp_path / "empty").write_text("\n", encoding="utf-8")
    assert "there is no key in empty" in call("prompt", "a", *by, "--api-key-file", "empty", code=2).stderr
    assert "--api-key-file needs --server" in call("prompt", "a", "--api-key-file", "keys", code=2).stderr


# -- an error is one line and an exit code


@pytest.mark.usefixtures("notes")
def test_refusals_of_a_server(call: Run, server: str, built: Callable[..., Path], tmp_path: Path) -> None:
    place = f"qdrant:{tmp_path}/q"
    told = call("search", "a", "--in", place, "--server", server, code=3)
    assert "ingest something into it first" in told.stderr
    call("ingest", "notes", "--to", place, "--model", str(built("gemma3", vectors="words")))
    told = call("search", "a", "--in", place, "--server", server, code=3)
    assert "holds vectors of another space" in told.stderr
    told = call("prompt", "a", "--model", "harrier-27b", "--server", server, code=2)
    assert "there is no model 'harrier-27b'; this server has tiny-query" in told.stderr
    told = call("embed", "--query", "--instruction", "Find birds", "--server", server, given="a\n", code=2)
    assert "this server does not accept instructions in requests; name one of its tasks" in told.stderr
    for each in ("gpu-host:8000", "http://me:hunter2@gpu-host"):
        told = call("prompt", "a", "--server", each, code=2)
        assert told.stderr.startswith("error: url must ")
        assert "hunter2" not in told.stderr


def test_an_unreachable_server(call: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The command reports that it waits, and then fails."""
    defaults = RemoteEncoder.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "retry_for", 0.5)
    with socket.socket() as taken:  # nothing answers on it
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        told = call("prompt", "a", "--server", url, code=3)
    assert told.stderr.startswith(f"error: the server at {url} cannot be reached (ConnectError: ")
    assert told.stderr.count("\n") == 1
    assert [each.message.partition("(")[0] for each in caplog.records] == [f"the server at {url} cannot be reached "]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve"], "it loads the model itself"),
        (["models"], "it describes this machine, and contacts no server"),
        (["demo"], "it loads its own models, to show a refusal; --postgres names a server"),
    ],
)
def test_commands_without_a_server(call: Run, arguments: list[str], said: str) -> None:
    told = call(*arguments, "--server", "http://gpu-host:8000", code=2)
    assert told.stderr == f"error: --server cannot be used with this command: {said}\n"
    assert "--server" not in call(*arguments, "--help").stdout


@pytest.mark.parametrize(
    "arguments", [["search"], ["ingest"], ["verify"], ["embed"], ["prompt"], ["sync", "create"], ["sync", "run"]]
)
def test_the_help_has_the_options(call: Run, arguments: list[str]) -> None:
    told = call(*arguments, "--help").stdout
    assert "--server" in told
    assert "--api-key-file" in told
