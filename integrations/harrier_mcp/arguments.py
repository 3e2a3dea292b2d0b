"""The arguments of calls, validated. An error names the argument and quotes no value."""

from __future__ import annotations

import json
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harrier_core import Mode
from harrier_mcp.failures import Refused

T = TypeVar("T", bound=BaseModel)

_ID = Annotated[str, Field(min_length=1, max_length=2_000)]


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Search(_Arguments):
    """The arguments of `search`."""

    query: str
    k: int = 5
    where: dict[str, Any] | None = None
    mode: Mode | None = None
    task: str | None = None
    min_score: Annotated[float | None, Field(strict=False, allow_inf_nan=False)] = None


class Fetch(_Arguments):
    """The arguments of `fetch`."""

    id: _ID
    start: Annotated[int, Field(ge=0)] = 0


class Add(_Arguments):
    """The arguments of `add`."""

    id: _ID
    text: str
    metadata: dict[str, Any] = {}


class Delete(_Arguments):
    """The arguments of `delete`."""

    ids: Annotated[list[_ID], Field(min_length=1, max_length=100)]


def arguments(given: dict[str, Any] | None, kind: type[T]) -> T:
    """Return the arguments of a call. Raise Refused if they are invalid."""
    try:
        return kind.model_validate(given or {})
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        said = "; ".join(f"{_place(each['loc'])}: {each['msg'][0].lower()}{each['msg'][1:]}" for each in found[:5])
        known = ", ".join(kind.model_fields)
        raise Refused(f"invalid arguments: {said}; the arguments are {known}") from None


def _place(loc: tuple[int | str, ...]) -> str:
    return ".".join(str(each)[:100] for each in loc) or "arguments"


def size_of(value: object) -> int:
    """Return how many characters a value has in JSON."""
    try:
        return len(json.dumps(value, ensure_ascii=False))
    except RecursionError:
        return 2**31
