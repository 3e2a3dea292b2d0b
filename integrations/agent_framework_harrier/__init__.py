"""Harrier for Microsoft Agent Framework: embeddings by role, and an Index as an agent's context or tool.

pip install 'harrier-kit[agent-framework,torch]'
"""

from harrier_core.extras import require

require("agent_framework_harrier", "agent_framework")

from agent_framework_harrier.embeddings import HarrierEmbeddingClient, HarrierEmbeddingOptions, with_roles
from agent_framework_harrier.retrieval import HarrierContextProvider, index_tool

__all__ = ["HarrierContextProvider", "HarrierEmbeddingClient", "HarrierEmbeddingOptions", "index_tool", "with_roles"]
