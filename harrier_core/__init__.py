"""Harrier Kit's core: texts to vectors with the Harrier embedding models, each role as the model was trained.

Importing it loads neither torch nor any framework.
"""

from harrier_core.encoder import Encoder
from harrier_core.errors import (
    BadVectors,
    DeviceError,
    EmptyText,
    EncoderClosed,
    ForkedModel,
    HarrierError,
    InputError,
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
    SettingError,
    SpaceError,
    TaskError,
    TextTooLong,
)
from harrier_core.space import EmbeddingSpace
from harrier_core.stats import Stats
from harrier_core.tasks import Task

__all__ = [
    "BadVectors",
    "DeviceError",
    "EmbeddingSpace",
    "EmptyText",
    "Encoder",
    "EncoderClosed",
    "ForkedModel",
    "HarrierError",
    "InputError",
    "InvalidText",
    "ModelDamaged",
    "ModelError",
    "ModelNotFound",
    "ModelUnsafe",
    "ModelUnsupported",
    "ModelWarning",
    "NotText",
    "OutOfMemory",
    "Problem",
    "SettingError",
    "SpaceError",
    "Stats",
    "Task",
    "TaskError",
    "TextTooLong",
]
