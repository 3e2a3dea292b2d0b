"""JSON forms of values: exactly JSON's types, one per value, or a reason why there is none."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import MappingProxyType
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harrier_core.records import Record, checked, to_json
from harrier_core.values import NoForm, plain, too_large, unstorable

LARGEST = 1.7976931348623157e308  # of all floats
TWO_HOURS = timezone(timedelta(hours=2))


class Topic(StrEnum):
    """A subclass of str."""

    FOOD = "food"


class Year(IntEnum):
    """A subclass of int."""

    NOW = 2021


class Shade(Enum):
    """An enumeration with values of several types."""

    NAME = "red"
    PARTS = (255, 0, 0)
    DAY = date(2024, 5, 1)
    NONE = None
    ODD = object()


class Text(str):
    """A subclass of str without its own value."""

    __slots__ = ()


class Price(float):
    """A subclass of float."""

    __slots__ = ()


class Moment(datetime):
    """A datetime with its own str()."""

    def isoformat(self, sep: str = " ", timespec: str = "minutes") -> str:
        return super().isoformat(sep, timespec)


class NotATime(datetime):
    """A datetime that is unequal to itself, like pandas' NaT."""

    __hash__ = datetime.__hash__

    def __eq__(self, other: object) -> bool:
        return False

    def __ne__(self, other: object) -> bool:
        return True


