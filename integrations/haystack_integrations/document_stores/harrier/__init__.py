"""A Harrier Kit Index as a document store of Haystack.

pip install 'harrier-kit[haystack,torch]'
"""

from harrier_core.extras import require

require("haystack_integrations.document_stores.harrier", "haystack")

from haystack_integrations.document_stores.harrier.document_store import HarrierDocumentStore

__all__ = ["HarrierDocumentStore"]
