"""The errors: a tree that is drawn as it is, and that survives pickling."""

from __future__ import annotations

import pickle
import re

import pytest

from harrier_core import BadVectors, HarrierError, InputError, NotText, Problem, SettingError, TextTooLong, errors

CLASSES = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)]


def test_the_drawn_tree_is_the_real_one() -> None:
    """Every error stands in the module's drawing, under its parent."""
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
    """Worker processes hand them over as they are."""
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert vars(back) == vars(error)


def test_an_input_error_counts_the_others() -> None:
    """The message is about the first; the rest are counted, and all are listed."""
    problems = [Problem(3, TextTooLong, "has 9 tokens"), Problem(5, NotText, "is int")]
    error = InputError(problems)
    assert str(error) == "text 3 has 9 tokens (and 1 more of this call's texts cannot be encoded)"
    assert error.position == 3
    assert error.problems == tuple(problems)
    assert str(InputError(problems[:1])) == "text 3 has 9 tokens"


def test_wrong_usage_is_told_from_failures() -> None:
    """By the class alone, which a command line needs for its exit code, and a server for its status."""
    assert {each.__name__ for each in CLASSES if getattr(each, "usage", False)} == {
        *("InputError", "NotText", "EmptyText", "InvalidText", "TextTooLong"),
        *("SettingError", "TaskError", "FilterError"),
    }
    assert SettingError("anything").usage
    assert not HarrierError("anything").usage