def exact_types(value: object) -> object:
    if isinstance(value, dict):
        return type(value), [(type(key), exact_types(each)) for key, each in value.items()]
    if isinstance(value, list):
        return type(value), [exact_types(each) for each in value]
    return type(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # JSON's own, and their subclasses.
        (Topic.FOOD, "food"),
        (Text("a"), "a"),
        (Year.NOW, 2021),
        (Price(0.5), 0.5),
        (True, True),
        (None, None),
        (2**70, 2**70),
        (LARGEST, LARGEST),
        ((1, (2,)), [1, [2]]),
        (MappingProxyType({Topic.FOOD: OrderedDict({"x": [Year.NOW]})}), {"food": {"x": [2021]}}),
        # Times.
        (datetime(2024, 5, 1, 12), "2024-05-01T12:00:00"),
        (datetime(2024, 5, 1, 12, 0, 0, 500_000), "2024-05-01T12:00:00.500000"),
        (datetime(2024, 5, 1, 12, tzinfo=UTC), "2024-05-01T12:00:00+00:00"),
        (datetime(2024, 5, 1, 12, tzinfo=TWO_HOURS), "2024-05-01T10:00:00+00:00"),
        (Moment(2024, 5, 1, 12, 30, 15), "2024-05-01T12:30:15"),
        (Moment(2024, 5, 1, 12, tzinfo=TWO_HOURS), "2024-05-01T10:00:00+00:00"),
        (date(2024, 5, 1), "2024-05-01"),
        (date(7, 5, 1), "0007-05-01"),
        (time(12, 30), "12:30:00"),
        (time(12, 30, tzinfo=TWO_HOURS), "12:30:00+02:00"),
        # Names.
        (UUID("12345678-1234-5678-1234-567812345678"), "12345678-1234-5678-1234-567812345678"),
        (PurePosixPath("a/b.txt"), "a/b.txt"),
        (PureWindowsPath("a\\b.txt"), "a/b.txt"),
        (Path("a") / "b", "a/b"),
        # Numbers.
        (Decimal("1.50"), 1.5),
        (Decimal("2.00"), 2),
        (Decimal("-0"), 0),
        (Decimal("1E+3"), 1_000),
        (Decimal("1E-400"), 0.0),
        (Decimal(2**70), 2**70),
        # Enumerations are converted by value, and each value by its type.
        (Shade.NAME, "red"),
        (Shade.PARTS, [255, 0, 0]),
        (Shade.DAY, "2024-05-01"),
        (Shade.NONE, None),
        # Sets.
        ({"b", "a"}, ["a", "b"]),
        (frozenset([10, 9]), [10, 9]),
        (set(), []),
        ({date(2024, 5, 2), date(2024, 5, 1)}, ["2024-05-01", "2024-05-02"]),
        ({(2, 1), (1,), None, "x"}, ["x", [1], [2, 1], None]),
        # numpy's scalars.
        (np.bool_(True), True),
        (np.int64(-7), -7),
        (np.uint8(7), 7),
        (np.float16(0.5), 0.5),
        (np.float32(0.5), 0.5),
        (np.float64(0.5), 0.5),
        (np.longdouble(0.5), 0.5),
        (np.str_("é"), "é"),
        # And all of it anywhere inside.
        ({"a": [{"b": date(2024, 5, 1)}, (Decimal(1), {np.int64(1)})]}, {"a": [{"b": "2024-05-01"}, [1, [1]]]}),
    ],
)
def test_plain(value: object, expected: object) -> None:
    """The result is equal, and of exactly JSON's types at all levels."""
    made = plain(value)
    assert made == expected
    assert exact_types(made) == exact_types(expected)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"a", "a value that JSON cannot represent: bytes"),
        (object(), "a value that JSON cannot represent: object"),
        (1j, "a value that JSON cannot represent: complex"),
        (range(2), "a value that JSON cannot represent: range"),
        (timedelta(1), "a value that JSON cannot represent: timedelta"),
        (Fraction(1, 2), "a value that JSON cannot represent: Fraction"),
        (Shade.ODD, "a value that JSON cannot represent: object"),
        (np.zeros(1), "a value that JSON cannot represent: ndarray"),
        (np.array(1), "a value that JSON cannot represent: ndarray"),
        (np.datetime64("2024-05-01T00:00:00.000000001"), "a value that JSON cannot represent: datetime64"),
        (np.timedelta64(1, "s"), "a value that JSON cannot represent: timedelta64"),
        (np.complex64(1), "a value that JSON cannot represent: complex64"),
        (np.bytes_(b"a"), "a value that JSON cannot represent: bytes_"),
        (NotATime(2024, 5, 1), "a value that JSON cannot represent: NotATime"),
        (float("nan"), "nan, which JSON cannot represent"),
        (np.float32("nan"), "nan, which JSON cannot represent"),
        (np.float64("-inf"), "-inf, which JSON cannot represent"),
        (Decimal("NaN"), "NaN, which JSON cannot represent"),
        (Decimal("sNaN"), "sNaN, which JSON cannot represent"),
        (Decimal("-Infinity"), "-Infinity, which JSON cannot represent"),
        (Decimal("1E+309"), "a number beyond all floats"),
        (Decimal("1E+999999999999999999"), "a number beyond all floats"),
        (10**400, "a number beyond all floats"),
        ("\0", "a NUL character"),
        (Path("\udc80"), "half of a surrogate pair"),
        ({"\udc80"}, "half of a surrogate pair"),
        (datetime(1, 1, 1, tzinfo=TWO_HOURS), "a datetime that is outside the years 1 to 9999 in UTC"),
        ({1: 2}, "a key that is int, not str"),
        ([{date(2024, 5, 1): 1}], "a key that is date, not str"),
        ({"a\0": 1}, "a NUL character"),
    ],
)
def test_values_without_a_form(value: object, reason: str) -> None:
    """The reason names the type or the problem, and contains no text of the value."""
    with pytest.raises(NoForm) as caught:
        plain({"x": [value]})
    assert str(caught.value) == reason


def test_values_without_json() -> None:
    """They have no JSON, whatever a JSON library would make of them."""

    @dataclass
    class Point:
        x: int

    for value in (Point(1), {1, Point}, b"a", {1: 2}):
        with pytest.raises(NoForm):
            to_json({"x": value})


def levels(number: int, made: Callable[[Any], Any]) -> Any:
    value: Any = date(2024, 5, 1)
    for _ in range(number):
        value = made(value)
    return value


