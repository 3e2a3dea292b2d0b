"""The page docs/scaling.md: its programs run, and the functions that it calls exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from fleets import Noting, index_of, records

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[:3]  # the others run in test_scaling_recipes.py


def test_the_programs_run(postgres: str, tmp_path: Path) -> None:
    """Ingesting with workers and in parts gives the same records."""
    first, _, last = PROGRAMS
    given = list(records(100))
    encoder = Noting(tmp_path / "notes")
    with index_of(postgres, "scaling", encoder) as index:
        names: dict[str, Any] = {"index": index, "records": given}
        exec(first, names)
        assert names["report"].records == 100
        exec(last, names)
        assert (names["report"].records, names["report"].written) == (100, 0)
        with pytest.raises(ValueError, match="rows"):
            names["finish"](index, names["reports"], prune=True, rows=7)


def test_the_program_for_a_cluster() -> None:
    """Its keywords match the function; tests/integrations/ray runs it."""
    [call] = [node for node in ast.walk(ast.parse(PROGRAMS[1])) if getattr(node, "keywords", None)]
    source = ast.parse((ROOT / "integrations/harrier_ray/ingesting.py").read_text(encoding="utf-8"))
    [function] = [node for node in source.body if isinstance(node, ast.FunctionDef) and node.name == "ingest"]
    assert isinstance(call, ast.Call)
    assert {each.arg for each in call.keywords} <= {each.arg for each in function.args.kwonlyargs}
