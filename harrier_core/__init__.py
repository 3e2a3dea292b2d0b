"""Harrier Kit's core: texts to vectors with the Harrier embedding models, each role as the model was trained.

Importing it loads neither torch nor any framework.
"""

import typing as _typing

from harrier_core.cache import CachedEncoder
from harrier_core.chunking import Chunking
from harrier_core.contents import Contents
from harrier_core.cross_encoder import CrossEncoderReranker
from harrier_core.embedder import Embedder, Encoded
from harrier_core.encoder import Encoder
from harrier_core.errors import (
    BadVectors,
    DeviceError,
    DeviceFailed,
    DeviceFull,
    EmptyText,
    EncoderClosed,
    FilterError,
    ForkedModel,
    HarrierError,
    InputError,
    InputWarning,
    InvalidText,
    MissingExtra,
    ModelDamaged,
    ModelError,
    ModelNotFound,
    ModelUnsafe,
    ModelUnsupported,
    ModelWarning,
    NotText,
    OutOfMemory,
    Problem,
    ProcessEnding,
    RoleWarning,
    ServerError,
    ServerRefused,
    ServerUnavailable,
    SettingError,
    SpaceChanged,
    SpaceError,
    StoreError,
    StoreFull,
    StoreMissing,
    StoreUnavailable,
    StoreUnsuitable,
    StoreWarning,
    TaskError,
    TextTooLong,
    WorkersDied,
    WrongSpace,
)
from harrier_core.index import Index
from harrier_core.indexes import Hnsw, IndexKind
from harrier_core.lexical import Terms
from harrier_core.opening import open_store, open_stores
from harrier_core.pruning import Pruning
from harrier_core.query import Mode, Search, WordSearch
from harrier_core.qwen_reranker import QwenReranker
from harrier_core.records import Chunk, Deferred, IngestReport, Match, Record, Skipped, VerifyReport
from harrier_core.remote import RemoteEncoder
from harrier_core.reranking import Diverse, Reranker
from harrier_core.space import EmbeddingSpace
from harrier_core.stats import Stats
from harrier_core.store import (
    Facts,
    Hashes,
    Neighbours,
    OpenStore,
    Split,
    Stored,
    VectorStore,
    Worded,
    Write,
    Written,
)
from harrier_core.tasks import Task

__all__ = [
    "BadVectors",
    "CachedEncoder",
    "Chunk",
    "Chunking",
    "Contents",
    "CrossEncoderReranker",
    "Deferred",
    "DeviceError",
    "DeviceFailed",
    "DeviceFull",
    "Diverse",
    "Embedder",
    "EmbeddingSpace",
    "EmptyText",
    "Encoded",
    "Encoder",
    "EncoderClosed",
    "Facts",
    "FilterError",
    "ForkedModel",
    "HarrierError",
    "Hashes",
    "Hnsw",
    "Index",
    "IndexKind",
    "IngestReport",
    "InputError",
    "InputWarning",
    "InvalidText",
    "Match",
    "MissingExtra",
    "Mode",
    "ModelDamaged",
    "ModelError",
    "ModelNotFound",
    "ModelUnsafe",
    "ModelUnsupported",
    "ModelWarning",
    "Neighbours",
    "NotText",
    "OpenStore",
    "OutOfMemory",
    "Problem",
    "ProcessEnding",
    "Pruning",
    "QwenReranker",
    "Record",
    "RemoteEncoder",
    "Reranker",
    "RoleWarning",
    "Search",
    "ServerError",
    "ServerRefused",
    "ServerUnavailable",
    "SettingError",
    "Skipped",
    "SpaceChanged",
    "SpaceError",
    "Split",
    "Stats",
    "StoreError",
    "StoreFull",
    "StoreMissing",
    "StoreUnavailable",
    "StoreUnsuitable",
    "StoreWarning",
    "Stored",
    "Task",
    "TaskError",
    "Terms",
    "TextTooLong",
    "VectorStore",
    "VerifyReport",
    "WordSearch",
    "Worded",
    "WorkersDied",
    "Write",
    "Written",
    "WrongSpace",
    "open_store",
    "open_stores",
]

if _typing.TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(name: str) -> str:
        """Return `__version__`, that of the installed distribution. It is read on demand, since that takes a moment."""
        if name == "__version__":
            from importlib.metadata import version

            return version("harrier-kit")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
