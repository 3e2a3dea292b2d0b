"""The error classes: their documented tree, pickling and messages."""

from __future__ import annotations

import pickle
import re

import pytest

from harrier_core import BadVectors, HarrierError, InputError, NotText, Problem, SettingError, TextTooLong, errors

CLASSES = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)]


def test_the_documented_tree_is_complete() -> None:
    """The module's docstring lists every error under its parent."""
    drawn = {}
    path: list[str] = []
    for indent, name in re.findall(r"^    ([│├└─ ]*)(\w+)", str(errors.__doc__), re.MULTILINE):
        depth = len(indent) // 4
        path = [*path[:depth], name]
        drawn[name] = path[depth - 1] if depth else None
    ours = {each.__name__: each.__bases__[0] for each in CLASSES}
    assert set(drawn) == set(ours)
    for name, parent in drawn.items():
        assert parent is None or ours[name] is getattr(errors, parent)


@pytest.mark.parametrize(
    "error",
    [
        TextTooLong([Problem(3, TextTooLong, "has 9 tokens"), Problem(5, NotText, "is int")]),
        BadVectors("the model's vector for text 1 has no length", [1, 4]),
        HarrierError("anything"),
    ],
)
def test_errors_survive_pickling(error: HarrierError) -> None:
    """Worker processes can pass errors on."""
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert vars(back) == vars(error)


def test_an_input_error_counts_the_others() -> None:
    """The message describes the first problem, counts the rest, and all are listed."""
    problems = [Problem(3, TextTooLong, "has 9 tokens"), Problem(5, NotText, "is int")]
    error = InputError(problems)
    assert str(error) == "text 3 has 9 tokens (and 1 more of this call's texts cannot be encoded)"
    assert error.position == 3
    assert error.problems == tuple(problems)
    assert str(InputError(problems[:1])) == "text 3 has 9 tokens"


def test_usage_errors_have_their_own_class() -> None:
    """The class decides the exit code of the command line and the status of the server."""
    assert {each.__name__ for each in CLASSES if getattr(each, "usage", False)} == {
        *("InputError", "NotText", "EmptyText", "InvalidText", "TextTooLong"),
        *("SettingError", "TaskError", "FilterError"),
    }
    assert SettingError("anything").usage
    assert not HarrierError("anything").usage
