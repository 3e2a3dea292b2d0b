"""Values in metadata and in conditions on it, as JSON values: one form each, in every integration and store. Pure.

datetime with a time zone      ISO 8601 text in UTC, such as 2024-05-01T12:00:00+00:00: texts order as their times do
other datetime, date, time     ISO 8601 text as it is; a date comes before every time of its day
UUID                           its text
PurePath                       its text, with slashes
Decimal                        an int if it is integral, and the nearest float otherwise
set, frozenset                 a list, ordered by the JSON of its elements, so that it is the same in every process
tuple                          a list
Enum                           its value
numpy scalar                   the bool, int, float or str that it is

A subclass of one of JSON's own types becomes that type. Keys must be str. No other value is accepted.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

_DEEPEST = 24  # a level of JSON takes three of the hundred that a gRPC message of Qdrant may have
_MOST_NUMBER = int(sys.float_info.max)
_MOST_EXPONENT = sys.float_info.max_10_exp
_NUMPY_KINDS = "biufU"  # bool, int, unsigned int, float, str: the others are dates, durations, bytes and records


class NoForm(ValueError):
    """A value that JSON, or a database's JSON, cannot hold. The message names it, and continues a sentence."""


def plain(value: object, depth: int = 0) -> Any:  # noqa: ANN401
    """Return the value as JSON has it, of JSON's own types all the way down. Raise NoForm if that is impossible."""
    if value is None or isinstance(value, str | int | float):
        return _scalar(value)
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return _container(value, depth)
    for kind, form in _FORMS.items():
        if isinstance(value, kind):
            return plain(form(value), depth)
    return plain(_of_numpy(value), depth)


def unstorable(text: str) -> str | None:
    """Return what in a text no database can store, or None."""
    if "\0" in text:
        return "a NUL character"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "half of a surrogate pair"
    return None


def too_large(number: float) -> bool:
    """Return whether it is beyond all floats: nothing can compare it with them."""
    return abs(number) > _MOST_NUMBER


def _scalar(value: str | float | None) -> str | float | None:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise NoForm(f"{float(value)}, which JSON cannot represent")
    if too_large(value):
        raise NoForm("a number beyond all floats")
    return int(value) if isinstance(value, int) else float(value)


def _text(value: str) -> str:
    if why := unstorable(value):
        raise NoForm(why)
    return str.__str__(value)


def _container(values: Mapping[Any, object] | Iterable[object], depth: int) -> dict[str, Any] | list[Any]:
    if depth == _DEEPEST:
        raise NoForm(f"more than {_DEEPEST} nested levels")
    if isinstance(values, Mapping):
        return {_key(key): plain(each, depth + 1) for key, each in values.items()}
    elements = [plain(each, depth + 1) for each in values]
    if isinstance(values, set | frozenset):
        elements.sort(key=lambda each: json.dumps(each, sort_keys=True))
    return elements


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise NoForm(f"a key that is {type(key).__name__}, not str")
    return _text(key)


# -- values that have a form other than their own


def _moment(value: datetime) -> str:
    if value != value:  # noqa: PLR0124  # pandas' NaT, which is a datetime and prints as one of the year 1
        raise NoForm(f"a value that JSON cannot represent: {type(value).__name__}")
    try:
        return datetime.isoformat(value if value.utcoffset() is None else value.astimezone(UTC))
    except OverflowError:
        raise NoForm("a datetime that is outside the years 1 to 9999 in UTC") from None


def _decimal(value: Decimal) -> float:
    if not value.is_finite():
        raise NoForm(f"{value}, which JSON cannot represent")
    if value.adjusted() > _MOST_EXPONENT:  # as an int, Decimal("1E+999999999") has a billion digits
        raise NoForm("a number beyond all floats")
    return int(value) if value == value.to_integral_value() else float(value)


_FORMS: Mapping[type, Callable[[Any], object]] = {  # a datetime is a date
    datetime: _moment,
    date: date.isoformat,
    time: time.isoformat,
    UUID: str,
    PurePath: PurePath.as_posix,
    Decimal: _decimal,
    Enum: lambda member: member.value,
}


def _of_numpy(value: object) -> object:
    """Return the Python value of a numpy scalar. There can be none if numpy was not imported."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, numpy.generic) or value.dtype.kind not in _NUMPY_KINDS:
        raise NoForm(f"a value that JSON cannot represent: {type(value).__name__}")
    return float(value) if value.dtype.kind == "f" else value.item()  # item() of a longdouble is another longdouble
