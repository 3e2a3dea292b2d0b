"""Valid contents of records, their normalisation, and ids and hashes of chunks."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from datetime import date
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harrier_core import Chunk, Record
from harrier_core.chunking import chunks
from harrier_core.records import (
    MOST_ID_BYTES,
    Unstorable,
    _plainly_sound,
    _problems,
    checked,
    chunk_id,
    id_hash,
    text_hash,
    to_json,
)
from harrier_core.values import plain

LARGEST = 1.7976931348623157e308  # of all floats


class Topic(StrEnum):
    """A subclass of str."""

    FOOD = "food"


class Year(IntEnum):
    """An int subclass."""

    NOW = 2021


class Text(str):
    """A subclass of str without its own value."""

    __slots__ = ()


class Price(float):
    """A subclass of float."""

    __slots__ = ()


def chunk_of(text: str, metadata: Mapping[str, Any]) -> Chunk:
    """Return the only chunk of a record."""
    [chunk] = chunks(Record("doc-1", text, metadata), 1, None, lambda texts: [1 for _ in texts])
    return chunk


def nested(levels: int, value: Any = "end") -> dict[str, Any]:
    metadata: Any = value
    for _ in range(levels):
        metadata = {"x": metadata}
    return dict(metadata)


# -- refusals and their reasons

CYCLE: dict[str, Any] = {}
CYCLE["x"] = [CYCLE]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("a text", "is str, not Record"),
        (None, "is NoneType, not Record"),
        ({"id": "a", "text": "b"}, "is dict, not Record"),
        (Record(5, "a"), "has an id that is int, not str"),  # type: ignore[arg-type]
        (Record("a", b"a"), "has a text that is bytes, not str"),  # type: ignore[arg-type]
        (Record("", "a"), "has an id that is empty or blank"),
        (Record("\t\u3000", "a"), "has an id that is empty or blank"),
        (Record("a", "\n"), "has a text that is empty or blank"),
        (Record("a\0", "a"), "has a NUL character in its id"),
        (Record("a", "b\0c"), "has a NUL character in its text"),
        (Record("\ud83d", "a"), "has half of a surrogate pair in its id"),
        (Record("a", "b \udd85"), "has half of a surrogate pair in its text"),
        (Record("i" * 2_001, "a"), "has an id of 2,001 bytes, of which 2,000 are allowed"),
        (Record("é" * 1_001, "a"), "has an id of 2,002 bytes, of which 2,000 are allowed"),
        (Record("a", "b", ["c"]), "has metadata that is list, not a mapping"),  # type: ignore[arg-type]
        (Record("a", "b", None), "has metadata that is NoneType, not a mapping"),  # type: ignore[arg-type]
        (Record("a", "b", {"x": float("nan")}), "has metadata with nan, which JSON cannot represent"),
        (Record("a", "b", {"x": [float("-inf")]}), "has metadata with -inf, which JSON cannot represent"),
        (Record("a", "b", {"x": 10**400}), "has metadata with a number beyond all floats"),
        (Record("a", "b", {"x": {"y": -(10**400)}}), "has metadata with a number beyond all floats"),
        (Record("a", "b", {"x": "\0"}), "has metadata with a NUL character"),
        (Record("a", "b", {"x": ["\ud83d"]}), "has metadata with half of a surrogate pair"),
        (Record("a", "b", {"\0": 1}), "has metadata with a NUL character"),
        (Record("a", "b", {"x": {"\ud83d": 1}}), "has metadata with half of a surrogate pair"),
        (Record("a", "b", {"x": b"c"}), "has metadata with a value that JSON cannot represent: bytes"),
        (Record("a", "b", {"x": range(2)}), "has metadata with a value that JSON cannot represent: range"),
        (Record("a", "b", {1: "x"}), "has metadata with a key that is int, not str"),  # type: ignore[dict-item]
        (Record("a", "b", {"x": [{None: 1}]}), "has metadata with a key that is NoneType, not str"),
        (Record("a", "b", {"x": {date(2024, 5, 1): 1}}), "has metadata with a key that is date, not str"),
        (Record("a", "b", nested(25)), "has metadata with more than 24 nested levels"),
        (Record("a", "b", CYCLE), "has metadata with more than 24 nested levels"),
    ],
)
def test_why_a_record_is_refused(record: object, reason: str) -> None:
    """The reason continues a sentence that names the id, and contains no text of the record."""
    with pytest.raises(Unstorable) as caught:
        checked(record)
    assert str(caught.value) == reason


@pytest.mark.parametrize(
    "record",
    [
        Record("i" * MOST_ID_BYTES, "a"),
        Record("é" * (MOST_ID_BYTES // 2), "a"),
        Record(" a ", " b\t"),
        Record("a", "b", nested(24)),
        Record("a", "b", nested(22, [[]])),
        Record("a", "b", {"": "", "int": -(2**70), "float": LARGEST, "whole": int(LARGEST), "none": None}),
        Record("ünï-🦅", "\U0010ffff", {"ключ": ["漢字", {"q\"'\\": True}]}),
    ],
)
def test_valid_records(record: Record) -> None:
    """Records up to each limit are valid."""
    assert checked(record) == record


# -- the fast check and the thorough one

TEXTS = st.one_of(
    st.sampled_from(
        ["", " ", "a", "a\0", "\ud83d", "é" * 500, "é" * 501, "i" * 2_000, "i" * 2_001, Text("t"), Topic.FOOD]
    ),
    st.text(max_size=5),
)
VALUES = st.one_of(
    TEXTS,
    st.sampled_from([None, True, 0, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 10**400, Year.NOW, 1.5, Price(1), b""]),
    st.floats(),
    st.lists(st.integers(), max_size=2),
)
METADATA = st.one_of(
    st.dictionaries(TEXTS, VALUES, max_size=3),
    st.dictionaries(TEXTS | st.integers(), VALUES, max_size=2),
    st.dictionaries(TEXTS, VALUES, max_size=2).map(MappingProxyType),
    st.dictionaries(TEXTS, VALUES, max_size=2).map(OrderedDict),
    st.none(),
)
RECORDS = st.builds(Record, TEXTS | st.none(), TEXTS | st.just(b"a"), METADATA)


@given(RECORDS)
@example(Record("a", "b"))
@example(Record("a", "b", {"c": "d", "e": 2**63 - 1, "f": True, "g": None, "h": 0.1}))
@example(Record("a", "b", {"c": float("-inf")}))
@example(Record(Text("a"), "b"))
def test_the_fast_check_is_sound(record: Record) -> None:
    """Accepted records pass the thorough check unchanged."""
    if _plainly_sound(record):
        assert not any(_problems(record))
        assert type(record.id) is type(record.text) is str
        assert all(type(value) in (str, int, float, bool, type(None)) for value in record.metadata.values())
        assert plain(record.metadata) == record.metadata


@pytest.mark.parametrize(
    "record",
    [
        Record("a", "b"),
        Record("é" * 500, "b"),
        Record("a", "b", {"c": "é", "d": -(2**63), "e": False, "f": None, "g": -0.5}),
    ],
)
def test_most_records_pass_the_fast_check(record: Record) -> None:
    """They are returned without a copy."""
    assert _plainly_sound(record)
    assert checked(record) is record


@given(RECORDS)
def test_valid_records_survive_json(record: Record) -> None:
    """Valid records are stored and read unchanged."""
    try:
        sound = checked(record)
    except Unstorable:
        return
    assert json.loads(to_json(sound.metadata)) == plain(record.metadata)
    assert sound.text.encode()


# -- plain records


def exact_types(value: object) -> object:
    if isinstance(value, dict):
        return type(value), [(type(key), exact_types(each)) for key, each in value.items()]
    if isinstance(value, list):
        return type(value), [exact_types(each) for each in value]
    return type(value)


def test_a_record_of_subclasses_becomes_plain() -> None:
    """Its id and text become plain too."""
    made = checked(Record(Text("a"), Topic.FOOD, MappingProxyType({Text("year"): Year.NOW})))
    assert made == Record("a", "food", {"year": 2021})
    assert {type(made.id), type(made.text), *map(type, made.metadata)} == {str}
    assert exact_types(made.metadata) == exact_types({"year": 2021})


# -- ids and hashes


def test_chunk_ids_are_stable() -> None:
    """Stores contain them, so releases and processes must agree."""
    assert chunk_id("doc-1", 0) == "2d9814ce-9c07-5280-a95f-b2b85e51e045"
    assert chunk_id("doc-1", 1) == "35a7f9ea-6e79-50ae-b1f4-5802a95daf7f"
    assert chunk_id("", 0) == "45db27d7-c48c-5cec-a725-cb43ae7a6297"
    assert chunk_id("ünï-漢字-🦅", 123_456) == "b61c5f89-3b0f-5e40-9d57-ee90e48ae67a"


@given(
    st.tuples(st.text("a1\0", max_size=4), st.integers(0, 20)),
    st.tuples(st.text("a1\0", max_size=4), st.integers(0, 20)),
)
@example(("a", 11), ("a1", 1))
def test_chunk_ids_are_unique(one: tuple[str, int], other: tuple[str, int]) -> None:
    """No two chunks share an id, and each is a valid UUID."""
    assert (chunk_id(*one) == chunk_id(*other)) == (one == other)
    assert str(UUID(chunk_id(*one))) == chunk_id(*one)


def test_hashes_are_stable() -> None:
    """If they changed, the next ingest would write everything again."""
    assert text_hash("bread rises").hex() == "ec5217dba4945579e5043eed226a050c"
    assert text_hash("é").hex() == "d4b1b0202b21bb84e60a3d272ecab0db"
    plain_one = chunk_of("bread rises", {"topic": "food", "year": 2021})
    assert plain_one.hash.hex() == "ec5217dba4945579e5043eed226a050c16aef29475756fab852411afbc24cfb6"
    awkward = chunk_of("bread rises", {"b": [1, {"d": None, "c": "é"}], "a": 2**70})
    assert awkward.hash.hex() == "ec5217dba4945579e5043eed226a050c92f6f6b4c741fbb7f32bf75ee1f9b3c1"
    assert (plain_one.id, plain_one.text_hash) == (chunk_id("doc-1", 0), text_hash("bread rises"))


def test_hashes_of_ids_are_stable() -> None:
    """They agree in every process, also for ids that cannot be stored."""
    assert id_hash("doc-1") == 6_265_767_295_393_789_249
    assert id_hash("ünï-漢字-🦅") == 7_828_270_398_400_298_145
    assert id_hash("\ud83d") == 1_773_337_277_470_638_842


def test_metadata_json_is_computed_once() -> None:
    """Chunks of a record share it; without it, chunks are still equal."""
    record = Record("a", "bread rises", {"b": 1, "a": "é"})
    json_ = to_json(record.metadata)
    first, second = (Chunk.of(record, number, 6 * number, record.text[6 * number :][:5], json_) for number in (0, 1))
    assert first.metadata_json is second.metadata_json is json_
    assert Chunk.of(record, 1, 6, "rises") == second
    assert Chunk("a", 1, "rises", record.metadata, 6, 11).metadata_json == json_ == '{"a":"é","b":1}'.encode()


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("aé🦅", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("aéb", max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text("aéb", max_size=3), JSON, max_size=4))
@example({"b": {"z": 2**70, "y": 1}, "a": 1})
def test_the_order_of_keys_changes_no_hash(metadata: dict[str, Any]) -> None:
    """The order does not matter at any level, or for integers above 64 bits."""
    assert to_json(backwards(metadata)) == to_json(metadata)
    assert chunk_of("a", backwards(metadata)).hash == chunk_of("a", metadata).hash


def backwards(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: backwards(value[key]) for key in reversed(value)}
    return [backwards(each) for each in value] if isinstance(value, list) else value


@given(JSON, JSON)
@example(1, True)
@example(1, 1.0)
@example("1", 1)
@example(None, [])
@example({"a": None}, {})
def test_other_metadata_changes_the_hash(one: Any, other: Any) -> None:
    """Only its second half changes. Equal values must have the same JSON type."""
    first, second = chunk_of("a", {"x": one}), chunk_of("a", {"x": other})
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (first.hash == second.hash) == same
    assert first.text_hash == second.text_hash


def test_another_text_changes_the_hash() -> None:
    """Only its first half changes."""
    one, other = chunk_of("bread", {"x": 1}), chunk_of("rises", {"x": 1})
    assert one.text_hash != other.text_hash
    assert one.hash.removeprefix(one.text_hash) == other.hash.removeprefix(other.text_hash)
    assert len(one.hash) == 2 * len(one.text_hash) == 32
