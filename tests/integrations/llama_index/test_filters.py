"""LlamaIndex's filters find what its own evaluation finds, for any JSON metadata."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters
from llama_index.core.vector_stores.utils import build_metadata_filter_fn
from llama_index.vector_stores.harrier import HarrierVectorStore, filters
from llama_index.vector_stores.harrier.filters import where_of
from llama_index.vector_stores.harrier.nodes import node_of, record_of

from harrier_core import Encoder, FilterError, Index, Record
from harrier_core.filters import meets, parse
from harrier_core.records import Chunk
from harrier_core.store import VectorStore
from harrier_core.testing import MemoryStore

pytestmark = pytest.mark.usefixtures("newest")

KEYS = ("a", 'b "c"', "a.b", "$a", "doc_id", "missing", "nested.b", "nested.b.c")
TEXTS = ("", "a", "abc", "aBc456", "A", "1", "é\n.", "É", '"\\', "😀%_", "c_", "\\")
NUMBERS = (0, 1, 2, -1, 0.0, 1.0, 1.5, 2**40)

SCALARS = st.sampled_from([*TEXTS, *NUMBERS, True, False])
METADATA = st.builds(
    lambda metadata, within: {**metadata, **({} if within is None else {"nested": {"b": within, "b.c": within}})},
    st.dictionaries(
        st.sampled_from(KEYS[:5]), st.one_of(SCALARS, st.none(), st.lists(st.one_of(SCALARS, st.none()), max_size=3))
    ),
    st.none() | SCALARS,  # which LlamaIndex has no filter for
)
VALUES = st.one_of(
    st.sampled_from([*TEXTS, *NUMBERS]),
    st.lists(st.sampled_from(TEXTS), max_size=3),
    st.lists(st.sampled_from([number for number in NUMBERS if isinstance(number, int)]), max_size=3),
    st.lists(st.sampled_from([number for number in NUMBERS if isinstance(number, float)]), max_size=3),
    st.none(),
)
STORED = [*TEXTS, *NUMBERS, True, False, None, [], ["a"], ["a", "abc"], [1], [1.0, True], ["a", None], [2, "abc"]]
ASKED: list[Any] = [*TEXTS, *NUMBERS, None, [], ["a"], ["abc", "a"], ["", "1"], [1], [0, 1], [1.5, 1.0]]
INSENSITIVE = FilterOperator.TEXT_MATCH_INSENSITIVE
OPERATORS = list(FilterOperator)


def grouped(parts: st.SearchStrategy[Any], least: int = 0) -> st.SearchStrategy[MetadataFilters]:
    lists = st.lists(parts, min_size=least, max_size=3)
    return st.builds(MetadataFilters, filters=lists, condition=st.sampled_from(FilterCondition))


FILTER = st.builds(
    MetadataFilter,
    key=st.sampled_from([*KEYS, "ref_doc_id", "document_id"]),
    value=VALUES,
    operator=st.sampled_from(OPERATORS),
)
FILTERS = grouped(FILTER, least=1)
NESTED = grouped(st.recursive(FILTER, grouped, max_leaves=6), least=1)


def node_of_metadata(id_: str, metadata: dict[str, Any], source: str | None = None) -> TextNode:
    node = TextNode(id_=id_, text=f"the text of {id_}", metadata=metadata)
    if source:
        node.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=source)
    return node


def theirs(metadata: dict[str, Any], source: str | None) -> dict[str, Any]:
    """Return the metadata that LlamaIndex's stores filter by, with the document id under three keys."""
    ids = dict.fromkeys(("doc_id", "document_id", "ref_doc_id"), source) if source else {}
    return {**ids, **metadata, **({"ref_doc_id": source} if source else {})}


