"""Harrier embeddings for LangChain: the instruction on every query, none on a document, one model in memory."""

from importlib.util import find_spec

if find_spec("langchain_core") is None:
    raise ImportError(
        "langchain_harrier needs langchain-core, which is not there; pip install 'harrier-kit[langchain]'"
    )

from langchain_harrier.documents import DocumentsRejected
from langchain_harrier.embeddings import HarrierEmbeddings
from langchain_harrier.retrievers import HarrierRetriever
from langchain_harrier.vectorstores import HarrierVectorStore

__all__ = ["DocumentsRejected", "HarrierEmbeddings", "HarrierRetriever", "HarrierVectorStore"]
