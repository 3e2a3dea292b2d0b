"""A Harrier Kit Index as a vector store of LlamaIndex.

pip install 'harrier-kit[llama-index,torch]'
"""

from harrier_core.extras import require

require("llama_index.vector_stores.harrier", "llama_index.core")

from llama_index.vector_stores.harrier.base import HarrierVectorStore
from llama_index.vector_stores.harrier.nodes import node_id, records_of
from llama_index.vector_stores.harrier.reranking import HarrierRerank
from llama_index.vector_stores.harrier.words import sparse_document_terms, sparse_query_terms

__all__ = [
    "HarrierRerank",
    "HarrierVectorStore",
    "node_id",
    "records_of",
    "sparse_document_terms",
    "sparse_query_terms",
]
