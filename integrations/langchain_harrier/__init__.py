"""Harrier embeddings for LangChain: the instruction on every query, none on a document, one model in memory."""

from harrier_core.extras import require

require("langchain_harrier", "langchain_core")

from langchain_harrier.documents import DocumentsRejected
from langchain_harrier.embeddings import HarrierEmbeddings
from langchain_harrier.reranking import HarrierRerank
from langchain_harrier.retrievers import HarrierRetriever
from langchain_harrier.sparse import HarrierSparseEmbeddings
from langchain_harrier.vectorstores import HarrierVectorStore

__all__ = [
    "DocumentsRejected",
    "HarrierEmbeddings",
    "HarrierRerank",
    "HarrierRetriever",
    "HarrierSparseEmbeddings",
    "HarrierVectorStore",
]
