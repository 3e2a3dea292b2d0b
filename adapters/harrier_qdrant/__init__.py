"""Harrier Kit for Qdrant: a VectorStore on a server, through qdrant-client, or in a folder, through Qdrant Edge.

store = QdrantStore("http://localhost:6333", collection="documents")
store = QdrantStore.embedded("folder", collection="documents")     # the engine itself, without a server to install
index = Index(store, Encoder("harrier-270m"))
"""

from harrier_core.extras import require

require("harrier_qdrant", "qdrant_client")

from harrier_qdrant.opened import OpenCollection
from harrier_qdrant.schema import Layout
from harrier_qdrant.store import QdrantStore

__all__ = ["Layout", "OpenCollection", "QdrantStore"]
