"""HarrierRetriever and HarrierEmbeddingRetriever: the searches of a HarrierDocumentStore."""

from __future__ import annotations

from typing import Any

from haystack import Document, component
from haystack_integrations.components.embedders.harrier.embedders import Configured, in_thread
from haystack_integrations.document_stores.harrier import HarrierDocumentStore

from harrier_core import Diverse, Mode, Reranker, SettingError, Task

Filters = dict[str, Any] | None
Tasks = str | Task | None


class Retrieving(Configured):
    """The base of both retrievers. `filters` and `top_k` of a single run take precedence over their own."""

    mode: Mode = "dense"

    def __init__(self, document_store: HarrierDocumentStore, *, filters: Filters = None, top_k: int = 10) -> None:
        """Search a document store."""
        if not isinstance(document_store, HarrierDocumentStore):
            raise SettingError(f"document_store must be a HarrierDocumentStore, got {type(document_store).__name__}")
        self.document_store = document_store
        self.filters = filters
        self.top_k = top_k

    def warm_up(self) -> None:
        """Load the model if the mode needs it; otherwise it would be loaded for the first query."""
        if self.mode != "keyword":
            self.document_store.warm_up()

    def close(self) -> None:
        """Close the document store's Index, if it was made from a URL; the next run makes it again."""
        self.document_store.close()

    warm_up_async = in_thread(warm_up)

    def _found(self, query: str | list[float], filters: Filters, top_k: int | None, **how: Any) -> dict[str, Any]:
        k = self.top_k if top_k is None else top_k
        return {"documents": self.document_store.search(query, filters or self.filters, k, **how)}


@component
class HarrierRetriever(Retrieving):
    """Finds documents by a query: by meaning, with the store's Index encoding it after its instruction, or by word.

    ```python
    retriever = HarrierRetriever(store, mode="hybrid")  # for HarrierDocumentStore("pgvector:FOLDER?keywords=true", ...)
    ```
    """

    def __init__(
        self,
        document_store: HarrierDocumentStore,
        *,
        filters: Filters = None,
        top_k: int = 10,
        mode: Mode = "dense",
        keyword_weight: float | None = None,
        rerank: Reranker | Diverse | None = None,
        among: int | None = None,
    ) -> None:
        """Search a document store.

        mode: "dense" finds by meaning, "keyword" by word and without the model, "hybrid" by both; the last two need an
        index made with keywords=true. keyword_weight: how much words count in "hybrid", relative to meaning; by default
        it depends on the query. rerank: a `harrier_core.Reranker`, which reorders the `among` (50) best, or `Diverse`;
        it cannot be written to YAML.
        """
        Retrieving.__init__(self, document_store, filters=filters, top_k=top_k)
        self.mode = mode
        self.keyword_weight = keyword_weight
        self.rerank = rerank
        self.among = among

    @component.output_types(documents=list[Document])
    def run(self, query: str, filters: Filters = None, top_k: int | None = None, task: Tasks = None) -> dict[str, Any]:
        """Return the documents that answer a query, best first.

        Scores are cosines; by word they are BM25, by both shares of the best possible places, from 0 to 1, and with a
        Reranker its own numbers.
        """
        how = {name: vars(self)[name] for name in ("mode", "keyword_weight", "rerank", "among")}
        return self._found(query, filters, top_k, task=task, **how)

    run_async = in_thread(run)


@component
class HarrierEmbeddingRetriever(Retrieving):
    """Finds documents by the embedding of a query, made by a HarrierTextEmbedder."""

    @component.output_types(documents=list[Document])
    def run(self, query_embedding: list[float], filters: Filters = None, top_k: int | None = None) -> dict[str, Any]:
        """Return the documents nearest to the embedding, best first; scores are cosines."""
        return self._found(query_embedding, filters, top_k)

    run_async = in_thread(run)
