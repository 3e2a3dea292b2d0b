"""Packed points compared with the client's objects; filters compared with their meaning."""

from __future__ import annotations

from typing import Any

import numpy as np
from harrier_qdrant.filters import compile_condition
from harrier_qdrant.packing import upsert_request
from harrier_qdrant.points import Found, batches, described, payload_of
from hypothesis import given
from hypothesis import strategies as st
from qdrant_client import grpc as messages
from qdrant_client.conversions.conversion import GrpcToRest

from harrier_core import Record
from harrier_core.filters import parse
from harrier_core.records import Chunk

WHOLE = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=200)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | WHOLE | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(payload=st.dictionaries(TEXT, VALUES, max_size=4), dimensions=st.integers(1, 700), name=TEXT, id_=st.uuids())
def test_packed_points(payload: dict[str, Any], dimensions: int, name: str, id_: Any) -> None:
    """The server reads what was given: collection, ids, exact numbers, payloads."""
    vectors = np.random.default_rng(dimensions).normal(size=(2, dimensions)).astype(np.float32)
    ids = [str(id_), "0" * 8 + "-0000-0000-0000-" + "0" * 12]
    request = messages.UpsertPoints.FromString(upsert_request("docs", name, ids, vectors, [payload, {}]))
    assert (request.collection_name, request.wait) == ("docs", True)
    points = [GrpcToRest.convert_point_struct(point) for point in request.points]
    assert [point.id for point in points] == ids
    assert [point.payload for point in points] == [payload, {}]
    for point, vector in zip(request.points, vectors, strict=True):
        assert list(point.vectors.vectors.vectors) == [name]
        assert np.array_equal(np.array(point.vectors.vectors.vectors[name].dense.data, np.float32), vector)


@given(words=st.dictionaries(st.integers(0, 2**31 - 1), st.floats(0, 2, width=32), max_size=300), name=TEXT)
def test_packed_words(words: dict[int, float], name: str) -> None:
    """A second vector follows the first one, whatever their sizes; ids keep all 31 bits."""
    vectors = np.ones((2, 5), np.float32)
    sparse = messages.SparseVector(indices=list(words), values=list(words.values()))
    packed = [(name, sparse.SerializeToString()), (name, b"")]
    request = messages.UpsertPoints.FromString(
        upsert_request("docs", "v" + name, ["a", "b"], vectors, [{}, {}], packed)
    )
    for point, own in zip(request.points, (sparse, messages.SparseVector()), strict=True):
        named = point.vectors.vectors.vectors
        assert list(named["v" + name].dense.data) == [1.0] * 5
        assert (sorted(named), named[name].sparse) == (sorted([name, "v" + name]), own)


def test_subclasses_of_plain_values() -> None:
    """Subclasses are stored as their base types."""

    class Name(str):
        __slots__ = ()

    class Number(float):
        __slots__ = ()

    payload = {"a": Name("n"), "b": Number(1.5), "c": (1, 2)}
    vectors = np.ones((1, 2), np.float32)
    [point] = messages.UpsertPoints.FromString(upsert_request("c", "v", ["i"], vectors, [payload])).points
    assert GrpcToRest.convert_payload(point.payload) == {"a": "n", "b": 1.5, "c": [1, 2]}


@given(metadata=st.dictionaries(TEXT, VALUES | st.integers(-(10**308), 10**308), max_size=5))
def test_metadata_comes_back(metadata: dict[str, Any]) -> None:
    """Metadata is returned unchanged, including numbers that Qdrant cannot hold."""
    chunk = Chunk.of(Record("r", "a text", metadata), 3, 7, "text")
    payload = payload_of(chunk)
    vectors = np.ones((1, 2), np.float32)
    [point] = messages.UpsertPoints.FromString(upsert_request("c", "v", ["i"], vectors, [payload])).points
    found = Found(chunk.id, GrpcToRest.convert_payload(point.payload), np.ones(2, np.float32))
    assert found.alien() is None
    assert found.stored().chunk == chunk
    assert found.match().metadata == metadata
    assert set(described(chunk)) < set(payload)


@given(lengths=st.lists(st.integers(1, 3_000_000), max_size=40), size=st.integers(0, 3_000_000))
def test_batches(lengths: list[int], size: int) -> None:
    """Batches contain all chunks in order within both limits, unless a single chunk exceeds them."""
    chunks = [Chunk("r", number, "x" * (length // 1_000), {}, 0, 0) for number, length in enumerate(lengths)]
    parts = list(batches(chunks, size))
    assert [place for part in parts for place in part] == list(range(len(chunks)))
    for part in parts:
        assert len(part) <= 256
        assert len(part) == 1 or sum(size + len(chunks[place].text) for place in part) <= 4 * 2**20


def test_conditions_that_qdrant_cannot_express() -> None:
    """A wider filter is used, and its matches are checked afterwards."""
    for where, exact in (
        ({"a": "x", "b": 5, "c": None, "d": True, "e": {"$exists": True}}, True),
        ({"a": {"$gt": 5, "$lte": 7.5}}, True),
        ({"$not": {"$or": [{"a": 1}, {"$and": []}]}}, True),
        ({"a": {"$gt": "x"}}, False),
        ({'say "a"': 1}, False),
        ({'say "a"': {"$exists": False}}, True),
        ({"a": 2**53}, False),
        ({"a": {"$between": [5, 7.5]}, "b": {"$nin": ["x", 1]}}, True),
        ({"a": {"$between": [5, 2**53]}}, False),
        ({"a": {"$between": ["x", "y"]}}, False),
        ({"a": {"$like": "x"}}, False),
        ({"a.b": 1}, True),
        ({"a.b": {"$exists": True}}, False),
        ({'a."b"': 1}, False),
        ({"$not": {"a": {"$lt": "x"}}}, False),
        ({"a": 1, "b": {"$gt": "x"}}, False),
    ):
        assert compile_condition(parse(where)).exact is exact, where
    assert compile_condition(None).filter is None
