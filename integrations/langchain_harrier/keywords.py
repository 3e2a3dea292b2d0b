"""The keywords of searches, which LangChain passes through; an unknown one is an error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypedDict

from langchain_core.vectorstores import VectorStoreRetriever

from harrier_core import Diverse, Mode, Reranker, SettingError, Task
from harrier_core.filters import Key
from harrier_core.foreign import unknown_keyword

Where = Mapping[str, Any]
Expand = int | Literal["record"]

WRITING = ("batch_size",)  # of LangChain's index(): an Index makes its own windows
RETRIEVER = [name for name in VectorStoreRetriever.model_fields if name != "vectorstore"]


# LangChain's signatures accept any keyword; by naming them here, type checkers find a misspelt one.


class Near(TypedDict, total=False):
    """The keywords of every search. `Searching` explains them."""

    filter: Where | None
    where: Where | None
    score_threshold: float | None
    exact: bool
    ef: int | None
    expand: Expand


class NearPages(Near, total=False):
    """The keywords of a search whose results come in pages."""

    offset: int


class Asked(Near, total=False):
    """The keywords of a search for a query's text."""

    task: str | Task | None
    mode: Mode
    keyword_weight: float | None


class AskedPages(Asked, NearPages, total=False):
    """The keywords of a search for a query's text whose results may be reordered."""

    rerank: Reranker | Diverse | None
    among: int | None


SEARCH = (*AskedPages.__annotations__, "fetch_k", "lambda_mult")  # of any search

_CONDITIONS = "use filter or where, conditions on metadata as in harrier_core.filters"
_BOTH = "use mode='hybrid', and keyword_weight for the weight of words"
_TEXT = "use similarity_search, or its other forms, for a query's text"
_MMR = "use max_marginal_relevance_search, or search_type='mmr' of a retriever"
_HINTS = {
    "search_params": "use exact=True to compare all chunks, or ef=... for more candidates",
    "consistency": "read consistency is set in the database; omit it",
    **dict.fromkeys(("where_document", "document_filter"), "conditions apply to metadata; store what they need there"),
    **dict.fromkeys(("pre_filter", "post_filter", "search_filter", "query_filter", "expr"), _CONDITIONS),
    **dict.fromkeys(("fetch_k", "lambda_mult"), _MMR),
    **dict.fromkeys(("min_score", "similarity_threshold", "relevance_threshold"), "use score_threshold"),
    **dict.fromkeys(("ef_search", "hnsw_ef", "num_candidates"), "use ef"),
    **dict.fromkeys(("alpha", "hybrid_fusion", "hybrid_search_config", "retrieval_mode", "search_mode"), _BOTH),
    **dict.fromkeys(("sparse_query", "sparse_embedding", "sparse_top_k", "hybrid_top_k"), _BOTH),
    **dict.fromkeys(("mode", "keyword_weight", "rerank", "among"), _TEXT),
    "include": "documents are always returned with text and metadata; omit it",
}
_METADATA = "metadata."


def options_of(method: str, given: Mapping[str, Any], taken: type, *own: str) -> dict[str, Any]:
    """Return the Index's options for the keywords of a search, which are those of a TypedDict.

    own: further parameters of the method, which an error lists too.
    """
    refuse_unknown(method, given, (*taken.__annotations__, *own))
    options = {name: value for name, value in given.items() if name not in ("filter", "where", "score_threshold")}
    met = where_of(given.get("filter"), given.get("where"))
    return {"where": met, "min_score": given.get("score_threshold"), **options}


def refuse_unknown(method: str, given: Mapping[str, Any], known: Iterable[str]) -> None:
    """Raise an error that says what to write instead, or which keywords exist."""
    for name in given:
        if name in known:
            continue
        if name in _HINTS:
            raise SettingError(f"{method} got an unknown keyword, {name!r}: {_HINTS[name]}")
        raise unknown_keyword(method, name, known)


def where_of(filter: Where | None, where: Where | None) -> Where | None:  # noqa: A002
    """Return the conditions of a search: both, if it has both.

    filter: conditions in the form of LangChain's stores, where "metadata.year" is the field "year".
    """
    given = [each for each in (_without_prefix(filter), where) if each is not None]
    return {"$and": given} if len(given) > 1 else next(iter(given), None)


def _without_prefix(conditions: Any) -> Any:
    if not isinstance(conditions, Mapping):
        return conditions  # the Index refuses it
    parts = [{_field(name): _within(name, value)} for name, value in conditions.items()]
    joined = {name: value for part in parts for name, value in part.items()}
    return joined if len(joined) == len(parts) else {"$and": parts}  # "year" and "metadata.year" are two conditions


def _field(name: Any) -> Any:
    if isinstance(name, str) and not isinstance(name, Key) and name.startswith(_METADATA):
        return name.removeprefix(_METADATA)
    return name


def _within(name: object, value: Any) -> Any:
    if name == "$not":
        return _without_prefix(value)
    if name in ("$and", "$or") and isinstance(value, list | tuple):
        return [_without_prefix(each) for each in value]
    return value
