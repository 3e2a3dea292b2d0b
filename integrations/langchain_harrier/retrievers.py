"""HarrierRetriever: an Index as LangChain's retriever."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict, Field, SkipValidation

from harrier_core import Diverse, Index, Mode, Reranker, SettingError, Task
from harrier_core.foreign import unknown_keyword
from langchain_harrier.keywords import Expand
from langchain_harrier.vectorstores import HarrierVectorStore

_OF_A_VECTOR_STORE = ("vectorstore", "vector_store", "search_type", "search_kwargs")


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
        where: Conditions on metadata, as in `harrier_core.filters`; `filter` is LangChain's name for it.
        mode: "dense" finds by meaning, "keyword" by word and without the model, "hybrid" by both; the last two need a
            place made with `keywords=True`.
        keyword_weight: How much words count in "hybrid", where meaning counts 1; without it that depends on the query.
        rerank: A `harrier_core.Reranker`, which puts the `among` (50) best in another order, or `Diverse`.
        score_threshold: Documents with a lower score are left out.
        exact: Whether all chunks are compared, also where there is an index.
        ef: How many candidates the HNSW index keeps in sight.
        expand: So many chunks on either side, or "record" for all, are part of the text that is found.
        positions: Whether metadata say where a text is in its record, as with a HarrierVectorStore.

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
    filter: dict[str, Any] | None = None
    mode: Mode = "dense"
    keyword_weight: float | None = None
    rerank: Annotated[Reranker | Diverse | None, SkipValidation] = None  # the Index has an error of its own
    among: int | None = None
    score_threshold: float | None = None
    exact: bool = False
    ef: int | None = None
    expand: Expand = 0
    positions: bool = False

    if not TYPE_CHECKING:  # which sees the fields

        def __init__(self, index: Index | None = None, **settings: Any) -> None:
            """Take settings; say of what others call them how they are called here."""
            _refuse_unknown(settings, type(self).model_fields)
            if not isinstance(index, Index):
                raise SettingError(
                    f"index must be an Index, got {type(index).__name__}; write HarrierRetriever(index=...)"
                )
            super().__init__(index=index, **settings)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        return self._vector_store().similarity_search(query, **self._options(kwargs))

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        return await self._vector_store().asimilarity_search(query, **self._options(kwargs))

    def _vector_store(self) -> HarrierVectorStore:
        return HarrierVectorStore(self.index, positions=self.positions)

    def _options(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return those of this retriever, but for those that a call brings."""
        return {name: getattr(self, name) for name in _OPTIONS} | given


_OPTIONS = [*HarrierRetriever.model_fields.keys() - BaseRetriever.model_fields.keys() - {"index", "positions"}]


def _refuse_unknown(settings: Mapping[str, Any], known: Iterable[str]) -> None:
    for name in settings:
        if name in _OF_A_VECTOR_STORE:
            raise SettingError(
                f"HarrierRetriever takes no {name}: write HarrierRetriever(index=vector_store.index), or "
                "vector_store.as_retriever(search_type=..., search_kwargs={...})"
            )
        if name not in known:
            raise unknown_keyword("HarrierRetriever", name, known)
