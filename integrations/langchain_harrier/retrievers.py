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
    """Retrieves documents from an Index; `k`, `task` and `where` may be given to a single `invoke` as well.

    Setup:
        ```bash
        pip install 'harrier-kit[langchain,pgvector,torch]' 'psycopg[binary]'
        ```

    Key init args:
        index: An Index, which is a store and an Encoder.
        k: How many documents are found.
        task: What queries are encoded for; by default the encoder's own task.
        where: Conditions on metadata, as in `harrier_core.filters`; `filter` is LangChain's name for it.
        mode: "dense" finds by meaning, "keyword" by word and without the model, "hybrid" by both; the last two need an
            index made with `keywords=True`.
        keyword_weight: How much words count in "hybrid", relative to meaning; by default it depends on the query.
        rerank: A `harrier_core.Reranker`, which reorders the `among` (50) best, or `Diverse`.
        score_threshold: Documents with a lower score are left out.
        exact: Whether all chunks are compared, even if there is an index.
        ef: How many candidates the HNSW index considers.
        expand: How many chunks on either side, or "record" for all, are added to the text that is found.
        positions: Whether metadata include a text's position in its record, as with a HarrierVectorStore.

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

    model_config = ConfigDict(extra="forbid")  # a misspelt filter would find documents that it must exclude

    index: Index
    k: int = Field(default=5, ge=1)
    task: str | Task | None = None
    where: dict[Any, Any] | None = None  # dict[str, ...] would make a str of a `harrier_core.filters.Key`
    filter: dict[Any, Any] | None = None
    mode: Mode = "dense"
    keyword_weight: float | None = None
    rerank: Annotated[Reranker | Diverse | None, SkipValidation] = None  # the Index has its own error for it
    among: int | None = None
    score_threshold: float | None = None
    exact: bool = False
    ef: int | None = None
    expand: Expand = 0
    positions: bool = False

    if not TYPE_CHECKING:  # type checkers see the fields

        def __init__(self, index: Index | None = None, **settings: Any) -> None:
            """Take settings; for other libraries' names, the error says what they are called here."""
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
        """Return the options of this retriever, except those that a call overrides."""
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
