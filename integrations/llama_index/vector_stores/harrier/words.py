"""The words of texts, for LlamaIndex's own Qdrant store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harrier_core.lexical import Terms, document_terms, query_terms

Sparse = tuple[list[list[int]], list[list[float]]]  # the ids of each text's terms, and their weights


def sparse_document_terms(texts: Sequence[str]) -> Sparse:
    """Return the terms of documents: the `sparse_doc_fn` of QdrantVectorStore(enable_hybrid=True)."""
    return _sparse(map(document_terms, texts))


def sparse_query_terms(texts: Sequence[str]) -> Sparse:
    """Return the terms of queries: the `sparse_query_fn` of QdrantVectorStore(enable_hybrid=True).

    Such a store can read a collection made with `keywords=True`, if text_key is "page_content". No model is needed.
    """
    return _sparse(map(query_terms, texts))


def _sparse(terms: Iterable[Terms]) -> Sparse:
    listed = list(terms)
    return [list(each.ids) for each in listed], [list(each.weights) for each in listed]
