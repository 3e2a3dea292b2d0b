"""Harrier's embeddings for LlamaIndex: queries with their instruction, documents plain.

pip install 'harrier-kit[llama-index]'
"""

try:
    from llama_index.embeddings.harrier.base import HarrierEmbedding
except ModuleNotFoundError as error:
    if not (error.name or "").startswith("llama_index.core"):
        raise
    raise ImportError("there is no llama-index-core here; pip install 'harrier-kit[llama-index]'") from error

__all__ = ["HarrierEmbedding"]
