"""Harrier Kit's core: texts to vectors with the Harrier embedding models, each role as the model was trained.

Importing it loads neither torch nor any framework.
"""

from harrier_core.cache import CachedEncoder
from harrier_core.chunking import Chunking
from harrier_core.encoder import Encoder
from harrier_core.errors import (
    BadVectors,
    DeviceError,
    EmptyText,
    EncoderClosed,
    FilterError,
    ForkedModel,
    HarrierError,
    InputError,
    InputWarning,
    InvalidText,
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
    SettingError,
    SpaceError,
    StoreError,
    StoreFull,
    StoreMissing,
    StoreUnavailable,
    StoreUnsuitable,
    StoreWarning,
    TaskError,
    TextTooLong,
    WrongSpace,
)
from harrier_core.index import Index
from harrier_core.records import Chunk, IngestReport, Match, Record, VerifyReport
from harrier_core.space import EmbeddingSpace
from harrier_core.stats import Stats
from harrier_core.store import Stored, VectorStore, Write, Written
from harrier_core.tasks import Task

__all__ = [
    "BadVectors",
    "CachedEncoder",
    "Chunk",
    "Chunking",
    "DeviceError",
    "EmbeddingSpace",
    "EmptyText",
    "Encoder",
    "EncoderClosed",
    "FilterError",
    "ForkedModel",
    "HarrierError",
    "Index",
    "IngestReport",
    "InputError",
    "InputWarning",
    "InvalidText",
    "Match",
    "ModelDamaged",
    "ModelError",
    "ModelNotFound",
    "ModelUnsafe",
    "ModelUnsupported",
    "ModelWarning",
    "NotText",
    "OutOfMemory",
    "Problem",
    "ProcessEnding",
    "Record",
    "RoleWarning",
    "SettingError",
    "SpaceError",
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
    "TextTooLong",
    "VectorStore",
    "VerifyReport",
    "Write",
    "Written",
    "WrongSpace",
]
