"""A pytest plugin that replaces names and fixtures of upstream's test modules with ours.

The plugin of a suite says what is replaced, in `config.stash`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

FIXTURES = pytest.StashKey[Mapping[str, Any]]()  # our fixtures by upstream's names
NAMES = pytest.StashKey[Mapping[str, Any]]()  # our classes by upstream's names; a module uses at least one of them


class Replaced(pytest.Module):
    """A test module that is changed between its import and the collection of its tests."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        names = self.config.stash[NAMES]
        used = [name for name in names if hasattr(self.obj, name)]
        if not used:
            raise self.CollectError(f"{self.path} uses none of {', '.join(names)}: its tests would not test ours")
        for name in used:
            setattr(self.obj, name, names[name])
        for name, fixture in self.config.stash[FIXTURES].items():
            setattr(self.obj, name, fixture)
        return super().collect()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--ours-only", action="store_true", help="run only the tests that use one of our fixtures")


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module:
    return Replaced.from_parent(parent, path=module_path)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--ours-only"):
        fixtures = config.stash[FIXTURES].keys()
        items[:] = [item for item in items if fixtures & set(getattr(item, "fixturenames", ()))]


def note_ours(request: pytest.FixtureRequest) -> None:
    """Note in the report that a test uses one of our fixtures."""
    request.node.user_properties.append(("ours", True))
