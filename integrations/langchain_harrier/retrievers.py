"""HarrierRetriever: an Index as LangChain's retriever."""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict, Field

from harrier_core import Index, Task
from langchain_harrier.vectorstores import HarrierVectorStore


class HarrierRetriever(BaseRetriever):
    """Finds what an Index holds; `k`, `task` and `where` may be given to a single `invoke` as well.

    Setup:
        ```bash
        pip install 'harrier-kit[langchain,pgvector,torch]' 'psycopg[binary]'
        ```

    Key init args:
        index: An Index, which is a store and an Encoder.
        k: How many documents are found.
        task: What queries are encoded for; the encoder's own task unless given.
        where: Conditions on metadata, as in `harrier_core.filters`.

    Instantiate:
        ```python
        from harrier_core import Encoder, Index
        from harrier_pgvector import PgVectorStore
        from langchain_harrier import HarrierRetriever

        store = PgVectorStore("postgresql://user@host/db", table="documents")
        index = Index(store, Encoder("microsoft/harrier-oss-v1-0.6b"))
        retriever = HarrierRetriever(index=index, k=3, where={"lang": "fr"})
        ```

    Usage:
        ```python
        documents = retriever.invoke("why does bread rise")
        ```

    Async:
        ```python
        import asyncio

        documents = asyncio.run(retriever.ainvoke("why does bread rise", k=1))
        ```
    """

    model_config = ConfigDict(extra="forbid")  # a filter that is misspelt would find what it must not

    index: Index
    k: int = Field(default=5, ge=1)
    task: str | Task | None = None
    where: dict[str, Any] | None = None

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        return HarrierVectorStore(self.index).similarity_search(query, **self._options(kwargs))

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        return await HarrierVectorStore(self.index).asimilarity_search(query, **self._options(kwargs))

    def _options(self, given: dict[str, Any]) -> dict[str, Any]:
        """Those of this retriever, but for those that a call brings."""
        return {"k": self.k, "task": self.task, "where": self.where, **given}