def expected(filters: MetadataFilters, metadata: dict[str, Any]) -> bool | None:
    """Return LlamaIndex's result, or None if it raises one of Python's errors.

    It does not support nested groups, so each is replaced by a condition on LlamaIndex's result for it.
    """
    answers: dict[str, Any] = {}
    parts: list[Any] = []
    for part in filters.filters:
        if isinstance(part, MetadataFilters):
            answer, key = expected(part, metadata), f"group {len(parts)}"
            if answer is None:
                return None
            answers[key] = int(answer)
            parts.append(MetadataFilter(key=key, value=1))
        else:
            parts.append(part)
    flat = MetadataFilters(filters=parts, condition=filters.condition)
    try:
        return build_metadata_filter_fn(lambda _: {**metadata, **answers}, flat)("id")
    except TypeError:
        return None


def leaves(filters: MetadataFilters) -> Iterator[MetadataFilter]:
    for part in filters.filters:
        yield from leaves(part) if isinstance(part, MetadataFilters) else [part]


def one(value: Any, operator: str = "==") -> MetadataFilters:
    return MetadataFilters(filters=[MetadataFilter(key="a", value=value, operator=FilterOperator(operator))])


def same(metadata: dict[str, Any], source: str | None, filters: MetadataFilters) -> bool | None:
    """Return both results, or None if either is an error."""
    wanted = expected(filters, theirs(metadata, source))
    stored = record_of(node_of_metadata("id", metadata, source)).metadata
    try:
        found = meets(stored, parse(where_of(filters)))
    except FilterError:
        assert any(is_odd(each) for each in leaves(filters))
        return None
    if wanted is not None:
        assert found == wanted
    return wanted


@pytest.mark.parametrize("operator", OPERATORS)
def test_each_operator(operator: FilterOperator) -> None:
    """Every pair of value types is compared, also with a missing key."""
    there, missing = set[bool | None](), set[bool | None]()
    for asked in ASKED:
        filters = MetadataFilters(filters=[MetadataFilter(key="a", value=asked, operator=operator)])
        there |= {same({"a": stored}, None, filters) for stored in STORED}
        missing |= {same(metadata, None, filters) for metadata in ({}, {"b": asked})}
    assert {True, False} <= there
    met = operator in (FilterOperator.NE, FilterOperator.NIN, FilterOperator.IS_EMPTY)
    assert missing - {None} == {met}


@example({"a": [1, True]}, None, one([1.0, 1.0]))
@example({"a": [1.5]}, None, one([1.5]))
@example({"a": []}, None, one([], "all"))
@example({"a": True}, None, one(0.5, ">"))
@settings(max_examples=1_000)
@given(METADATA, st.sampled_from([None, "abc", "a"]), FILTERS)
def test_the_meaning(metadata: dict[str, Any], source: str | None, filters: MetadataFilters) -> None:
    """Several operators agree in every condition."""
    same(metadata, source, filters)


@example({"a": 1}, None, MetadataFilters(filters=[one(1), MetadataFilters(filters=[])], condition=FilterCondition.NOT))
@settings(max_examples=500)
@given(METADATA, st.sampled_from([None, "abc", "a"]), NESTED)
def test_nested_groups(metadata: dict[str, Any], source: str | None, filters: MetadataFilters) -> None:
    """They may have any depth; an empty group matches everything."""
    same(metadata, source, filters)


def is_odd(part: MetadataFilter) -> bool:
    """Return whether LlamaIndex interprets the value in an unintended way, if it accepts it."""
    listed = isinstance(part.value, list)
    if part.operator in (FilterOperator.IN, FilterOperator.NIN, FilterOperator.ANY, FilterOperator.ALL):
        return not listed  # the letters of a text
    if part.operator in (FilterOperator.GT, FilterOperator.GTE, FilterOperator.LT, FilterOperator.LTE):
        return listed or part.value is None  # lists in an order
    if part.operator == FilterOperator.CONTAINS:
        return listed  # a list in a list
    return part.operator in (FilterOperator.TEXT_MATCH, INSENSITIVE) and not isinstance(part.value, str)


@given(METADATA, st.sampled_from([None, "abc"]))
def test_a_node_comes_back(metadata: dict[str, Any], source: str | None) -> None:
    """It is returned without the keys that its record has for filters."""
    for own in (metadata, {**metadata, "_lists": ["x"], "_node": 1, "ref_doc_id": [1]}):
        node = node_of_metadata("id", own, source)
        record = record_of(node)
        assert node_of(Chunk.of(record, 0, 0, record.text)) == node


