"""Upstream's suites: the objects that each replaces with ours, its number of tests, and the outcome of a run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from xml.etree import ElementTree as ET

HERE = Path(__file__).parent


class Suite(NamedTuple):
    """A test module of a distribution, and the plugin that replaces the tested objects with ours."""

    name: str
    distribution: str
    file: str
    plugin: str
    tests: int  # the minimum that must pass, for the version in constraints.txt
    ours: int  # the minimum of these that must use one of our fixtures
    options: tuple[str, ...] = ()


_INDEX = ("langchain-core", "tests/unit_tests/indexing/test_indexing.py", "upstream.indexing", 45, 38)
_STORES, _SYNC, _ASYNC = "upstream.stores", "tests/test_store.py", "tests/test_async_store.py"

SUITES = [
    Suite("index() on MemoryStore", *_INDEX, ("--store", "memory")),
    Suite("index() on PgVectorStore", *_INDEX, ("--store", "pgvector")),
    Suite("index() on QdrantStore", *_INDEX, ("--store", "qdrant")),
    Suite("InMemoryStore", "langgraph-checkpoint", _SYNC, _STORES, 117, 13),
    Suite("PostgresStore", "langgraph-checkpoint-postgres", _SYNC, _STORES, 193, 76),
    Suite("AsyncPostgresStore", "langgraph-checkpoint-postgres", _ASYNC, _STORES, 106, 48),
    Suite("SqliteStore", "langgraph-checkpoint-sqlite", _SYNC, _STORES, 103, 24),
    Suite("AsyncSqliteStore", "langgraph-checkpoint-sqlite", _ASYNC, _STORES, 39, 13),
]

_ENVIRONMENT = {
    "PYTHONPATH": str(HERE.parent),
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # loading all takes two seconds; upstream.ini names those that are needed
    "OMP_NUM_THREADS": "1",  # suites run at once, and more threads than cores take three times as long
}


class Outcome(NamedTuple):
    """The outcome of a suite."""

    passed: int
    ours: int
    failed: list[str]
    skipped: list[str]
    seconds: float
    output: str

    def complaints(self, suite: Suite, *, ours_only: bool = False) -> Iterator[str]:
        """Yield a message for each problem of the outcome."""
        yield from (f"failed: {name}" for name in self.failed)
        yield from (f"skipped: {name}" for name in self.skipped)
        expected = suite.ours if ours_only else suite.tests
        if self.passed < expected:
            yield f"{self.passed} tests passed, expected at least {expected}"
        if self.ours < suite.ours:
            yield f"{self.ours} tests used ours, expected at least {suite.ours}"


def run(suite: Suite, folder: Path, options: Sequence[str] = ()) -> Outcome:
    """Run a suite in a separate process. folder: where upstream's `tests` are."""
    environment = {**os.environ, **_ENVIRONMENT}
    environment.pop("PYTEST_ADDOPTS", None)  # of this repository's tests
    with TemporaryDirectory() as temporary:
        report = Path(temporary, "report.xml")
        command = [sys.executable, "-m", "pytest", suite.file, "-p", suite.plugin, "--rootdir", str(folder)]
        how = ["-c", str(HERE / "upstream.ini"), f"--junit-xml={report}", *suite.options, *options]
        began = time.monotonic()
        done = subprocess.run(
            [*command, *how],
            cwd=folder,
            env=environment,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        seconds = time.monotonic() - began
        tests = list(ET.parse(report).iter("testcase")) if report.exists() else []
    return outcome(tests, done, seconds)


def outcome(tests: list[ET.Element], done: subprocess.CompletedProcess[str], seconds: float) -> Outcome:
    """Read pytest's report. An expected failure is a skip in it; an exit code that it does not explain is a failure."""
    failed = [_name(test) for test in tests if test.find("failure") is not None or test.find("error") is not None]
    skipped = [f"{_name(test)}: {skip.get('message')}" for test in tests for skip in test.findall("skipped")]
    if done.returncode and not failed:
        failed.append(f"pytest itself, exit code {done.returncode}")
    passed = [test for test in tests if not {"failure", "error", "skipped"} & {part.tag for part in test}]
    ours = [test for test in passed if any(part.get("name") == "ours" for part in test.iter("property"))]
    return Outcome(len(passed), len(ours), failed, skipped, seconds, done.stdout)


def _name(test: ET.Element) -> str:
    return f"{test.get('classname')}::{test.get('name')}"