@pytest.mark.parametrize("made", [lambda each: {"x": each}, lambda each: [each], lambda each: frozenset([each])])
def test_levels(made: Callable[[Any], Any]) -> None:
    """Dicts, lists and sets count as levels; values with a form do not."""
    plain(levels(24, made))
    with pytest.raises(NoForm, match="^more than 24 nested levels$"):
        plain(levels(25, made))


def hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


VALUES = st.recursive(
    st.one_of(
        *(
            st.none(),
            st.booleans(),
            st.integers(),
            st.floats(),
            st.text(max_size=3),
            st.dates(),
            st.times(),
            st.uuids(),
        ),
        *(st.datetimes(), st.datetimes(timezones=st.timezones()), st.decimals(), st.binary(max_size=2)),
        *(st.sampled_from([Topic.FOOD, Year.NOW, *Shade, Path("a/b"), np.float32(0.1), np.int8(1), np.bool_(False)]),),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(max_size=2) | st.integers(), inner, max_size=3),
        st.frozensets(inner.filter(hashable), max_size=3),
    ),
    max_leaves=6,
)


@given(VALUES)
@example(datetime(2024, 5, 1, 12, tzinfo=TWO_HOURS))
@example({"a": [UUID(int=1), date(2024, 5, 1), time(12, tzinfo=TWO_HOURS), {1, "a"}, 2**70]})
def test_the_form_is_stable(value: Any) -> None:
    """It survives JSON, is its own form, and is hashed and stored."""
    try:
        made = plain({"x": value})
    except NoForm:
        return
    assert json.loads(json.dumps(made)) == made == plain(made)
    assert to_json({"x": value}) == to_json(made)
    assert checked(Record("a", "b", {"x": value})).metadata == made


@given(st.datetimes(timezones=st.timezones()), st.datetimes(timezones=st.timezones()))
@example(datetime(2024, 5, 1, tzinfo=UTC), datetime(2024, 5, 1, 0, 0, 0, 1, tzinfo=UTC))
@example(datetime(2024, 5, 1, 1, tzinfo=TWO_HOURS), datetime(2024, 5, 1, 0, tzinfo=UTC))
def test_the_order_of_times(one: datetime, other: datetime) -> None:
    """Forms sort as their times do, so that $gt means later."""
    try:
        texts = plain(one), plain(other)
    except NoForm:  # just outside of the years that UTC has
        return
    first, second = one.astimezone(UTC), other.astimezone(UTC)
    assert (texts[0] < texts[1], texts[0] == texts[1]) == (first < second, first == second)


@given(st.datetimes(), st.datetimes(), st.dates())
def test_the_order_of_naive_times_and_dates(one: datetime, other: datetime, day: date) -> None:
    """A date sorts before every time of its day."""
    assert (plain(one) < plain(other)) == (one < other)
    assert (plain(one) > plain(day)) == (one.date() >= day)


def test_sets_are_the_same_in_every_process() -> None:
    """The form does not depend on the hash seed."""
    code = "from harrier_core.values import plain; print(plain({'a', 'b', 'c', 'd', 1, 2.5, None, ('e',)}))"
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert printed == {"['a', 'b', 'c', 'd', 1, 2.5, ['e'], None]\n"}


def test_numpy_is_not_imported() -> None:
    """If numpy is not imported, its scalars cannot occur."""
    code = (
        "import sys; from harrier_core.values import NoForm, plain\n"
        "try: plain(object())\nexcept NoForm as error: print(error, 'numpy' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout == "a value that JSON cannot represent: object False\n"


@pytest.mark.parametrize(
    ("number", "large"),
    [
        (LARGEST, False),
        (-LARGEST, False),
        (int(LARGEST), False),
        (int(LARGEST) + 1, True),
        (-(10**400), True),
        (0, False),
    ],
)
def test_too_large(number: float, large: bool) -> None:
    assert too_large(number) == large


@given(st.text(st.characters(codec=None)))
@example("\ud83d")
@example("\0")
def test_unstorable(text: str) -> None:
    """Exactly the texts that UTF-8 or a C string cannot hold have a reason."""
    sound = "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)
    assert (unstorable(text) is None) == sound
