"""The form that a value has in JSON: of exactly JSON's own types, one for each value, or a reason why there is none."""

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
    """A str of another type."""

    FOOD = "food"


class Year(IntEnum):
    """An int of another type."""

    NOW = 2021


class Shade(Enum):
    """Values of several kinds."""

    NAME = "red"
    PARTS = (255, 0, 0)
    DAY = date(2024, 5, 1)
    NONE = None
    ODD = object()


class Text(str):
    """A str of another type, without another value."""

    __slots__ = ()


class Price(float):
    """A float of another type."""

    __slots__ = ()


class Moment(datetime):
    """A datetime that prints in its own way."""

    def isoformat(self, sep: str = " ", timespec: str = "minutes") -> str:
        return super().isoformat(sep, timespec)


class NotATime(datetime):
    """Unequal to itself, as pandas' NaT, which is a datetime too."""

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
        # Enumerations by their values, which have forms of their own.
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
    """Equal, and of exactly JSON's own types, all the way down."""
    made = plain(value)
    assert made == expected
    assert exact_types(made) == exact_types(expected)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"a", "a value that JSON does not have: bytes"),
        (object(), "a value that JSON does not have: object"),
        (1j, "a value that JSON does not have: complex"),
        (range(2), "a value that JSON does not have: range"),
        (timedelta(1), "a value that JSON does not have: timedelta"),
        (Fraction(1, 2), "a value that JSON does not have: Fraction"),
        (Shade.ODD, "a value that JSON does not have: object"),
        (np.zeros(1), "a value that JSON does not have: ndarray"),
        (np.array(1), "a value that JSON does not have: ndarray"),
        (np.datetime64("2024-05-01T00:00:00.000000001"), "a value that JSON does not have: datetime64"),
        (np.timedelta64(1, "s"), "a value that JSON does not have: timedelta64"),
        (np.complex64(1), "a value that JSON does not have: complex64"),
        (np.bytes_(b"a"), "a value that JSON does not have: bytes_"),
        (NotATime(2024, 5, 1), "a value that JSON does not have: NotATime"),
        (float("nan"), "nan, which JSON does not have"),
        (np.float32("nan"), "nan, which JSON does not have"),
        (np.float64("-inf"), "-inf, which JSON does not have"),
        (Decimal("NaN"), "NaN, which JSON does not have"),
        (Decimal("sNaN"), "sNaN, which JSON does not have"),
        (Decimal("-Infinity"), "-Infinity, which JSON does not have"),
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
def test_what_has_no_form(value: object, reason: str) -> None:
    """The reason names the type, or what is wrong; it holds no text of the value's."""
    with pytest.raises(NoForm) as caught:
        plain({"x": [value]})
    assert str(caught.value) == reason


def test_nor_is_there_json_of_it() -> None:
    """Whatever a library for JSON makes of it."""

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
    """Of dicts, lists and sets alike; what has a form of its own is no level."""
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
def test_the_form_is_jsons_and_its_own(value: Any) -> None:
    """It survives JSON, has a form that is itself, and is what is hashed and stored, before it was made plain too."""
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
def test_texts_order_as_their_times_do(one: datetime, other: datetime) -> None:
    """So that $gt and its kin mean earlier and later."""
    try:
        texts = plain(one), plain(other)
    except NoForm:  # just outside of the years that UTC has
        return
    first, second = one.astimezone(UTC), other.astimezone(UTC)
    assert (texts[0] < texts[1], texts[0] == texts[1]) == (first < second, first == second)


@given(st.datetimes(), st.datetimes(), st.dates())
def test_naive_times_and_dates_order_too(one: datetime, other: datetime, day: date) -> None:
    """A date comes before every time of its day."""
    assert (plain(one) < plain(other)) == (one < other)
    assert (plain(one) > plain(day)) == (one.date() >= day)


def test_sets_are_the_same_in_every_process() -> None:
    """Whatever seed hashes have there."""
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


def test_numpy_is_not_imported_for_it() -> None:
    """Where it was not, there are no scalars of it."""
    code = (
        "import sys; from harrier_core.values import NoForm, plain\n"
        "try: plain(object())\nexcept NoForm as error: print(error, 'numpy' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout == "a value that JSON does not have: object False\n"


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
    """A reason for exactly the texts that UTF-8 or a C string cannot hold."""
    sound = "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)
    assert (unstorable(text) is None) == sound
