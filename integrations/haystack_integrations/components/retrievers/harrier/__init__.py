"""Retrievers for the documents of a HarrierDocumentStore, by a query's text or its embedding.

pip install 'harrier-kit[haystack,torch]'
"""

from harrier_core.extras import require

require("haystack_integrations.components.retrievers.harrier", "haystack")

from haystack_integrations.components.retrievers.harrier.retriever import HarrierEmbeddingRetriever, HarrierRetriever

__all__ = ["HarrierEmbeddingRetriever", "HarrierRetriever"]
