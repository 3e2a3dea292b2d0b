"""HarrierRerank: a Reranker as LangChain's document compressor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import BeforeValidator, ConfigDict, Field

from harrier_core import Reranker
from harrier_core.reranking import as_reranker, best_texts

SCORE = "relevance_score"  # LangChain's own rerankers use this name


def _checked(given: Any) -> Reranker:
    return as_reranker(given)


class HarrierRerank(BaseDocumentCompressor):
    """Keeps the documents that a Reranker finds best for a query, best first, whichever retriever found them.

    The returned documents are copies, with the Reranker's number as `relevance_score` in their metadata. With a
    HarrierVectorStore or a HarrierRetriever, `rerank=` of a search does the same without a compressor.

    Key init args:
        reranker: A `harrier_core.Reranker`: an object with `scores(query, texts)`.
        top_n: How many documents are kept.

    Instantiate:
        ```python
        from langchain_classic.retrievers import ContextualCompressionRetriever
        from langchain_harrier import HarrierRerank

        compressor = HarrierRerank(reranker=reranker, top_n=3)
        retriever = ContextualCompressionRetriever(base_compressor=compressor, base_retriever=retriever)
        ```
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    reranker: Annotated[Reranker, BeforeValidator(_checked)]
    top_n: int = Field(default=3, ge=1)

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """Return the best documents, best first."""
        best = best_texts(query, [each.page_content for each in documents], self.top_n, self.reranker)
        return [_with_score(documents[at], score) for at, score in best]


def _with_score(document: Document, score: float) -> Document:
    return document.model_copy(update={"metadata": {**document.metadata, SCORE: score}})
