"""LangChain's structured queries have the same meaning as conditions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.structured_query import (
    Comparator,
    Comparison,
    FilterDirective,
    Operation,
    Operator,
    StructuredQuery,
)
from langchain_harrier import HarrierVectorStore
from langchain_harrier.self_query import HarrierTranslator

from harrier_core.filters import meets, parse

C, P = Comparator, Operator
NUMBERS = st.integers(0, 3)
VALUES = NUMBERS | st.sampled_from(["a", "ab", "b"])
FIELDS = st.sampled_from(["n", "s", "tags"])
METADATA = st.fixed_dictionaries(
    {},
    optional={"n": NUMBERS, "s": st.sampled_from(["a", "ab", "b"]), "tags": st.lists(VALUES, max_size=3)},
)
ORDERED = {
    C.GT: lambda a, b: a > b,
    C.GTE: lambda a, b: a >= b,
    C.LT: lambda a, b: a < b,
    C.LTE: lambda a, b: a <= b,
}


def comparisons() -> st.SearchStrategy[FilterDirective]:
    one = st.sampled_from([C.EQ, C.NE, *ORDERED, C.CONTAIN])
    many = st.sampled_from([C.IN, C.NIN])
    return st.builds(Comparison, one, FIELDS, VALUES) | st.builds(
        Comparison, many, FIELDS, st.lists(VALUES, max_size=3)
    )


DIRECTIVES = st.recursive(
    comparisons(),
    lambda inner: st.builds(Operation, st.sampled_from([P.AND, P.OR, P.NOT]), st.lists(inner, min_size=1, max_size=3)),
    max_leaves=8,
)


def true_of(directive: FilterDirective, metadata: dict[str, Any]) -> bool:
    """Evaluate a comparison on a field, or on the elements of its list."""
    if isinstance(directive, Operation):
        parts = [true_of(each, metadata) for each in directive.arguments]
        return {P.AND: all(parts), P.OR: any(parts), P.NOT: not all(parts)}[directive.operator]
    assert isinstance(directive, Comparison)
    found = metadata.get(directive.attribute, [])
    elements = found if isinstance(found, list) else [found]
    wanted, comparator = directive.value, directive.comparator
    if comparator in (C.EQ, C.NE):
        return (wanted in elements) == (comparator is C.EQ)
    if comparator in (C.IN, C.NIN):
        return any(each in wanted for each in elements) == (comparator is C.IN)
    if comparator is C.CONTAIN:
        return any(
            wanted in each if isinstance(each, str) and isinstance(wanted, str) else wanted == each for each in elements
        )
    return any(ORDERED[comparator](each, wanted) for each in elements if type(each) is type(wanted))


@given(DIRECTIVES, METADATA)
def test_equal_meaning(directive: FilterDirective, metadata: dict[str, Any]) -> None:
    query, options = HarrierTranslator().visit_structured_query(StructuredQuery("bread", directive))
    assert query == "bread"
    assert meets(metadata, parse(options["filter"])) == true_of(directive, metadata)


def test_every_operator_is_supported() -> None:
    """A new operator of LangChain would fail here."""
    translator = HarrierTranslator()
    assert set(translator.allowed_comparators) == set(Comparator)
    assert set(translator.allowed_operators) == set(Operator)
    assert translator.visit_structured_query(StructuredQuery("bread", None)) == ("bread", {})


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        (Comparison(C.LIKE, "title", "%of bread"), {"1"}),
        (Comparison(C.GTE, "when", {"date": "2024-01-01", "type": "date"}), {"2"}),
        (Comparison(C.LT, "when", {"datetime": "2023-06-01T02:00:00+02:00", "type": "datetime"}), {"1"}),
        (Comparison(C.IN, "when", [{"date": "2024-05-01", "type": "date"}]), set()),
        (Comparison(C.EQ, "author.name", "Ada"), {"2"}),
        (Comparison(C.EQ, "metadata.n", 1), {"1"}),
        (Operation(P.NOT, [Comparison(C.EQ, "n", 1), Comparison(C.CONTAIN, "title", "bread")]), {"2"}),
    ],
)
def test_in_a_search(vector_store: HarrierVectorStore, condition: FilterDirective, found: set[str]) -> None:
    """Every store is tested, with dates in the format of LangChain's parser."""
    vector_store.add_documents(
        [
            Document(
                id="1",
                page_content="a",
                metadata={"n": 1, "title": "History of bread", "when": datetime(2023, 5, 31, 23, tzinfo=UTC)},
            ),
            Document(
                id="2", page_content="b", metadata={"when": datetime(2024, 5, 1, tzinfo=UTC), "author": {"name": "Ada"}}
            ),
        ]
    )
    query, options = HarrierTranslator().visit_structured_query(StructuredQuery("a b", condition))
    assert {each.id for each in vector_store.similarity_search(query, **options)} == found
