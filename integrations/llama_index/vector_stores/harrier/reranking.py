"""HarrierRerank: a Reranker as LlamaIndex's node postprocessor."""

from __future__ import annotations

from typing import Annotated, Any

from llama_index.core.bridge.pydantic import BeforeValidator, ConfigDict, Field
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle

from harrier_core import Reranker, SettingError
from harrier_core.reranking import as_reranker, best_texts


def _checked(given: Any) -> Reranker:
    return as_reranker(given)


class HarrierRerank(BaseNodePostprocessor):
    """Keeps the nodes that a Reranker finds best for a query, best first, whichever retriever found them.

    A node's score is then the Reranker's number. The Reranker reads what LlamaIndex embeds of a node: its text, after
    the metadata that are not excluded. With a HarrierVectorStore, `rerank` among its `vector_store_kwargs` does the
    same within the search.

    ```python
    engine = index.as_query_engine(similarity_top_k=20, node_postprocessors=[HarrierRerank(reranker=reranker, top_n=3)])
    ```
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    reranker: Annotated[Reranker, BeforeValidator(_checked)] = Field(
        description="An object with scores(query, texts).", exclude=True
    )
    top_n: int = Field(default=3, ge=1, description="Number of nodes to keep.")

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which it is known."""
        return "HarrierRerank"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            raise SettingError("HarrierRerank needs the query; pass query_bundle or query_str to postprocess_nodes")
        texts = [each.node.get_content(metadata_mode=MetadataMode.EMBED) for each in nodes]
        best = best_texts(query_bundle.query_str, texts, self.top_n, self.reranker)
        return [NodeWithScore(node=nodes[at].node, score=score) for at, score in best]
