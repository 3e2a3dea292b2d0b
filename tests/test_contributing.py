"""CONTRIBUTING.md renders as intended: its steps are lists, and the files that it names exist."""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def steps(heading: str) -> list[str]:
    """Return the numbered list of a section as Markdown parses it, with indented continuation."""
    section = CONTRIBUTING.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\d\. .*\n(?:(?: {3}.*)?\n)*", section, re.MULTILINE)


@pytest.mark.parametrize(("heading", "count"), [("Add a store", 7), ("Add an integration", 4)])
def test_steps_are_a_list(heading: str, count: int) -> None:
    """A number within a line would join the previous step."""
    found = steps(heading)
    assert [step[:3] for step in found] == [f"{number}. " for number in range(1, count + 1)]
    assert not [step for step in found if re.search(r"\S\s+\d\. ", step)]


def test_the_code_is_part_of_its_step() -> None:
    """Code blocks are indented with their step, equal the contract's code, and parse."""
    [with_code] = [step for step in steps("Add a store") if "```" in step]
    assert with_code.startswith("4. The contract")
    [code] = re.findall(r"```python\n(.*?)```", textwrap.dedent(with_code.partition("\n")[2]), re.DOTALL)
    assert ast.parse(code)


def test_the_files_that_it_names_exist() -> None:
    """A NAME in a path stands for a new file."""
    named = re.findall(r"`((?:tests|harrier_core|benchmarks|integrations)/[\w/.]*)`", CONTRIBUTING)
    assert len(named) > 5
    assert [path for path in named if not (ROOT / path).exists()] == []
