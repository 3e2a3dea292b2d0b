"""Harrier embeddings for LlamaIndex: queries with their instruction, documents as they are.

pip install 'harrier-kit[llama-index,torch]'
"""

from harrier_core.extras import require

require("llama_index.embeddings.harrier", "llama_index.core")

from llama_index.embeddings.harrier.base import HarrierEmbedding

__all__ = ["HarrierEmbedding"]
