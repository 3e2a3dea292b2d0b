"""Conditions written by a language model, translated for a HarrierVectorStore.

from langchain_classic.retrievers import SelfQueryRetriever
from langchain_harrier.self_query import HarrierTranslator

retriever = SelfQueryRetriever.from_llm(
    llm, vector_store, "passages of books", fields, structured_query_translator=HarrierTranslator()
)
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from langchain_core.structured_query import Comparator, Comparison, Operation, Operator, StructuredQuery, Visitor

_OPERATORS = {
    Comparator.EQ: "$eq",
    Comparator.NE: "$ne",
    Comparator.GT: "$gt",
    Comparator.GTE: "$gte",
    Comparator.LT: "$lt",
    Comparator.LTE: "$lte",
    Comparator.IN: "$in",
    Comparator.NIN: "$nin",
    Comparator.CONTAIN: "$contains",
    Comparator.LIKE: "$like",
}


class HarrierTranslator(Visitor):
    """Translates LangChain's structured queries to conditions as in `harrier_core.filters`.

    contain: the text is in the field's text, or in one in its list; a number or a bool is in its list. like: the
    field's whole text matches a pattern with % and _. ne and nin are met if the field is missing.
    """

    allowed_comparators = tuple(_OPERATORS)
    allowed_operators = (Operator.AND, Operator.OR, Operator.NOT)

    def visit_operation(self, operation: Operation) -> dict[str, Any]:
        """Return the condition for and, or or not."""
        parts = [part.accept(self) for part in operation.arguments]
        if operation.operator is Operator.NOT:
            return {"$not": parts[0] if len(parts) == 1 else {"$and": parts}}
        return {f"${operation.operator.value}": parts}

    def visit_comparison(self, comparison: Comparison) -> dict[str, Any]:
        """Return the condition for a comparison of a field with a value."""
        value = _value(comparison.value)
        operator = _OPERATORS[comparison.comparator]
        if operator == "$contains" and not isinstance(value, str):
            operator = "$eq"  # a list meets it by one of its elements
        return {comparison.attribute: {operator: value}}

    def visit_structured_query(self, structured_query: StructuredQuery) -> tuple[str, dict[str, Any]]:
        """Return the query, and the keywords of a search for it."""
        condition = structured_query.filter
        return structured_query.query, {} if condition is None else {"filter": condition.accept(self)}


def _value(value: Any) -> Any:
    """Return a value as in metadata: LangChain's parser makes dicts of dates and datetimes."""
    if isinstance(value, list | tuple):
        return [_value(each) for each in value]
    if isinstance(value, Mapping) and value.get("type") == "date":
        return value["date"]
    if isinstance(value, Mapping) and value.get("type") == "datetime":
        return datetime.fromisoformat(value["datetime"])
    return value