def test_on_real_stores(place: VectorStore, encoder: Encoder) -> None:
    """Reading and searching in the databases agree."""
    chance, scalars = random.Random(0), [*TEXTS, *NUMBERS, True, False, None]
    nodes, rows = [], {}
    for number in range(80):
        values = [chance.choice(scalars), chance.sample(scalars, chance.randint(0, 3)), chance.choice(scalars)]
        metadata: dict[str, Any] = {key: chance.choice(values) for key in chance.sample(KEYS[:5], chance.randint(0, 5))}
        metadata["nested"] = {"b": chance.choice(scalars)}
        source = chance.choice([None, "abc", "a"])
        rows[str(number)] = theirs(metadata, source)
        nodes.append(node_of_metadata(str(number), metadata, source))
    store = HarrierVectorStore(Index(place, encoder))
    store.add(nodes)
    met: set[bool] = set()

    @settings(max_examples=250, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.one_of(FILTERS, NESTED))
    def find(filters: MetadataFilters) -> None:
        try:
            found = {node.node_id for node in store.get_nodes(filters=filters)}
        except FilterError:
            return
        said = {id_: expected(filters, metadata) for id_, metadata in rows.items()}
        assert {id_ for id_ in found if said[id_] is not None} == {id_ for id_, meets_ in said.items() if meets_}
        met.update(id_ in found for id_ in rows)

    find()
    assert met == {True, False}


def test_lists_of_other_surfaces(encoder: Encoder) -> None:
    """Lists in records that are not nodes match by element, as everywhere in the kit."""
    index = Index(MemoryStore(), encoder)
    index.ingest([Record("a", "a text", {"tags": ["x", "y"]}), Record("b", "a text", {"tags": "xyz"})])
    store = HarrierVectorStore(index)

    def found(operator: str, value: Any) -> set[str]:
        part = MetadataFilter(key="tags", value=value, operator=FilterOperator(operator))
        return {node.node_id for node in store.get_nodes(filters=MetadataFilters(filters=[part]))}

    assert found("==", "x") == {"a"}
    assert found("contains", "x") == {"a", "b"}
    assert found("contains", "yz") == {"b"}


LETTERS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=4)
# Letters that only case folding turns into others, and the one that becomes two in lowercase.
FOLDED = {each for each in map(chr, range(sys.maxunicode + 1)) if each.lower().casefold() != each.lower()} | {"İ"}


@settings(max_examples=500)
@given(LETTERS, LETTERS, LETTERS, st.sampled_from([str.upper, str.lower, str.title]))
def test_any_case(before: str, text: str, after: str, cased: Callable[[str], str]) -> None:
    """Case is ignored as by lower() in every script, and with Unicode case folding."""
    whole, asked = before + cased(text) + after, one(text, INSENSITIVE)
    found = meets({"a": whole}, parse(where_of(asked)))
    if not FOLDED & {*whole, *text}:
        assert found == expected(asked, {"a": whole})


def test_case_folding() -> None:
    """Letters with equal case folding match, unlike in LlamaIndex; % is literal."""
    for whole, text, theirs_ in [("ΟΔΟΣ", "οδοσ", False), ("Waſſer", "wasser", False), ("100%", "0%", True)]:
        assert meets({"a": whole}, parse(where_of(one(text, INSENSITIVE))))
        assert expected(one(text, INSENSITIVE), {"a": whole}) == theirs_
    assert not meets({"a": "100"}, parse(where_of(one("1%0", INSENSITIVE))))


def test_an_operator_of_a_newer_release(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error lists the known operators."""
    monkeypatch.delitem(filters._MEANINGS, FilterOperator.ALL)
    with pytest.raises(FilterError, match="unknown operator 'all' for 'a'; the operators are ==, !=, "):
        where_of(one(["x"], "all"))
