"""Harrier embeddings for Haystack: queries with their instruction, documents as they are.

pip install 'harrier-kit[haystack,torch]'
"""

from harrier_core.extras import require

require("haystack_integrations.components.embedders.harrier", "haystack")

from haystack_integrations.components.embedders.harrier.embedders import HarrierDocumentEmbedder, HarrierTextEmbedder

__all__ = ["HarrierDocumentEmbedder", "HarrierTextEmbedder"]
