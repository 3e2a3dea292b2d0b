"""Haystack's filters find what Haystack's own evaluation finds, for any metadata except lists."""

from __future__ import annotations

import random
from typing import Any

import haystack.errors
import pytest
from haystack import Document
from haystack.utils.filters import document_matches_filter
from haystack_integrations.document_stores.harrier import HarrierDocumentStore
from haystack_integrations.document_stores.harrier.filters import where_of
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from harrier_core import HarrierError, Record
from harrier_core.filters import meets, parse

KEYS = ("a", 'b "c"', "missing")
TEXTS = ("", "a", "abc", "A", "1", "é\n.", '"\\', "😀%_", "null")
DATES = ("1969-07-21T20:17:40", "1972-12-11T19:54:58", "1989-11-09T17:53:00")
NUMBERS = (0, 1, 2, -1, 0.0, 1.0, 1.5, 2**40)
SCALARS = (*TEXTS, *DATES, *NUMBERS, True, False, None)
ORDERS = (">", ">=", "<", "<=")

METADATA = st.dictionaries(st.sampled_from(KEYS[:2]), st.sampled_from(SCALARS))
FIELDS = st.sampled_from([f"meta.{key}" for key in KEYS])
FILTERS = st.recursive(
    st.one_of(
        st.builds(
            lambda field, operator, value: {"field": field, "operator": operator, "value": value},
            FIELDS,
            st.sampled_from(["==", "!=", *ORDERS]),
            st.sampled_from(SCALARS),
        ),
        st.builds(
            lambda field, operator, value: {"field": field, "operator": operator, "value": value},
            FIELDS,
            st.sampled_from(["in", "not in"]),
            st.lists(st.sampled_from(SCALARS), max_size=3),
        ),
    ),
    lambda parts: st.builds(
        lambda operator, conditions: {"operator": operator, "conditions": conditions},
        st.sampled_from(["AND", "OR", "NOT"]),
        st.lists(parts, max_size=2),
    ),
    max_leaves=4,
)


def one(operator: str, value: Any, field: str = "meta.a") -> dict[str, Any]:
    return {"field": field, "operator": operator, "value": value}


def leaves(part: dict[str, Any]) -> list[dict[str, Any]]:
    return [part] if "field" in part else [leaf for each in part["conditions"] for leaf in leaves(each)]


def says(filters: dict[str, Any], metadata: dict[str, Any]) -> bool | None:
    """Return Haystack's result, or None if it raises, guesses a date or orders bools."""
    for leaf in leaves(filters):
        stored = metadata.get(leaf["field"].removeprefix("meta."))
        if leaf["operator"] in ORDERS and any(
            isinstance(each, bool) or each in TEXTS for each in (stored, leaf["value"])
        ):
            return None
    try:
        return document_matches_filter(filters, Document(content="a", meta=metadata))
    except (haystack.errors.FilterError, TypeError):
        return None


@example({"a": None}, one("==", None))
@example({}, one("not in", [None]))
@example({"a": True}, one("in", [1.0]))
@example({"a": 0}, one("!=", False))
@example({"a": DATES[1]}, one(">=", DATES[1]))
@settings(max_examples=1_500, deadline=None)
@given(METADATA, FILTERS)
def test_the_meaning(metadata: dict[str, Any], filters: dict[str, Any]) -> None:
    """Every operator agrees for every type of value."""
    wanted = says(filters, metadata)
    try:
        found = meets(metadata, parse(where_of(filters)))
    except haystack.errors.FilterError:
        assert wanted is None or any(is_odd(each) for each in leaves(filters))
        return
    if wanted is not None:
        assert found == wanted


def is_odd(leaf: dict[str, Any]) -> bool:
    """Return whether a filter orders values without an order, which Haystack notices only sometimes."""
    return leaf["operator"] in ORDERS and (isinstance(leaf["value"], bool) or leaf["value"] in TEXTS)


def test_on_real_stores(document_store: HarrierDocumentStore) -> None:
    """Reading and searching in the databases agree."""
    chance = random.Random(0)
    rows = {
        str(number): {key: chance.choice(SCALARS) for key in chance.sample(KEYS[:2], chance.randint(0, 2))}
        for number in range(60)
    }
    document_store.write_documents([Document(id=id_, content="a text", meta=meta) for id_, meta in rows.items()])
    met: set[bool] = set()

    @settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(FILTERS)
    def find(filters: dict[str, Any]) -> None:
        try:
            found = {each.id for each in document_store.filter_documents(filters)}
        except haystack.errors.FilterError:
            return
        said = {id_: says(filters, metadata) for id_, metadata in rows.items()}
        assert {id_ for id_ in found if said[id_] is not None} == {id_ for id_, meets_ in said.items() if meets_}
        assert {each.id for each in document_store.search("a text", filters, 60)} == found
        met.update(id_ in found for id_ in rows)

    find()
    assert met == {True, False}


def test_lists_match_by_element(document_store: HarrierDocumentStore) -> None:
    """Lists match by their elements, as everywhere in the kit."""
    document_store.index.ingest([Record("x", "a text", {"a": ["x", "y"]}), Record("xyz", "a text", {"a": "xyz"})])

    def found(operator: str, value: Any) -> list[str]:
        return sorted(each.id for each in document_store.filter_documents(one(operator, value)))

    assert found("==", "x") == found("in", ["x", "z"]) == ["x"]
    assert found("!=", "x") == ["xyz"]


def test_by_ids(document_store: HarrierDocumentStore) -> None:
    """Filters by id work as AutoMergingRetriever uses them, also on a missing place."""
    by_id = one("==", "1", field="id")
    assert document_store.filter_documents(by_id) == []
    document_store.write_documents([Document(id=str(number), content="a text") for number in range(3)])
    assert [each.id for each in document_store.filter_documents(by_id)] == ["1"]
    found = document_store.filter_documents(one("in", ["0", "2", "9"], field="id"))
    assert sorted(each.id for each in found) == ["0", "2"]


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        (one("==", 1, field="year"), "must have field 'meta.KEY'"),
        ({"operator": "AND", "conditions": [one("==", "1", field="id")]}, "must have field 'meta.KEY'"),
        ({"operator": "XOR", "conditions": []}, "or AND, OR or NOT and conditions"),
        ({"operator": "AND", "conditions": ["a"]}, "or AND, OR or NOT and conditions"),
        (one("=~", 1), "'a' must be compared by"),
        (one("in", "abc"), "'a' must be compared by"),
        (one(">", "abc"), "'a' must be compared by"),
        (one("<", True), "must have a number, a text or a date, got True"),
        (one("==", [1]), "'a' must be compared with one value, got a list"),
        (one("==", float("nan")), "'a' must be compared with a text, a finite number, a date, a bool or None, got nan"),
    ],
)
def test_unsupported_filters(filters: dict[str, Any], said: str) -> None:
    """The error is both Haystack's and the kit's."""
    with pytest.raises(haystack.errors.FilterError, match=said) as raised:
        where_of(filters)
    assert isinstance(raised.value, HarrierError)
    assert isinstance(raised.value, ValueError)


def test_empty_filters() -> None:
    """Haystack passes both forms to a store."""
    assert where_of(None) is where_of({}) is None
