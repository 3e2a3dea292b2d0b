"""A Harrier Kit Index as a vector store of LlamaIndex.

pip install 'harrier-kit[llama-index]'
"""

try:
    from llama_index.vector_stores.harrier.base import HarrierVectorStore
    from llama_index.vector_stores.harrier.nodes import node_id, records_of
except ModuleNotFoundError as error:
    if not (error.name or "").startswith("llama_index.core"):
        raise
    raise ImportError("there is no llama-index-core here; pip install 'harrier-kit[llama-index]'") from error

__all__ = ["HarrierVectorStore", "node_id", "records_of"]
