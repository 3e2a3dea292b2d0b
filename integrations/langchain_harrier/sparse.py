"""The words of texts, for LangChain's own Qdrant store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harrier_core.lexical import Terms, document_terms, query_terms


@dataclass(frozen=True, slots=True)
class SparseTerms:
    """The terms of a text and their weights, under the names of langchain_qdrant's SparseVector."""

    indices: list[int]
    values: list[float]


class HarrierSparseEmbeddings:
    """The `sparse_embedding` of langchain_qdrant's QdrantVectorStore for a collection made with `keywords=True`.

    QdrantVectorStore(client, "docs", HarrierEmbeddings(...), vector_name="text-dense",
                      retrieval_mode=RetrievalMode.HYBRID,
                      sparse_embedding=HarrierSparseEmbeddings(), sparse_vector_name="text-sparse-new")

    It has the methods of langchain_qdrant's SparseEmbeddings without being one, because that package need not be
    installed. No model is needed: a text's words are counted.
    """

    def embed_documents(self, texts: Sequence[str]) -> list[SparseTerms]:
        """Return the terms of documents."""
        return [_sparse(document_terms(text)) for text in texts]

    def embed_query(self, text: str) -> SparseTerms:
        """Return the terms of a query."""
        return _sparse(query_terms(text))

    async def aembed_documents(self, texts: Sequence[str]) -> list[SparseTerms]:
        """Return what `embed_documents` returns."""
        return self.embed_documents(texts)

    async def aembed_query(self, text: str) -> SparseTerms:
        """Return what `embed_query` returns."""
        return self.embed_query(text)


def _sparse(terms: Terms) -> SparseTerms:
    return SparseTerms(list(terms.ids), list(terms.weights))
